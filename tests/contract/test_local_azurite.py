"""The local Table Storage: it is there when it says so, and gone when it is told to go, or is left alone."""

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge import config, wiring
from bridge.adapters.table_store import TableStore
from local.process import LocalProcess
from tests.fakes.bench import ENVIRONMENT


def listens(url: str) -> bool:
    """True when somebody accepts connections there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((str(parts.hostname), parts.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


def is_left(url: str) -> bool:
    """True when somebody still accepts connections there after a while."""
    give_up_at = time.monotonic() + 10
    while listens(url) and time.monotonic() < give_up_at:
        os.sched_yield()
    return listens(url)


def test_it_leaves_in_good_order(tmp_path: Path) -> None:
    """Azurite serves once its line is printed, and ends with 0 when it is told to."""
    with LocalProcess("local.azurite", log=tmp_path / "log") as process:
        assert listens(process.url)
        assert 0 == process.stop()
    assert not is_left(process.url)


def test_nothing_is_left_of_one_that_was_killed(tmp_path: Path) -> None:
    """When the process that watches Azurite is killed, Azurite goes with it."""
    with LocalProcess("local.azurite", log=tmp_path / "log") as process:
        assert process.pid is not None
        os.kill(process.pid, 9)
        assert not is_left(process.url)


def test_an_app_with_tables(azurite: str, table_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that is configured for Table Storage keeps its rows there, and finds it well."""
    settings = {
        **ENVIRONMENT,
        "BRIDGE_STORE": "table",
        "BRIDGE_TABLES__tableServiceUri": azurite,
        "BRIDGE_TABLES__tableName": table_name,
    }
    app = wiring.build(config.load(settings))
    assert isinstance(app.store, TableStore)
    app.store.check()
    app.store.close()
