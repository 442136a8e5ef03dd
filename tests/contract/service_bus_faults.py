"""What the local Service Bus can be told to do wrong, as the unmodified azure-servicebus sees it."""

import uuid
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

from tests.contract.service_bus import AS_IT_IS, Bus, Cases, LocalBroker, text

CASES = Cases()


def fault(broker: LocalBroker, **fields: object) -> None:
    """Plan one."""
    broker.control("POST", "faults", json=fields)


def use_before_and_after(bus: Bus, how: str) -> None:
    """Send and receive, let the broker do something to both ends, and do it again."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.do(sender.send_messages(ServiceBusMessage("a")))
    bus.do(receiver.complete_message(bus.next(receiver)))
    assert 2 == next(iter(bus.broker.control("DELETE", how).values()))
    bus.do(sender.send_messages(ServiceBusMessage("b")))
    assert "b" == text(bus.next(receiver))


@CASES.case(broker=AS_IT_IS)
def closed_connections(bus: Bus) -> None:
    """Connections that are closed are opened anew by the SDK."""
    use_before_and_after(bus, "connections")


@CASES.case(broker=AS_IT_IS)
def cut_connections(bus: Bus) -> None:
    """So are those that are cut."""
    use_before_and_after(bus, "connections?abort=1")


@CASES.case(broker=AS_IT_IS)
def detached_links(bus: Bus) -> None:
    """So are links that are detached by force."""
    use_before_and_after(bus, "links?queue=q")


@CASES.case(broker=AS_IT_IS)
def stalled(bus: Bus) -> None:
    """A stalled broker answers nothing; afterwards it does what it was asked meanwhile."""
    sender, receiver = bus.sender(), bus.receiver()
    bus.open(sender)
    bus.open(receiver)
    bus.broker.control("PUT", "mode", json={"stalled": True})
    with pytest.raises(ServiceBusError):
        bus.do(sender.send_messages(ServiceBusMessage("a"), timeout=0.5))
    bus.broker.control("PUT", "mode", json={"stalled": False})
    assert "a" == text(bus.next(receiver))


@CASES.case(broker=AS_IT_IS)
def read_only(bus: Bus) -> None:
    """A broker that is read only takes no messages, and gives those it has."""
    bus = bus.another("q")
    bus.send(ServiceBusMessage("a"))
    bus.broker.control("PUT", "mode", json={"read_only": True})
    with pytest.raises(MessagingEntityDisabledError):
        bus.send(ServiceBusMessage("b"))
    receiver = bus.receiver()
    bus.do(receiver.complete_message(bus.next(receiver)))
    bus.close()


@CASES.case(broker=AS_IT_IS)
def refused_token(bus: Bus) -> None:
    """A token that is refused fails the client."""
    fault(bus.broker, op="put-token", status=401, code="amqp:unauthorized-access", message="InvalidSignature")
    bus = bus.another("q")
    sender = bus.sender()
    with pytest.raises(ServiceBusAuthenticationError):
        bus.open(sender)
    bus.close()


def send_with(broker: LocalBroker, token: str) -> None:
    """Send a message with a credential that gives this token."""

    class Credential:
        """Gives it."""

        def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
            """Give it."""
            return AccessToken(token, 4_102_444_800)

    host = broker.ready["endpoint"].removeprefix("sb://")
    with (
        ServiceBusClient(host, Credential(), use_tls=False, retry_total=0) as client,
        client.get_queue_sender("q") as end,
    ):
        end.send_messages(ServiceBusMessage("a"))


@CASES.case(broker=AS_IT_IS, kinds=("sync",))
def tokens(bus: Bus) -> None:
    """A credential's token is good where it is well formed and has not expired."""
    send_with(bus.broker, "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.")
    for bad in ("eyJhbGciOiJub25lIn0.eyJleHAiOjF9.", "nonsense"):
        with pytest.raises(ServiceBusAuthenticationError):
            send_with(bus.broker, bad)


@CASES.case(broker=AS_IT_IS)
def busy(bus: Bus) -> None:
    """An operation can be refused some times, with the condition that is wanted; the SDK tries again."""
    fault(bus.broker, op="send", code="com.microsoft:server-busy", times=2)
    bus.send(ServiceBusMessage("a"))
    assert [] == bus.broker.control("GET", "faults")["faults"]
    assert "a" == text(bus.next(bus.receiver()))


@CASES.case(broker=AS_IT_IS)
def busy_for_long(bus: Bus) -> None:
    """Where it does not try again, it says so."""
    fault(bus.broker, op="send", code="com.microsoft:server-busy", times=1)
    bus = bus.another("q")
    with pytest.raises(ServiceBusServerBusyError):
        bus.send(ServiceBusMessage("a"))
    bus.close()


@CASES.case(broker=AS_IT_IS)
def lost_answer(bus: Bus) -> None:
    """The answer to a send can be lost after its effect; duplicate detection makes the second try harmless."""
    fault(bus.broker, op="send", drop=True, effect="after")
    sender = bus.sender("once")
    bus.do(sender.send_messages(ServiceBusMessage("a", message_id=uuid.uuid4().hex)))
    assert 1 == len(bus.broker.control("GET", "messages", params={"queue": "once"})["messages"])


@CASES.case(broker=AS_IT_IS)
def late_settlement(bus: Bus) -> None:
    """An answer can be late."""
    bus.send(ServiceBusMessage("a"))
    receiver = bus.receiver()
    message = bus.next(receiver)
    fault(bus.broker, op="complete", delay_s=0.3)
    bus.do(receiver.complete_message(message))
    assert [] == bus.broker.control("GET", "messages", params={"queue": "q"})["messages"]


@CASES.case(broker=AS_IT_IS)
def late_operation(bus: Bus) -> None:
    """A management call can be too late for its client."""
    fault(bus.broker, op="peek-message", delay_s=3)
    bus = bus.another("q")
    receiver = bus.receiver()
    bus.open(receiver)
    with pytest.raises(OperationTimeoutError):
        bus.do(receiver.peek_messages(timeout=1))
    bus.close()
