"""Cases: queues as the unmodified azure-servicebus uses them: what holds of Service Bus holds of the local one."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import (
    AutoLockRenewer,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from tests.contract.service_bus import Bus, Cases, text, until

CASES = Cases()


@CASES.case()
def send_and_complete(bus: Bus) -> None:
    """A message comes as it was sent, with the broker's facts about it, and is gone when it is completed."""
    sent = ServiceBusMessage(
        "hello", message_id="m", application_properties={"n": 1, "s": "x"}, subject="subject", correlation_id="c"
    )
    bus.send(sent)
    receiver = bus.receiver()
    message = bus.next(receiver)
    assert ("hello", "m", "subject", "c", {b"n": 1, b"s": b"x"}) == (
        text(message),
        message.message_id,
        message.subject,
        message.correlation_id,
        message.application_properties,
    )
    assert message.sequence_number > 0
    assert abs(message.enqueued_time_utc - datetime.now(UTC)) < timedelta(minutes=5)
    assert message.locked_until_utc > datetime.now(UTC)
    bus.do(receiver.complete_message(message))
    assert bus.nothing(receiver)


@CASES.case()
def batches(bus: Bus) -> None:
    """The messages of a batch, and of a list, come one by one, in their order."""
    sender, receiver = bus.sender(), bus.receiver()
    batch = bus.do(sender.create_message_batch())
    for number in range(20):
        batch.add_message(ServiceBusMessage(str(number)))
    bus.do(sender.send_messages(batch))
    bus.do(sender.send_messages([ServiceBusMessage(str(number)) for number in range(20, 30)]))
    messages = bus.all_of(receiver, 30)
    assert [str(number) for number in range(30)] == [text(message) for message in messages]
    assert sorted({one.sequence_number for one in messages}) == [one.sequence_number for one in messages]


@CASES.case()
def a_message_in_a_message(bus: Bus) -> None:
    """A large body, and one of many bytes that look like AMQP, comes as it was sent."""
    body = bytes(range(256)) * 400
    bus.send(ServiceBusMessage(body))
    assert body == b"".join(bus.next(bus.receiver()).body)


@CASES.case()
def abandon(bus: Bus) -> None:
    """An abandoned message comes again, and its delivery counts."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    counts = []
    for _ in range(3):
        message = bus.next(receiver)
        counts.append(message.delivery_count)
        bus.do(receiver.abandon_message(message))
    assert [0, 1, 2] == counts


@CASES.case("max_delivery_count=2,dead_letter_on_expiry")
def max_delivery_count(bus: Bus) -> None:
    """A message that was abandoned too often is a dead letter that says so."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    for _ in range(2):
        bus.do(receiver.abandon_message(bus.next(receiver)))
    assert bus.nothing(receiver)
    dead = bus.next(bus.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER))
    assert ("a", "MaxDeliveryCountExceeded") == (text(dead), dead.dead_letter_reason)


@CASES.case()
def dead_letter(bus: Bus) -> None:
    """A dead letter carries the receiver's reason and its own properties, and can be completed."""
    bus.send(ServiceBusMessage("a", application_properties={"own": "x"}), ServiceBusMessage("b"))
    receiver = bus.receiver()
    for _ in range(2):
        bus.do(receiver.dead_letter_message(bus.next(receiver), reason="why", error_description="because"))
    dead_letters = bus.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    messages = bus.all_of(dead_letters, 2)
    assert [("a", "why", "because"), ("b", "why", "because")] == [
        (text(one), one.dead_letter_reason, one.dead_letter_error_description) for one in messages
    ]
    assert b"x" == messages[0].application_properties[b"own"]
    for message in messages:
        bus.do(dead_letters.complete_message(message))
    assert bus.nothing(dead_letters)


@CASES.case()
def defer(bus: Bus) -> None:
    """A deferred message comes by its sequence number only; it can be settled then."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    bus.do(receiver.defer_message(message))
    assert bus.nothing(receiver)
    (deferred,) = bus.do(receiver.receive_deferred_messages(message.sequence_number))
    assert "a" == text(deferred)
    bus.do(receiver.complete_message(deferred))
    with pytest.raises(MessageNotFoundError):
        bus.do(receiver.receive_deferred_messages(message.sequence_number))


@CASES.case()
def deletion(bus: Bus) -> None:
    """A message that is received and deleted is gone."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver(receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    assert "a" == text(bus.next(receiver))
    bus.do(receiver.close())
    assert bus.nothing(bus.receiver())


