"""The index rows of the table store: hints to rows, each checked against its row before anything is made of it.

A hint is written before the row that it points to and removed after, so a process that dies leaves at most a hint too
many, never one too few. One that its row denies is passed over, and deleted once it is too old to be a write under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import Table, Write
from bridge.adapters.table_entity import Entity, etag_of
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import RunKey, Wait

HINT_WRITTEN: Final = "table.hint-written"
ROWS_WRITTEN: Final = "table.rows-written"
HINT_REMOVED: Final = "table.hint-removed"
PURGED_HINTS: Final = "table.purged-hints"
PURGED_ROWS: Final = "table.purged-rows"
POINTS: Final = (HINT_WRITTEN, ROWS_WRITTEN, HINT_REMOVED, PURGED_HINTS, PURGED_ROWS)


@dataclass(frozen=True, slots=True)
class Hint:
    """An index row: where it stands, and the partition of the run that it points to."""

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
    """Return a wait's place among what is due for its target."""
    partition = keys.DUE + keys.name(wait.task.target)
    return Hint(partition, due_key, keys.run_partition(wait.key), {"token": wait.token})


def open_hint(wait: Wait, open_key: str) -> Hint:
    """Return a wait's place among the open waits of its factory."""
    partition = keys.OPEN + keys.name(wait.key.factory.key)
    facts = {"token": wait.token, "run_id": wait.key.run_id}
    if wait.watched is not None:
        facts["watched"] = msgspec.json.encode(wait.watched).decode()
    if wait.match is not None:
        facts["pipeline"] = wait.match.pipeline.lower()
    return Hint(partition, open_key, keys.run_partition(wait.key), facts)


def run_hint(key: RunKey) -> Hint:
    """Return the way from a run id to its run's partition."""
    return Hint(keys.RUN_IDS + keys.name(key.run_id), keys.name(key.factory.key), keys.run_partition(key))


def moving_key(at: datetime, token: str, write: str) -> str:
    """Return the key of a hint that moves with its row: a time, and what makes it that very write's own.

    Two writes never share it, so removing what one write has replaced cannot remove what another has put there.
    """
    return f"{keys.moment(at)};{keys.name(token)};{write[:12]}"


class Index:
    """Writes and removes hints, and judges those that turn out wrong."""

    def __init__(
        self, table: Table, *, now: Callable[[], datetime], grace: timedelta, reach: Callable[[str], None]
    ) -> None:
        self._table = table
        self._now = now
        self._grace = grace
        self._reach = reach

    def add(self, hint: Hint) -> None:
        """Write a hint."""
        self._table.upsert(self._entity(hint))
        self._reach(HINT_WRITTEN)

    def claim(self, hint: Hint, row: str) -> None:
        """Write the hint of a name that stands for one row only; StoreConflict when it stands for another one."""
        entity = self._entity(hint)
        try:
            self._table.write([Write(entity)])
        except StoreConflict:
            self._table.write([Write(entity, self._free(hint, row))])
        self._reach(HINT_WRITTEN)

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

    def remove(self, hint: Hint) -> None:
        """Remove a hint that was true before the row was written. The row is written: this may fail."""
        try:
            self._table.delete(hint.partition, hint.row)
        except StoreUnavailable:
            return  # whoever reads it finds that its row denies it
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

    def rebuild(self, hint: Hint) -> bool:
        """Write a hint if it is missing; return whether it was."""
        if not self.is_missing(hint):
            return False
        self._table.upsert(self._entity(hint))
        return True

    def is_missing(self, hint: Hint) -> bool:
        """Whether a hint is not there."""
        return self._table.get(hint.partition, hint.row, select=["RowKey"]) is None

    def forget(self, hints: Iterator[Hint]) -> None:
        """Remove the hints to rows that are about to be removed."""
        for hint in hints:
            self._table.delete(hint.partition, hint.row)

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
