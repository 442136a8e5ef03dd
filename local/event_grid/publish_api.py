"""Publishing: what a topic takes, whole or not at all, and what it refuses.

See https://learn.microsoft.com/azure/event-grid/post-to-custom-topic and, for the limits,
https://learn.microsoft.com/azure/event-grid/quotas-limits
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from local.event_grid.grid_error import GridError
from local.event_grid.schema import METADATA_VERSION, Schema, problem_with
from local.event_grid.topic import Topic
from local.faults import FaultPlan, perform
from local.json_value import JsonObject, JsonValue

API_VERSION = "2018-01-01"
MAX_BYTES = 1024 * 1024
PUBLISH = "publish"

_SINGLE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"

Sink = Callable[[Topic, JsonObject], None]


class PublishApi:
    """The topics' endpoints. `accept` is called for every event of a request once all of them were found
    good.
    """

    def __init__(self, topics: Mapping[str, Topic], faults: FaultPlan, accept: Sink) -> None:
        """Put the parts together."""
        self._topics = topics
        self._faults = faults
        self._accept = accept

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`POST /{topic}/api/events`: 200 without a body, or an error."""
        try:
            return await self._publish(request)
        except GridError as error:
            return error.response()

    async def _publish(self, request: web.Request) -> web.Response:
        topic = self._topics.get(request.match_info["topic"].lower())
        if topic is None:
            raise GridError(404, "The topic was not found.")
        topic.authorize(request.headers, datetime.now(UTC))
        if request.query.get("api-version") != API_VERSION:
            raise GridError(400, f"The query parameter api-version must be {API_VERSION}.")

        async def act() -> web.Response:
            for event in _events(await _read(request), request.content_type, topic):
                self._accept(topic, event)
            return web.Response()

        return await perform(
            request, self._faults.take(PUBLISH), act, lambda fault: GridError.of_fault(fault).response()
        )


async def _read(request: web.Request) -> JsonValue:
    """The body's JSON, if it is not too large."""
    try:
        raw = await request.read()
        body: JsonValue = json.loads(raw)
    except web.HTTPRequestEntityTooLarge as error:
        raise GridError(413, f"The maximum size ({MAX_BYTES}) has been exceeded.") from error
    except ValueError as error:
        raise GridError(400, "The request body is not valid JSON.") from error
    return body


def _events(body: JsonValue, content_type: str, topic: Topic) -> list[JsonObject]:
    """The events of a request, each completed as the service completes it. Raises GridError (400)."""
    schema = topic.input_schema
    allowed = (_JSON,) if schema is Schema.EVENT_GRID else (_SINGLE, _BATCH)
    if content_type not in allowed:
        message = (
            f"This resource is configured for '{schema}' schema and requires "
            f"{' or '.join(repr(one) for one in allowed)} as content type, not {content_type!r}."
        )
        raise GridError(400, message)
    as_object = content_type == _SINGLE
    if isinstance(body, list) is as_object:
        message = (
            f"This resource is configured to receive event in '{schema}' schema. The JSON received does not conform "
            f"to the expected schema: with {content_type} it must be {'one object' if as_object else 'an array'}."
        )
        raise GridError(400, message)
    items = body if isinstance(body, list) else [body]
    events: list[JsonObject] = []
    for item in items:
        problem = problem_with(item, schema)
        if problem is not None or not isinstance(item, dict):
            raise GridError(400, f"The event does not conform to the '{schema}' schema. {problem}")
        events.append(item if schema is Schema.CLOUD_EVENTS else _completed(item, topic))
    return events


def _completed(event: JsonObject, topic: Topic) -> JsonObject:
    """An event of the Event Grid schema with what the service itself adds. Another topic's event is refused."""
    if event.get("topic") not in {None, "", topic.id}:
        raise GridError(400, "The property 'topic' must be left out or be this topic's resource id.")
    return {**event, "topic": topic.id, "metadataVersion": METADATA_VERSION}
