"""The local Service Bus as a process of its own: it runs in the app's virtual environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from azure.servicebus import ServiceBusClient, ServiceBusMessage

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
QUEUE = "adf-bridge-completions"
DEADLINE = 15.0
"""Seconds in which what must happen happens."""


class LocalServiceBus:
    """A broker with the completions queue. A killed one starts again on its ports, with its messages."""

    def __init__(self, state: Path) -> None:
        """Keep messages in a folder."""
        self._state = state
        self._port = 0
        self.ready: dict[str, Any] = {}

    def start(self) -> None:
        """Start, and come back when it serves."""
        command = [str(PYTHON), "-m", "local.service_bus", "--state", str(self._state), "--port", str(self._port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with (self._state / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [*command, "--queue", f"{QUEUE},requires_session"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._child.stdout is not None
        line = next((line for line in self._child.stdout if line.startswith("LISTENING ")), None)
        assert line is not None, (self._state / "log").read_text(encoding="utf-8")
        self.ready = json.loads(line.removeprefix("LISTENING "))
        self._port = int(self.ready["url"].rpartition(":")[2])
        self._child.stdout.close()  # it says no more

    def kill(self) -> None:
        """As if the machine had lost its power."""
        self._child.kill()
        self._child.wait()

    def stop(self) -> None:
        """Tell it to end."""
        self._child.terminate()
        self._child.wait(DEADLINE)

    @property
    def connection_string(self) -> str:
        """What azure-servicebus takes."""
        return str(self.ready["connection_string"])

    def control(self, method: str, path: str, **options: Any) -> Any:
        """One control call."""
        answer = requests.request(method, f"{self.ready['url']}/_local/{path}", timeout=10, **options)
        answer.raise_for_status()
        return answer.json()

    def sessions(self) -> list[str]:
        """The sessions that are held."""
        (queue,) = [one for one in self.control("GET", "queues")["queues"] if one["name"] == QUEUE]
        return list(queue["sessions_held"])

    def messages(self) -> int:
        """How many messages wait."""
        return len(self.control("GET", f"messages?queue={QUEUE}")["messages"])

    def send(self, session_id: str, *bodies: Mapping[str, Any] | bytes) -> None:
        """Send what a bridge would; bytes go as they are."""
        with (
            ServiceBusClient.from_connection_string(self.connection_string) as client,
            client.get_queue_sender(QUEUE) as sender,
        ):
            sender.send_messages(
                [
                    ServiceBusMessage(one if isinstance(one, bytes) else json.dumps(one), session_id=session_id)
                    for one in bodies
                ]
            )


def until(happened: Callable[[], Any]) -> None:
    """Come back when something has happened. Raises AssertionError when it does not."""
    end = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)
