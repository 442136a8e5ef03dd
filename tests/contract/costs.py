"""What a call of the table store costs: counted on a table in memory, by the kind of call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from bridge.adapters.table_store import TableStore
from tests.fakes.tables import FakeTable, FakeTableClient

T = TypeVar("T")


class Counted:
    """A table store whose calls of the table are counted."""

    def __init__(self) -> None:
        client: Any = FakeTableClient(FakeTable(), self._carry)
        self.store = TableStore(client)
        self._calls: Counter[str] = Counter()
        self.store.check()

    def _carry(self, call: str, work: Callable[[], T]) -> T:
        self._calls[call] += 1
        return work()

    def cost(self, act: Callable[[], T]) -> tuple[T, dict[str, int]]:
        """Return what something comes to, and what it cost."""
        self._calls.clear()
        return act(), dict(self._calls)
