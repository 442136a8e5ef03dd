"""The rules of Service Bus sessions, and what of a queue outlives the process."""

from pathlib import Path

import pytest

from local.service_bus.errors import (
    MessageLockLostError,
    NotAllowedError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)
from local.service_bus.message import MessageState, Submission
from local.service_bus.storage import Storage
from tests.fakes.service_bus import (
    HERE,
    LOCK,
    NOW,
    SECOND,
    THERE,
    a_queue,
    accepted,
    received,
    send,
    token,
)


class TestSessions:
    """Sessions, and who holds them."""

    def test_without_a_session_id(self) -> None:
        """A session queue takes no message without a session id."""
        with pytest.raises(NotAllowedError):
            send(a_queue(requires_session=True), "a")

    def test_one_receiver(self) -> None:
        """A session has one receiver; when that leaves, the next may come."""
        queue = a_queue(requires_session=True)
        accepted(queue, "s")
        with pytest.raises(SessionCannotBeLockedError):
            queue.accept_session("s", THERE, NOW)
        queue.close_session("s", HERE, NOW)
        assert queue.accept_session("s", THERE, NOW)

    def test_next_available(self) -> None:
        """The next available session is that of the oldest message that nobody's session holds."""
        queue = a_queue(requires_session=True)
        send(queue, "a", session="second")
        send(queue, "b", session="first")
        assert ["second", "first"] == [accepted(queue).session_id for _ in range(2)]
        assert None is queue.accept_session(None, THERE, NOW)

    def test_only_its_own(self) -> None:
        """A receiver gets the messages of its session, and only while it holds it."""
        queue = a_queue(requires_session=True)
        send(queue, "a", session="s")
        send(queue, "b", session="t")
        accepted(queue, "t")
        assert b"b" == received(queue, session="t").content
        with pytest.raises(SessionLockLostError):
            queue.receive(NOW, HERE, "s")

    def test_leaving(self) -> None:
        """Messages that a receiver leaves behind are available again, and that does not count."""
        queue = a_queue(requires_session=True)
        send(queue, "a", session="s")
        accepted(queue, "s")
        lock = token(received(queue, session="s"))
        queue.close_session("s", HERE, NOW)
        with pytest.raises(MessageLockLostError):
            queue.complete(lock, NOW)
        accepted(queue, "s")
        assert 0 == received(queue, session="s").delivery_count

    def test_expiry(self) -> None:
        """A session lock that expires takes the receiver's messages with it, and that counts."""
        queue = a_queue(requires_session=True, lock_duration=LOCK)
        send(queue, "a", session="s")
        accepted(queue, "s")
        received(queue, session="s")
        with pytest.raises(SessionLockLostError):
            queue.renew_session("s", HERE, NOW + LOCK)
        assert [HERE] == queue.lost_sessions
        accepted(queue, "s", NOW + LOCK)
        assert 1 == received(queue, NOW + LOCK, "s").delivery_count

    def test_renewal(self) -> None:
        """A renewed session is kept, and its messages with it."""
        queue = a_queue(requires_session=True, lock_duration=LOCK)
        send(queue, "a", session="s")
        accepted(queue, "s")
        lock = token(received(queue, session="s"))
        queue.renew_session("s", HERE, NOW + 59 * SECOND)
        queue.complete(lock, NOW + LOCK + 58 * SECOND)
        assert [] == queue.lost_sessions

    def test_an_old_lock(self) -> None:
        """The end of an earlier hold on a session does not end the present one."""
        queue = a_queue(requires_session=True, lock_duration=LOCK)
        accepted(queue, "s")
        queue.close_session("s", HERE, NOW)
        accepted(queue, "s", NOW + 30 * SECOND)
        queue.advance(NOW + LOCK)
        assert ("s", []) == (queue.sessions.held("s", HERE).session_id, queue.lost_sessions)

    def test_listing(self) -> None:
        """Sessions with messages or a state are listed, or those whose state was set since."""
        queue = a_queue(requires_session=True)
        send(queue, "a", session="full")
        queue.sessions.set_state(accepted(queue, "stateful"), b"x", NOW)
        accepted(queue, "empty")
        lists = [queue.sessions.ids(updated_after=after) for after in (None, NOW - SECOND, NOW)]
        assert [["full", "stateful"], ["stateful"], []] == lists


class TestRestart:
    """What outlives the process."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A file for the storage."""
        return tmp_path / "messages.sqlite3"

    def test_everything_comes_back(self, path: Path) -> None:
        """After a restart: messages with their states, session states, the numbers go on, known ids are known."""
        before = Storage(path)
        queue = a_queue(before, requires_session=True, duplicate_detection=60 * SECOND)
        for number in range(3):
            queue.send(Submission(b"x", str(number), "s"), NOW)
        queue.send(Submission(b"later", "l", "s", scheduled_for=NOW + LOCK), NOW)
        queue.sessions.set_state(accepted(queue, "s"), b"state", NOW)
        queue.complete(token(received(queue, session="s")), NOW)
        queue.defer(token(received(queue, session="s")), NOW)
        received(queue, session="s")
        before.close()
        after = Storage(path)
        again = a_queue(after, requires_session=True, duplicate_detection=60 * SECOND)
        after.load(again, NOW)
        assert [(2, MessageState.DEFERRED, 0), (3, MessageState.ACTIVE, 1), (4, MessageState.SCHEDULED, 0)] == [
            (one.sequence_number, one.state, one.delivery_count) for one in again.messages.values()
        ]
        assert (b"state", 0, 5) == (
            accepted(again, "s").state,
            again.send(Submission(b"x", "0", "s"), NOW),
            again.send(Submission(b"x", "new", "s"), NOW),
        )
        after.close()

    def test_uncommitted(self, path: Path) -> None:
        """What was not committed did not happen."""
        before, after = Storage(path), Storage(path)
        send(a_queue(before), "a")
        again = a_queue()
        after.load(again, NOW)
        assert {} == again.messages
        before.close()
        after.close()
