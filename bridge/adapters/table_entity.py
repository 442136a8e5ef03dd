"""Rows as entities of Table Storage, and back.

A row is the same JSON as everywhere, cut into properties `row0`, `row1`, … of at most 64 KiB (UTF-16)
each; an entity has at most 1 MiB. https://learn.microsoft.com/azure/storage/tables/scalability-targets
What the store has to ask for (whether a wait is live, its place in the indexes) stands in properties of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from bridge.adapters import table_keys as keys
from bridge.adapters.rows import SCHEMA, Row, Rows, encode, last_change
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import Breaker, Run, StartRequest, Sweep, TimelineEntry, Wait

Entity = Mapping[str, Any]

_CHUNK_CHARS: Final = 16_000  # at most 32,000 UTF-16 units: a sign outside of the first plane has two
_ROW_BYTES: Final = 960_000  # of the entity's 1,048,576: the rest is for keys and properties
_TIMELINE_ENDS: Final = 4  # how many lines at either end are kept when a story has to be cut


@dataclass(frozen=True, slots=True)
class Seen:
    """What a row's version remembers: the entity's ETag, and the keys of the index rows that it had.

    Of a trigger request these are its `place_key`, which stands where a wait's `due_key` does, and its `finish_key`,
    where a wait's `open_key` does.
    """

    etag: str
    due_key: str = ""
    open_key: str = ""

    @classmethod
    def of(cls, version: str) -> Seen:
        """Read a version; one that this store did not give out matches no row: StoreConflict."""
        if not version:
            return cls("")
        parts = version.split("\n")
        if len(parts) != 3:  # noqa: PLR2004 - the three fields
            raise StoreConflict(version)
        return cls(*parts)

    @property
    def place_key(self) -> str:
        """The key of a trigger request among those of its task."""
        return self.due_key

    @property
    def finish_key(self) -> str:
        """The key of a trigger request among those that the bridge itself finishes."""
        return self.open_key

    @property
    def version(self) -> str:
        """The version, as the core carries it around."""
        return f"{self.etag}\n{self.due_key}\n{self.open_key}"


def wait_entity(wait: Wait, *, due_key: str, open_key: str, write: str) -> dict[str, Any]:
    """Return a wait's entity."""
    return {
        **_entity(wait, keys.run_partition(wait.key), keys.wait_row(wait.token), write),
        "kind": "wait",
        "live": not wait.is_over,
        "state": wait.state.value,
        "mode": wait.mode.value,
        "cancels": wait.cancels,
        "due_key": due_key,
        "open_key": open_key,
    }


def run_entity(run: Run, *, write: str) -> dict[str, Any]:
    """Return a run's entity."""
    return {**_entity(run, keys.run_partition(run.key), keys.RUN_ROW, write), "kind": "run", "live": False}


def request_entity(record: StartRequest, *, place_key: str, finish_key: str, write: str) -> dict[str, Any]:
    """Return a trigger request's entity."""
    entity = _entity(record, keys.request_partition(record.idempotency_key), keys.REQUEST_ROW, write)
    keys_of_hints = {"place_key": place_key, "finish_key": finish_key}
    return {**entity, "kind": "request", "place": record.place or "", **keys_of_hints}


def breaker_entity(breaker: Breaker, *, write: str) -> dict[str, Any]:
    """Return a breaker's entity."""
    return {**_entity(breaker, keys.BREAKERS, keys.name(breaker.name), write), "kind": "breaker"}


def sweep_entity(sweep: Sweep, *, write: str) -> dict[str, Any]:
    """Return the entity of how far a factory was swept."""
    return {**_entity(sweep, keys.SWEEPS, keys.name(sweep.factory.key), write), "kind": "sweep"}


def _entity(row: Row, partition: str, row_key: str, write: str) -> dict[str, Any]:
    since = last_change(row)
    return {
        "PartitionKey": partition,
        "RowKey": row_key,
        "schema": SCHEMA,
        "write": write,  # tells a write that was applied, and whose answer was lost, from somebody else's
        "since": keys.moment(since) if since is not None else keys.NEVER,
        **chunks(encode(row)),
    }


def read_row(rows: Rows, entity: Entity, kind: type[Row]) -> Row | None:
    """Return an entity's row, or None if it cannot be read."""
    return rows.read(text_of(entity), kind, **about(entity))


def about(entity: Entity) -> dict[str, str]:
    """Return what a row is read with: its version, and the name by which it is told when it cannot be read."""
    return {"version": version_of(entity), "name": f"{entity['PartitionKey']} {entity['RowKey']}"}


def version_of(entity: Entity) -> str:
    """Return the version of an entity's row as it was read."""
    first = entity.get("place_key") or entity.get("due_key", "")
    second = entity.get("finish_key") or entity.get("open_key", "")
    return Seen(etag_of(entity), first, second).version


def etag_of(entity: Entity) -> str:
    """Return the ETag that an entity was read with."""
    metadata: Mapping[str, Any] = getattr(entity, "metadata", {})
    return str(metadata["etag"])


def chunks(text: str) -> dict[str, str]:
    """Return a row's text as properties that are each small enough."""
    return {
        f"row{number}": text[start : start + _CHUNK_CHARS]
        for number, start in enumerate(range(0, len(text), _CHUNK_CHARS))
    }


def text_of(entity: Entity) -> str:
    """Return the text of a row's properties."""
    parts: list[str] = []
    while (part := entity.get(f"row{len(parts)}")) is not None:
        parts.append(str(part))
    return "".join(parts)


def wire_bytes(entity: Entity) -> int:
    """Return how many bytes an entity has in a request, which writes what is not ASCII as escapes."""
    return len(json.dumps(entity))


def fitting(wait: Wait) -> Wait:
    """Return the wait with as much of its story as fits into an entity: the middle goes first.

    Raises StoreUnavailable when it does not fit even without its story.
    """
    lines = list(wait.timeline)
    while not _fits(wait):
        middle = len(lines) // 2
        if len(lines) > 2 * _TIMELINE_ENDS:
            cut = max(1, (len(lines) - 2 * _TIMELINE_ENDS) // 2)
            start = middle - cut // 2
            lines[start : start + cut] = []
        elif lines and any(line.detail for line in lines):
            lines = [TimelineEntry(line.at, line.what) for line in lines]
        else:
            msg = "A wait is larger than the 1 MB that a row of Table Storage can hold. Nothing was changed."
            raise StoreUnavailable(msg, retry_after=timedelta(minutes=5))
        wait = replace(wait, timeline=tuple(lines), news=min(wait.news, len(lines)))
    return wait


def _fits(row: Row) -> bool:
    text = encode(row)
    return len(text) * 4 <= _ROW_BYTES or len(text.encode("utf-16-le")) <= _ROW_BYTES
