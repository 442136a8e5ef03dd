"""The control calls of the stand-in: connections, counts, queues, and what it should do wrong."""

from collections import Counter
from typing import Any

from aiohttp import web

from local.control import PREFIX, read_object
from local.json_value import FieldError, flag, reject_unknown
from local.service_bus.amqp.broker import Broker
from local.service_bus.errors import EntityNotFoundError, RefusedError
from local.service_bus.message import Message, MessageState
from local.service_bus.queue import Queue

_MODES = frozenset({"stalled", "read_only"})


class ControlApi:
    """What tests and `local up` may ask of the stand-in."""

    def __init__(self, broker: Broker) -> None:
        """Serve `broker`."""
        self._broker = broker

    def routes(self) -> list[web.RouteDef]:
        """The calls and their paths."""
        return [
            web.get(f"{PREFIX}/connections", self._show_connections),
            web.delete(f"{PREFIX}/connections", self._close_connections),
            web.delete(f"{PREFIX}/links", self._detach_links),
            web.get(f"{PREFIX}/counts", self._show_counts),
            web.delete(f"{PREFIX}/counts", self._reset_counts),
            web.get(f"{PREFIX}/queues", self._show_queues),
            web.get(f"{PREFIX}/messages", self._show_messages),
            web.delete(f"{PREFIX}/messages", self._remove_messages),
            web.get(f"{PREFIX}/mode", self._show_mode),
            web.put(f"{PREFIX}/mode", self._set_mode),
        ]

    async def _show_connections(self, _: web.Request) -> web.Response:
        return web.json_response({"connections": self._broker.describe_connections()})

    async def _close_connections(self, request: web.Request) -> web.Response:
        """`?abort=1` cuts them without a word."""
        return web.json_response({"closed": self._broker.close_connections(abort="abort" in request.query)})

    async def _detach_links(self, request: web.Request) -> web.Response:
        """Detach all links to a queue, `?condition=` says why (forced, where it does not)."""
        queue = request.query.get("queue", "").lower()
        condition = request.query.get("condition", "amqp:link:detach-forced")
        links = [
            link
            for connection in self._broker.connections
            for link in list(connection.links.values())
            if link.alive and link.may_idle and link.address.lower().endswith(f"/{queue}")
        ]
        for link in links:
            link.detach(RefusedError(f"The link '{link.name}' is force detached on demand.", condition=condition))
        self._broker.settle_down()
        return web.json_response({"detached": len(links)})

    async def _show_counts(self, _: web.Request) -> web.Response:
        return web.json_response(self._broker.describe_counts())

    async def _reset_counts(self, _: web.Request) -> web.Response:
        self._broker.reset_counts()
        return web.json_response(self._broker.describe_counts())

    async def _show_queues(self, _: web.Request) -> web.Response:
        self._broker.settle_down()
        return web.json_response({"queues": [_show_queue(queue) for queue in self._broker.namespace]})

    async def _show_messages(self, request: web.Request) -> web.Response:
        self._broker.settle_down()
        messages = self._queue(request).messages.values()
        return web.json_response({"messages": [_show_message(one) for one in messages]})

    async def _remove_messages(self, request: web.Request) -> web.Response:
        removed = self._queue(request).clear()
        self._broker.settle_down()
        return web.json_response({"removed": removed})

    def _queue(self, request: web.Request) -> Queue:
        """The queue that `?queue=` names."""
        try:
            return self._broker.namespace.find(request.query.get("queue", ""))
        except EntityNotFoundError as error:
            raise FieldError(error.description) from error

    async def _show_mode(self, _: web.Request) -> web.Response:
        return web.json_response({"stalled": self._broker.stalled, "read_only": self._broker.read_only})

    async def _set_mode(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        reject_unknown(body, _MODES)
        if "read_only" in body:
            self._broker.read_only = flag(body, "read_only")
        if "stalled" in body:
            self._broker.set_stalled(stalled=flag(body, "stalled"))
        return await self._show_mode(request)


def _show_queue(queue: Queue) -> dict[str, Any]:
    states = Counter(message.state for message in queue.messages.values())
    held = [one for one in queue.sessions if one.lock is not None]
    return {
        "name": queue.name,
        "messages": len(queue.messages),
        "active": states[MessageState.ACTIVE],
        "deferred": states[MessageState.DEFERRED],
        "scheduled": states[MessageState.SCHEDULED],
        "locked": sum(message.lock is not None for message in queue.messages.values()),
        "sessions_held": sorted(one.session_id for one in held),
    }


def _show_message(message: Message) -> dict[str, Any]:
    return {
        "sequence_number": message.sequence_number,
        "message_id": message.message_id,
        "session_id": message.session_id,
        "state": message.state.name.lower(),
        "locked": message.lock is not None,
        "delivery_count": message.delivery_count,
        "enqueued_at": message.enqueued_at.isoformat(),
        "dead_letter_reason": message.dead_letter_reason,
    }
