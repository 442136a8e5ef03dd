"""How a queue is set up: the properties that Azure's own queue description has, and their defaults there.

https://learn.microsoft.com/azure/templates/microsoft.servicebus/namespaces/queues
"""

import argparse
import json
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from local.json_value import FieldError, JsonObject, JsonValue, flag, number, reject_unknown, text, whole_number

DEAD_LETTER_QUEUE = "$DeadLetterQueue"
LONGEST_LOCK = timedelta(minutes=5)

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?")
_FLAGS = frozenset({"requires_session", "dead_letter_on_expiry"})
_NUMBERS = frozenset({"lock_duration_s", "max_delivery_count", "default_ttl_s", "duplicate_detection_s"})
_FIELDS = _FLAGS | _NUMBERS | {"name"}


@dataclass(frozen=True, slots=True)
class QueueDescription:
    """A queue's properties. `duplicate_detection` is the window, None turns it off; without a
    `max_delivery_count` there is no limit.
    """

    name: str
    requires_session: bool = False
    lock_duration: timedelta = timedelta(minutes=1)
    max_delivery_count: int | None = 10
    default_time_to_live: timedelta | None = None
    duplicate_detection: timedelta | None = None
    dead_letter_on_expiry: bool = False

    @classmethod
    def from_json(cls, body: JsonObject) -> "QueueDescription":
        """Read a description; times are in seconds. Raises FieldError."""
        reject_unknown(body, _FIELDS)
        name = text(body, "name")
        if not _NAME.fullmatch(name):
            raise FieldError("name must be letters, digits, '.', '-', '_' and '/'")
        lock = timedelta(seconds=number(body, "lock_duration_s", 60))
        if not timedelta() < lock <= LONGEST_LOCK:
            raise FieldError("lock_duration_s must be more than 0 and at most 300")
        most = whole_number(body, "max_delivery_count", 10)
        if most < 1:
            raise FieldError("max_delivery_count must be 1 or more")
        return cls(
            name,
            requires_session=flag(body, "requires_session"),
            lock_duration=lock,
            max_delivery_count=most,
            default_time_to_live=_seconds(body, "default_ttl_s"),
            duplicate_detection=_seconds(body, "duplicate_detection_s"),
            dead_letter_on_expiry=flag(body, "dead_letter_on_expiry"),
        )

    @classmethod
    def parse(cls, value: str) -> "QueueDescription":
        """Read a command line's NAME[,requires_session][,lock_duration_s=30]… Raises ArgumentTypeError."""
        name, *options = value.split(",")
        body: JsonObject = {"name": name}
        try:
            for option in options:
                field, _, given = option.partition("=")
                body[field] = True if field in _FLAGS and not given else json.loads(given)
            return cls.from_json(body)
        except ValueError as error:  # FieldError is one, JSONDecodeError too
            raise argparse.ArgumentTypeError(f"{value!r} is no queue: {error}") from error

    @property
    def dead_letters(self) -> "QueueDescription":
        """The queue's own queue of dead letters: without sessions, nothing expires there, nothing leaves by itself."""
        return QueueDescription(
            f"{self.name}/{DEAD_LETTER_QUEUE}", lock_duration=self.lock_duration, max_delivery_count=None
        )

    def scaled(self, factor: float) -> "QueueDescription":
        """The same queue where every duration is multiplied by `factor`."""
        return replace(
            self,
            lock_duration=self.lock_duration * factor,
            default_time_to_live=None if self.default_time_to_live is None else self.default_time_to_live * factor,
            duplicate_detection=None if self.duplicate_detection is None else self.duplicate_detection * factor,
        )


def read_file(path: str) -> list[QueueDescription]:
    """Read a JSON file, `{"queues": [{"name": …}, …]}`. Raises ArgumentTypeError."""
    try:
        body: JsonValue = json.loads(Path(path).read_text(encoding="utf-8"))
        queues = body.get("queues") if isinstance(body, dict) else None
        if not isinstance(queues, list):
            raise FieldError("queues must be a list")
        return [QueueDescription.from_json(one if isinstance(one, dict) else {}) for one in queues]
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error


def _seconds(body: JsonObject, field: str) -> timedelta | None:
    seconds = number(body, field, 0)
    return timedelta(seconds=seconds) if seconds else None
