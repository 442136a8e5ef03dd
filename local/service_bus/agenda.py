"""What will be due when: locks, times to live, scheduled messages."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime


class Agenda:
    """Checks to be made at their times. A check finds out by itself whether it still matters."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._entries: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._numbers = itertools.count()

    def add(self, at: datetime, check: Callable[[datetime], None]) -> None:
        """Make a check at that time; it is told the time when it is made."""
        heapq.heappush(self._entries, (at, next(self._numbers), check))

    @property
    def next_at(self) -> datetime | None:
        """When the next check is due."""
        return self._entries[0][0] if self._entries else None

    def due(self, now: datetime) -> Iterator[Callable[[datetime], None]]:
        """Take the checks that are due, in order, those that are added meanwhile included."""
        while self._entries and self._entries[0][0] <= now:
            yield heapq.heappop(self._entries)[2]
