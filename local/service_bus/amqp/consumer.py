"""A link on which a client receives messages from a queue, or from a session of it."""

from typing import TYPE_CHECKING, Any

from proton import Delivery, symbol
from proton import Link as ProtonLink

from local.service_bus.amqp.effect import perform
from local.service_bus.amqp.encoding import delivered, ticks
from local.service_bus.amqp.link import Link
from local.service_bus.amqp.settlement import Settlement
from local.service_bus.errors import RefusedError, SessionLockLostError
from local.service_bus.message import Message
from local.service_bus.queue import Queue

if TYPE_CHECKING:
    from local.service_bus.amqp.connection import Connection

SESSION_FILTER = symbol("com.microsoft:session-filter")
_LOCKED_UNTIL = symbol("com.microsoft:locked-until-utc")


class Consumer(Link):
    """Hands out messages as far as the client gives credit, and takes their settlement."""

    kind = "AmqpMessageConsumer"

    def __init__(self, connection: "Connection", proton: ProtonLink, queue: Queue) -> None:
        """Serve a link from `queue`."""
        super().__init__(connection, proton)
        self.queue = queue
        self.session_id: str | None = None
        self.deletes = proton.remote_snd_settle_mode == ProtonLink.SND_SETTLED

    def attach_to_session(self, session_id: str) -> None:
        """Attach with a session that is locked for this link; the client learns which, and until when."""
        self.session_id = session_id
        session = self.queue.sessions.held(session_id, self.holder)
        if session.lock is not None:
            self.proton.properties = {_LOCKED_UNTIL: ticks(session.lock.until)}
        self.attach()

    def attach(self) -> None:
        """Attach, naming the session, and begin to hand out messages."""
        if self.session_id is not None:
            source = self.proton.source
            source.address = self.address
            source.filter.clear()
            source.filter.put_object({SESSION_FILTER: self.session_id})
            self.proton.target.copy(self.proton.remote_target)
            self.proton.snd_settle_mode = self.proton.remote_snd_settle_mode
            self.proton.rcv_settle_mode = self.proton.remote_rcv_settle_mode
            self.proton.open()
        else:
            super().attach()
        self.broker.dispatch.add(self)

    def flowed(self) -> None:
        """There is new credit; what is there goes out when everything that has come in is done."""
        self.broker.dispatch.wake(self.queue)

    def hand_out(self) -> bool:
        """Send the next message, if there is one and there is credit for it. Returns whether it did."""
        if not self.alive or self.proton.credit <= 0:
            return False
        take = self.queue.receive_and_delete if self.deletes else self.queue.receive
        try:
            message = take(self.broker.now(), self.holder, self.session_id)
        except SessionLockLostError:  # just now; the link ends in a moment
            return False
        if message is not None:
            self._send(message)
        return message is not None

    def drain(self) -> None:
        """Give back the credit that nothing was left for, where the client asks for that."""
        if self.alive and self.proton.drain_mode and self.proton.credit > 0:
            self.proton.drained()
            self.connection.touch()

    def updated(self, delivery: Delivery) -> None:
        """The client says what became of a message, and is told whether that holds."""
        if not delivery.updated:
            return
        token = getattr(delivery, "lock_token", None)
        settlement = Settlement.read(delivery)
        if token is None or settlement is None:
            if delivery.settled:
                delivery.settle()
            return
        perform(
            self.connection,
            settlement.op,
            lambda: settlement.apply(self.queue, token, self.broker.now()),
            lambda result: self._confirm(delivery, settlement, result),
        )

    def lost_session(self) -> None:
        """The lock of the session has expired: the link ends."""
        self.detach(SessionLockLostError(self.session_id))

    def ended(self) -> None:
        """A session is free again. Messages outside of sessions stay locked until their locks expire."""
        self.broker.dispatch.remove(self)
        if self.session_id is not None:
            self.queue.close_session(self.session_id, self.holder, self.broker.now())

    def describe(self) -> dict[str, Any]:
        """The link as the control calls show it."""
        return {**super().describe(), "session_id": self.session_id, "unsettled": self.proton.unsettled}

    def _send(self, message: Message) -> None:
        lock = message.lock
        tag = lock.token.bytes_le if lock is not None else self.broker.next_tag()
        delivery = self.deliver(tag, delivered(message))
        if self.deletes:
            delivery.settle()
        else:
            delivery.lock_token = lock.token if lock is not None else None
        self.broker.counts.operation("deliver")

    def _confirm(self, delivery: Delivery, settlement: Settlement, result: RefusedError | None) -> None:
        if not self.alive:
            return
        settlement.confirm(delivery, result)
        delivery.settle()
        self.connection.touch()
