"""A link on which a client sends messages to a queue."""

from typing import TYPE_CHECKING

from proton import Delivery, symbol
from proton import Link as ProtonLink

from local.service_bus.amqp.condition import told
from local.service_bus.amqp.effect import perform
from local.service_bus.amqp.encoding import submissions
from local.service_bus.amqp.link import Link
from local.service_bus.errors import EntityDisabledError, RefusedError, TooLargeError
from local.service_bus.queue import Queue

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection

MAX_MESSAGE_BYTES = 256 * 1024
"""The limit of the Standard tier, for a batch too.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas
"""

_CREDIT = 1000
_REFILL_BELOW = 500


class Publisher(Link):
    """Takes messages, and says of each whether it was accepted."""

    kind = "AmqpMessagePublisher"

    def __init__(self, connection: "Connection", proton: ProtonLink, queue: Queue) -> None:
        """Serve a link to `queue`."""
        super().__init__(connection, proton)
        self.queue = queue

    def attach(self) -> None:
        """Attach, and let the client send."""
        self.proton.max_message_size = MAX_MESSAGE_BYTES
        self.proton.properties = {symbol("com.microsoft:max-message-batch-size"): MAX_MESSAGE_BYTES}
        super().attach()
        self.proton.flow(_CREDIT)

    def updated(self, delivery: Delivery) -> None:
        """A message, or a batch of them, is complete."""
        if not delivery.readable or delivery.partial:
            return
        encoded = bytes(self.proton.recv(delivery.pending) or b"")
        self.proton.advance()
        if self.proton.credit < _REFILL_BELOW:
            self.proton.flow(_CREDIT - self.proton.credit)
        perform(self.connection, "send", lambda: self._take(encoded), lambda result: self._answer(delivery, result))

    def _take(self, encoded: bytes) -> list[int]:
        """All messages of a batch, or none."""
        if len(encoded) > MAX_MESSAGE_BYTES:
            raise TooLargeError(f"The message is larger than {MAX_MESSAGE_BYTES} bytes.")
        if self.broker.read_only:
            raise EntityDisabledError
        return self.broker.submit(self.queue, submissions(encoded))

    def _answer(self, delivery: Delivery, result: list[int] | RefusedError) -> None:
        if not self.alive:
            return
        if isinstance(result, RefusedError):
            delivery.local.condition = told(result)
            delivery.update(Delivery.REJECTED)
        else:
            delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        self.connection.touch()
