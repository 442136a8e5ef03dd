"""What keeps the table store in order: lost index rows, rows that are past their retention, too many events."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Final

from bridge.adapters import table_index as index
from bridge.adapters import table_keys as keys
from bridge.adapters.rows import is_over
from bridge.adapters.table_access import Table, Write
from bridge.adapters.table_entity import Entity, etag_of, row_of, sweep_entity
from bridge.adapters.table_index import Hint, Index
from bridge.errors import StoreConflict
from bridge.model import FactoryId, Run, Sweep, Wait

_BETWEEN: Final = "PartitionKey gt @start and PartitionKey lt @end"
_MOST_PRUNED: Final = 5_000
_FORGET_TRIES: Final = 5


class Upkeep:
    """Repairs and purges, in steps that end: each call does a bounded part of the work."""

    def __init__(
        self,
        table: Table,
        hints: Index,
        readers: Executor,
        *,
        reach: Callable[[str], None],
        events_kept: int,
        new_id: Callable[[], str],
    ) -> None:
        self._table = table
        self._index = hints
        self._readers = readers
        self._reach = reach
        self._events_kept = events_kept
        self._new_id = new_id

    # --- index rows ---

    def repair(self, limit: int) -> int:
        """Rebuild the hints to live waits and their runs, from where the last call (of any instance) has stopped."""
        place = self._table.get(keys.UPKEEP, "repair")
        start = place["after"] if place is not None and place["after"] else keys.RUNS
        waits, after = self._live_waits(start, limit)
        rebuilt = sum(self._readers.map(self._mend, waits))
        self._table.upsert({"PartitionKey": keys.UPKEEP, "RowKey": "repair", "after": after})
        return rebuilt

    def _live_waits(self, start: str, limit: int) -> tuple[list[Entity], str]:
        """Return live waits of whole partitions after one, and the last of these partitions ("": all were seen)."""
        found: list[Entity] = []
        pages = self._table.pages(f"{_BETWEEN} and live eq true", start=start, end=keys.past(keys.RUNS), size=limit)
        for entity in itertools.chain.from_iterable(pages):
            if len(found) >= limit and entity["PartitionKey"] != found[-1]["PartitionKey"]:
                return found, str(found[-1]["PartitionKey"])
            found.append(entity)
        return found, ""

    def _mend(self, entity: Entity) -> int:
        wait = row_of(entity, Wait)
        hints = [index.token_hint(wait), index.age_hint(wait)]
        if entity["due_key"]:
            hints.append(index.due_hint(wait, entity["due_key"]))
        rebuilt = sum(self._index.rebuild(hint) for hint in hints) + self._mend_run(wait)
        return rebuilt + (self._mend_open(wait, entity["open_key"]) if entity["open_key"] else 0)

    def _mend_open(self, wait: Wait, open_key: str) -> bool:
        """Rebuild an open wait's place in the sweeps. Those that missed it have not covered its run after all.

        They are forgotten before and after: a sweep may be under way.
        """
        hint = index.open_hint(wait, open_key)
        if not self._index.is_missing(hint):
            return False
        self._forget_coverage(wait.key.factory)
        rebuilt = self._index.rebuild(hint)
        self._forget_coverage(wait.key.factory)
        return rebuilt

    def _forget_coverage(self, factory: FactoryId) -> None:
        partition, row = keys.SWEEPS, keys.name(factory.key)
        for _ in range(_FORGET_TRIES):
            entity = self._table.get(partition, row)
            if entity is None:
                return
            forgotten = replace(row_of(entity, Sweep), covered_until=None)
            try:
                self._table.write([Write(sweep_entity(forgotten, write=self._new_id()), etag_of(entity))])
            except StoreConflict:
                continue
            return

    def _mend_run(self, wait: Wait) -> bool:
        """Rebuild the hint to a wait's run, if it has a row."""
        hint = index.run_hint(wait.key)
        return (
            self._index.is_missing(hint)
            and self._table.get(hint.to, keys.RUN_ROW, select=["RowKey"]) is not None
            and self._index.rebuild(hint)
        )

    # --- retention ---

    def purge(self, before: datetime, limit: int) -> int:
        """Remove runs and waits, requests and events that are over and older, until `limit` rows are gone."""
        removed = self._purge_runs(before, limit)
        if removed < limit:
            removed += self._purge_requests(before, limit - removed)
        return removed + self.prune_events(before)

    def _purge_runs(self, before: datetime, limit: int) -> int:
        removed = 0
        pages = self._table.pages(
            f"{_BETWEEN} and since lt @before and live eq false",
            select=["PartitionKey", "RowKey"],
            start=keys.RUNS,
            end=keys.past(keys.RUNS),
            before=keys.moment(before),
        )
        for partition, _ in itertools.groupby(
            itertools.chain.from_iterable(pages), key=lambda entity: str(entity["PartitionKey"])
        ):
            removed += self._purge_run(partition, before)
            if removed >= limit:
                break
        return removed

    def _purge_run(self, partition: str, before: datetime) -> int:
        """Remove what is over of a run: first the ways to it, so that what a crash leaves is found again."""
        pages = self._table.pages("PartitionKey eq @partition", partition=partition)
        entities = list(itertools.chain.from_iterable(pages))
        over = [entity for entity in entities if _is_over(entity, before)]
        waits = [entity for entity in over if entity["RowKey"] != keys.RUN_ROW]
        if len(waits) < sum(entity["RowKey"] != keys.RUN_ROW for entity in entities):
            over = waits  # a run stays as long as one of its waits
        self._index.forget(itertools.chain.from_iterable(_ways_to(entity) for entity in over))
        self._reach(index.PURGED_HINTS)
        self._table.delete_all(over)
        self._reach(index.PURGED_ROWS)
        return len(over)

    def _purge_requests(self, before: datetime, limit: int) -> int:
        pages = self._table.pages(
            f"{_BETWEEN} and since lt @before",
            select=["PartitionKey", "RowKey"],
            start=keys.REQUESTS,
            end=keys.past(keys.REQUESTS),
            before=keys.moment(before),
            size=limit,
        )
        entities = list(itertools.islice(itertools.chain.from_iterable(pages), limit))
        for entity in entities:  # each has a partition of its own
            self._table.delete_all([entity])
        return len(entities)

    def prune_events(self, before: datetime) -> int:
        """Remove the events that are older, and the oldest of those that are too many; a bounded number of them."""
        surplus = list(itertools.islice(self._surplus(before), _MOST_PRUNED))
        for _, entities in itertools.groupby(surplus, key=lambda entity: str(entity["PartitionKey"])):
            self._table.delete_all(list(entities))
        return len(surplus)

    def _surplus(self, before: datetime) -> Iterator[Entity]:
        oldest = keys.moment(before)
        pages = self._table.pages(
            _BETWEEN,
            select=["PartitionKey", "RowKey", "since"],
            start=keys.EVENTS,
            end=keys.past(keys.EVENTS),
        )
        for number, entity in enumerate(itertools.chain.from_iterable(pages)):
            if number >= self._events_kept or entity["since"] < oldest:
                yield entity


def _is_over(entity: Entity, before: datetime) -> bool:
    if entity["live"]:
        return False
    if entity["RowKey"] == keys.RUN_ROW:
        return is_over(row_of(entity, Run), before)
    return is_over(row_of(entity, Wait), before)


def _ways_to(entity: Entity) -> Sequence[Hint]:
    if entity["RowKey"] == keys.RUN_ROW:
        return [index.run_hint(row_of(entity, Run).key)]
    wait = row_of(entity, Wait)
    return [index.token_hint(wait), index.age_hint(wait)]
