"""Cases: sessions as the unmodified azure-servicebus uses them."""

from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from tests.contract.service_bus import Bus, Cases, text, until

CASES = Cases()


def messages(session_id: str, *bodies: str) -> list[ServiceBusMessage]:
    """Messages of one session."""
    return [ServiceBusMessage(body, session_id=session_id) for body in bodies]


@CASES.case("requires_session")
def by_id(bus: Bus) -> None:
    """A receiver gets the messages of its session, in their order, and no others."""
    bus.send(*messages("s", "1"), *messages("t", "x"), *messages("s", "2"))
    receiver = bus.receiver(session_id="s")
    received = bus.all_of(receiver, 2)
    assert [("1", "s"), ("2", "s")] == [(text(one), one.session_id) for one in received]
    for message in received:
        bus.do(receiver.complete_message(message))
    assert bus.nothing(receiver)


@CASES.case("requires_session")
def next_available(bus: Bus) -> None:
    """The next available session is one with messages that nobody holds."""
    bus.send(*messages("s", "1"), *messages("t", "2"))
    receivers = [bus.receiver(session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5) for _ in range(2)]
    assert ["1", "2"] == [text(bus.next(receiver)) for receiver in receivers]
    assert ["s", "t"] == [receiver.session.session_id for receiver in receivers]


@CASES.case("requires_session")
def none_available(bus: Bus) -> None:
    """Where there is none, the receiver waits as long as it says."""
    receiver = bus.receiver(session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1)
    with pytest.raises(OperationTimeoutError):
        bus.next(receiver)


@CASES.case("requires_session")
def one_receiver(bus: Bus) -> None:
    """A session has one receiver; when that is closed, another may have it."""
    first, second = bus.receiver(session_id="s"), bus.receiver(session_id="s")
    bus.open(first)
    with pytest.raises(SessionCannotBeLockedError):
        bus.next(second)
    bus.do(first.close())
    third = bus.receiver(session_id="s")
    bus.open(third)
    assert third.session.locked_until_utc > datetime.now(UTC)


@CASES.case("requires_session")
def session_state(bus: Bus) -> None:
    """A session keeps a state for its receivers, until it is cleared."""
    first = bus.receiver(session_id="s")
    bus.open(first)
    assert None is bus.do(first.session.get_state())
    bus.do(first.session.set_state(b"\x00state"))
    bus.do(first.close())
    second = bus.receiver(session_id="s")
    bus.open(second)
    assert b"\x00state" == bus.do(second.session.get_state())
    bus.do(second.session.set_state(None))
    assert None is bus.do(second.session.get_state())


@CASES.case("requires_session,lock_duration_s=1")
def session_renewal(bus: Bus) -> None:
    """A renewed session is held beyond its first end."""
    bus.send(*messages("s", "1"))
    receiver = bus.receiver(session_id="s")
    message = bus.next(receiver)
    end = receiver.session.locked_until_utc
    until(lambda: datetime.now(UTC) > end - timedelta(seconds=0.5))
    assert bus.do(receiver.session.renew_lock()) > end
    until(lambda: datetime.now(UTC) > end + timedelta(seconds=0.1))
    bus.do(receiver.complete_message(message))


@CASES.case("requires_session,lock_duration_s=1")
def session_lost(bus: Bus) -> None:
    """After the end of its lock a session is lost to its receiver, and its messages come to the next, counted."""
    bus.send(*messages("s", "1"))
    receiver = bus.receiver(session_id="s")
    message = bus.next(receiver)
    end = receiver.session.locked_until_utc
    until(lambda: datetime.now(UTC) > end + timedelta(seconds=0.1))
    with pytest.raises(SessionLockLostError):
        bus.do(receiver.complete_message(message))
    assert 1 == bus.next(bus.receiver(session_id="s")).delivery_count


@CASES.case("requires_session")
def leaving(bus: Bus) -> None:
    """What a receiver leaves behind when it is closed comes to the next, uncounted."""
    bus.send(*messages("s", "1"))
    first = bus.receiver(session_id="s")
    bus.next(first)
    bus.do(first.close())
    again = bus.next(bus.receiver(session_id="s"))
    assert ("1", 0) == (text(again), again.delivery_count)


@CASES.case("requires_session,max_delivery_count=2")
def dead_letters(bus: Bus) -> None:
    """The dead letters of a session queue are received without a session."""
    bus.send(*messages("s", "1", "2"))
    receiver = bus.receiver(session_id="s")
    for _ in range(2):
        bus.do(receiver.abandon_message(bus.next(receiver)))
    bus.do(receiver.dead_letter_message(bus.next(receiver), reason="why"))
    received = bus.all_of(bus.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER), 2)
    assert [("1", "s", "MaxDeliveryCountExceeded"), ("2", "s", "why")] == [
        (text(one), one.session_id, one.dead_letter_reason) for one in received
    ]


@CASES.case("requires_session")
def deferred_in_a_session(bus: Bus) -> None:
    """A deferred message of a session is received by its number, by the session's receiver."""
    bus.send(*messages("s", "1"))
    receiver = bus.receiver(session_id="s")
    message = bus.next(receiver)
    bus.do(receiver.defer_message(message))
    (again,) = bus.do(receiver.receive_deferred_messages(message.sequence_number))
    bus.do(receiver.complete_message(again))
    assert [] == bus.do(receiver.peek_messages(sequence_number=1))


@CASES.case("requires_session")
def messages_come_while_one_waits(bus: Bus) -> None:
    """A receiver that waits on its session gets what is sent then."""
    receiver = bus.receiver(session_id="s")
    bus.open(receiver)
    bus.send(*messages("s", "1"))
    assert "1" == text(bus.next(receiver))


@CASES.case("requires_session")
def five_hundred(bus: Bus) -> None:
    """Five hundred messages of a session come to their one receiver within two seconds."""
    sender, receiver = bus.sender(), bus.receiver(session_id="s")
    bus.open(receiver)
    bus.do(sender.send_messages(messages("s", *map(str, range(500)))))
    begin = datetime.now(UTC)
    received = bus.all_of(receiver, 500)
    assert [str(number) for number in range(500)] == [text(one) for one in received]
    assert datetime.now(UTC) - begin < timedelta(seconds=2)


@CASES.case("requires_session")
def listing(bus: Bus) -> None:
    """Sessions with messages are listed."""
    bus.send(*messages("s", "1"), *messages("t", "2"))
    pages = bus.client.list_queue_sessions(bus.queue)

    async def collect() -> list[str]:
        return [one async for one in pages]

    assert ["s", "t"] == sorted(pages if hasattr(pages, "__iter__") else bus.do(collect()))
