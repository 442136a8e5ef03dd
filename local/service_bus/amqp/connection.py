"""One client's connection: bytes in, the engine's events to the links, bytes out."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import proton
from proton import Collector, Event, Transport

from local.service_bus.amqp.attaching import attach
from local.service_bus.amqp.condition import told
from local.service_bus.amqp.link import Link
from local.service_bus.amqp.requests import Replies, Requests
from local.service_bus.amqp.sasl import Sasl
from local.service_bus.errors import RefusedError

if TYPE_CHECKING:
    from local.service_bus.amqp.broker import Broker

_log = logging.getLogger("local.service_bus")

_MAX_FRAME_BYTES = 64 * 1024
_FAREWELL_SECONDS = 1.0

_HANDLERS = {
    Event.CONNECTION_REMOTE_OPEN: ("connection", "_connection_opened"),
    Event.CONNECTION_REMOTE_CLOSE: ("connection", "_connection_closed"),
    Event.SESSION_REMOTE_OPEN: ("session", "_session_opened"),
    Event.SESSION_REMOTE_CLOSE: ("session", "_session_closed"),
    Event.LINK_REMOTE_OPEN: ("link", "_link_opened"),
    Event.LINK_REMOTE_CLOSE: ("link", "_link_closed"),
    Event.LINK_REMOTE_DETACH: ("link", "_link_closed"),
    Event.LINK_FLOW: ("link", "_link_flowed"),
    Event.DELIVERY: ("delivery", "_delivered"),
}
"""The engine's events that concern the broker: what each is about, and who deals with it."""


class Connection(asyncio.Protocol):
    """A connection, its links by name and direction, and what it has moved."""

    def __init__(self, broker: "Broker") -> None:
        """Wait for the client to speak."""
        self.broker = broker
        self.number = broker.next_number()
        self.authorized = False
        self.links: dict[tuple[str, bool], Link] = {}
        self.opened_at = self.linked_at = broker.loop.time()
        self.bytes_in = self.bytes_out = 0
        self._held = bytearray()
        self._sasl = Sasl()
        self._socket: asyncio.Transport | None = None
        self._engine = Transport(Transport.SERVER)
        self._engine.max_frame_size = _MAX_FRAME_BYTES
        self._proton = proton.Connection()
        self._collector = Collector()
        self._proton.collect(self._collector)
        self._engine.bind(self._proton)

    # ---- the socket ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio promises it for TCP
        self._socket = transport
        self.broker.connected(self)

    def data_received(self, data: bytes) -> None:
        """Take what came in; a stalled broker only keeps it."""
        self.bytes_in += len(data)
        if self.broker.stalled:
            self._held += data
        else:
            self._feed(data)
            self.broker.settle_down()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it went
        """The client is gone, and with it its links."""
        for link in list(self.links.values()):
            link.end()
        self.links.clear()
        self.broker.disconnected(self)
        self.broker.settle_down()

    def resume(self) -> None:
        """Take what came in while the broker was stalled."""
        held, self._held = bytes(self._held), bytearray()
        if held:
            self._feed(held)
        self.touch()

    def abort(self) -> None:
        """Cut the connection without a word."""
        if self._socket is not None:
            self._socket.abort()

    def close(self, why: RefusedError) -> None:
        """Close the connection from this side, and say why."""
        self._proton.condition = told(why)
        self._proton.close()
        self.touch()
        self.broker.loop.call_later(_FAREWELL_SECONDS, self.abort)

    def touch(self) -> None:
        """There may be something to send."""
        self.broker.touched.add(self)

    def flush(self) -> None:
        """Send what the engine has to say."""
        if self._socket is None or not self._sasl.done:
            return
        while (pending := self._engine.pending()) > 0:
            output = bytes(self._engine.peek(pending) or b"")
            self._engine.pop(len(output))
            self._write(output)
        if self._engine.closed or self._engine.pending() < 0:
            self._socket.close()

    # ---- the engine ----

    def _feed(self, data: bytes) -> None:
        if not self._sasl.done:
            answer, data = self._sasl.feed(data)
            self._write(answer)
            self.authorized = self._sasl.mechanism == "PLAIN"
            if self._sasl.failed and self._socket is not None:
                self._socket.close()
                return
        while data and (capacity := self._engine.capacity()) > 0:
            self._engine.push(data[:capacity])
            data = data[capacity:]
            self._dispatch()
        self._dispatch()
        self.touch()

    def _dispatch(self) -> None:
        while (event := self._collector.peek()) is not None:
            subject, handler = _HANDLERS.get(event.type, ("", ""))
            if handler:
                getattr(self, handler)(getattr(event, subject))
            self._collector.pop()

    def _connection_opened(self, _: proton.Connection) -> None:
        self._proton.container = "local-service-bus"
        self._proton.open()
        self._tick()

    def _connection_closed(self, _: proton.Connection) -> None:
        self._proton.close()

    def _session_opened(self, session: proton.Session) -> None:
        session.open()

    def _session_closed(self, session: proton.Session) -> None:
        for key, link in list(self.links.items()):
            if link.proton.session == session:
                link.end()
                del self.links[key]
        session.close()

    def _link_opened(self, link: proton.Link) -> None:
        attach(self, link)

    def _link_closed(self, link: proton.Link) -> None:
        served = self.links.pop((link.name, link.is_sender), None)
        if served is not None:
            served.end()
        link.close()

    def _link_flowed(self, link: proton.Link) -> None:
        served = self._live(link)
        if served is not None:
            served.used()
            served.flowed()

    def _delivered(self, delivery: proton.Delivery) -> None:
        served = self._live(delivery.link)
        if served is not None:
            served.used()
            served.updated(delivery)

    def _live(self, link: proton.Link) -> Link | None:
        served = self.links.get((link.name, link.is_sender))
        return served if served is not None and served.alive else None

    def _tick(self) -> None:
        """Keep the connection alive where the client asks for signs of life."""
        if self._socket is not None and not self._socket.is_closing() and self._engine.remote_idle_timeout:
            now = self.broker.loop.time()
            due = self._engine.tick(now)
            self.flush()
            if due:
                self.broker.loop.call_later(max(0.01, due - now), self._tick)

    # ---- links ----

    def serve(self, link: Link) -> None:
        """A link is there."""
        self.links[link.name, link.proton.is_sender] = link
        self.broker.attached(link)
        self.touch()

    def replies_to(self, requests: Requests) -> Replies | None:
        """The link on which the client wants the replies to its requests."""
        for link in reversed(self.links.values()):
            same_place = link.address == requests.address and link.proton.session == requests.proton.session
            if isinstance(link, Replies) and link.alive and same_place:
                return link
        return None

    def describe(self) -> dict[str, Any]:
        """The connection as the control calls show it."""
        return {
            "number": self.number,
            "container": self._proton.remote_container,
            "properties": {str(key): str(value) for key, value in (self._proton.remote_properties or {}).items()},
            "open_s": round(self.broker.loop.time() - self.opened_at, 3),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "links": [link.describe() for link in self.links.values() if link.alive],
        }

    def _write(self, output: bytes) -> None:
        if output and self._socket is not None:
            self.bytes_out += len(output)
            self._socket.write(output)
