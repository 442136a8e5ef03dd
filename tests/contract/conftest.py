"""What the tests are held against: a real Table Storage emulator, one process for all and one table for each; and a
Service Bus.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from local.process import LocalProcess
from tests.contract.service_bus import ELSEWHERE, Case, LocalBroker, collect_leaks, run

RETENTION = timedelta(days=30)

for cases in ("queues", "sessions", "broker", "faults"):
    pytest.register_assert_rewrite(f"tests.contract.service_bus_{cases}")

MakeTableStore = Callable[..., TableStore]


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a running Azurite."""
    with LocalProcess("local.azurite", log=tmp_path_factory.mktemp("azurite") / "log") as process:
        yield process.url


@pytest.fixture
def table_name() -> str:
    """The name of a table that nobody has."""
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def make_table_store(azurite: str, table_name: str) -> Iterator[MakeTableStore]:
    """Makes stores on the test's own table; each is another instance of the app. They are closed with the test."""
    made: list[TableStore] = []

    def make(**options: Any) -> TableStore:
        store = TableStore(connect(azurite, table_name), **options)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[Case, str], Future[None]]]:
    """The cases that were collected, all under way; against another Service Bus one after the other."""
    items: list[Any] = [item for item in request.session.items if "running" in getattr(item, "fixturenames", ())]
    wanted: list[tuple[Case, str]] = [(one.callspec.params["case"], one.callspec.params["kind"]) for one in items]
    with ExitStack() as stack:
        connection_string = ELSEWHERE
        if connection_string is None:
            queues = [
                ",".join(filter(None, (case.queue(kind), case.properties))) for case, kind in wanted if not case.broker
            ]
            broker = LocalBroker(tmp_path_factory.mktemp("service_bus"), queues=queues)
            connection_string = stack.enter_context(broker).connection_string
        pool = stack.enter_context(ThreadPoolExecutor(1 if ELSEWHERE else 12))
        yield {(case, kind): pool.submit(run, case, kind, connection_string) for case, kind in wanted}
        pool.shutdown(cancel_futures=True)
    collect_leaks()
