"""`python -m local.event_grid`: serve custom topics."""

import argparse
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
from aiohttp import web

from local import control, serving
from local.event_grid.broker import Broker
from local.event_grid.control_api import ControlApi
from local.event_grid.dead_letter import DeadLetters
from local.event_grid.delivery_queue import Patience
from local.event_grid.publish_api import MAX_BYTES, PublishApi
from local.event_grid.schema import Schema
from local.event_grid.topic import Topic, endpoint_of
from local.faults import FaultPlan

_TOPIC = re.compile(r"(?P<name>[A-Za-z0-9-]{3,50})(=(?P<schema>\w+))?")


@dataclass(frozen=True, slots=True)
class TopicOption:
    """One `--topic`: a name, and which schema its events have."""

    name: str
    schema: Schema

    @classmethod
    def parse(cls, value: str) -> "TopicOption":
        """Read NAME or NAME=SCHEMA. Raises ArgumentTypeError."""
        match = _TOPIC.fullmatch(value)
        schema = (match["schema"] or Schema.CLOUD_EVENTS) if match else ""
        if match is None or schema not in set(Schema):
            schemas = " or ".join(Schema)
            raise argparse.ArgumentTypeError(
                f"{value!r} is not NAME or NAME=SCHEMA: a name has 3 to 50 letters, digits and hyphens, "
                f"a schema is {schemas}"
            )
        return cls(match["name"], Schema(schema))


def main() -> None:
    """Read the command line and serve until told to stop."""
    options = _parser().parse_args()
    patience = Patience(options.clock_factor, timedelta(seconds=options.response_timeout))

    def topics(url: str) -> dict[str, Topic]:
        return {
            topic.name.lower(): Topic(
                topic.name, endpoint_of(url, topic.name), options.topic_key, options.topic_token, topic.schema
            )
            for topic in options.topic
        }

    serving.run(
        lambda url: application(topics(url), url=url, patience=patience, state=options.state),
        port=options.port,
        facts=lambda url: {"topics": {topic.name: _announced(topic) for topic in topics(url).values()}},
    )


def application(topics: Mapping[str, Topic], *, url: str, patience: Patience, state: Path) -> web.Application:
    """The stand-in as an aiohttp application that is served at `url`. Call it where an event loop runs."""
    faults = FaultPlan()
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience.response.total_seconds()))
    broker = Broker(url, http, patience=patience, dead_letters=DeadLetters(state))
    app = web.Application(middlewares=[control.explain_bad_fields], client_max_size=MAX_BYTES)

    async def background(_: web.Application) -> AsyncIterator[None]:
        yield
        await broker.close()
        await http.close()

    app.cleanup_ctx.append(background)
    app.add_routes(ControlApi(broker, topics).routes())
    app.add_routes(control.fault_routes(faults))
    app.router.add_post("/{topic}/api/events", PublishApi(topics, faults, broker.accept).handle)
    return app


def _announced(topic: Topic) -> dict[str, str]:
    return {"endpoint": topic.endpoint, "id": topic.id, "input_schema": topic.input_schema}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.event_grid", description="Event Grid on this machine.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="the folder for dead-lettered events")
    parser.add_argument(
        "--topic",
        type=TopicOption.parse,
        action="append",
        required=True,
        metavar="NAME[=SCHEMA]",
        help="a topic (repeatable); the schema is CloudEventSchemaV1_0, or EventGridSchema when that is given",
    )
    parser.add_argument("--topic-key", required=True, help="the access key of every topic")
    parser.add_argument("--topic-token", help="a bearer token that every topic accepts, too")
    parser.add_argument(
        "--clock-factor", type=float, default=1.0, help="every wait and time to live is multiplied by this"
    )
    parser.add_argument("--response-timeout", type=float, default=30.0, help="how many seconds an endpoint may take")
    return parser


if __name__ == "__main__":
    main()
