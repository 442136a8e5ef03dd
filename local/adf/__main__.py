"""`python -m local.adf`: serve declared factories with the pipelines of a folder."""

import argparse
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from local import control, serving
from local.adf.arm_api import ArmApi
from local.adf.calls import CallLog
from local.adf.control_api import ControlApi
from local.adf.engine import Engine
from local.adf.factory import Factories, Factory
from local.adf.pipeline_folder import PipelineFolder
from local.adf.run_events import RunEvents, Topic
from local.faults import FaultPlan
from local.json_value import FieldError

# ARM's own limit. https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits
_MAX_BODY_BYTES = 4 * 1024 * 1024


def main() -> None:
    """Read the command line and serve until told to stop."""
    options = _parser().parse_args()
    try:
        folder = PipelineFolder(options.pipelines)
    except FieldError as error:
        sys.exit(f"local.adf: {error}")
    factories = Factories(options.factory)
    topic = Topic(options.topic_endpoint, options.topic_key) if options.topic_endpoint else None
    serving.run(
        lambda _: application(factories, folder, topic, token=options.token),
        port=options.port,
        facts=lambda _: {
            "factories": [factory.id for factory in factories],
            "pipelines": [pipeline.name for pipeline in folder.all()],
        },
    )


def application(factories: Factories, folder: PipelineFolder, topic: Topic | None, *, token: str) -> web.Application:
    """The stand-in as an aiohttp application."""
    events, calls, faults = RunEvents(topic), CallLog(), FaultPlan()
    engine = Engine(events.announce)
    arm = ArmApi(factories=factories, folder=folder, engine=engine, calls=calls, faults=faults, token=token)

    async def background(_: web.Application) -> AsyncIterator[None]:
        yield
        await engine.close()
        await events.close()

    app = web.Application(middlewares=[control.explain_bad_fields], client_max_size=_MAX_BODY_BYTES)
    app.cleanup_ctx.append(background)
    app.add_routes(ControlApi(engine, calls, events).routes())
    app.add_routes(control.fault_routes(faults))
    app.router.add_route("*", "/{path:.*}", arm.handle)
    return app


def _factory(value: str) -> Factory:
    try:
        return Factory.from_id(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.adf", description="Data Factory on this machine.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--pipelines", type=Path, required=True, help="the folder with the pipelines' JSON files")
    parser.add_argument("--token", required=True, help="the bearer token that callers must send")
    parser.add_argument(
        "--factory", type=_factory, action="append", required=True, help="a factory's ARM id (repeatable)"
    )
    parser.add_argument("--topic-endpoint", help="the Event Grid topic for run events; without it none are sent")
    parser.add_argument("--topic-key", default="", help="the topic's access key")
    return parser


if __name__ == "__main__":
    main()
