"""Queues of the local Service Bus for tests of their rules, and what the tests do with them."""

import uuid
from datetime import UTC, datetime, timedelta

from local.service_bus.description import QueueDescription
from local.service_bus.message import Message, Submission
from local.service_bus.queue import Queue
from local.service_bus.sessions import Session
from local.service_bus.storage import Storage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LOCK = 60 * SECOND
HERE, THERE = (1, "here"), (2, "there")


def a_queue(storage: Storage | None = None, **properties: object) -> Queue:
    """An empty queue with its dead letters."""
    description = QueueDescription("q", **properties)  # type: ignore[arg-type]
    return Queue(description, storage, Queue(description.dead_letters, storage))


def dead_letters(queue: Queue) -> list[Message]:
    """The messages that have become dead letters; the queue's own are all live."""
    beyond = queue.holding._dead_letters
    assert beyond is not None
    return list(beyond.messages.values())


def received(queue: Queue, now: datetime = NOW, session: str | None = None) -> Message:
    """The next message, which must be there."""
    message = queue.receive(now, HERE, session)
    assert message is not None
    return message


def token(message: Message) -> uuid.UUID:
    """The token of a message's lock, which must be there."""
    assert message.lock is not None
    return message.lock.token


def accepted(queue: Queue, session_id: str | None = None, now: datetime = NOW) -> Session:
    """A session that was to be had."""
    session = queue.accept_session(session_id, HERE, now)
    assert session is not None
    return session


def send(queue: Queue, *contents: str, session: str | None = None) -> None:
    """Put messages in."""
    for content in contents:
        queue.send(Submission(content.encode(), session_id=session), NOW)
