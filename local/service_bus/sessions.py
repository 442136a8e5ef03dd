"""The sessions of a queue: who may receive from which, until when, and what state they keep.

https://learn.microsoft.com/azure/service-bus-messaging/message-sessions
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from local.service_bus.backlog import Backlog
from local.service_bus.errors import SessionCannotBeLockedError, SessionLockLostError
from local.service_bus.journal import Journal
from local.service_bus.message import Message

Holder: TypeAlias = tuple[int, str]
"""Who holds a session: a connection, and the name of its link."""


@dataclass(slots=True)
class SessionLock:
    """One receiver's exclusive hold on a session."""

    holder: Holder
    until: datetime


@dataclass(slots=True)
class Session:
    """All messages of one session id, and the state that its receivers keep."""

    session_id: str
    backlog: Backlog
    lock: SessionLock | None = None
    state: bytes | None = None
    state_at: datetime | None = None


class Sessions:
    """The sessions of one queue. A session exists from its first message, receiver or state on."""

    def __init__(self, queue: str, lock_duration: timedelta, messages: Mapping[int, Message], journal: Journal) -> None:
        """Begin without any. `messages` are those of the queue, by sequence number."""
        self._queue = queue
        self._lock_duration = lock_duration
        self._messages = messages
        self._journal = journal
        self._sessions: dict[str, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        """Every session."""
        return iter(self._sessions.values())

    def get(self, session_id: str) -> Session:
        """The session of that id, made at its first mention."""
        return self._sessions.setdefault(session_id, Session(session_id, Backlog(self._messages)))

    def accept(self, session_id: str | None, holder: Holder, now: datetime) -> Session | None:
        """Lock a session for a receiver: the one of that id, or the next available.

        The next available is that of the oldest message that waits in a session nobody holds; None where there is
        none. Raises SessionCannotBeLockedError.
        """
        session = self._next_available() if session_id is None else self.get(session_id)
        if session is None:
            return None
        if session.lock is not None:
            raise SessionCannotBeLockedError(session.session_id)
        session.lock = SessionLock(holder, now + self._lock_duration)
        return session

    def renew(self, session_id: str | None, holder: Holder, now: datetime) -> SessionLock:
        """Let a lock count anew from now. Raises SessionLockLostError."""
        lock = self.held(session_id, holder).lock
        if lock is None:
            raise SessionLockLostError(session_id)
        lock.until = now + self._lock_duration
        return lock

    def held(self, session_id: str | None, holder: Holder) -> Session:
        """The session, which that receiver must hold. Raises SessionLockLostError."""
        session = self._sessions.get(session_id or "")
        if session is None or session.lock is None or session.lock.holder != holder:
            raise SessionLockLostError(session_id)
        return session

    def set_state(self, session: Session, state: bytes | None, now: datetime) -> None:
        """Keep a state with the session; None forgets it."""
        session.state, session.state_at = state, now
        self._journal.save_session(self._queue, session.session_id, state, now)

    def restore(self, session_id: str, state: bytes, at: datetime) -> None:
        """Take up a state that was written down."""
        session = self.get(session_id)
        session.state, session.state_at = state, at

    def ids(self, *, updated_after: datetime | None) -> list[str]:
        """The sessions that hold messages or a state; or those whose state was set after a time."""
        if updated_after is not None:
            return sorted(one.session_id for one in self if one.state_at is not None and one.state_at > updated_after)
        filled = {message.session_id for message in self._messages.values() if message.session_id is not None}
        return sorted(filled | {one.session_id for one in self if one.state is not None})

    def _next_available(self) -> Session | None:
        free = ((one.backlog.first(), one) for one in self if one.lock is None)
        waiting = [(first.sequence_number, one) for first, one in free if first is not None]
        return min(waiting, key=lambda one: one[0], default=(0, None))[1]
