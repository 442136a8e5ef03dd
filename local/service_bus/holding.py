"""The messages that a queue holds: available, locked, or put aside, and what time does to them."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from local.service_bus.agenda import Agenda
from local.service_bus.backlog import Backlog
from local.service_bus.description import QueueDescription
from local.service_bus.errors import MessageLockLostError, MessageNotFoundError
from local.service_bus.journal import Journal
from local.service_bus.message import Message, MessageLock, MessageState
from local.service_bus.sessions import Session, Sessions

MAX_DELIVERY_COUNT_EXCEEDED = "MaxDeliveryCountExceeded"
TTL_EXPIRED = "TTLExpiredException"


class Holding:
    """Every message of one queue, and the rules for what becomes of it when nobody settles it.

    https://learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues
    """

    def __init__(self, description: QueueDescription, journal: Journal, dead_letters: "Holding | None") -> None:
        """Begin empty. A queue of dead letters has no `dead_letters` itself."""
        self.messages: dict[int, Message] = {}
        self.agenda = Agenda()
        self.changed = False
        self.backlog = Backlog(self.messages)
        self.sessions = Sessions(description.name, description.lock_duration, self.messages, journal)
        self._description = description
        self._journal = journal
        self._dead_letters = dead_letters
        self._locked: dict[UUID, Message] = {}

    def put(self, message: Message) -> None:
        """Hold a message, and look at it again when something about it is due."""
        number = message.sequence_number
        self.messages[number] = message
        self.save(message)
        if message.state is MessageState.SCHEDULED and message.scheduled_for is not None:
            self.agenda.add(message.scheduled_for, lambda at: self._check_schedule(number, at))
        if message.expires_at is not None:
            self.agenda.add(message.expires_at, lambda at: self._check_expiry(number, at))
        self._offer(message)

    def save(self, message: Message) -> None:
        """Write down a message as it is now."""
        self._journal.save(self._description.name, message)

    def remove(self, message: Message) -> None:
        """The message is gone for good, or to another queue."""
        del self.messages[message.sequence_number]
        self._journal.remove(self._description.name, message.sequence_number)

    def find(self, sequence_numbers: Iterable[int], state: MessageState) -> list[Message]:
        """The messages of these numbers, all in one state. Raises MessageNotFoundError."""
        found = [self.messages.get(number) for number in sequence_numbers]
        messages = [message for message in found if message is not None and message.state is state]
        if len(messages) < len(found):
            raise MessageNotFoundError(
                f"Failed to find one of the {state.name.lower()} messages by its sequence number."
            )
        return messages

    # ---- locks ----

    def lock(self, message: Message, now: datetime) -> None:
        """Lock a message for whoever gets it: as long as the queue says, or as the session's lock holds."""
        token, until = uuid.uuid4(), now + self._description.lock_duration
        if self._description.requires_session:
            session = self.sessions.get(message.session_id or "")
            until = session.lock.until if session.lock is not None else until
        else:
            self.agenda.add(until, lambda at: self._check_lock(token, at))
        message.lock = MessageLock(token, until)
        self._locked[token] = message
        self.save(message)

    def renew(self, token: UUID, now: datetime) -> datetime:
        """Let a lock count anew from now; return until when it holds. Raises MessageLockLostError."""
        lock = self._locked[token].lock if token in self._locked else None
        if lock is None or self._description.requires_session:
            raise MessageLockLostError
        lock.until = now + self._description.lock_duration
        self.agenda.add(lock.until, lambda at: self._check_lock(token, at))
        return lock.until

    def unlock(self, token: UUID) -> Message:
        """Take a lock off a message. Raises MessageLockLostError."""
        message = self._locked.pop(token, None)
        if message is None:
            raise MessageLockLostError
        message.lock = None
        return message

    def unlock_all(self, session: Session) -> list[Message]:
        """Take the locks off all messages of a session, and return those that had one."""
        locked = [token for token, message in self._locked.items() if message.session_id == session.session_id]
        return [self.unlock(token) for token in locked]

    # ---- what becomes of an unlocked message ----

    def back(self, message: Message, now: datetime) -> None:
        """It stays in the queue, unless its time is over."""
        if _expired(message, now):
            self._expire(message)
        else:
            self._offer(message)
            self.save(message)

    def failed(self, message: Message, now: datetime) -> None:
        """Its delivery came to nothing: once more, or to the dead letters."""
        message.delivery_count += 1
        most = self._description.max_delivery_count
        if most is not None and message.delivery_count >= most:
            said = f"Message could not be consumed after {most} delivery attempts."
            self.bury(message, MAX_DELIVERY_COUNT_EXCEEDED, said)
        else:
            self.back(message, now)

    def bury(self, message: Message, reason: str | None, description: str | None) -> None:
        """It becomes a dead letter, or remains one. It keeps its sequence number, and no longer expires."""
        self.remove(message)
        message.time_to_live = None
        message.state = MessageState.ACTIVE
        message.dead_letter_reason, message.dead_letter_description = reason, description
        (self._dead_letters or self).put(message)

    # ---- time ----

    def _check_lock(self, token: UUID, now: datetime) -> None:
        """A lock that has expired is a delivery that failed."""
        lock = self._locked[token].lock if token in self._locked else None
        if lock is not None and lock.until <= now:
            self.failed(self.unlock(token), now)

    def _check_schedule(self, number: int, now: datetime) -> None:
        """A scheduled message is enqueued at its time, and its time to live begins."""
        message = self.messages.get(number)
        if message is not None and message.state is MessageState.SCHEDULED:
            message.state, message.enqueued_at = MessageState.ACTIVE, now
            self.put(message)

    def _check_expiry(self, number: int, now: datetime) -> None:
        """A message past its time to live goes, unless it is locked: its receiver may still settle it."""
        message = self.messages.get(number)
        if message is not None and message.lock is None and _expired(message, now):
            self._expire(message)

    def _expire(self, message: Message) -> None:
        if self._description.dead_letter_on_expiry:
            self.bury(message, TTL_EXPIRED, "The message expired and was dead lettered.")
        else:
            self.remove(message)

    def _offer(self, message: Message) -> None:
        if message.available:
            self.changed = True
            session = message.session_id if self._description.requires_session else None
            backlog = self.backlog if session is None else self.sessions.get(session).backlog
            backlog.add(message.sequence_number)


def _expired(message: Message, now: datetime) -> bool:
    return message.expires_at is not None and message.expires_at <= now