@CASES.case()
def deferred_and_deleted(bus: Bus) -> None:
    """A deferred message, too, can be received and deleted."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    bus.do(receiver.defer_message(message))
    deleting = bus.receiver(receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    (deferred,) = bus.do(deleting.receive_deferred_messages([message.sequence_number]))
    assert "a" == text(deferred)
    assert [] == bus.do(receiver.peek_messages(sequence_number=message.sequence_number))


@CASES.case()
def schedule(bus: Bus) -> None:
    """A scheduled message comes at its time, not before; meanwhile it can be seen."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.open(sender)
    bus.open(receiver)
    at = datetime.now(UTC) + timedelta(seconds=1)
    numbers = bus.do(sender.schedule_messages(ServiceBusMessage("later"), at))
    (peeked,) = bus.do(receiver.peek_messages())
    assert (numbers, ServiceBusMessageState.SCHEDULED) == ([peeked.sequence_number], peeked.state)
    message = bus.next(receiver)
    assert message.enqueued_time_utc >= at - timedelta(milliseconds=2)


@CASES.case()
def scheduled_send(bus: Bus) -> None:
    """A message that carries its time comes at that time."""
    at = datetime.now(UTC) + timedelta(seconds=0.5)
    bus.send(ServiceBusMessage("later", scheduled_enqueue_time_utc=at))
    assert bus.next(bus.receiver()).enqueued_time_utc >= at - timedelta(milliseconds=2)


@CASES.case()
def cancel(bus: Bus) -> None:
    """A scheduled message that is cancelled never comes; it can be cancelled once."""
    sender = bus.sender()
    at = datetime.now(UTC) + timedelta(hours=1)
    numbers = bus.do(sender.schedule_messages([ServiceBusMessage("a"), ServiceBusMessage("b")], at))
    bus.do(sender.cancel_scheduled_messages(numbers))
    assert [] == bus.do(bus.receiver().peek_messages())
    with pytest.raises(ServiceBusError):
        bus.do(sender.cancel_scheduled_messages(numbers))


@CASES.case()
def peek(bus: Bus) -> None:
    """Peeking shows what is there, from a number on, and locks nothing."""
    bus.send(*(ServiceBusMessage(str(number)) for number in range(3)))
    receiver = bus.receiver()
    peeked = bus.do(receiver.peek_messages(max_message_count=10))
    from_the_second = bus.do(receiver.peek_messages(10, sequence_number=peeked[1].sequence_number))
    assert (["0", "1", "2"], ["1", "2"]) == ([text(one) for one in peeked], [text(one) for one in from_the_second])
    assert "0" == text(bus.next(receiver))


@CASES.case("lock_duration_s=1")
def renew_lock(bus: Bus) -> None:
    """A renewed lock holds beyond its first end."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    first_end = message.locked_until_utc
    until(lambda: datetime.now(UTC) > first_end - timedelta(seconds=0.5))
    assert bus.do(receiver.renew_message_lock(message)) > first_end
    until(lambda: datetime.now(UTC) > first_end + timedelta(seconds=0.1))
    bus.do(receiver.complete_message(message))


@CASES.case("lock_duration_s=1")
def lock_lost(bus: Bus) -> None:
    """After the end of its lock a message can not be settled; it comes again, and that counts."""
    bus.send(ServiceBusMessage("a"))
    receiver, other = bus.receiver(), bus.receiver()
    message = bus.next(receiver)
    end = message.locked_until_utc
    again = bus.next(other)
    assert (1, True) == (again.delivery_count, datetime.now(UTC) >= end)
    with pytest.raises(MessageLockLostError):
        bus.do(receiver.complete_message(message))
    bus.do(other.complete_message(again))


@CASES.case()
def settled_twice(bus: Bus) -> None:
    """What another receiver has settled meanwhile, the broker refuses to settle."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    bus.do(receiver.complete_message(message))
    message._settled = False
    message._is_deferred_message = True  # this way it asks over management
    with pytest.raises(MessageLockLostError):
        bus.do(receiver.complete_message(message))


