"""How rows are written down: JSON, readable by every later release.

A field that is new in a release has a default, so an older row still reads; a field that a newer release added is
passed over by an older one. A word that a newer release added makes a row that an older one cannot read: it is told
once, set aside, and left as it is. The version, which only the store knows, is not part of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from bridge.errors import StoreUnavailable
from bridge.model import (
    Breaker,
    EventRecord,
    Mode,
    OnAbandon,
    Run,
    RunKey,
    StartRequest,
    Sweep,
    TaskRef,
    Wait,
    WaitState,
)
from bridge.telemetry import Log

Row = TypeVar("Row", Run, Wait, StartRequest, Breaker, Sweep)

SCHEMA: Final = 1

# The version of what stands in for a row that cannot be read. No row is written in its place.
UNREADABLE: Final = "unreadable"
_TOLD_REMEMBERED: Final = 1_000

# msgspec 0.22 learns a type when it is first used, and two threads that use one for the first time at once crash the
# process (SIGSEGV). So all that a store ever reads is learnt here, while this module is imported by one thread.
_DECODERS: Final[Mapping[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Run, Wait, StartRequest, Breaker, Sweep, EventRecord, TaskRef)
}
_FIELDS: Final = msgspec.json.Decoder(dict[str, Any])


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
    """Return when a row was last changed, as far as it tells, or is needed last; None for rows that are kept."""
    if isinstance(row, Run):
        return max(filter(None, (row.created_at, row.hint_at, row.read_at)), default=None)
    if isinstance(row, Wait):
        return row.timeline[-1].at if row.timeline else row.registered_at
    if isinstance(row, StartRequest):
        if row.due_at is not None:
            return None
        # Until then its run may go on, and the task's next try has to find it.
        return max(row.received_at, row.wait.deadline) if row.wait is not None else row.received_at
    return None


def is_over(row: Run | Wait | StartRequest, before: datetime) -> bool:
    """Whether a row may be purged: nothing more happens to it, and it last changed before that."""
    since = last_change(row)
    return since is not None and since < before and not (isinstance(row, Wait) and not row.is_over)


class Rows:
    """Reads rows one by one: one that this release cannot read is told, once in a process, and not returned.

    `tell` is told what kind of row it is, and its key; nothing of what it holds.
    """

    def __init__(self, tell: Callable[[str, str], None] | None = None) -> None:
        self._tell = tell or Log().unreadable
        self._told: set[str] = set()

    def read(self, text: str, kind: type[Row], *, version: str, name: str) -> Row | None:
        """Return the row of a JSON text, or None."""
        try:
            return decode(text, kind, version=version)
        except (msgspec.MsgspecError, ValueError):
            self.set_aside(kind.__name__, name)
            return None

    def wait(self, text: str, *, version: str, name: str) -> Wait | None:
        """Return a run's wait, or what stands in for it: somebody who waits. None when it is surely over.

        Nothing becomes of that one. But the run is not cancelled for lack of somebody who waits for it.
        """
        return self.read(text, Wait, version=version, name=name) or _stand_in(text)

    def run(self, text: str, key: RunKey, *, version: str, name: str) -> Run:
        """Return a run, or what stands in for it: one of which nothing is known. Its waits go on meanwhile."""
        return self.read(text, Run, version=version, name=name) or Run(key=key, version=UNREADABLE)

    def request(self, text: str, *, version: str, name: str) -> StartRequest:
        """Return a trigger request. Raise StoreUnavailable: without knowing what became of it, nothing is started."""
        found = self.read(text, StartRequest, version=version, name=name)
        if found is None:
            msg = "A trigger request's record was written by a newer release. Nothing was started; try again later."
            raise StoreUnavailable(msg, retry_after=timedelta(minutes=5))
        return found

    def event(self, text: str, *, name: str) -> EventRecord | None:
        """Return an event's record, or None."""
        try:
            record: EventRecord = _DECODERS[EventRecord].decode(text)
        except (msgspec.MsgspecError, ValueError):
            self.set_aside(EventRecord.__name__, name)
            return None
        return record

    def set_aside(self, kind: str, name: str) -> None:
        """Tell that a row cannot be read, unless that was told already."""
        if name in self._told:
            return
        if len(self._told) >= _TOLD_REMEMBERED:
            self._told.clear()
        self._told.add(name)
        self._tell(kind, name)


def _stand_in(text: str) -> Wait | None:
    """Return a wait that is open, with as much of an unreadable one as has to be known; None if that one is over."""
    try:
        row = _FIELDS.decode(text)
        known = {name: row[name] for name in ("token", "key", "task", "deadline", "registered_at")}
        wait: Wait = _DECODERS[Wait].decode(
            msgspec.json.encode({**known, "mode": Mode.RESUME, "on_abandon": OnAbandon.LEAVE})
        )
    except (msgspec.MsgspecError, ValueError, KeyError):
        return None
    is_over = any(row.get("state") == state for state in WaitState if state.is_final)
    return None if is_over else replace(wait, version=UNREADABLE)
