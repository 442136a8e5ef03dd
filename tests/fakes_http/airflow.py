"""Airflow 3.3's REST API over real HTTP, as far as the bridge uses it: bodies, statuses and words as the real one's.

A test parks, clears, marks and answers tasks, takes the user's role or password away, and plans what goes wrong. Every
request is kept.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from aiohttp import web

from tests.fakes_http.airflow_task import AirflowTask

USER = "adf-bridge"
_API = "/api/v2"
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Seen:
    """A request that arrived: the path as it was sent, and decoded; `at` is monotonic seconds."""

    method: str
    raw_path: str
    headers: Mapping[str, str]
    body: Any
    at: float

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(self.raw_path.partition("?")[0])


@dataclass
class Trouble:
    """What happens to the next `times` requests with this method and this text in the decoded path.

    `meanwhile` is done first. Then the request takes effect, if `applied`, and is answered by `status` (or as usual,
    without one), or the connection is cut; not before `until` is set, if there is one. A body in bytes is a page, as a
    proxy has it.
    """

    method: str
    path: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    applied: bool = False
    cut: bool = False
    times: int = 1
    meanwhile: Callable[[], None] | None = None
    until: threading.Event | None = None


_NO_TROUBLE = Trouble("", "")


class _Answer(Exception):  # noqa: N818 - it ends the handling of a request, whatever it says
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class FakeAirflow:
    """One deployment. `role` is `user`, who may answer tasks, or `viewer`, who may look.

    `on_arrival` is called with each request before it takes effect, `on_effect` with it and its status after that,
    while its answer is still withheld. `given_up` counts the callers that went before they were answered.
    """

    def __init__(self, name: str, password: str) -> None:
        self.name = name
        self.password = password
        self.role = "user"
        self.url = ""
        self.requests: list[Seen] = []
        self.given_up = 0
        self.tokens: set[str] = set()
        self.lock = threading.RLock()
        self.on_arrival: Callable[[Seen], None] = lambda _: None
        self.on_effect: Callable[[Seen, int], None] = lambda _, __: None
        self._tasks: dict[tuple[str, str, str, int], AirflowTask] = {}
        self._troubles: list[Trouble] = []
        self._numbers = count(1)

    def task(self, **names: Any) -> AirflowTask:
        """Make a task instance: running, in its first try."""
        task = AirflowTask(**names)
        self._tasks[task.key] = task
        return task

    def trouble(self, method: str, path: str, **what: Any) -> None:
        """Plan what happens to requests to come."""
        self._troubles.append(Trouble(method, path, **what))

    @property
    def untroubled(self) -> bool:
        """Whether nothing has been planned, and the user may do what a user may."""
        return not self._troubles and self.role == "user"

    def forget(self) -> None:
        """Forget all tasks and requests; who has signed in stays signed in."""
        self.requests.clear()
        self._tasks.clear()

    def recover(self) -> None:
        """Do nothing wrong any more."""
        for trouble in self._troubles:
            trouble.times = 0

    def expire_tokens(self) -> None:
        """Let every token that was given out run out."""
        self.tokens.clear()

    def seen(self, method: str, path: str = "") -> list[Seen]:
        """The requests with this method and this text in the decoded path, in order."""
        return [one for one in self.requests if one.method == method and path in one.path]

    @property
    def looks(self) -> list[Seen]:
        """Every read of a task."""
        return self.seen("GET", "/taskInstances/")

    @property
    def patches(self) -> list[Seen]:
        """Every attempt to change anything."""
        return self.seen("PATCH")

    @property
    def sign_ins(self) -> list[Seen]:
        """Every attempt to sign in."""
        return self.seen("POST", "/auth/token")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.method, request.raw_path, headers, json.loads(raw) if raw else None, time.monotonic())
        self.on_arrival(seen)
        with self.lock:
            self.requests.append(seen)
            trouble = self._next_trouble(seen) or _NO_TROUBLE
            if trouble.meanwhile is not None:
                trouble.meanwhile()
            usual = self._answer(seen) if trouble.applied or (trouble.status is None and not trouble.cut) else None
        if usual is not None:
            self.on_effect(seen, usual[0])
        if trouble.until is not None:
            await self._withhold(request, trouble.until)
        if trouble.cut and request.transport is not None:
            request.transport.abort()
        if trouble.status is not None:
            return _json(trouble.status, trouble.body, trouble.headers)
        return _json(*(usual or (500, None)))

    async def _withhold(self, request: web.BaseRequest, until: threading.Event) -> None:
        """Keep a caller waiting, until it goes at the longest."""
        while not until.is_set():
            if request.transport is None:
                self.given_up += 1
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _next_trouble(self, seen: Seen) -> Trouble | None:
        for trouble in self._troubles:
            if trouble.method == seen.method and trouble.path in seen.path and trouble.times > 0:
                trouble.times -= 1
                return trouble
        return None

    def _answer(self, seen: Seen) -> tuple[int, Any]:
        try:
            return self._route(seen)
        except _Answer as answer:
            return answer.status, answer.body

    def _route(self, seen: Seen) -> tuple[int, Any]:
        if seen.path == "/auth/token" and seen.method == "POST":
            return self._sign_in(seen.body)
        if seen.path == f"{_API}/version":
            return 200, {"version": "3.3.2", "git_version": None}
        match seen.method, seen.path.removeprefix(_API).split("/")[1:]:
            case "GET", ["dags", "~", "dagRuns", "~", "hitlDetails"]:
                self._authenticate(seen)
                return 200, self._list_asked(parse_qs(urlsplit(seen.raw_path).query))
            case "GET", ["dags", dag, "dagRuns", run, "taskInstances", name, index]:
                self._authenticate(seen)
                return 200, self._find(dag, run, name, index, "Mapped Task Instance").to_json()
            case "GET", ["dags", dag, "dagRuns", run, "taskInstances", name, index, "hitlDetails"]:
                self._authenticate(seen)
                return 200, self._asked(dag, run, name, index).details()
            case "PATCH", ["dags", dag, "dagRuns", run, "taskInstances", name, index, "hitlDetails"]:
                self._authenticate(seen, needs="user")
                return self._take_answer(seen.body, dag, run, name, index)
            case "PATCH", _:
                return 405, {"detail": "Method Not Allowed"}
            case _:
                return 404, {"error": "API route not found"}

    def _sign_in(self, body: Any) -> tuple[int, Any]:
        if not isinstance(body, dict) or not {"username", "password"} <= set(body):
            return 422, {"detail": [{"type": "missing", "loc": ["body", "password"], "msg": "Field required"}]}
        if (body["username"], body["password"]) != (USER, self.password):
            return 401, {"detail": "Invalid credentials"}
        token = f"jwt.{self.name}.canary-{next(self._numbers)}"
        self.tokens.add(token)
        return 201, {"access_token": token}

    def _authenticate(self, seen: Seen, *, needs: str = "viewer") -> None:
        """Check who calls before what is called for: so a permission can be tried on a task that does not exist."""
        scheme, _, token = seen.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise _Answer(401, {"detail": "Not authenticated"})
        if token not in self.tokens:
            raise _Answer(403, {"detail": "Invalid JWT token"})
        if needs == "user" and self.role != "user":
            raise _Answer(403, {"detail": "Forbidden"})

    def _find(self, dag: str, run: str, name: str, index: str, kind: str) -> AirflowTask:
        if not index.removeprefix("-").isdigit():
            raise _Answer(422, {"detail": [{"type": "int_parsing", "loc": ["path", "map_index"]}]})
        task = self._tasks.get((dag, run, name, int(index)))
        if task is None:
            words = f"The {kind} with dag_id: `{dag}`, run_id: `{run}`, task_id: `{name}`"
            comma = "," if kind == "Mapped Task Instance" else ""
            raise _Answer(404, {"detail": f"{words}{comma} and map_index: `{index}` was not found"})
        return task

    def _list_asked(self, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """A page of what was asked for, of tasks in the states that are wanted."""
        wanted = query.get("state")
        asked = [task for task in self._tasks.values() if task.question and (not wanted or task.state in wanted)]
        limit, offset = (int(query.get(name, [usual])[0]) for name, usual in (("limit", "50"), ("offset", "0")))
        page = sorted(asked, key=lambda task: task.id)[offset : offset + min(limit, 100)]
        return {"hitl_details": [task.details() for task in page], "total_entries": len(asked)}

    def _asked(self, dag: str, run: str, name: str, index: str) -> AirflowTask:
        task = self._find(dag, run, name, index, "Task Instance")
        if task.question is None:
            detail = f"Human-in-the-loop detail does not exist for Task Instance with id {task.id}"
            raise _Answer(404, {"detail": detail})
        return task

    def _take_answer(self, body: Any, dag: str, run: str, name: str, index: str) -> tuple[int, Any]:
        chosen = body.get("chosen_options") if isinstance(body, dict) else None
        if not isinstance(chosen, list) or not chosen:
            return 422, {"detail": [{"type": "too_short", "loc": ["body", "chosen_options"]}]}
        task = self._asked(dag, run, name, index)
        assert task.question is not None
        if task.question.answered:
            detail = (
                f"Human-in-the-loop detail has already been updated for Task Instance with id {task.id} "
                "and is not allowed to write again."
            )
            return 409, {"detail": detail}
        wrong = [option for option in chosen if option not in task.question.options]
        if wrong:
            return 400, {"detail": f"Invalid options {wrong}; allowed options are {sorted(task.question.options)}."}
        task.answer(chosen, by=USER, params=body.get("params_input") or {})
        details = task.details()
        return 200, {
            "responded_by": details["responded_by_user"],
            "responded_at": details["responded_at"],
            "chosen_options": chosen,
            "params_input": details["params_input"],
        }


def _json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    if isinstance(body, bytes):
        return web.Response(status=status, body=body, content_type="text/html", headers=headers)
    return web.json_response(body, status=status, headers=headers)


@contextmanager
def running_airflows(names: Sequence[str]) -> Iterator[dict[str, FakeAirflow]]:
    """One deployment per name, each at its own address on the loopback, served by one thread."""
    airflows = {name: FakeAirflow(name, password=f"canary-password-of-{name}") for name in names}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="airflow")
    thread.start()
    try:
        runners = asyncio.run_coroutine_threadsafe(_serve(list(airflows.values())), loop).result(timeout=20)
        try:
            yield airflows
        finally:
            asyncio.run_coroutine_threadsafe(_stop(runners), loop).result(timeout=20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(airflows: Sequence[FakeAirflow]) -> list[web.ServerRunner]:
    runners = []
    for airflow in airflows:
        # A server without a router: aiohttp's has no route for a path with a line break in it.
        runner = web.ServerRunner(web.Server(airflow.handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        airflow.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
    return runners


async def _stop(runners: Sequence[web.ServerRunner]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))
