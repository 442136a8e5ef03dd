"""A bridge for one test: it keeps runs and waits, refuses what it is told to refuse, and remembers every call."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
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

    `runs` are by the token that they were asked for with; `others` are those that somebody else started. `meanwhile`
    happens while a call is being answered, once.
    """

    refusals: deque[tuple[int, Any, dict[str, str]]] = field(default_factory=deque)
    health: dict[str, Any] = field(
        default_factory=lambda: {"status": "ok", "version": "1.2.3", "targets": {"demo": {}}}
    )
    health_status: int = 200
    end_at_once: str | None = None
    meanwhile: Callable[[], None] | None = None
    calls: list[Call] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    waits: dict[str, dict[str, Any]] = field(default_factory=dict)
    completed: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    problems: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What registering a wait in a batch is answered, once, by its token."""

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
    def batches(self) -> list[list[dict[str, Any]]]:
        """The waits that listeners have registered, call by call."""
        return [call.body["waits"] for call in self.calls if call.path == "/api/waits/batch"]

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
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if self.refusals:
            return self.refusals.popleft()
        if call.path == "/api/health":
            return self.health_status, self.health, {}
        if call.path == "/api/waits/batch":
            return 200, {"waits": [self._listened_to(one) for one in call.body["waits"]]}, {}
        if call.path.startswith("/api/waits/"):
            return 200, {"wait": {}, "completed": self.completed.get(call.path.rpartition("/")[2])}, {}
        if call.path == "/api/waits":
            token = token_of(call.body)
            self.waits.setdefault(token, call.body)
            return self._registered(200, token, self.awaited(token))
        if call.path.endswith("/cancel"):
            run_id = call.path.split("/")[-2]
            self.cancelled.append(run_id)
            ended = any(one["run_id"] == run_id for one in self.completed.values())
            return 202, {"run": {}, "cancel": "not-running" if ended else "accepted"}, {}
        key = call.headers["idempotency-key"]
        start: dict[str, Any] = {"how": "started", "why": None}
        if key not in self.runs:
            start = self._start(key, call.body)
        return self._registered(202, key, self.runs[key], start=start)

    def _start(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Start a run, or go on with that of the task's last try, and say how it was."""
        how, why = "recovered" if "recover_from" in body else "started", None
        earlier = next((one for one in reversed(self.bodies) if place(self.bodies[one]) == place(body)), None)
        run = a_run(f"run-{len(self.runs) + 1}", body["pipeline"], None)
        if earlier is not None and "previous" in body:
            ended, before = self.completed.get(earlier, {}).get("status"), self.runs[earlier]
            if self.bodies[earlier].get("parameters") != body.get("parameters"):
                why = "The previous try ran with other parameters."
            elif ended is None or (ended == "Succeeded" and body["previous"]["after"] == "retry"):
                how, why, run = "reattached", f"The previous try's run {before['run_id']} goes on.", before
                if ended is not None:
                    self.completed[key] = {**self.completed[earlier], "token": key}
            elif ended == "Failed" and body["previous"]["do"] == "recover":
                how, why = "recovered", f"The previous try's run {before['run_id']} failed: it is run again from there."
            else:
                why = f"The previous try's run {before['run_id']} ended as {ended}."
        self.runs[key], self.bodies[key] = run, body
        return {"how": how, "why": why}

    def _listened_to(self, body: dict[str, Any]) -> dict[str, Any]:
        """Register one wait of a listener; the last one to do so is told."""
        token = token_of(body)
        if problem := self.problems.pop(token, None):
            return {"token": token, "problem": problem}
        self.waits[token] = body
        answer: dict[str, Any] = self._registered(200, token, self.runs.get(token) or self.awaited(token))[1]
        return answer

    def _registered(self, status: int, token: str, run: dict[str, Any], **more: Any) -> tuple[int, Any, dict[str, str]]:
        if self.end_at_once:
            self.complete(token, self.end_at_once)
        return status, {"run": run, "wait": None, "completed": self.completed.get(token), **more}, {}


def token_of(wait: dict[str, Any]) -> str:
    """The token of a wait."""
    return TaskTry(target=wait["target"], **wait["task"]).token()


def place(body: dict[str, Any]) -> tuple[Any, ...] | None:
    """The task that a request is for, whatever its try."""
    if "wait" not in body:
        return None
    names = ("dag_id", "run_id", "task_id", "map_index")
    return (body["wait"]["target"], *(body["wait"]["task"][name] for name in names))


def a_run(run_id: str | None, pipeline: str | None, run_start: str | None) -> dict[str, Any]:
    """A run as the bridge shows it."""
    url = None if run_id is None else MONITOR + run_id
    shown = {"run_id": run_id, "watched_run_id": None, "pipeline": pipeline}
    return {**shown, "run_start": run_start, "monitor_url": url}


def began(run: dict[str, Any]) -> datetime:
    """When a run began."""
    return datetime.fromisoformat(run["run_start"])
