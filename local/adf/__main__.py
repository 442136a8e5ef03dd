"""`python -m local.adf`: serve declared factories with the pipelines of a folder."""

import argparse
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from aiohttp import web

from local import control, serving
from local.adf.arm_api import ArmApi
from local.adf.calls import CallLog
from local.adf.control_api import ControlApi
from local.adf.diagnostics import Diagnostics, control_routes
from local.adf.engine import Engine
from local.adf.execution import Pace
from local.adf.factory import Factories, Factory
from local.adf.managed_identity import ManagedIdentity
from local.adf.pipeline_api import PipelineApi
from local.adf.pipeline_folder import PipelineFolder
from local.adf.pipelines import Pipelines
from local.adf.run_queue import MOST_QUEUED, RunQueue
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
    serving.run(
        lambda _: application(options, folder),
        port=options.port,
        facts=lambda _: {
            "factories": [factory.id for factory in Factories(options.factory)],
            "pipelines": [pipeline.name for pipeline in folder.all()],
        },
    )


def application(options: argparse.Namespace, folder: PipelineFolder) -> web.Application:
    """The stand-in as an aiohttp application."""
    diagnostics = Diagnostics(options.diagnostics)
    pipelines, calls, faults = Pipelines(folder), CallLog(), FaultPlan()
    identity, queue = ManagedIdentity(dict(options.identity_token)), RunQueue(options.most_queued)
    pace = Pace(timedelta(seconds=options.queued_seconds), options.retry_factor)
    engine = Engine(pipelines, diagnostics.announce, identity, queue, pace)
    arm = ArmApi(
        factories=Factories(options.factory),
        pipelines=PipelineApi(pipelines),
        engine=engine,
        calls=calls,
        faults=faults,
        token=options.token,
    )

    async def background(_: web.Application) -> AsyncIterator[None]:
        yield
        await engine.close()
        await diagnostics.close()

    app = web.Application(middlewares=[control.explain_bad_fields], client_max_size=_MAX_BODY_BYTES)
    app.cleanup_ctx.append(background)
    app.add_routes(ControlApi(engine, calls).routes())
    app.add_routes(control_routes(diagnostics))
    app.add_routes(control.fault_routes(faults))
    app.router.add_route("*", "/{path:.*}", arm.handle)
    return app


def _factory(value: str) -> Factory:
    try:
        return Factory.from_id(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _identity_token(value: str) -> tuple[str, str]:
    resource, found, token = value.rpartition("=")
    if not found or not resource or not token:
        raise argparse.ArgumentTypeError(f"{value!r} is not RESOURCE=TOKEN")
    return resource, token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.adf", description="Data Factory on this machine.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--pipelines", type=Path, required=True, help="the folder with the pipelines' JSON files")
    parser.add_argument("--token", required=True, help="the bearer token that callers must send")
    parser.add_argument(
        "--factory", type=_factory, action="append", required=True, help="a factory's ARM id (repeatable)"
    )
    parser.add_argument(
        "--diagnostics", metavar="URL", help="an event hub that takes diagnostic records, one message for each POST"
    )
    parser.add_argument(
        "--identity-token",
        type=_identity_token,
        action="append",
        default=[],
        metavar="RESOURCE=TOKEN",
        help="the token that the factories' managed identity gets for a resource (repeatable)",
    )
    parser.add_argument(
        "--most-queued", type=int, default=MOST_QUEUED, help="how many runs of a pipeline with a concurrency may wait"
    )
    parser.add_argument(
        "--queued-seconds", type=float, default=0.0, help="how long runs, and activities that are executed, wait first"
    )
    parser.add_argument(
        "--retry-factor", type=float, default=1.0, help="every pause before an activity's retry is multiplied by this"
    )
    return parser


if __name__ == "__main__":
    main()
