"""A walk over many rows in the order of their keys, a bounded part of it at each call.

A condition on anything but keys makes Table Storage look at every row all the same, for up to five seconds a page, and
an empty page does not tell how far that went. So a walk asks for all rows, with the few properties that it needs of
each. How far it has got is a row: whoever comes next goes on there, another process, or this one after a crash.
https://learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import Table
from bridge.adapters.table_entity import Entity
from bridge.errors import StoreUnavailable

_SEEN_FOR_EACH: Final = 10  # a call looks at so many rows for each one that it may have work with
_STEP: Final = 100
_PAGE: Final = 1_000


class Walk:
    """A walk through a range of partitions. `name` is that of the row that tells how far it has got."""

    def __init__(
        self,
        table: Table,
        name: str,
        *,
        start: str,
        end: str,
        select: Sequence[str],
        now: Callable[[], datetime],
        longest: timedelta,
    ) -> None:
        self._table = table
        self._name = name
        self._start, self._end = start, end
        self._select = select
        self._now = now
        self._longest = longest

    def go_on(self, handle: Callable[[list[Entity]], int], limit: int) -> int:
        """Hand on the rows after the last one that was handled, some at a time; return what that came to.

        `handle` returns with how many of them it had work. The walk rests when it was about `limit`, after ten times as
        many rows, or when its time is over; at the end of the range the next one begins anew. A table that fails keeps
        it from what follows, but does not send it back.
        """
        stop_at = self._now() + self._longest
        found: Entity = self._table.get(keys.UPKEEP, self._name) or {}
        place = (str(found.get("after") or ""), str(found.get("after_row") or ""))
        worked = seen = 0
        try:
            for rows in self._steps(place, min(limit, _PAGE)):
                worked += handle(rows)
                seen += len(rows)
                place = (rows[-1]["PartitionKey"], rows[-1]["RowKey"])
                if worked >= limit or seen >= limit * _SEEN_FOR_EACH or self._now() >= stop_at:
                    break
            else:
                place = ("", "")
        except StoreUnavailable:
            if seen:
                self._rest(place)
            raise
        self._rest(place)
        return worked

    def _steps(self, place: tuple[str, str], size: int) -> Iterator[list[Entity]]:
        step = min(size, _STEP)
        for page in self._pages(place, size):
            for start in range(0, len(page), step):
                yield page[start : start + step]

    def _pages(self, place: tuple[str, str], size: int) -> Iterator[list[Entity]]:
        after, row = place
        if row:
            rest = "PartitionKey eq @after and RowKey gt @row"
            yield from self._table.pages(rest, after=after, row=row, select=self._select, size=size)
        following = "PartitionKey gt @after and PartitionKey lt @end"
        yield from self._table.pages(
            following, after=after or self._start, end=self._end, select=self._select, size=size
        )

    def _rest(self, place: tuple[str, str]) -> None:
        after, row = place
        self._table.upsert({"PartitionKey": keys.UPKEEP, "RowKey": self._name, "after": after, "after_row": row})
