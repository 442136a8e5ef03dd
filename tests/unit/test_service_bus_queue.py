"""The rules of a Service Bus queue, with the time passed in."""

from datetime import timedelta

import pytest

from local.service_bus.description import QueueDescription
from local.service_bus.errors import MessageLockLostError, MessageNotFoundError
from local.service_bus.message import MessageState, Submission
from local.service_bus.queue import Queue
from tests.fakes.service_bus import (
    HERE,
    LOCK,
    NOW,
    SECOND,
    a_queue,
    accepted,
    dead_letters,
    received,
    send,
    token,
)


class TestLocks:
    """Peek-lock, and how it ends."""

    def test_order(self) -> None:
        """Messages come in the order in which they were sent, and a locked one comes to nobody else."""
        queue = a_queue()
        send(queue, "a", "b")
        assert [b"a", b"b", None] == [
            None if one is None else one.content for one in (queue.receive(NOW, HERE) for _ in range(3))
        ]

    def test_complete(self) -> None:
        """A completed message is gone, and its lock with it."""
        queue = a_queue()
        send(queue, "a")
        lock = token(received(queue))
        queue.complete(lock, NOW)
        assert {} == queue.messages
        with pytest.raises(MessageLockLostError):
            queue.complete(lock, NOW)

    def test_abandon_and_release(self) -> None:
        """An abandoned delivery counts, a released one does not; both messages come again, in their place."""
        queue = a_queue()
        send(queue, "a", "b")
        queue.abandon(token(received(queue)), NOW)
        queue.release(token(received(queue)), NOW)
        again = received(queue)
        assert (b"a", 1) == (again.content, again.delivery_count)

    def test_expiry(self) -> None:
        """A lock that expires is lost: the delivery counts, and the message comes again."""
        queue = a_queue(lock_duration=LOCK)
        send(queue, "a")
        lock = token(received(queue))
        with pytest.raises(MessageLockLostError):
            queue.complete(lock, NOW + LOCK)
        assert 1 == received(queue, NOW + LOCK).delivery_count

    def test_renewal(self) -> None:
        """A renewed lock holds as long as a new one."""
        queue = a_queue(lock_duration=LOCK)
        send(queue, "a")
        lock = token(received(queue))
        assert NOW + 59 * SECOND + LOCK == queue.renew(lock, NOW + 59 * SECOND)
        queue.advance(NOW + LOCK)
        assert NOW + 59 * SECOND + LOCK == queue.next_due
        queue.complete(lock, NOW + LOCK)

    def test_settlement_just_before(self) -> None:
        """A lock holds until its very end."""
        queue = a_queue(lock_duration=LOCK)
        send(queue, "a")
        queue.complete(token(received(queue)), NOW + LOCK - timedelta(microseconds=1))
        assert {} == queue.messages


class TestDeadLetters:
    """What becomes a dead letter, and what a dead letter is."""

    def test_max_delivery_count(self) -> None:
        """A message that failed as often as the queue allows is a dead letter that says so, with its number."""
        queue = a_queue(max_delivery_count=2)
        send(queue, "a")
        for _ in range(2):
            queue.abandon(token(received(queue)), NOW)
        (dead,) = dead_letters(queue)
        assert ("MaxDeliveryCountExceeded", 1) == (dead.dead_letter_reason, dead.sequence_number)
        assert {} == queue.messages

    def test_reason(self) -> None:
        """A receiver's reason and description go with the message."""
        queue = a_queue()
        send(queue, "a")
        queue.dead_letter(token(received(queue)), NOW, "why", "because")
        (dead,) = dead_letters(queue)
        assert ("why", "because") == (dead.dead_letter_reason, dead.dead_letter_description)

    def test_no_limit_there(self) -> None:
        """A dead letter may fail as often as it likes."""
        queue = Queue(QueueDescription("q", max_delivery_count=1).dead_letters)
        send(queue, "a")
        for _ in range(20):
            queue.abandon(token(received(queue)), NOW)
        assert 20 == received(queue).delivery_count

    def test_session_queue(self) -> None:
        """The dead letters of a session queue need no session."""
        queue = a_queue(requires_session=True, max_delivery_count=1)
        send(queue, "a", session="s")
        accepted(queue)
        queue.abandon(token(received(queue, session="s")), NOW)
        (dead,) = dead_letters(queue)
        assert "s" == dead.session_id


