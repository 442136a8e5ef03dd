"""What writing a wait's row brings with it: the index rows that come before, and those that go after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bridge.adapters import table_index as index
from bridge.adapters import table_keys as keys
from bridge.adapters.table_entity import Seen, fitting
from bridge.adapters.table_index import Hint
from bridge.model import Wait, WaitState


@dataclass(frozen=True, slots=True)
class Planned:
    """A wait's row about to be written: its index keys from then on, and the hints that come and go with it."""

    wait: Wait
    seen: Seen
    due_key: str
    open_key: str
    added: tuple[Hint, ...]
    dropped: tuple[Hint, ...]


def plan(wait: Wait, write: str) -> Planned:
    """Decide which hints a wait's row needs and which it had."""
    seen = Seen.of(wait.version)
    wait = fitting(wait)
    due_key, open_key = "", ""
    if wait.due_at is not None:
        due_key = _kept_or_new(seen.due_key, wait.due_at, wait.token, write)
    if wait.state is WaitState.OPEN:
        open_key = _kept_or_new(seen.open_key, wait.registered_at, wait.token, write)
    added = [] if seen.etag else [index.age_hint(wait)]
    dropped = []
    for old, new, hint in ((seen.due_key, due_key, index.due_hint), (seen.open_key, open_key, index.open_hint)):
        if new and new != old:
            added.append(hint(wait, new))
        if old and new != old:
            dropped.append(hint(wait, old))
    return Planned(wait, seen, due_key, open_key, tuple(added), tuple(dropped))


def _kept_or_new(old: str, at: datetime, token: str, write: str) -> str:
    return old if old.startswith(keys.moment(at) + ";") else index.moving_key(at, token, write)
