"""The command line: `python -m local.functions_host --app DIR --function-key K --event-grid-key K
--master-key K`.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from local.functions_host.bindings import BindingError
from local.functions_host.host import Host
from local.functions_host.host_json import HostJsonError, read_host_json
from local.functions_host.keys import Keys
from local.functions_host.logs import start_logging
from local.functions_host.worker import IndexingError, Worker
from local.process import announce


def main() -> int:
    """Serve an app until SIGTERM or Ctrl-C. Returns 0, or 1 when the app cannot be loaded (standard error
    says why).
    """
    arguments = _parser().parse_args()
    keys = Keys(arguments.function_key, arguments.event_grid_key, arguments.master_key)
    try:
        return asyncio.run(_serve(arguments, keys))
    except (BindingError, HostJsonError, IndexingError) as error:
        print(f"The app {arguments.app} cannot be loaded.\n{error}", file=sys.stderr)
        return 1


async def _serve(arguments: argparse.Namespace, keys: Keys) -> int:
    app = arguments.app.resolve()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings = read_host_json(app / "host.json")
    output, sys.stdout = (
        sys.stdout,
        sys.stderr,
    )  # what the app prints is log; standard output is for LISTENING
    start_logging(settings.log_level, dict)
    worker = Worker()
    await worker.load(app)
    host = Host(
        worker,
        settings,
        keys,
        arguments.state,
        retry_factor=arguments.retry_factor,
        schedules=not arguments.no_schedules,
    )
    start_logging(settings.log_level, host.invocations.current)
    url = await host.start(arguments.port)
    announce(output=output, url=url, functions=[function.name for function in worker.functions])
    await stopping.wait()
    logging.getLogger("host").info("Stopping")
    await host.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.functions_host", description="Run a Python Functions app.")
    parser.add_argument(
        "--app", type=Path, required=True, metavar="DIR", help="the folder with function_app.py and host.json"
    )
    parser.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--function-key", required=True, metavar="KEY", help="opens functions of the level `function`")
    parser.add_argument("--event-grid-key", required=True, metavar="KEY", help="opens the Event Grid webhook")
    parser.add_argument("--master-key", required=True, metavar="KEY", help="opens everything")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where to keep when timers ran, and event hubs (default: nowhere)"
    )
    parser.add_argument(
        "--retry-factor", type=float, default=1.0, help="every pause before a function's retry is multiplied by this"
    )
    parser.add_argument(
        "--no-schedules", action="store_true", help="run no timer on its schedule, only those asked for at /admin"
    )
    return parser


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # a function that hangs in its thread must not keep the process: threads cannot be killed
