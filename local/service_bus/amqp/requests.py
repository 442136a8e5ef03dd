"""Requests and replies over a pair of links, as `$cbs` and `$management` work.

http://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-overview-v1.0-os.html
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from proton import Delivery, Message, int32, symbol
from proton import Link as ProtonLink

from local.service_bus.amqp.effect import perform
from local.service_bus.amqp.link import Link
from local.service_bus.errors import MalformedError, RefusedError

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection

_CREDIT = 100
_OK = 200


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its application properties and its body."""

    connection: "Connection"
    properties: Mapping[str, Any]
    body: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    body: Any = None
    status: int = _OK
    description: str = "OK"


class Node(Protocol):
    """What answers requests."""

    kind: str
    status_field: str
    description_field: str

    def operation(self, request: Request) -> str:
        """What the request asks for, as faults and counts name it."""

    def handle(self, request: Request) -> Reply:
        """Do it. Raises RefusedError."""


class Requests(Link):
    """The link that requests come on."""

    def __init__(self, connection: "Connection", proton: ProtonLink, node: Node) -> None:
        """Serve a link to `node`."""
        super().__init__(connection, proton)
        self.node = node
        self.kind = node.kind
        self.may_idle = bool(self.address.lower() != "$cbs")

    def attach(self) -> None:
        """Attach, and let the client ask."""
        super().attach()
        self.proton.flow(_CREDIT)

    def updated(self, delivery: Delivery) -> None:
        """A request is complete: the transfer is accepted, and the answer goes out on the other link."""
        if not delivery.readable or delivery.partial:
            return
        encoded = bytes(self.proton.recv(delivery.pending) or b"")
        self.proton.advance()
        self.proton.flow(1)
        delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        self.connection.touch()
        message = Message()
        message.decode(encoded)
        properties: Any = message.properties
        request = Request(self.connection, properties or {}, message.body)
        perform(
            self.connection,
            self.node.operation(request),
            lambda: self._handle(request),
            lambda reply: self._answer(message.id, reply),
        )

    def _handle(self, request: Request) -> Reply:
        try:
            return self.node.handle(request)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedError(f"The request is malformed: {error!r}") from error

    def _answer(self, request_id: object, reply: Reply | RefusedError) -> None:
        replies = self.connection.replies_to(self)
        if replies is None:
            return
        answer: Any = Message()
        answer.correlation_id = request_id
        answer.properties = {
            self.node.status_field: int32(reply.status),
            self.node.description_field: reply.description,
        }
        if isinstance(reply, RefusedError):
            answer.properties["errorCondition"] = symbol(reply.condition)
        else:
            answer.body = reply.body
        replies.send(bytes(answer.encode()))


class Replies(Link):
    """The link that replies go out on."""

    def __init__(self, connection: "Connection", proton: ProtonLink, node: Node) -> None:
        """Serve a link from `node`."""
        super().__init__(connection, proton)
        self.kind = f"{node.kind} replies"
        self.may_idle = bool(self.address.lower() != "$cbs")
        self._unsent: deque[bytes] = deque()

    def send(self, encoded: bytes) -> None:
        """Send a reply, as soon as there is credit."""
        self._unsent.append(encoded)
        self.flowed()

    def flowed(self) -> None:
        """Send what has waited for credit."""
        while self.alive and self._unsent and self.proton.credit > 0:
            delivery = self.deliver(self.broker.next_tag(), self._unsent.popleft())
            delivery.settle()
            self.connection.touch()
