"""What only the local Service Bus can be asked to show: counts, idleness, crashes, other clients."""

import os
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from proton import Message
from proton.utils import BlockingConnection, LinkDetached

from tests.contract.service_bus import AS_IT_IS, HASTY, Bus, Cases, LocalBroker, text, until

CASES = Cases()


def counts(broker: LocalBroker) -> Any:
    """What the broker has counted."""
    return broker.control("GET", "counts")


def another_client(broker: LocalBroker, **options: Any) -> Any:
    """A connection of Proton's own client."""
    address = broker.ready["endpoint"].replace("sb:", "amqp:")
    return BlockingConnection(address, timeout=5, allow_insecure_mechs=True, **options)


@CASES.case(broker=AS_IT_IS)
def one_connection(bus: Bus) -> None:
    """A process with one session receiver has exactly one connection, whatever it does with it."""
    sending = bus.another("s")
    sending.send(ServiceBusMessage("a", session_id="x"))
    sending.close()
    until(lambda: counts(bus.broker)["connections"]["open"] == 0)
    bus.broker.control("DELETE", "counts")
    bus = bus.another("s")
    receiver = bus.receiver(session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5)
    message = bus.next(receiver)
    bus.do(receiver.session.renew_lock())
    bus.do(receiver.session.set_state(b"x"))
    bus.do(receiver.complete_message(message))
    told = counts(bus.broker)
    assert {"open": 1, "opened": 1, "most_at_once": 1} == told["connections"]
    operations = ("deliver", "complete", "renew-session-lock", "set-session-state")
    assert [1, 1, 1, 1] == [told["operations"][name] for name in operations]
    assert ["x"] == bus.broker.control("GET", "queues")["queues"][4]["sessions_held"]
    bus.close()
    until(lambda: counts(bus.broker)["connections"]["open"] == 0)


@CASES.case(broker=AS_IT_IS, kinds=("async",))
def traffic(bus: Bus) -> None:
    """The broker tells who is connected, on which links, and how much was moved."""
    bus = bus.another("q")
    bus.open(bus.receiver())
    (connection,) = bus.broker.control("GET", "connections")["connections"]
    assert connection["container"].startswith("SBReceiver")
    assert connection["bytes_in"] > 0 < connection["bytes_out"]
    assert ["q"] == [
        link["address"].rpartition("/")[2] for link in connection["links"] if link["kind"] == "AmqpMessageConsumer"
    ]
    bus.close()


@CASES.case(broker=HASTY)
def idle_links(bus: Bus) -> None:
    """A link that is not used for ten minutes is detached by force; the SDK opens another when it is needed."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.do(sender.send_messages(ServiceBusMessage("a")))
    bus.do(receiver.complete_message(bus.next(receiver)))
    until(lambda: counts(bus.broker)["links"]["detached_idle"] >= 2)
    bus.do(sender.send_messages(ServiceBusMessage("b")))
    assert "b" == text(bus.next(receiver))


@CASES.case(broker=HASTY, kinds=("async",))
def idle_connections(bus: Bus) -> None:
    """A connection without links is closed after five minutes."""
    connection = another_client(bus.broker, allowed_mechs="ANONYMOUS")
    assert 1 == counts(bus.broker)["connections"]["open"]
    until(lambda: counts(bus.broker)["connections"]["open"] == 0)
    connection.close()


@CASES.case(broker=AS_IT_IS)
def kill(bus: Bus) -> None:
    """After kill -9: messages, their states and counts, session states and known ids are there; numbers go on."""
    bus = bus.another("once")
    bus.send(*(ServiceBusMessage(name, message_id=name) for name in ("done", "locked", "deferred", "waiting")))
    receiver = bus.receiver()
    done, locked, deferred = bus.all_of(receiver, 3)
    bus.do(receiver.complete_message(done))
    bus.do(receiver.defer_message(deferred))
    session = bus.receiver("s", session_id="x")
    bus.open(session)
    bus.do(session.session.set_state(b"kept"))
    before = bus.broker.connection_string
    bus.broker.kill()
    bus.broker.start()
    assert before == bus.broker.connection_string
    again = bus.another("once")
    receiver = again.receiver()
    (back,) = again.do(receiver.receive_deferred_messages(deferred.sequence_number))
    again.send(*(ServiceBusMessage(name, message_id=name) for name in ("done", "new")))
    assert [("locked", 1, 2), ("waiting", 0, 4), ("new", 0, 5)] == [
        (text(one), one.delivery_count, one.sequence_number) for one in again.all_of(receiver, 3)
    ]
    session = again.receiver("s", session_id="x")
    again.open(session)
    assert ("deferred", b"kept") == (text(back), again.do(session.session.get_state()))
    assert "locked" == text(locked)
    again.close()
    bus.close()


@CASES.case(broker=AS_IT_IS)
def end(bus: Bus) -> None:
    """Told to stop, the broker closes its connections and ends in good order."""
    bus = bus.another("q")
    bus.open(bus.receiver())
    assert 0 == bus.broker.stop()
    bus.close()


@CASES.case(broker=AS_IT_IS, kinds=("sync",))
def plain(bus: Bus) -> None:
    """A client that is not the SDK gets in with any name and password."""
    connection = another_client(bus.broker, allowed_mechs="PLAIN", user="somebody", password="any")
    connection.create_sender("q").send(Message(body="hello"))
    connection.close()
    assert 1 == bus.broker.control("GET", "queues")["queues"][0]["messages"]


@CASES.case(broker=AS_IT_IS, kinds=("sync",))
def anonymous(bus: Bus) -> None:
    """Without a name, and before it has put a token, it gets at nothing."""
    connection = another_client(bus.broker, allowed_mechs="ANONYMOUS")
    with pytest.raises(LinkDetached, match="unauthorized-access"):
        connection.create_receiver("q")
    connection.close()


@CASES.case(broker=AS_IT_IS, kinds=("async",))
def nothing_to_do(bus: Bus) -> None:
    """A broker that nobody asks anything uses no time: it has no loop that looks again and again."""
    bus = bus.another("q")
    bus.open(bus.receiver())
    fields = Path(f"/proc/{bus.broker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split
    begin, clock = sum(map(int, fields()[11:13])), os.times().elapsed
    until(lambda: os.times().elapsed > clock + 1)
    now = Path(f"/proc/{bus.broker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    assert sum(map(int, now[11:13])) - begin <= os.sysconf("SC_CLK_TCK") // 50
    bus.close()
