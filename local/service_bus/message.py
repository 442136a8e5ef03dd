"""A message as a queue keeps it, and as a sender submits it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID


class MessageState(IntEnum):
    """Where a message stands, in Service Bus's own numbers."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


@dataclass(frozen=True, slots=True)
class Submission:
    """What a sender hands in: the encoded message, and what of it concerns the queue."""

    content: bytes
    message_id: str | None = None
    session_id: str | None = None
    time_to_live: timedelta | None = None
    scheduled_for: datetime | None = None


@dataclass(slots=True)
class MessageLock:
    """A receiver's hold on a message. In a session queue it ends with the session's, whatever `until` says."""

    token: UUID
    until: datetime


@dataclass(slots=True)
class Message:
    """A message in a queue. `delivery_count` counts the deliveries that failed."""

    sequence_number: int
    content: bytes
    enqueued_at: datetime
    message_id: str | None = None
    session_id: str | None = None
    time_to_live: timedelta | None = None
    state: MessageState = MessageState.ACTIVE
    scheduled_for: datetime | None = None
    delivery_count: int = 0
    lock: MessageLock | None = None
    dead_letter_reason: str | None = None
    dead_letter_description: str | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the message expires; None where it never does, or is not in the queue yet."""
        if self.time_to_live is None or self.state is MessageState.SCHEDULED:
            return None
        try:
            return self.enqueued_at + self.time_to_live
        except OverflowError:  # so far away that no calendar has it
            return None

    @property
    def available(self) -> bool:
        """Whether a receiver may get it."""
        return self.state is MessageState.ACTIVE and self.lock is None
