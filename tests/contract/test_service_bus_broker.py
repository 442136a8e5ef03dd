"""What only the local Service Bus can be asked to show: counts, idleness, crashes, other clients."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from proton import Message
from proton.utils import BlockingConnection, LinkDetached

from tests.contract.service_bus import KINDS, Bus, LocalBroker, collect_leaks, text, until

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the SDK, when its link is detached


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker of the test's own."""
    queues = ["q", "s,requires_session", "once,duplicate_detection_s=60"]
    with LocalBroker(tmp_path, queues=queues) as one:
        yield one


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker whose ten minutes are one second."""
    with LocalBroker(
        tmp_path, "--clock-factor", str(1 / 600), queues=["q,lock_duration_s=300", "q2,lock_duration_s=300"]
    ) as one:
        yield one


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Let no test hear of the sockets that the SDK lost in another one."""
    yield
    collect_leaks()


def counts(broker: LocalBroker) -> Any:
    """What the broker has counted."""
    return broker.control("GET", "counts")


def test_one_connection(broker: LocalBroker) -> None:
    """A process with one session receiver has exactly one connection, whatever it does with it."""
    sending = Bus("sync", broker.connection_string, "s")
    sending.send(ServiceBusMessage("a", session_id="x"))
    sending.close()
    until(lambda: counts(broker)["connections"]["open"] == 0)
    broker.control("DELETE", "counts")
    bus = Bus("async", broker.connection_string, "s")
    receiver = bus.receiver(session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5)
    message = bus.next(receiver)
    bus.do(receiver.session.renew_lock())
    bus.do(receiver.session.set_state(b"x"))
    bus.do(receiver.complete_message(message))
    told = counts(broker)
    assert {"open": 1, "opened": 1, "most_at_once": 1} == told["connections"]
    operations = ("deliver", "complete", "renew-session-lock", "set-session-state")
    assert [1, 1, 1, 1] == [told["operations"][name] for name in operations]
    assert ["x"] == broker.control("GET", "queues")["queues"][2]["sessions_held"]
    bus.close()
    until(lambda: counts(broker)["connections"]["open"] == 0)


def test_traffic(broker: LocalBroker) -> None:
    """The broker tells who is connected, on which links, and how much was moved."""
    bus = Bus("async", broker.connection_string, "q")
    bus.open(bus.receiver())
    (connection,) = broker.control("GET", "connections")["connections"]
    assert connection["container"].startswith("SBReceiver")
    assert connection["bytes_in"] > 0 < connection["bytes_out"]
    assert ["q"] == [
        link["address"].rpartition("/")[2] for link in connection["links"] if link["kind"] == "AmqpMessageConsumer"
    ]
    bus.close()


def test_idle_links(hasty: LocalBroker) -> None:
    """A link that is not used for ten minutes is detached by force; the SDK opens another when it is needed."""

    def use_twice(kind: str, queue: str) -> list[str]:
        bus = Bus(kind, hasty.connection_string, queue, retry_total=3, retry_backoff_factor=0.05)
        sender, receiver = bus.sender(), bus.receiver()
        bus.do(sender.send_messages(ServiceBusMessage("a")))
        first = bus.next(receiver)
        bus.do(receiver.complete_message(first))
        until(lambda: counts(hasty)["links"]["detached_idle"] >= 4)
        bus.do(sender.send_messages(ServiceBusMessage("b")))
        received = [text(first), text(bus.next(receiver))]
        bus.close()
        return received

    with ThreadPoolExecutor() as pool:
        assert [["a", "b"], ["a", "b"]] == list(pool.map(use_twice, KINDS, ["q", "q2"]))


def test_idle_connections(hasty: LocalBroker) -> None:
    """A connection without links is closed after five minutes."""
    connection = BlockingConnection(
        hasty.ready["endpoint"].replace("sb:", "amqp:"), timeout=5, allowed_mechs="ANONYMOUS"
    )
    assert 1 == counts(hasty)["connections"]["open"]
    until(lambda: counts(hasty)["connections"]["open"] == 0)
    connection.close()


def test_kill(broker: LocalBroker) -> None:
    """After kill -9: messages, their states and counts, session states and known ids are there; numbers go on."""
    bus = Bus("sync", broker.connection_string, "once")
    bus.send(*(ServiceBusMessage(name, message_id=name) for name in ("done", "locked", "deferred", "waiting")))
    receiver = bus.receiver()
    done, locked, deferred = bus.all_of(receiver, 3)
    bus.do(receiver.complete_message(done))
    bus.do(receiver.defer_message(deferred))
    session = bus.receiver("s", session_id="x")
    bus.open(session)
    bus.do(session.session.set_state(b"kept"))
    before = broker.connection_string
    broker.kill()
    broker.start()
    assert before == broker.connection_string
    again = Bus("sync", broker.connection_string, "once")
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


def test_end(broker: LocalBroker) -> None:
    """Told to stop, the broker closes its connections and ends in good order."""
    bus = Bus("sync", broker.connection_string, "q")
    bus.open(bus.receiver())
    assert 0 == broker.stop()
    bus.close()


@pytest.mark.parametrize(("mechanism", "user"), [("PLAIN", "somebody"), ("ANONYMOUS", None)])
def test_another_client(broker: LocalBroker, mechanism: str, user: str | None) -> None:
    """A client that is not the SDK gets in with a name and a password; without, and without a token, to nothing."""
    connection = BlockingConnection(
        broker.ready["endpoint"].replace("sb:", "amqp:"),
        timeout=5,
        allowed_mechs=mechanism,
        allow_insecure_mechs=True,
        user=user,
        password="any",
    )
    if user is None:
        with pytest.raises(LinkDetached, match="unauthorized-access"):
            connection.create_receiver("q")
    else:
        connection.create_sender("q").send(Message(body="hello"))
        assert 1 == broker.control("GET", "queues")["queues"][0]["messages"]
    connection.close()


def test_nothing_to_do(broker: LocalBroker) -> None:
    """A broker that nobody asks anything uses no time: it has no loop that looks again and again."""
    bus = Bus("async", broker.connection_string, "q")
    bus.open(bus.receiver())
    fields = Path(f"/proc/{broker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split
    begin, clock = sum(map(int, fields()[11:13])), os.times().elapsed
    until(lambda: os.times().elapsed > clock + 1)
    now = Path(f"/proc/{broker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    assert sum(map(int, now[11:13])) - begin <= os.sysconf("SC_CLK_TCK") // 50
    bus.close()
