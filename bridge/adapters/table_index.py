"""The index rows of the table store: hints to rows, each checked against its row before anything is made of it.

A hint is written before the row that it points to and removed after, so a process that dies leaves at most a hint too
many, never one too few. One that its row denies is passed over, and deleted once it is too old to be a write under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import TRANSACTION_ROWS, Table, Write
from bridge.adapters.table_entity import Entity, etag_of
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import RunKey, Wait

HINT_WRITTEN: Final = "table.hint-written"
ROWS_WRITTEN: Final = "table.rows-written"
HINT_REMOVED: Final = "table.hint-removed"
PURGED_HINTS: Final = "table.purged-hints"
PURGED_ROWS: Final = "table.purged-rows"
FOR_ADF: Final = "yes"
POINTS: Final = (HINT_WRITTEN, ROWS_WRITTEN, HINT_REMOVED, PURGED_HINTS, PURGED_ROWS)


@dataclass(frozen=True, slots=True)
class Hint:
    """An index row: where it stands, and the partition of the row that it points to."""

    partition: str
    row: str
    to: str
    facts: dict[str, str] = field(default_factory=dict)


def token_hint(wait: Wait) -> Hint:
    """Return the way from a token to its run's partition."""
    return Hint(keys.TOKENS + keys.name(wait.token), "token", keys.run_partition(wait.key))


def age_hint(wait: Wait) -> Hint:
    """Return a wait's place in the list of all waits. Target and factory never change, so a list can be filtered."""
    facts = {"token": wait.token, "target": wait.task.target, "factory": wait.key.factory.key}
    return Hint(*keys.age_key(wait.registered_at, wait.token), keys.run_partition(wait.key), facts)


def due_hint(wait: Wait, due_key: str) -> Hint:
    """Return a wait's place among what is due for its target, saying whether ADF is to be asked.

    It may say so of one for which ADF is asked no more: a hint stays as long as its wait is due at that time.
    """
    partition = keys.DUE + keys.name(wait.task.target)
    facts = {"token": wait.token}
    if wait.cancels or not wait.state.is_told:
        facts["for_adf"] = FOR_ADF
    return Hint(partition, due_key, keys.run_partition(wait.key), facts)


def open_hint(wait: Wait, open_key: str) -> Hint:
    """Return a wait's place among the open waits of its factory."""
    partition = keys.OPEN + keys.name(wait.key.factory.key)
    facts = {"token": wait.token, "run_id": wait.key.run_id}
    if wait.watched is not None:
        facts["watched"] = msgspec.json.encode(wait.watched).decode()
    if wait.match is not None:
        facts["pipeline"] = wait.match.pipeline.lower()
    return Hint(partition, open_key, keys.run_partition(wait.key), facts)


def match_hint(wait: Wait, open_key: str) -> Hint | None:
    """Return an open wait's place among those for the next run of its pipeline, if it is one of these."""
    if wait.match is None:
        return None
    partition = keys.matches_partition(wait.key.factory.key, wait.match.pipeline)
    return Hint(partition, open_key, keys.run_partition(wait.key), open_hint(wait, open_key).facts)


def run_hint(key: RunKey) -> Hint:
    """Return the way from a run id to its run's partition."""
    return run_hint_of(keys.run_partition(key))


def run_hint_of(partition: str) -> Hint:
    """Return the way from a run id to its run's partition, by that."""
    factory, run_id = keys.run_of(partition)
    return Hint(keys.RUN_IDS + run_id, factory, partition)


def place_hint(place: str, place_key: str, request: str) -> Hint:
    """Return a trigger request's place among those of its task; `request` is its partition."""
    return Hint(keys.PLACES + keys.name(place), place_key, request)


def finish_hint(finish_key: str, request: str) -> Hint:
    """Return a trigger request's place among those that the bridge itself finishes; `request` is its partition."""
    return Hint(keys.UNFINISHED, finish_key, request)


def ways_to_request(entity: Entity) -> Iterator[Hint]:
    """Yield the hints that a trigger request's row needs, by its keys in the indexes."""
    if entity.get("place_key"):
        yield place_hint(entity["place"], entity["place_key"], entity["PartitionKey"])
    if entity.get("finish_key"):
        yield finish_hint(entity["finish_key"], entity["PartitionKey"])


