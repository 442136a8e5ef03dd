"""The broker: all connections of one namespace, and the order in which things happen."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from local.faults import FaultPlan
from local.service_bus.amqp.connection import Connection
from local.service_bus.amqp.counts import Counts
from local.service_bus.amqp.dispatch import Dispatch
from local.service_bus.amqp.idleness import watch_connection, watch_link
from local.service_bus.amqp.link import Link
from local.service_bus.errors import RefusedError
from local.service_bus.message import Submission
from local.service_bus.namespace import Namespace
from local.service_bus.queue import Queue

_TAG_BYTES = 8
_FAREWELL_SECONDS = 0.05


class Broker:
    """Serves a namespace. Everything happens on one event loop; nothing is sent before it is written down."""

    def __init__(self, namespace: Namespace, *, clock_factor: float = 1.0) -> None:
        """Begin without connections. Call it where an event loop runs."""
        self.loop = asyncio.get_running_loop()
        self.namespace = namespace
        self.clock_factor = clock_factor
        self.faults = FaultPlan()
        self.counts = Counts()
        self.dispatch = Dispatch()
        self.connections: set[Connection] = set()
        self.touched: set[Connection] = set()
        self.read_only = False
        self.stalled = False
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False

    def now(self) -> datetime:
        """The time. Durations are scaled, the time is not."""
        return datetime.now(UTC)

    def next_number(self) -> int:
        """A number that nobody has."""
        return next(self._numbers)

    def next_tag(self) -> bytes:
        """The tag of a delivery that has no lock."""
        return self.next_number().to_bytes(_TAG_BYTES)

    def submit(self, queue: Queue, submissions: Sequence[Submission]) -> list[int]:
        """Put messages into a queue, all or none. Returns their sequence numbers. Raises RefusedError."""
        for one in submissions:
            queue.check(one)
        now = self.now()
        return [queue.send(self._scaled(one), now) for one in submissions]

    # ---- connections ----

    def connected(self, connection: Connection) -> None:
        """A client has connected."""
        self.connections.add(connection)
        self.counts.connections += 1
        self.counts.most_connections = max(self.counts.most_connections, len(self.connections))
        watch_connection(connection, self.clock_factor)

    def disconnected(self, connection: Connection) -> None:
        """A client is gone."""
        self.connections.discard(connection)
        self.touched.discard(connection)

    def attached(self, link: Link) -> None:
        """A client has a link."""
        self.counts.links[link.kind] += 1
        watch_link(link, self.clock_factor)

    def close_connections(self, *, abort: bool) -> int:
        """Close every connection, with a word or without. Returns how many there were."""
        closed = list(self.connections)
        for connection in closed:
            if abort:
                connection.abort()
            else:
                connection.close(RefusedError("The broker closes all connections.", condition="amqp:connection:forced"))
        self.settle_down()
        return len(closed)

    async def shut_down(self) -> None:
        """Close every connection, and wait until all are gone."""
        self.set_stalled(stalled=False)
        self.close_connections(abort=False)
        await asyncio.sleep(_FAREWELL_SECONDS)
        self.close_connections(abort=True)
        await asyncio.sleep(_FAREWELL_SECONDS)
        if self._timer is not None:
            self._timer.cancel()

    def set_stalled(self, *, stalled: bool) -> None:
        """Stop answering anything, or go on with what came in meanwhile. Sockets stay open."""
        self.stalled = stalled
        if not stalled:
            for connection in list(self.connections):
                connection.resume()
        self.settle_down()

    def reset_counts(self) -> None:
        """Count anew from now on."""
        self.counts = Counts(connections=len(self.connections), most_connections=len(self.connections))

    def describe_connections(self) -> list[dict[str, Any]]:
        """Every connection as the control calls show it."""
        return [one.describe() for one in sorted(self.connections, key=lambda one: one.number)]

    def describe_counts(self) -> dict[str, Any]:
        """What has happened as the control calls show it."""
        links = sum(link.alive for connection in self.connections for link in connection.links.values())
        return self.counts.describe(open_connections=len(self.connections), open_links=links)

    # ---- the order of things ----

    def settle_down(self) -> None:
        """Do what is due, hand out what is available, write everything down, then send; and wake up in time."""
        if self._settling or self.stalled:
            return
        self._settling = True
        try:
            self._hand_out()
            self.namespace.storage.commit()
            while self.touched:
                self.touched.pop().flush()
        finally:
            self._settling = False
        self._set_timer()

    def _hand_out(self) -> None:
        while True:
            self.namespace.advance(self.now())
            for queue in self.namespace:
                while queue.lost_sessions:
                    self.dispatch.lost(queue, queue.lost_sessions.pop())
                if queue.take_changed():
                    self.dispatch.wake(queue)
            if self.dispatch.idle:
                return
            self.dispatch.run()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.namespace.next_due
        if due is not None:
            self._timer = self.loop.call_later(max(0.0, (due - self.now()).total_seconds()), self.settle_down)

    def _scaled(self, one: Submission) -> Submission:
        try:
            return one if one.time_to_live is None else replace(one, time_to_live=one.time_to_live * self.clock_factor)
        except OverflowError:
            return replace(one, time_to_live=None)
