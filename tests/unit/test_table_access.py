"""The calls of the table, while the service is busy."""

from __future__ import annotations

import time

import pytest

from bridge.adapters import table_access
from bridge.adapters.table_access import Table, connect
from bridge.errors import StoreUnavailable
from tests.fakes.transport import ScriptedTransport

BUSY = {"odata.error": {"code": "ServerBusy", "message": {"lang": "en-US", "value": "The server is busy."}}}


@pytest.mark.parametrize("retry_after", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_busy_service_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, retry_after: str) -> None:
    """S23: however long a busy service asks to wait, a call fails soon: Event Grid and the timer come again."""
    wire = ScriptedTransport(lambda _: (503, BUSY, {"Retry-After": retry_after, "Content-Type": "application/json"}))
    pauses = list[float]()
    monkeypatch.setattr(table_access, "HTTPAdapter", lambda **_: wire)
    monkeypatch.setattr(time, "sleep", pauses.append)
    table = Table(connect("http://127.0.0.1:10002/devstoreaccount1", "bridge"))
    with pytest.raises(StoreUnavailable, match="503 ServerBusy"):
        table.get("partition", "row")
    assert (3, [2, 2]) == (len(wire.sent), pauses)
