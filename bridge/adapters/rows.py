"""How rows are written down: JSON, readable by every later release.

A field that is new in a release has a default, so an older row still reads; a field that a newer release added is
passed over by an older one. The version, which only the store knows, is not part of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from bridge.model import Breaker, EventRecord, Run, StartRequest, Sweep, TaskRef, Wait

Row = TypeVar("Row", Run, Wait, StartRequest, Breaker, Sweep)

SCHEMA: Final = 1

# msgspec 0.22 learns a type when it is first used, and two threads that use one for the first time at once crash the
# process (SIGSEGV). So all that a store ever reads is learnt here, while this module is imported by one thread.
_DECODERS: Final[Mapping[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Run, Wait, StartRequest, Breaker, Sweep, EventRecord, TaskRef)
}


def encode(row: Row) -> str:
    """Return a row as JSON."""
    return msgspec.json.encode(stored(row, version="")).decode()


def decode(text: str, kind: type[Row], *, version: str) -> Row:
    """Return the row of a JSON text, with the store's version put in."""
    row: Row = _DECODERS[kind].decode(text)
    return replace(row, version=version)


def stored(row: Row, *, version: str) -> Row:
    """Return a row as it stands once it is stored: with its version, and nothing in its story is news any more."""
    told: dict[str, Any] = {"news": 0} if hasattr(row, "news") else {}
    return replace(row, version=version, **told)


def last_change(row: Run | Wait | StartRequest | Breaker | Sweep) -> datetime | None:
    """Return when a row was last changed, as far as it tells; None for rows that are kept."""
    if isinstance(row, Run):
        return max(filter(None, (row.created_at, row.hint_at, row.read_at)), default=None)
    if isinstance(row, Wait):
        return row.timeline[-1].at if row.timeline else row.registered_at
    return row.received_at if isinstance(row, StartRequest) else None


def is_over(row: Run | Wait | StartRequest, before: datetime) -> bool:
    """Whether a row may be purged: nothing more happens to it, and it last changed before that."""
    since = last_change(row)
    return since is not None and since < before and not (isinstance(row, Wait) and not row.is_over)
