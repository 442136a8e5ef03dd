"""A bridge for one test: it keeps runs and waits, refuses what it is told to refuse, and remembers every call."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_adf_bridge.token import TaskTry

MONITOR = "https://adf.azure.com/en-us/monitoring/pipelineruns/"


@dataclass
class Call:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class BridgeStandIn:
    """The bridge's API as far as the provider uses it. `refusals` are answered first, one a call.

    `runs` are by the token that they were asked for with; `others` are those that somebody else started.
    """

    refusals: deque[tuple[int, Any, dict[str, str]]] = field(default_factory=deque)
    health: dict[str, Any] = field(
        default_factory=lambda: {"status": "ok", "version": "1.2.3", "targets": {"demo": {}}}
    )
    health_status: int = 200
    end_at_once: str | None = None
    calls: list[Call] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    waits: dict[str, dict[str, Any]] = field(default_factory=dict)
    completed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def start(self) -> None:
        """Listen on a free port of this machine."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
                pass

            def _answer(self, method: str) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(method, self.path, headers, json.loads(raw) if raw else None)
                status, body, extra = stand_in.answer(call)
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def refuse(self, status: int, body: Any = None, **headers: str) -> None:
        """Answer the next call like this."""
        self.refusals.append(
            (status, body if body is not None else {}, {k.replace("_", "-"): v for k, v in headers.items()})
        )

    def begin(self, run_id: str, pipeline: str, run_start: str) -> None:
        """Let somebody else's run begin."""
        self.others.append(a_run(run_id, pipeline, run_start))

    def complete(self, token: str, status: str, **more: Any) -> dict[str, Any]:
        """Let the run of that token end, if there is one, and return its completion/v1."""
        run = self.runs.get(token) or self.awaited(token)
        self.completed[token] = {
            "schema": "completion/v1",
            "token": token,
            "status": status,
            "run_id": run["run_id"],
            "watched_run_id": None,
            "pipeline": run["pipeline"],
            "run_start": "2026-01-01T00:00:00+00:00",
            "run_end": "2026-01-01T00:00:16+00:00",
            "message": None,
            "failed_activity": None,
            "monitor_url": run["monitor_url"],
            **more,
        }
        return self.completed[token]

    def awaited(self, token: str) -> dict[str, Any]:
        """The run that a wait is for; without an id as long as there is none."""
        asked = self.waits[token]
        if "match" not in asked:
            return next(run for run in self.others if run["run_id"] == asked["run_id"])
        pipeline, since = asked["match"]["pipeline"], datetime.fromisoformat(asked["match"]["since"])
        fitting = [run for run in self.others if run["pipeline"] == pipeline and began(run) >= since]
        return min(fitting, key=began, default=a_run(None, None, None))

    def answer(self, call: Call) -> tuple[int, Any, dict[str, str]]:
        """What one call is answered."""
        self.calls.append(call)
        if self.refusals:
            return self.refusals.popleft()
        if call.path == "/api/health":
            return self.health_status, self.health, {}
        if call.path.startswith("/api/waits/"):
            return 200, {"wait": {}, "completed": self.completed.get(call.path.rpartition("/")[2])}, {}
        if call.path == "/api/waits":
            token = TaskTry(target=call.body["target"], **call.body["task"]).token()
            self.waits.setdefault(token, call.body)
            return self._registered(200, token, self.awaited(token))
        key = call.headers["idempotency-key"]
        if key not in self.runs:
            self.runs[key] = a_run(f"run-{len(self.runs) + 1}", call.body["pipeline"], None)
        return self._registered(202, key, self.runs[key])

    def _registered(self, status: int, token: str, run: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if self.end_at_once:
            self.complete(token, self.end_at_once)
        return status, {"run": run, "wait": None, "completed": self.completed.get(token)}, {}


def a_run(run_id: str | None, pipeline: str | None, run_start: str | None) -> dict[str, Any]:
    """A run as the bridge shows it."""
    url = None if run_id is None else MONITOR + run_id
    shown = {"run_id": run_id, "watched_run_id": None, "pipeline": pipeline}
    return {**shown, "run_start": run_start, "monitor_url": url}


def began(run: dict[str, Any]) -> datetime:
    """When a run began."""
    return datetime.fromisoformat(run["run_start"])
