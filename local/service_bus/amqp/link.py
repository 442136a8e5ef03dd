"""What all links have in common: who they are, when they were last used, how they are refused."""

from typing import TYPE_CHECKING, Any

from proton import Delivery
from proton import Link as ProtonLink

from local.service_bus.amqp.condition import told
from local.service_bus.errors import RefusedError
from local.service_bus.sessions import Holder

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection


class Link:
    """One link of a client. `kind` is Service Bus's own word for what serves it."""

    kind = "link"
    may_idle = True

    def __init__(self, connection: "Connection", proton: ProtonLink) -> None:
        """Wrap the engine's link, which is not attached yet on this side."""
        self.connection = connection
        self.broker = connection.broker
        self.proton = proton
        self.name = proton.name
        self.opened_at = self.used_at = self.broker.loop.time()
        self.alive = True

    @property
    def address(self) -> str:
        """What the client asked for, as it wrote it."""
        end = self.proton.remote_source if self.proton.is_sender else self.proton.remote_target
        return end.address or ""

    @property
    def holder(self) -> Holder:
        """By which a queue knows this link."""
        return self.connection.number, self.name

    def attach(self) -> None:
        """Attach on this side too, to the same ends."""
        self.proton.source.copy(self.proton.remote_source)
        self.proton.target.copy(self.proton.remote_target)
        self.proton.snd_settle_mode = self.proton.remote_snd_settle_mode
        self.proton.rcv_settle_mode = self.proton.remote_rcv_settle_mode
        self.proton.open()

    def used(self) -> None:
        """Something was done on the link: it is not idle."""
        self.used_at = self.broker.loop.time()

    def deliver(self, tag: bytes, encoded: bytes) -> Delivery:
        """Send a message."""
        delivery = self.proton.delivery(tag)  # type: ignore[arg-type]  # it takes bytes, too
        self.proton.send(encoded)
        self.proton.advance()
        self.used()
        self.connection.touch()
        return delivery

    def flowed(self) -> None:
        """The client gave credit, or asks to drain."""

    def updated(self, delivery: Delivery) -> None:
        """A delivery has come, or the client has said what became of one."""

    def ended(self) -> None:
        """The link is gone, by whomever."""

    def end(self) -> None:
        """Let go of the link, once."""
        if self.alive:
            self.alive = False
            self.ended()

    def detach(self, why: RefusedError) -> None:
        """Close the link from this side, and say why."""
        if self.alive:
            self.proton.condition = told(why)
            self.proton.close()
            self.end()
            self.connection.touch()

    def describe(self) -> dict[str, Any]:
        """The link as the control calls show it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "address": self.address,
            "credit": self.proton.credit,
            "idle_s": round(self.broker.loop.time() - self.used_at, 3),
        }
