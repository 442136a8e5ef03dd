"""One event on its way to one subscription, and the log of all attempts."""

import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.event_grid.schema import Schema
from local.json_value import JsonObject

_REMEMBERED = 20_000


def iso(moment: datetime) -> str:
    """A time as the service writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class Delivery:
    """An event in the schema of its subscription, how often it was tried, and the service's own id for it."""

    event: JsonObject
    schema: Schema
    published_at: datetime
    attempts: int = 0
    last_attempt_at: datetime | None = None
    output_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def event_id(self) -> str:
        """The event's own id."""
        return str(self.event["id"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. `verdict` is what follows: delivered, retry or dead-lettered; no status means no answer."""

    event_id: str
    topic: str
    subscription: str
    number: int
    status: int | None
    outcome: str
    verdict: str
    at: datetime
    seconds: float


class DeliveryLog:
    """The attempts, in the order in which they ended. The oldest of very many are forgotten."""

    def __init__(self) -> None:
        """Begin empty."""
        self._attempts: deque[Attempt] = deque(maxlen=_REMEMBERED)

    def add(self, attempt: Attempt) -> None:
        """Log an attempt."""
        self._attempts.append(attempt)

    def to_json(self) -> JsonObject:
        """The log as the control calls show it."""
        return {
            "deliveries": [
                {
                    "event_id": attempt.event_id,
                    "topic": attempt.topic,
                    "subscription": attempt.subscription,
                    "attempt": attempt.number,
                    "status": attempt.status,
                    "outcome": attempt.outcome,
                    "verdict": attempt.verdict,
                    "at": iso(attempt.at),
                    "seconds": round(attempt.seconds, 6),
                }
                for attempt in self._attempts
            ]
        }
