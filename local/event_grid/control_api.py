"""The control calls of the stand-in (subscriptions, the log of deliveries), and the address for consent by
hand.
"""

from collections.abc import Mapping

from aiohttp import web

from local.control import PREFIX, read_object, refuse
from local.event_grid.broker import Broker
from local.event_grid.grid_error import GridError
from local.event_grid.handshake import Consent
from local.event_grid.subscription import parse_subscription
from local.event_grid.topic import Topic
from local.json_value import FieldError, optional_text, reject_unknown, text

_REDELIVER_FIELDS = frozenset({"event_id", "subscription"})


class ControlApi:
    """What tests, `local up` and endpoints may ask of the stand-in."""

    def __init__(self, broker: Broker, topics: Mapping[str, Topic]) -> None:
        """Put the parts together; `topics` are by name in lower case."""
        self._broker = broker
        self._topics = topics

    def routes(self) -> list[web.RouteDef]:
        """The calls and their paths."""
        return [
            web.get(f"{PREFIX}/subscriptions", self._show_subscriptions),
            web.post(f"{PREFIX}/subscriptions", self._subscribe),
            web.delete(f"{PREFIX}/subscriptions/{{topic}}/{{name}}", self._unsubscribe),
            web.get(f"{PREFIX}/events", self._show_events),
            web.get(f"{PREFIX}/deliveries", self._show_deliveries),
            web.post(f"{PREFIX}/redeliver", self._redeliver),
            web.get("/eventsubscriptions/{name}/validate", self._consent),
        ]

    async def _show_subscriptions(self, _: web.Request) -> web.Response:
        return web.json_response(self._broker.show_subscriptions())

    async def _subscribe(self, request: web.Request) -> web.Response:
        """201 with the subscription; 202 where the endpoint has yet to consent; 400 where it does not."""
        body = await read_object(request)
        topic = self._topics.get(text(body, "topic").lower())
        if topic is None:
            raise FieldError("topic: there is no such topic")
        try:
            shown = await self._broker.subscribe(parse_subscription(body, input_schema=topic.input_schema), topic)
        except GridError as error:
            return error.response()
        return web.json_response(shown, status=201 if shown["provisioning_state"] == Consent.GIVEN else 202)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        existed = await self._broker.unsubscribe(request.match_info["topic"], request.match_info["name"])
        return web.Response(status=204) if existed else refuse(404, "there is no such subscription")

    async def _show_events(self, _: web.Request) -> web.Response:
        return web.json_response(self._broker.show_published())

    async def _show_deliveries(self, _: web.Request) -> web.Response:
        return web.json_response(self._broker.log.to_json())

    async def _redeliver(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        reject_unknown(body, _REDELIVER_FIELDS)
        queued = self._broker.redeliver(text(body, "event_id"), optional_text(body, "subscription"))
        if not queued:
            return refuse(404, "no subscription wants an event of that id")
        return web.json_response({"queued": queued}, status=202)

    async def _consent(self, request: web.Request) -> web.Response:
        try:
            self._broker.consent(request.match_info["name"], request.query.get("id", ""))
        except GridError as error:
            return error.response()
        return web.json_response("Webhook successfully validated as a subscription endpoint")
