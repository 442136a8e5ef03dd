"""What becomes of a message by its receiver's word: on its link by an outcome, over management by a name.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide#settling
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from proton import Delivery

from local.service_bus.amqp.condition import told
from local.service_bus.errors import MalformedError, RefusedError
from local.service_bus.queue import Queue

_BY_STATUS = {
    "completed": "complete",
    "abandoned": "abandon",
    "defered": "defer",
    "suspended": "dead-letter",
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """One of complete, abandon, release, defer and dead-letter."""

    op: str
    reason: str | None = None
    description: str | None = None

    @classmethod
    def read(cls, delivery: Delivery) -> "Settlement | None":
        """The settlement that a delivery's outcome means; None for none."""
        outcome, remote = delivery.remote_state, delivery.remote
        if outcome == Delivery.ACCEPTED:
            return cls("complete")
        if outcome == Delivery.RELEASED:
            return cls("release")
        if outcome == Delivery.MODIFIED:
            return cls("defer" if remote.undeliverable else "abandon")
        if outcome == Delivery.REJECTED:
            info_of = remote.condition.info if remote.condition is not None else None
            info = {str(key): value for key, value in info_of.items()} if isinstance(info_of, Mapping) else {}
            return cls("dead-letter", _text(info, "DeadLetterReason"), _text(info, "DeadLetterErrorDescription"))
        return None

    @classmethod
    def of_request(cls, body: Mapping[str, Any]) -> "Settlement":
        """The settlement that a management request names. Raises MalformedError."""
        op = _BY_STATUS.get(str(body.get("disposition-status")))
        if op is None:
            raise MalformedError(f"There is no disposition status {body.get('disposition-status')!r}.")
        return cls(op, _text(body, "deadletter-reason"), _text(body, "deadletter-description"))

    def apply(self, queue: Queue, token: UUID, now: datetime) -> None:
        """Settle the message of a lock. Raises MessageLockLostError."""
        match self.op:
            case "complete":
                queue.complete(token, now)
            case "abandon":
                queue.abandon(token, now)
            case "release":
                queue.release(token, now)
            case "defer":
                queue.defer(token, now)
            case _:
                queue.dead_letter(token, now, self.reason, self.description)

    def confirm(self, delivery: Delivery, result: RefusedError | None) -> None:
        """Answer with the outcome that was applied, which is the client's own; or refuse it."""
        if isinstance(result, RefusedError):
            delivery.local.condition = told(result)
            delivery.update(Delivery.REJECTED)
        elif self.op in {"abandon", "defer"}:
            delivery.local.failed = True
            delivery.local.undeliverable = self.op == "defer"
            delivery.update(Delivery.MODIFIED)
        else:
            delivery.update(_OUTCOMES[self.op])


_OUTCOMES = {"complete": Delivery.ACCEPTED, "release": Delivery.RELEASED, "dead-letter": Delivery.REJECTED}


def _text(values: Mapping[str, Any], field: str) -> str | None:
    value = values.get(field)
    return None if value is None else str(value)
