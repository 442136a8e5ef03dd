"""What writing a wait's row brings with it: the index rows that come before, and those that go after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    before = _ways(wait, seen.due_key, seen.open_key)
    after = _ways(wait, due_key, open_key)
    added = [] if seen.etag else [index.age_hint(wait)]
    added += [hint for way, hint in after.items() if way not in before]
    dropped = [hint for way, hint in before.items() if way not in after]
    return Planned(wait, seen, due_key, open_key, tuple(added), tuple(dropped))


def ways(wait: Wait, due_key: str, open_key: str) -> Sequence[Hint]:
    """Return the hints that a wait's row needs, by its keys in the indexes; but for the one to its run."""
    return [index.token_hint(wait), index.age_hint(wait), *_ways(wait, due_key, open_key).values()]


def _ways(wait: Wait, due_key: str, open_key: str) -> Mapping[tuple[str, str], Hint]:
    """Return the hints that move with a wait's row, by where they stand."""
    hints = []
    if due_key:
        hints.append(index.due_hint(wait, due_key))
    if open_key:
        hints.append(index.open_hint(wait, open_key))
        hints += [hint] if (hint := index.match_hint(wait, open_key)) is not None else []
    return {(hint.partition, hint.row): hint for hint in hints}


def _kept_or_new(old: str, at: datetime, token: str, write: str) -> str:
    return old if old.startswith(keys.moment(at) + ";") else index.moving_key(at, token, write)
