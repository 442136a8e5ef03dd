"""`python -m local.service_bus`: serve queues."""

import argparse
import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from local import control, serving
from local.service_bus.amqp.broker import Broker
from local.service_bus.amqp.connection import Connection
from local.service_bus.control_api import ControlApi
from local.service_bus.description import QueueDescription, read_file
from local.service_bus.namespace import Namespace
from local.service_bus.storage import Storage


def main() -> None:
    """Read the command line and serve until told to stop."""
    options = _parser().parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    queues = {one.name.lower(): one for one in [*itertools.chain(*options.queues), *options.queue]}
    listener = _listen(options.amqp_port, options.state / "amqp-port")
    endpoint = f"sb://{serving.LOOPBACK}:{listener.getsockname()[1]}"
    serving.run(
        lambda _: application(queues.values(), listener, options.state, clock_factor=options.clock_factor),
        port=options.port,
        facts=lambda _: {
            "endpoint": endpoint,
            "connection_string": _connection_string(endpoint),
            "queues": [queue.name for queue in queues.values()],
        },
    )


def application(
    queues: Iterable[QueueDescription], listener: socket.socket, state: Path, *, clock_factor: float
) -> web.Application:
    """The control calls as an aiohttp application that has the broker beside it. Call it where an event loop runs."""
    storage = Storage(state / "messages.sqlite3")
    namespace = Namespace((queue.scaled(clock_factor) for queue in queues), storage, datetime.now(UTC))
    broker = Broker(namespace, clock_factor=clock_factor)
    app = web.Application(middlewares=[control.explain_bad_fields])

    async def background(_: web.Application) -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(broker), sock=listener)
        broker.settle_down()
        yield
        server.close()
        await broker.shut_down()
        storage.close()

    app.cleanup_ctx.append(background)
    app.add_routes(ControlApi(broker).routes())
    app.add_routes(control.fault_routes(broker.faults))
    return app


def _listen(port: int, remembered: Path) -> socket.socket:
    """Listen for AMQP: on `port`, else on the port of the last start with this state, else on a free one."""
    wanted = port or (int(remembered.read_text(encoding="ascii")) if remembered.exists() else 0)
    listener = socket.create_server((serving.LOOPBACK, wanted), backlog=512)
    remembered.write_text(str(listener.getsockname()[1]), encoding="ascii")
    return listener


def _connection_string(endpoint: str) -> str:
    """What azure-servicebus takes; with UseDevelopmentEmulator it does without TLS. The key opens nothing."""
    key = "SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=bG9jYWw="
    return f"Endpoint={endpoint};{key};UseDevelopmentEmulator=true;"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.service_bus", description="Service Bus on this machine.")
    parser.add_argument("--port", type=int, default=0, help="the port of the control calls; 0 takes a free one")
    parser.add_argument(
        "--amqp-port", type=int, default=0, help="the port of the queues; 0 takes that of the last start, or a free one"
    )
    parser.add_argument("--state", type=Path, required=True, help="the folder that messages are kept in")
    parser.add_argument(
        "--queue",
        type=QueueDescription.parse,
        action="append",
        default=[],
        metavar="NAME[,PROPERTY[=VALUE]]…",
        help="a queue (repeatable); the properties are requires_session, dead_letter_on_expiry, lock_duration_s, "
        "max_delivery_count, default_ttl_s and duplicate_detection_s (its window)",
    )
    parser.add_argument(
        "--queues", type=read_file, action="append", default=[], metavar="FILE", help='JSON: {"queues": [{"name": …}]}'
    )
    parser.add_argument("--clock-factor", type=float, default=1.0, help="every duration is multiplied by this")
    return parser


if __name__ == "__main__":
    main()
