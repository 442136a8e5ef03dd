"""Dead letters as values, and those of Event Grid as files: the blobs into which it puts what it could not deliver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What Event Grid adds to an event, in lower case in CloudEvents.
# https://learn.microsoft.com/azure/event-grid/manage-event-delivery#set-dead-letter-location
_ADDED: Final = (
    "deadletterreason",
    "deliveryattempts",
    "lastdeliveryoutcome",
    "publishtime",
    "lastdeliveryattempttime",
)
_REASONS_SHOWN: Final = ("deadletterreason", "lastdeliveryoutcome")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was not taken: where it lies, its id, its body as it is sent again, and why it is there."""

    place: str
    id: str
    body: bytes
    why: str


class UnreadableError(Exception):
    """A file holds no dead letters; the message says why."""


def files_in(path: Path) -> list[Path]:
    """Return a file by itself, and of a folder every `.json` file below it, in order."""
    return sorted(one for one in path.rglob("*.json") if one.is_file()) if path.is_dir() else [path]


def events_in(file: Path) -> list[DeadLetter]:
    """Return the events of one blob, without what Event Grid has added; raise UnreadableError if there are none."""
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UnreadableError(f"cannot be read ({type(error).__name__})") from None
    except (ValueError, RecursionError):
        raise UnreadableError("is no JSON in UTF-8") from None
    events = document if isinstance(document, list) else [document]
    if not events or not all(isinstance(event, dict) for event in events):
        raise UnreadableError("holds no events: a JSON array of objects, as Event Grid writes it")
    return [_letter(file.name, event) for event in events]


def event_id(body: bytes, otherwise: str) -> str:
    """Return the id that an event has by itself, if that can be read."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return otherwise
    own = event.get("id") if isinstance(event, dict) else None
    return own if isinstance(own, str) and own else otherwise


def _letter(place: str, event: Mapping[str, Any]) -> DeadLetter:
    published = {name: value for name, value in event.items() if name.lower() not in _ADDED}
    added = {name.lower(): str(value) for name, value in event.items() if name.lower() in _ADDED}
    attempts = [f"after {added['deliveryattempts']} attempts"] if "deliveryattempts" in added else []
    reasons = [added[name] for name in _REASONS_SHOWN if name in added]
    own = published.get("id")
    return DeadLetter(
        place,
        own if isinstance(own, str) else "",
        json.dumps(published).encode(),
        " ".join([*reasons[:1], *attempts, *reasons[1:]]) or "not said",
    )