def moving_key(at: datetime, token: str, write: str) -> str:
    """Return the key of a hint that moves with its row: a time, and what makes it that very write's own.

    Two writes never share it, so removing what one write has replaced cannot remove what another has put there.
    """
    return f"{keys.moment(at)};{keys.name(token)};{write[:12]}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that stands for a row; `etag` is its hint's, and empty when there was a hint before."""

    hint: Hint
    row: str
    etag: str = ""


class Index:
    """Writes and removes hints, and judges those that turn out wrong."""

    def __init__(
        self, table: Table, *, now: Callable[[], datetime], grace: timedelta, reach: Callable[[str], None]
    ) -> None:
        self._table = table
        self._now = now
        self._grace = grace
        self._reach = reach

    def add(self, hints: Iterable[Hint]) -> None:
        """Write hints: those of one partition at once."""
        for group in _groups(hints):
            self._table.upsert_all([self._entity(hint) for hint in group])
            self._reach(HINT_WRITTEN)

    def claim(self, hint: Hint, row: str) -> Claim:
        """Write the hint of a name that stands for one row only; StoreConflict when it stands for another one."""
        entity = self._entity(hint)
        try:
            claim = Claim(hint, row, *self._table.write([Write(entity)]))
        except StoreConflict:
            self._table.write([Write(entity, self._free(hint, row))])
            claim = Claim(hint, row)
        self._reach(HINT_WRITTEN)
        return claim

    def release(self, claim: Claim) -> None:
        """Give a name back whose row was not written: it may be about to stand for another one.

        Only a hint that this claim was the first to write, and that nobody has written since, has no row on the way;
        and where there is a row, the hint had been lost.
        """
        if not claim.etag:
            return
        try:
            if self._table.get(claim.hint.to, claim.row, select=["RowKey"]) is not None:
                return
            self._table.delete(claim.hint.partition, claim.hint.row, etag=claim.etag)
        except StoreUnavailable:
            return  # whoever claims it finds that its row denies it, as soon as it is old
        self._reach(HINT_REMOVED)

    def _free(self, hint: Hint, row: str) -> str:
        """Return the ETag of a hint that is there already, if it may be had; else raise StoreConflict."""
        found = self._table.get(hint.partition, hint.row)
        if found is None:
            return ""
        if found["to"] != hint.to:
            taken = self._table.get(found["to"], row, select=["RowKey"]) is not None
            if taken or not self.is_old(found):
                raise StoreConflict(hint.partition)
        return etag_of(found)

    def remove(self, hints: Iterable[Hint]) -> None:
        """Remove hints that were true before their rows were written. The rows are written: this may fail."""
        for group in _groups(hints):
            try:
                self._table.discard(group[0].partition, [hint.row for hint in group])
            except StoreUnavailable:
                return  # whoever reads them finds that their rows deny them
            self._reach(HINT_REMOVED)

    def denied(self, hint: Entity) -> None:
        """Delete a hint that its row denies, unless it is so young that its row may still be on the way."""
        if not self.is_old(hint):
            return
        try:
            self._table.delete(hint["PartitionKey"], hint["RowKey"], etag=etag_of(hint))
        except StoreUnavailable:
            return  # the next reader will

    def is_old(self, hint: Entity) -> bool:
        """Whether whoever wrote a hint has written its row by now, or never will."""
        return bool(keys.moment_of(hint["at"]) < self._now() - self._grace)

    def rebuild(self, hint: Hint) -> None:
        """Write a hint that is missing."""
        self._table.upsert(self._entity(hint))

    def is_missing(self, hint: Hint) -> bool:
        """Whether a hint is not there."""
        return self._table.get(hint.partition, hint.row, select=["RowKey"]) is None

    def forget(self, hints: Iterable[Hint]) -> None:
        """Remove the hints to rows that are about to be removed."""
        for group in _groups(hints):
            self._table.discard(group[0].partition, [hint.row for hint in group])

    def _entity(self, hint: Hint) -> dict[str, str]:
        at = keys.moment(self._now())
        return {
            "PartitionKey": hint.partition,
            "RowKey": hint.row,
            "kind": "hint",
            "to": hint.to,
            "at": at,
            "write": f"{at};{hint.to}",
            **hint.facts,
        }


def _groups(hints: Iterable[Hint]) -> Iterator[list[Hint]]:
    """Yield hints of one partition each, as many as change at once; those that come first, first."""
    partitions: dict[str, list[Hint]] = {}
    for hint in hints:
        partitions.setdefault(hint.partition, []).append(hint)
    for group in partitions.values():
        for start in range(0, len(group), TRANSACTION_ROWS):
            yield group[start : start + TRANSACTION_ROWS]
