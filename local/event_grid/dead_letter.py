"""Dead-lettered events as files, as the service keeps them as blobs; without its five minutes of delay.

See https://learn.microsoft.com/azure/event-grid/manage-event-delivery#set-dead-letter-location
"""

import json
import uuid
from pathlib import Path

from local.event_grid.delivery import Delivery, iso
from local.event_grid.schema import Schema
from local.json_value import JsonObject


class DeadLetters:
    """The files STATE/deadletter/<topic>/<subscription>/*.json, each an array with one event."""

    def __init__(self, state: Path) -> None:
        """Use the folder `state`, which is made when the first event comes."""
        self._folder = state / "deadletter"

    def write(self, delivery: Delivery, *, topic: str, subscription: str, reason: str, outcome: str) -> Path:
        """Keep an event that is not tried again. Names are lower case in a CloudEvent, whose extensions must
        be.
        """
        facts: JsonObject = {
            "deadLetterReason": reason,
            "deliveryAttempts": delivery.attempts,
            "lastDeliveryOutcome": outcome,
            "publishTime": iso(delivery.published_at),
            "lastDeliveryAttemptTime": iso(delivery.last_attempt_at) if delivery.last_attempt_at else None,
        }
        if delivery.schema is Schema.CLOUD_EVENTS:
            facts = {name.lower(): value for name, value in facts.items()}
        folder = self._folder / topic / subscription
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{uuid.uuid4()}.json"
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(json.dumps([{**delivery.event, **facts}], indent=2), encoding="utf-8")
        return unfinished.rename(path)
