r"""Keys of Azure Table Storage: any name, and times that sort, in either direction.

A key may hold neither `/ \ # ?` nor control characters, and no more than 1 KiB, which is 512 characters.
https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from bridge.model import RunKey

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MICROS_DIGITS: Final = 18
_DAY_DIGITS: Final = 7
NEVER: Final = "9" * _MICROS_DIGITS  # later than any moment
# A run's partition holds two names and a prefix. Of a longer name, its beginning and its hash are the key.
_NAME_CHARS: Final = 240
_BEGINNING_CHARS: Final = 160
_HASH_CHARS: Final = 16
_WRITE_CHARS: Final = 12
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]")
_SIGNS: Final = "-.0123456789;=ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_INVERTED: Final = str.maketrans(_SIGNS, _SIGNS[::-1])

RUNS: Final = "run;"
TOKENS: Final = "token;"
RUN_IDS: Final = "runid;"
DUE: Final = "due;"
AGES: Final = "age;"
MATCHES: Final = "match;"
OPEN: Final = "open;"
PLACES: Final = "place;"
REQUESTS: Final = "request;"
EVENTS: Final = "event;"
BREAKERS: Final = "breaker"
UNFINISHED: Final = "unfinished"
SWEEPS: Final = "sweep"
UPKEEP: Final = "upkeep"


def name(text: str) -> str:
    """Return a name as part of a key: letters, digits, `.`, `_`, `-` as they are, all else as `=` and UTF-8 in hex."""
    encoded = _STRANGE.sub(lambda sign: "".join(f"={byte:02X}" for byte in sign[0].encode()), text)
    if len(encoded) <= _NAME_CHARS:
        return encoded
    return f"{encoded[:_BEGINNING_CHARS]}~{_hash(text)}"


def moment(at: datetime) -> str:
    """Return a time as part of a key that sorts as time goes."""
    return f"{_micros(at):0{_MICROS_DIGITS}d}"


def moment_after(at: datetime) -> str:
    """Return the least moment that is later than that."""
    return f"{_micros(at) + 1:0{_MICROS_DIGITS}d}"


def moment_of(key: str) -> datetime:
    """Return the time that a key starts with."""
    return _EPOCH + int(key[:_MICROS_DIGITS]) * _MICROSECOND


def newest_first(at: datetime) -> str:
    """Return a time as part of a key that sorts against time."""
    return f"{10**_MICROS_DIGITS - 1 - _micros(at):0{_MICROS_DIGITS}d}"


def newest_day_first(at: datetime) -> str:
    """Return a time's day (UTC) as part of a key that sorts against time."""
    return f"{10**_DAY_DIGITS - 1 - (at - _EPOCH).days:0{_DAY_DIGITS}d}"


def inverted(encoded: str) -> str:
    """Return what sorts the other way round, of an encoded name."""
    return encoded.translate(_INVERTED) + "~"


def past(prefix: str) -> str:
    """Return the least key that is greater than every key with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


# --- partitions and rows ----------------------------------------------------------------------------------------------


def run_partition(key: RunKey) -> str:
    """Return the partition of a run and its waits."""
    return f"{RUNS}{name(key.factory.key)};{name(key.run_id)}"


def run_of(partition: str) -> tuple[str, str]:
    """Return the names of a run's factory and of its id, as they are in keys, of the partition that it has."""
    factory, run_id = partition.removeprefix(RUNS).split(";")
    return factory, run_id


RUN_ROW: Final = "run"


def wait_row(token: str) -> str:
    """Return the row of a wait in its run's partition."""
    return f"wait;{name(token)}"


def request_partition(idempotency_key: str) -> str:
    """Return the partition of a trigger request. The key is a caller's, so it is not shown."""
    return REQUESTS + _hash(idempotency_key)


REQUEST_ROW: Final = "request"


def place_key(received_at: datetime, idempotency_key: str, write: str) -> str:
    """Return where a trigger request stands among those of its task, the one received last first.

    It ends with what is that very write's own, as the keys of all hints do that move with their row.
    """
    return f"{newest_first(received_at)};{_hash(idempotency_key)[:_HASH_CHARS]};{write[:_WRITE_CHARS]}"


def finish_key(due_at: datetime, idempotency_key: str, write: str) -> str:
    """Return where a trigger request stands among those that the bridge itself finishes, the one due first first."""
    return f"{moment(due_at)};{_hash(idempotency_key)[:_HASH_CHARS]};{write[:_WRITE_CHARS]}"


def is_place_at(key: str, received_at: datetime) -> bool:
    """Whether such a key is of that time."""
    return key.startswith(newest_first(received_at) + ";")


def matches_partition(factory: str, pipeline: str) -> str:
    """Return the partition of the open waits for a pipeline's runs, by the factory's key; in whatever case."""
    return f"{MATCHES}{name(factory)};{name(pipeline.lower())}"


def age_key(registered_at: datetime, token: str) -> tuple[str, str]:
    """Return where a wait stands in the list of all waits, the newest first, then the greatest token."""
    return AGES + newest_day_first(registered_at), f"{newest_first(registered_at)};{inverted(name(token))}"


def event_key(received_at: datetime, latest_first: str) -> tuple[str, str]:
    """Return where an event stands in the list of them, the newest first."""
    return EVENTS + newest_day_first(received_at), f"{newest_first(received_at)};{latest_first}"


def last_event(received_at: datetime) -> tuple[str, str]:
    """Return a place after all events of that time, and before all that are older."""
    return event_key(received_at, "~")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _micros(at: datetime) -> int:
    return max(0, (at - _EPOCH) // _MICROSECOND)
