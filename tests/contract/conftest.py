"""A real Table Storage emulator for the tests of the store: one process for all of them, one table for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from local.process import LocalProcess

RETENTION = timedelta(days=30)

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
