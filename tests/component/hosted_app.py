"""The Functions host in a process of its own, with the test app in it, and calls to it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from local.process import LocalProcess

APPS = Path(__file__).parent / "apps"
FUNCTION_KEY, EVENT_GRID_KEY, MASTER_KEY = "function-key", "event-grid-key", "master-key"
DEADLINE = timedelta(seconds=10)

_OFTEN = "* * * * * *"


class HostedApp:
    """A running host."""

    def __init__(self, process: LocalProcess) -> None:
        self.process = process

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to a path of the host."""
        return requests.request(method, f"{self.process.url}{path}", timeout=DEADLINE.total_seconds(), **options)

    def deliver(self, body: object, kind: str | None = "Notification", **options: Any) -> requests.Response:
        """POST to the Event Grid webhook: JSON, or bytes as they are."""
        query = {"functionName": "take", "code": EVENT_GRID_KEY} | options.pop("query", {})
        headers = {"aeg-event-type": kind} if kind is not None else {}
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.call("POST", "/runtime/webhooks/EventGrid", params=query, headers=headers, data=data, **options)

    def seen(self) -> list[Any]:
        """What the app's functions were given so far."""
        content: list[Any] = self.call("GET", "/api/seen").json()
        return content

    def wait_for(self, wanted: object) -> None:
        """Return when the app has seen this; fail when it has not after ten seconds."""
        deadline = time.monotonic() + DEADLINE.total_seconds()
        while wanted not in self.seen():
            assert time.monotonic() < deadline, f"{wanted} was not seen"

    def log_lines(self) -> list[dict[str, Any]]:
        """The host's log, without what is not JSON."""
        lines = self.process.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def describe_host(log: Path, *extra: str, app: str = "host", tick: str = _OFTEN) -> LocalProcess:
    """A host for one of the test apps, not started."""
    keys = ("--function-key", FUNCTION_KEY, "--event-grid-key", EVENT_GRID_KEY, "--master-key", MASTER_KEY)
    args = ("--app", str(APPS / app), *keys, *extra)
    return LocalProcess("local.functions_host", args, log=log, env={"TICK": tick})


@contextmanager
def hosted_app(folder: Path, *extra: str, tick: str = _OFTEN) -> Iterator[HostedApp]:
    """A running host with the test app."""
    with describe_host(folder / "host.log", *extra, tick=tick) as process:
        yield HostedApp(process)
