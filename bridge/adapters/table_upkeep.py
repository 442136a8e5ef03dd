"""What keeps the table store in order: lost index rows, rows that are past their retention, too many events."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Final

from bridge.adapters import table_index as index
from bridge.adapters import table_keys as keys
from bridge.adapters.rows import Rows, is_over
from bridge.adapters.table_access import Table, Write
from bridge.adapters.table_entity import Entity, etag_of, read_row, sweep_entity
from bridge.adapters.table_index import Hint, Index
from bridge.adapters.table_plan import ways
from bridge.adapters.table_walk import Walk
from bridge.errors import StoreConflict
from bridge.model import FactoryId, Run, Sweep, Wait

_BETWEEN: Final = "PartitionKey gt @start and PartitionKey lt @end"
_KEYS: Final = ("PartitionKey", "RowKey")
_OF_REQUESTS: Final = ("place", "place_key", "finish_key")
_HINTS: Final = (keys.MATCHES, keys.OPEN, keys.PLACES)
_LONGEST: Final = timedelta(seconds=5)
_MOST_PRUNED: Final = 20_000
_FORGET_TRIES: Final = 5


class Upkeep:
    """Repairs and purges, in steps that end: each call does a bounded part of the work."""

    def __init__(
        self,
        table: Table,
        hints: Index,
        rows: Rows,
        readers: Executor,
        *,
        now: Callable[[], datetime],
        reach: Callable[[str], None],
        events_kept: int,
        new_id: Callable[[], str],
    ) -> None:
        self._table = table
        self._index = hints
        self._rows = rows
        self._readers = readers
        self._now = now
        self._reach = reach
        self._events_kept = events_kept
        self._new_id = new_id

    # --- index rows ---

    def repair(self, limit: int) -> int:
        """Rebuild the hints to live waits, runs and requests, from where the last call (of any instance) stopped."""
        walk = self._walk("repair", keys.REQUESTS, ["live", *_OF_REQUESTS])
        rebuilt = 0

        def mend(rows: Sequence[Entity]) -> int:
            nonlocal rebuilt
            waits = [row for row in rows if row.get("live")]
            runs = sorted({str(row["PartitionKey"]) for row in waits})
            requests = [row for row in rows if any(index.ways_to_request(row))]
            for work, on in ((self._mend_wait, waits), (self._mend_request, requests)):
                rebuilt += sum(self._readers.map(work, on))
            rebuilt += sum(self._readers.map(self._mend_run, runs))
            return len(waits) + len(requests)

        walk.go_on(mend, limit)
        return rebuilt

    def _walk(self, name: str, start: str, select: Sequence[str]) -> Walk:
        """Return a walk up to the last of the runs. Matches, open waits, places, requests, runs follow each other."""
        end = keys.past(keys.RUNS)
        select = [*_KEYS, *select]
        return Walk(self._table, name, start=start, end=end, select=select, now=self._now, longest=_LONGEST)

    def _mend_request(self, entity: Entity) -> int:
        missing = [hint for hint in index.ways_to_request(entity) if self._index.is_missing(hint)]
        if not missing:
            return 0
        now = self._table.get(entity["PartitionKey"], entity["RowKey"], select=[*_KEYS, *_OF_REQUESTS])
        needed = list(index.ways_to_request(now)) if now is not None else []
        return self._rebuild(hint for hint in missing if hint in needed)

    def _mend_wait(self, at: Entity) -> int:
        """Rebuild the hints to a wait that are missing, and were so while its row still had them."""
        entity = self._table.get(at["PartitionKey"], at["RowKey"])
        wait = read_row(self._rows, entity, Wait) if entity is not None else None
        if entity is None or wait is None:
            return 0
        missing = [hint for hint in ways(wait, entity["due_key"], entity["open_key"]) if self._index.is_missing(hint)]
        if not missing:
            return 0
        now = self._table.get(at["PartitionKey"], at["RowKey"])  # a hint may go once its row needs it no more
        wait = read_row(self._rows, now, Wait) if now is not None else None
        if now is None or wait is None or wait.is_over:
            return 0
        needed = {(hint.partition, hint.row) for hint in ways(wait, now["due_key"], now["open_key"])}
        lost = [hint for hint in missing if (hint.partition, hint.row) in needed]
        is_unswept = any(hint.partition.startswith(keys.OPEN) for hint in lost)
        # Sweeps that missed the wait have not covered its run after all. One may be under way: before and after.
        if is_unswept:
            self._forget_coverage(wait.key.factory)
        rebuilt = self._rebuild(lost)
        if is_unswept:
            self._forget_coverage(wait.key.factory)
        return rebuilt

    def _rebuild(self, hints: Iterable[Hint]) -> int:
        rebuilt = 0
        for hint in hints:
            self._index.rebuild(hint)
            rebuilt += 1
        return rebuilt

    def _forget_coverage(self, factory: FactoryId) -> None:
        partition, row = keys.SWEEPS, keys.name(factory.key)
        for _ in range(_FORGET_TRIES):
            entity = self._table.get(partition, row)
            sweep = read_row(self._rows, entity, Sweep) if entity is not None else None
            if entity is None or sweep is None:
                return
            try:
                self._table.write([Write(sweep_entity(sweep.uncovered, write=self._new_id()), etag_of(entity))])
            except StoreConflict:
                continue
            return

    def _mend_run(self, partition: str) -> int:
        """Rebuild the hint to the run of live waits, if it has a row."""
        hint = index.run_hint_of(partition)
        if not self._index.is_missing(hint) or self._table.get(partition, keys.RUN_ROW, select=["RowKey"]) is None:
            return 0
        return self._rebuild([hint])

    # --- retention ---

    def purge(self, before: datetime, limit: int) -> int:
        """Remove runs and waits, requests and events that are over and older, from where the last call stopped."""
        walk = self._walk("purge", keys.MATCHES, ["since", "at", "to", "token", *_OF_REQUESTS])
        purged: set[str] = set()

        def purge(rows: Sequence[Entity]) -> int:
            old = [row for row in rows if _is_old(row, before)]
            runs = {str(row["PartitionKey"]) for row in old if _is_in(row, keys.RUNS)} - purged
            purged.update(runs)
            removed = sum(self._readers.map(lambda run: self._purge_run(run, before), sorted(runs)))
            removed += sum(self._readers.map(self._purge_request, [row for row in old if _is_in(row, keys.REQUESTS)]))
            return removed + sum(self._readers.map(self._purge_hint, [row for row in old if _is_in(row, *_HINTS)]))

        return walk.go_on(purge, limit) + self._prune_events(before)

    def _purge_run(self, partition: str, before: datetime) -> int:
        """Remove what is over of a run: first the ways to it, so that what a crash leaves is found again."""
        pages = self._table.pages("PartitionKey eq @partition", partition=partition)
        entities = list(itertools.chain.from_iterable(pages))
        over = {entity["RowKey"]: hints for entity in entities if (hints := self._ways_to_over(entity, before))}
        if any(entity["RowKey"] not in over for entity in entities):
            over.pop(keys.RUN_ROW, None)  # a run stays as long as one of its waits
        if not over:
            return 0
        self._index.forget(itertools.chain.from_iterable(over.values()))
        self._reach(index.PURGED_HINTS)
        self._table.delete_all([entity for entity in entities if entity["RowKey"] in over])
        self._reach(index.PURGED_ROWS)
        return len(over)

    def _ways_to_over(self, entity: Entity, before: datetime) -> Sequence[Hint]:
        """Return the hints to a row that is over; none when it is not, or cannot be read: then a newer release will."""
        if entity["RowKey"] == keys.RUN_ROW:
            run = read_row(self._rows, entity, Run)
            return [index.run_hint(run.key)] if run is not None and is_over(run, before) else []
        wait = read_row(self._rows, entity, Wait)
        return ways(wait, "", "") if wait is not None and is_over(wait, before) else []

    def _purge_request(self, entity: Entity) -> int:
        """Remove a request, and after it the way to it: a try that is just made must not miss one that stays."""
        if not self._table.delete(entity["PartitionKey"], entity["RowKey"], etag=etag_of(entity)):
            return 0
        self._reach(index.PURGED_ROWS)
        self._index.forget(index.ways_to_request(entity))
        self._reach(index.PURGED_HINTS)
        return 1

    def _purge_hint(self, hint: Entity) -> int:
        """Remove an old way that leads nowhere: nobody has read it since it does."""
        row, name = (keys.REQUEST_ROW, "place_key") if _is_in(hint, keys.PLACES) else (_wait_row(hint), "open_key")
        found = self._table.get(hint["to"], row, select=[name])
        if found is not None and found.get(name) == hint["RowKey"]:
            return 0
        return int(self._table.delete(hint["PartitionKey"], hint["RowKey"], etag=etag_of(hint)))

    def _prune_events(self, before: datetime) -> int:
        """Remove the events that are older, and the oldest of those that are too many; a bounded number of them."""
        stop_at = self._now() + _LONGEST
        removed = 0
        for page in self._surplus(before):
            for _, entities in itertools.groupby(page, key=lambda entity: str(entity["PartitionKey"])):
                self._table.delete_all(list(entities))
            removed += len(page)
            if removed >= _MOST_PRUNED or self._now() >= stop_at:
                break
        return removed

    def _surplus(self, before: datetime) -> Iterator[list[Entity]]:
        """Yield what is to go of the list of events, which begins with the newest."""
        partition, row = keys.last_event(before)
        end = keys.past(keys.EVENTS)
        of_that_day = "PartitionKey eq @partition and RowKey gt @row"
        yield from self._table.pages(of_that_day, select=_KEYS, partition=partition, row=row)
        yield from self._table.pages(_BETWEEN, select=_KEYS, start=partition, end=end)
        seen = 0
        for page in self._table.pages(_BETWEEN, select=_KEYS, start=keys.EVENTS, end=end):
            kept = max(0, self._events_kept - seen)
            seen += len(page)
            if page[kept:]:
                yield page[kept:]


def _is_old(entity: Entity, before: datetime) -> bool:
    """Whether an entity may be what a purge is for, as far as its few properties tell."""
    at = entity["at"] if _is_in(entity, *_HINTS) else entity["since"]
    return bool(at < keys.moment(before))


def _is_in(entity: Entity, *partitions: str) -> bool:
    return bool(entity["PartitionKey"].startswith(partitions))


def _wait_row(hint: Entity) -> str:
    return keys.wait_row(hint["token"])