@CASES.case()
def settlement_after_the_link(bus: Bus) -> None:
    """Outside of sessions a lock outlives the link: a message can be settled when its receiver is open anew."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    bus.do(receiver._close_handler())
    bus.open(receiver)
    bus.do(receiver.complete_message(message))
    assert [] == bus.do(receiver.peek_messages())


@CASES.case()
def closing_releases(bus: Bus) -> None:
    """What a receiver was sent ahead and did not hand out is available at once when it is closed, uncounted."""
    bus.send(*(ServiceBusMessage(str(number)) for number in range(5)))
    ahead = bus.receiver(prefetch_count=10)
    bus.do(ahead.complete_message(bus.next(ahead)))
    bus.do(ahead.close())
    messages = bus.all_of(bus.receiver(), 4)
    assert [(str(number), 0) for number in range(1, 5)] == [(text(one), one.delivery_count) for one in messages]


@CASES.case("max_delivery_count=2,dead_letter_on_expiry")
def time_to_live(bus: Bus) -> None:
    """A message past its time to live is a dead letter where the queue is set up so, and says why."""
    bus.send(ServiceBusMessage("a", time_to_live=timedelta(seconds=1)))
    dead = bus.next(bus.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER))
    assert ("a", "TTLExpiredException") == (text(dead), dead.dead_letter_reason)


@CASES.case()
def expiring(bus: Bus) -> None:
    """Elsewhere it is gone."""
    bus.send(ServiceBusMessage("brief", time_to_live=timedelta(seconds=1)), ServiceBusMessage("long"))
    receiver = bus.receiver()
    until(lambda: ["long"] == [text(one) for one in bus.do(receiver.peek_messages(9, sequence_number=1))])
    assert "long" == text(bus.next(receiver))


@CASES.case("duplicate_detection_s=60")
def duplicates(bus: Bus) -> None:
    """Of messages with the same id within the window, the first comes."""
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    bus.send(*(ServiceBusMessage(str(n), message_id=name) for n, name in enumerate((one, one, other, one))))
    receiver = bus.receiver()
    assert ["0", "2"] == [text(message) for message in bus.all_of(receiver, 2)]
    assert bus.nothing(receiver)


@CASES.case()
def two_receivers(bus: Bus) -> None:
    """Every message comes to one of several receivers, and to each of them some."""
    first, second = bus.receiver(), bus.receiver()
    bus.send(*(ServiceBusMessage(str(number)) for number in range(2)))
    assert {"0", "1"} == {text(bus.next(first)), text(bus.next(second))}


@CASES.case()
def fifty_at_once(bus: Bus) -> None:
    """Fifty messages can be completed at once."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.do(sender.send_messages([ServiceBusMessage(str(number)) for number in range(50)]))
    messages = bus.all_of(receiver, 50)
    bus.all(receiver.complete_message(message) for message in messages)
    assert [] == bus.do(receiver.peek_messages(sequence_number=1))


@CASES.case()
def too_large(bus: Bus) -> None:
    """A message above the limit of the tier is refused."""
    with pytest.raises(MessageSizeExceededError):
        bus.send(ServiceBusMessage(b"x" * 2_000_000))


@CASES.case()
def send_to_no_queue(bus: Bus) -> None:
    """A queue that is not there is said not to be."""
    sender = bus.sender("contract-nowhere")
    with pytest.raises(MessagingEntityNotFoundError):
        bus.do(sender.send_messages(ServiceBusMessage("a")))


@CASES.case()
def receive_from_no_queue(bus: Bus) -> None:
    """So it is to receivers."""
    receiver = bus.receiver("contract-nowhere")
    with pytest.raises(MessagingEntityNotFoundError):
        bus.next(receiver)


@CASES.case("requires_session")
def session_queue_without_a_session(bus: Bus) -> None:
    """A session queue takes no message, and no receiver, without a session."""
    with pytest.raises(ServiceBusError):
        bus.send(ServiceBusMessage("a"))
    with pytest.raises(ServiceBusError):
        bus.next(bus.receiver())


@CASES.case()
def session_where_there_are_none(bus: Bus) -> None:
    """A queue without sessions takes no receiver with one."""
    with pytest.raises(ServiceBusError):
        bus.next(bus.receiver(session_id="s"))


@CASES.case("lock_duration_s=1", kinds=("sync",))
def lock_renewer(bus: Bus) -> None:
    """The SDK's own renewer keeps a message locked."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    with AutoLockRenewer() as renewer:
        message = bus.next(receiver)
        end = message.locked_until_utc
        renewer.register(receiver, message, max_lock_renewal_duration=60)
        until(lambda: datetime.now(UTC) > end + timedelta(seconds=0.5))
        bus.do(receiver.complete_message(message))
