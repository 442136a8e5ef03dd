"""One queue: what comes in, who gets it, and how it leaves.

Pure: the time is passed in, and what must outlive the process goes to a journal. Every operation does first what
was due before it. https://learn.microsoft.com/azure/service-bus-messaging/message-transfers-locks-settlement
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from local.service_bus.description import QueueDescription
from local.service_bus.duplicates import Duplicates
from local.service_bus.errors import MessageNotFoundError, NotAllowedError
from local.service_bus.holding import Holding
from local.service_bus.journal import Journal, NoJournal
from local.service_bus.message import Message, MessageState, Submission
from local.service_bus.sessions import Holder, Session, Sessions


class Queue:
    """A queue, or a queue of dead letters."""

    def __init__(
        self, description: QueueDescription, journal: Journal | None = None, dead_letters: "Queue | None" = None
    ) -> None:
        """Begin empty."""
        journal = journal or NoJournal()
        self.description = description
        self.name = description.name
        self.lost_sessions: list[Holder] = []
        self._journal = journal
        self._last_number = 0
        self._duplicates = Duplicates(self.name, description.duplicate_detection, journal)
        self.holding: Holding = Holding(
            description, journal, dead_letters.holding if dead_letters is not None else None
        )

    @property
    def sessions(self) -> Sessions:
        """The queue's sessions."""
        return self.holding.sessions

    @property
    def messages(self) -> Mapping[int, Message]:
        """All messages, by sequence number."""
        return self.holding.messages

    def take_changed(self) -> bool:
        """Whether a message or a session has become available since the last call."""
        changed, self.holding.changed = self.holding.changed, False
        return changed

    # ---- what comes in ----

    def check(self, submission: Submission) -> None:
        """Raise NotAllowedError for a message without a session id where the queue requires one."""
        if self.description.requires_session and submission.session_id is None:
            raise NotAllowedError(
                "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have "
                "session support enabled can only receive messages that have the SessionId set to a valid value."
            )

    def send(self, submission: Submission, now: datetime) -> int:
        """Take a message, now or for later, and return its sequence number; 0 for a duplicate, which is dropped.

        Raises NotAllowedError.
        """
        self.advance(now)
        self.check(submission)
        if self._duplicates.is_one(submission.message_id, now):
            return 0
        later = submission.scheduled_for is not None and submission.scheduled_for > now
        lives = [ttl for ttl in (submission.time_to_live, self.description.default_time_to_live) if ttl is not None]
        self._last_number += 1
        self._journal.count(self.name, self._last_number)
        self.holding.put(
            Message(
                sequence_number=self._last_number,
                content=submission.content,
                enqueued_at=now,
                message_id=submission.message_id,
                session_id=submission.session_id,
                time_to_live=min(lives, default=None),
                state=MessageState.SCHEDULED if later else MessageState.ACTIVE,
                scheduled_for=submission.scheduled_for,
            )
        )
        return self._last_number

    def cancel_scheduled(self, sequence_numbers: Iterable[int], now: datetime) -> None:
        """Remove messages whose time has not come. Raises MessageNotFoundError, with none of them removed."""
        self.advance(now)
        for message in self.holding.find(sequence_numbers, MessageState.SCHEDULED):
            self.holding.remove(message)

    def clear(self) -> int:
        """Remove every message, whatever its state. Returns how many there were."""
        messages = list(self.messages.values())
        for message in messages:
            if message.lock is not None:
                self.holding.unlock(message.lock.token)
            self.holding.remove(message)
        return len(messages)

    # ---- who gets it ----

    def receive(self, now: datetime, holder: Holder, session_id: str | None = None) -> Message | None:
        """Lock the next message for a receiver: in a session queue, of the session that it holds."""
        message = self._next(now, holder, session_id)
        if message is not None:
            self.holding.lock(message, now)
        return message

    def receive_and_delete(self, now: datetime, holder: Holder, session_id: str | None = None) -> Message | None:
        """Hand out the next message for good."""
        message = self._next(now, holder, session_id)
        if message is not None:
            self.holding.remove(message)
        return message

    def receive_deferred(
        self,
        sequence_numbers: Sequence[int],
        now: datetime,
        holder: Holder,
        session_id: str | None = None,
        *,
        delete: bool = False,
    ) -> list[Message]:
        """Hand out deferred messages, locked or for good. Raises MessageNotFoundError, with none of them touched."""
        self.advance(now)
        self._session_held_by(holder, session_id)
        messages = self.holding.find(sequence_numbers, MessageState.DEFERRED)
        if any(one.lock is not None or session_id not in {None, one.session_id} for one in messages):
            raise MessageNotFoundError("Failed to find one of the messages: it is locked, or of another session.")
        for message in messages:
            if delete:
                self.holding.remove(message)
            else:
                self.holding.lock(message, now)
        return messages

    def peek(self, first: int, count: int, now: datetime, session_id: str | None = None) -> list[Message]:
        """Show messages from a sequence number on, in whatever state, and lock none."""
        self.advance(now)
        shown = (self.messages[number] for number in sorted(self.messages) if number >= first)
        return [one for one in shown if session_id in {None, one.session_id}][:count]

    # ---- how it leaves, or stays; each raises MessageLockLostError ----

    def complete(self, token: UUID, now: datetime) -> None:
        """The message is done with."""
        self.holding.remove(self._unlock(token, now))

    def abandon(self, token: UUID, now: datetime) -> None:
        """The message could not be handled; it is available again, until it was tried too often."""
        self.holding.failed(self._unlock(token, now), now)

    def release(self, token: UUID, now: datetime) -> None:
        """The message was not even tried: it is available again, and that does not count."""
        self.holding.back(self._unlock(token, now), now)

    def defer(self, token: UUID, now: datetime) -> None:
        """From now on the message is only handed out by its sequence number."""
        message = self._unlock(token, now)
        message.state = MessageState.DEFERRED
        self.holding.back(message, now)

    def dead_letter(self, token: UUID, now: datetime, reason: str | None = None, said: str | None = None) -> None:
        """Move the message to the dead letters, with a reason and a description."""
        self.holding.bury(self._unlock(token, now), reason, said)

    def renew(self, token: UUID, now: datetime) -> datetime:
        """Let a message's lock count anew from now; return until when it holds."""
        self.advance(now)
        return self.holding.renew(token, now)

    # ---- sessions ----

    def accept_session(self, session_id: str | None, holder: Holder, now: datetime) -> Session | None:
        """Lock a session by id, or the next available one; None where that has to be waited for.

        Raises SessionCannotBeLockedError where another receiver holds it.
        """
        self.advance(now)
        session = self.sessions.accept(session_id, holder, now)
        if session is not None:
            self._watch(session, holder)
        return session

    def renew_session(self, session_id: str | None, holder: Holder, now: datetime) -> datetime:
        """Let a session's lock count anew from now; return until when it holds. Raises SessionLockLostError."""
        self.advance(now)
        lock = self.sessions.renew(session_id, holder, now)
        self._watch(self.sessions.held(session_id, holder), holder)
        return lock.until

    def close_session(self, session_id: str, holder: Holder, now: datetime) -> None:
        """The receiver leaves. What it did not settle is available again, and that does not count."""
        self.advance(now)
        session = self.sessions.get(session_id)
        if session.lock is not None and session.lock.holder == holder:
            session.lock, self.holding.changed = None, True
            for message in self.holding.unlock_all(session):
                self.holding.back(message, now)

    # ---- time ----

    @property
    def next_due(self) -> datetime | None:
        """When `advance` will have something to do."""
        return self.holding.agenda.next_at

    def advance(self, now: datetime) -> None:
        """Do what was due until now. Receivers that thereby lost their session are added to `lost_sessions`."""
        for check in self.holding.agenda.due(now):
            check(now)

    def restore(
        self,
        messages: Iterable[tuple[Message, bool]],
        last_number: int,
        known: Mapping[str, datetime],
        now: datetime,
    ) -> None:
        """Take up what was written down: messages and whether they were locked, which they no longer are; and the ids
        that count for the duplicate detection.

        A lock that ends with the process is one that was lost: a delivery that failed.
        """
        self._last_number = last_number
        self._duplicates.restore(known)
        for message, was_locked in messages:
            self.holding.put(message)
            if was_locked:
                self.holding.failed(message, now)

    def _watch(self, session: Session, holder: Holder) -> None:
        if session.lock is not None:
            self.holding.agenda.add(session.lock.until, lambda at: self._check_session(session, holder, at))

    def _check_session(self, session: Session, holder: Holder, now: datetime) -> None:
        """A session lock that has expired is a failed delivery of every message that was locked under it."""
        if session.lock is not None and session.lock.holder == holder and session.lock.until <= now:
            session.lock, self.holding.changed = None, True
            self.lost_sessions.append(holder)
            for message in self.holding.unlock_all(session):
                self.holding.failed(message, now)

    # ---- within ----

    def _next(self, now: datetime, holder: Holder, session_id: str | None) -> Message | None:
        self.advance(now)
        session = self._session_held_by(holder, session_id)
        return self.holding.backlog.first() if session is None else session.backlog.first()

    def _session_held_by(self, holder: Holder, session_id: str | None) -> Session | None:
        return self.sessions.held(session_id, holder) if self.description.requires_session else None

    def _unlock(self, token: UUID, now: datetime) -> Message:
        self.advance(now)
        return self.holding.unlock(token)
