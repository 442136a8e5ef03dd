"""What the local Service Bus can be told to do wrong, as the unmodified azure-servicebus sees it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusError,
    ServiceBusServerBusyError,
)

from tests.contract.service_bus import Bus, LocalBroker, collect_leaks, text, until

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the SDK, when its connection is cut


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One broker for all tests."""
    queues = ["q", "s,requires_session", "once,duplicate_detection_s=60"]
    with LocalBroker(tmp_path_factory.mktemp("broker"), queues=queues) as one:
        yield one


@pytest.fixture
def broker(shared: LocalBroker) -> Iterator[LocalBroker]:
    """The same, empty, and without faults before and after."""
    for queue in ("q", "s", "once"):
        shared.control("DELETE", "messages", params={"queue": queue})
    yield shared
    shared.control("DELETE", "faults")
    shared.control("PUT", "mode", json={"stalled": False, "read_only": False})


@pytest.fixture(params=["async"])
def bus(request: pytest.FixtureRequest, broker: LocalBroker) -> Iterator[Bus]:
    """The SDK's client as applications make it: with retries; the asynchronous one where a test does not say."""
    one = Bus(request.param, broker.connection_string, "q", retry_total=3, retry_backoff_factor=0.05)
    yield one
    one.close()
    collect_leaks()


def fault(broker: LocalBroker, **fields: object) -> None:
    """Plan one."""
    broker.control("POST", "faults", json=fields)


@pytest.mark.parametrize(
    ("bus", "how"),
    [("async", "connections"), ("sync", "connections?abort=1"), ("sync", "links?queue=q")],
    indirect=["bus"],
)
def test_cut(bus: Bus, broker: LocalBroker, how: str) -> None:
    """Connections that are closed or cut, and links that are detached, are opened anew by the SDK."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.do(sender.send_messages(ServiceBusMessage("a")))
    bus.do(receiver.complete_message(bus.next(receiver)))
    assert 2 == next(iter(broker.control("DELETE", how).values()))
    bus.do(sender.send_messages(ServiceBusMessage("b")))
    assert "b" == text(bus.next(receiver))


def test_stalled(bus: Bus, broker: LocalBroker) -> None:
    """A stalled broker answers nothing; afterwards it does what it was asked meanwhile."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.open(sender)
    bus.open(receiver)
    broker.control("PUT", "mode", json={"stalled": True})
    with pytest.raises(ServiceBusError):
        bus.do(sender.send_messages(ServiceBusMessage("a"), timeout=0.5))
    broker.control("PUT", "mode", json={"stalled": False})
    assert "a" == text(bus.next(receiver))


def test_read_only(broker: LocalBroker) -> None:
    """A broker that is read only takes no messages, and gives those it has."""
    bus = Bus("sync", broker.connection_string, "q")
    bus.send(ServiceBusMessage("a"))
    broker.control("PUT", "mode", json={"read_only": True})
    with pytest.raises(MessagingEntityDisabledError):
        bus.send(ServiceBusMessage("b"))
    receiver = bus.receiver()
    bus.do(receiver.complete_message(bus.next(receiver)))
    bus.close()


def test_refused_token(broker: LocalBroker) -> None:
    """A token that is refused fails the client."""
    fault(broker, op="put-token", status=401, code="amqp:unauthorized-access", message="InvalidSignature")
    bus = Bus("sync", broker.connection_string, "q")
    sender = bus.sender()
    with pytest.raises(ServiceBusAuthenticationError):
        bus.open(sender)
    bus.close()


@pytest.mark.parametrize(
    ("token", "good"),
    [
        ("eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.", True),
        ("eyJhbGciOiJub25lIn0.eyJleHAiOjF9.", False),
        ("nonsense", False),
    ],
    ids=["good", "expired", "malformed"],
)
def test_tokens(broker: LocalBroker, token: str, good: bool) -> None:
    """A credential's token is good where it is well formed and has not expired."""

    class Credential:
        """Gives the token."""

        def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
            """Give it."""
            return AccessToken(token, 4_102_444_800)

    host = broker.ready["endpoint"].removeprefix("sb://")
    with ServiceBusClient(host, Credential(), use_tls=False, retry_total=0) as client:
        sender = client.get_queue_sender("q")
        if good:
            sender.send_messages(ServiceBusMessage("a"))
        else:
            with pytest.raises(ServiceBusAuthenticationError):
                sender.send_messages(ServiceBusMessage("a"))
        sender.close()


def test_busy(bus: Bus, broker: LocalBroker) -> None:
    """An operation can be refused some times, with the condition that is wanted; the SDK tries again."""
    fault(broker, op="send", code="com.microsoft:server-busy", times=2)
    bus.send(ServiceBusMessage("a"))
    assert [] == broker.control("GET", "faults")["faults"]
    assert "a" == text(bus.next(bus.receiver()))


def test_busy_for_long(broker: LocalBroker) -> None:
    """Where it does not try again, it says so."""
    fault(broker, op="send", code="com.microsoft:server-busy", times=1)
    bus = Bus("sync", broker.connection_string, "q")
    with pytest.raises(ServiceBusServerBusyError):
        bus.send(ServiceBusMessage("a"))
    bus.close()


def test_lost_answer(bus: Bus, broker: LocalBroker) -> None:
    """The answer to a send can be lost after its effect; duplicate detection makes the second try harmless."""
    fault(broker, op="send", drop=True, effect="after")
    sender = bus.sender("once")
    bus.do(sender.send_messages(ServiceBusMessage("a", message_id=uuid.uuid4().hex)))
    assert 1 == len(broker.control("GET", "messages", params={"queue": "once"})["messages"])
    broker.control("DELETE", "messages", params={"queue": "once"})


def test_late_settlement(bus: Bus, broker: LocalBroker) -> None:
    """An answer can be late."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    fault(broker, op="complete", delay_s=0.3)
    bus.do(receiver.complete_message(message))
    assert [] == broker.control("GET", "messages", params={"queue": "q"})["messages"]


def test_late_operation(broker: LocalBroker) -> None:
    """A management call can be too late for its client."""
    fault(broker, op="peek-message", delay_s=3)
    bus = Bus("sync", broker.connection_string, "q")
    receiver = bus.receiver()
    bus.open(receiver)
    with pytest.raises(OperationTimeoutError):
        bus.do(receiver.peek_messages(timeout=1))
    bus.close()
    until(lambda: broker.control("GET", "counts")["connections"]["open"] == 0)
