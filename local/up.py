"""`python -m local up`: Azure on this machine, until Ctrl-C."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.local_azure import APP, AirflowTarget, LocalAzure
from local.process import ProcessFailedError

_WATCH_EVERY = timedelta(seconds=0.5)


def main(arguments: Sequence[str]) -> int:
    """Run it all until Ctrl-C or SIGTERM. Returns 0, or 1 when a service failed (standard error says which
    and why).
    """
    azure = describe(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job would ignore the latter
        signal.signal(number, signal.default_int_handler)
    try:
        print(f"READY {json.dumps(azure.start())}", flush=True)
        print(f"Logs: {', '.join(map(str, azure.logs.values()))}. Ctrl-C stops everything.", file=sys.stderr)
        return watch(azure)
    except ProcessFailedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        azure.stop()


def describe(arguments: Sequence[str]) -> LocalAzure:
    """What the command line asks for, not started."""
    options = _parser().parse_args(arguments)
    return LocalAzure(
        pipelines=options.pipelines,
        state=options.state or _fresh_state(),
        airflow=_targets(options.airflow, options.airflow_auth, options.airflow_queue),
        app=options.app,
        diagnostics=options.diagnostics,
        service_bus=() if options.service_bus or options.airflow_queue else None,
    )


def watch(azure: LocalAzure) -> int:
    """Wait until a service ends by itself; say so with the end of its log."""
    never = threading.Event()
    while (dead := azure.dead()) is None:
        never.wait(_WATCH_EVERY.total_seconds())
    print(
        f"{dead.module} has ended (exit code {dead.exit_code}); stopping the rest. "
        f"The end of its log ({dead.log}):\n{dead.log_tail()}",
        file=sys.stderr,
    )
    return 1


def _targets(
    urls: Sequence[tuple[str, str]], logins: Sequence[tuple[str, str]], queues: Sequence[tuple[str, str]]
) -> dict[str, AirflowTarget]:
    """The Airflow targets of the command line."""
    url, login, queue = dict(urls), dict(logins), dict(queues)
    targets = {}
    for name in {**url, **queue}:
        username, _, password = login[name].partition(":") if name in login else (None, "", None)
        targets[name] = AirflowTarget(url.get(name), username, password, queue.get(name))
    return targets


def _fresh_state() -> Path:
    """A new folder for the state of this start."""
    return APP / ".local" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.lower(), value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local up", description="Run the bridge on this machine, with stand-ins for Azure's services."
    )
    parser.add_argument(
        "--pipelines",
        type=Path,
        default=APP / "examples" / "pipelines",
        metavar="DIR",
        help="the factory's pipelines, one JSON file each (default: examples/pipelines)",
    )
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="keeps all state and logs (default: a new folder in .local)"
    )
    parser.add_argument(
        "--diagnostics",
        action="store_true",
        help="let run events come from diagnostic records, by an event hub and the bridge's relay",
    )
    parser.add_argument("--app", type=Path, default=APP, metavar="DIR", help="the Functions app (default: the bridge)")
    parser.add_argument(
        "--airflow",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="an Airflow whose tasks the bridge completes; may be repeated",
    )
    parser.add_argument(
        "--airflow-auth",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=USER:PASSWORD",
        help="how to log in there (default: BRIDGE_AIRFLOW__NAME__USERNAME and …__PASSWORD of the environment)",
    )
    parser.add_argument(
        "--service-bus",
        action="store_true",
        help="run a Service Bus with the queues completions, requests and events; events then come by the queue",
    )
    parser.add_argument(
        "--airflow-queue",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=QUEUE",
        help="an Airflow whose completions go to a queue (here: completions); implies --service-bus",
    )
    return parser
