"""What holds of Service Bus holds of the local one, as the unmodified azure-servicebus sees it."""

from concurrent.futures import Future

import pytest

from tests.contract import service_bus_queues, service_bus_sessions
from tests.contract.service_bus import Case

Running = dict[tuple[Case, str], "Future[None]"]


@pytest.mark.parametrize(("case", "kind"), service_bus_queues.CASES.each())
def test_queue(running: Running, case: Case, kind: str) -> None:
    """What the case says of queues holds."""
    assert None is running[case, kind].result(timeout=20), case.body.__doc__


@pytest.mark.parametrize(("case", "kind"), service_bus_sessions.CASES.each())
def test_session(running: Running, case: Case, kind: str) -> None:
    """What the case says of sessions holds."""
    assert None is running[case, kind].result(timeout=20), case.body.__doc__