class TestTimeToLive:
    """How long messages live."""

    def test_shorter_of_two(self) -> None:
        """A message lives as long as it says, at most as long as the queue lets it."""
        queue = a_queue(default_time_to_live=10 * SECOND)
        for seconds in (5, 20):
            queue.send(Submission(b"a", time_to_live=seconds * SECOND), NOW)
        counts = []
        for after in (4, 5, 9, 10):
            queue.advance(NOW + after * SECOND)
            counts.append(len(queue.messages))
        assert [2, 1, 1, 0] == counts

    def test_dead_letter(self) -> None:
        """Where the queue is set up so, what expires is a dead letter, and does not expire there."""
        queue = a_queue(default_time_to_live=SECOND, dead_letter_on_expiry=True)
        send(queue, "a")
        queue.advance(NOW + SECOND)
        (dead,) = dead_letters(queue)
        assert ("TTLExpiredException", None) == (dead.dead_letter_reason, dead.expires_at)

    def test_locked(self) -> None:
        """A locked message does not expire; when its lock goes, it does."""
        queue = a_queue(default_time_to_live=SECOND)
        send(queue, "a", "b")
        first, second = received(queue), received(queue)
        queue.complete(token(first), NOW + 2 * SECOND)
        assert 1 == len(queue.messages)
        queue.release(token(second), NOW + 2 * SECOND)
        assert {} == queue.messages

    def test_forever(self) -> None:
        """A time to live beyond the calendar is forever."""
        queue = a_queue(default_time_to_live=timedelta.max)
        send(queue, "a")
        assert None is received(queue).expires_at


class TestSchedulingAndDeferring:
    """Messages that do not come by themselves."""

    def test_scheduled(self) -> None:
        """A scheduled message comes at its time, and lives from then on."""
        queue = a_queue(default_time_to_live=SECOND)
        queue.send(Submission(b"a", scheduled_for=NOW + 5 * SECOND), NOW)
        assert None is queue.receive(NOW + 4 * SECOND, HERE)
        message = received(queue, NOW + 5 * SECOND)
        assert (NOW + 5 * SECOND, NOW + 6 * SECOND) == (message.enqueued_at, message.expires_at)

    def test_cancelling(self) -> None:
        """A scheduled message can be cancelled once, until its time; of several all are cancelled or none."""
        queue = a_queue()
        number = queue.send(Submission(b"a", scheduled_for=NOW + SECOND), NOW)
        with pytest.raises(MessageNotFoundError):
            queue.cancel_scheduled([number, 99], NOW)
        queue.cancel_scheduled([number], NOW)
        with pytest.raises(MessageNotFoundError):
            queue.cancel_scheduled([number], NOW)

    def test_deferred(self) -> None:
        """A deferred message comes by its number only, and stays deferred when it is abandoned."""
        queue = a_queue()
        send(queue, "a")
        queue.defer(token(received(queue)), NOW)
        assert None is queue.receive(NOW, HERE)
        (message,) = queue.receive_deferred([1], NOW, HERE)
        with pytest.raises(MessageNotFoundError):
            queue.receive_deferred([1], NOW, HERE)
        queue.abandon(token(message), NOW)
        assert (MessageState.DEFERRED, None) == (message.state, queue.receive(NOW, HERE))
        queue.receive_deferred([1], NOW, HERE, delete=True)
        assert {} == queue.messages

    def test_peek(self) -> None:
        """Peeking shows everything from a number on, and locks nothing."""
        queue = a_queue()
        send(queue, "a", "b", "c")
        received(queue)
        assert [[1, 2, 3], [2, 3], [2]] == [
            [one.sequence_number for one in queue.peek(first, count, NOW)] for first, count in ((1, 9), (2, 9), (2, 1))
        ]
        assert b"b" == received(queue).content


class TestDuplicates:
    """Duplicate detection."""

    def test_window(self) -> None:
        """Within the window a message id is taken once; the window counts from the first."""
        queue = a_queue(duplicate_detection=10 * SECOND)
        numbers = [queue.send(Submission(b"a", "m"), NOW + after * SECOND) for after in (0, 9, 10)]
        assert [1, 0, 2] == numbers

    def test_without(self) -> None:
        """A queue without the detection, and a message without an id, know no duplicates."""
        queue, detecting = a_queue(), a_queue(duplicate_detection=10 * SECOND)
        assert [1, 2] == [queue.send(Submission(b"a", "m"), NOW) for _ in range(2)]
        assert [1, 2] == [detecting.send(Submission(b"a"), NOW) for _ in range(2)]
