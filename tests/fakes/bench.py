"""The whole bridge on fakes: the real use cases, executor, app and HTTP API, with nothing real around them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from inspect import isgenerator
from pathlib import PurePath
from types import CodeType
from typing import Any, Final, TypeVar

from bridge import config, decide, http_api, service
from bridge.app import App, Ticked
from bridge.callers import Tokens
from bridge.commands import Command, Effect, Point, UseCase, do
from bridge.executor import Executor, Sleepers, World
from bridge.http_api import Request, Response
from bridge.model import RunKey, RunStatus, TaskRef, Verdict, Wait, WaitRequest
from bridge.ports import Store
from bridge.telemetry import Log
from tests.fakes.adf import FakeAdf
from tests.fakes.airflow import FakeAirflow
from tests.fakes.clock import ScriptedRandom, VirtualClock
from tests.fakes.completions import FakeCompletions
from tests.fakes.samples import ARM_ID, KEY, OTHER_ARM_ID, TASK, a_request, a_trigger, event_json
from tests.fakes.store import FaultyStore, MemoryStore

ENVIRONMENT: Final = {
    "BRIDGE_FACTORIES": f"demo={ARM_ID}; other={OTHER_ARM_ID}",
    "BRIDGE_STORE": "sqlite:///unused.db",
    "BRIDGE_AIRFLOW__PROD__URL": "https://airflow.example.com",
    "BRIDGE_AIRFLOW__PROD__USERNAME": "bridge",
    "BRIDGE_AIRFLOW__PROD__PASSWORD": "canary-password",
    "BRIDGE_AIRFLOW__DEV__URL": "https://dev.example.com",
    "BRIDGE_AIRFLOW__DEV__AUTH": "bearer",
    "BRIDGE_AIRFLOW__DEV__TOKEN": "canary-token",
}
# What a test adds that has tasks in mode queue: the target `edge`, whose Airflow the bridge cannot reach.
EDGE: Final = {
    "BRIDGE_AIRFLOW__EDGE__QUEUE": "completions",
    "BRIDGE_SERVICEBUS__fullyQualifiedNamespace": "bus.servicebus.windows.net",
}
TICK: Final = timedelta(seconds=15)

R = TypeVar("R")
# Opens the store anew, as a new process does; it tells the first of the two when it has got to one of its own points.
OpenStore = Callable[[Callable[[str], None], Callable[[], datetime]], Store]


class Crash(BaseException):
    """The process died. No `except Exception` sees it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process can die: after an effect of the use case that is under way, or inside the store's part in it.

    `path` are the functions of the use case (`module.name`), the outermost first; at `line` the last one is.
    """

    path: tuple[str, ...]
    line: int
    point: Point | None
    within: str = ""

    def __str__(self) -> str:
        """Say it in a line."""
        where = " > ".join(self.path) or "upkeep"
        return f"{where}:{self.line} {self.point or ''} {self.within}".rstrip()


class _MortalStore(FaultyStore):
    """A store that a process that has died reaches no more. `repaired` counts the rows that had to be written anew."""

    def __init__(self, inner: Store, is_dead: Callable[[], bool]) -> None:
        super().__init__(inner)
        self._is_dead = is_dead
        self.repaired = 0

    def repair(self, *, limit: int = 1_000) -> int:
        """See the store around which this is."""
        rows = super().repair(limit=limit)
        self.repaired += rows
        return rows

    def _reach(self, call: str) -> Store:
        if self._is_dead():
            raise Crash(call)
        return super()._reach(call)


class _MortalExecutor(Executor):
    """An executor that says what it is about to do, and does nothing once its process has died."""

    def __init__(self, bench: Bench, world: World, log: Log) -> None:
        super().__init__(world, sleepers=Sleepers(4), reach=bench.reached, tell=log.story)
        self._bench = bench

    def run(self, use_case: UseCase[R]) -> R:
        """Run a use case."""
        with self._bench.under_way(use_case):
            return super().run(use_case)

    def perform(self, command: Command[Any]) -> object:
        """Perform a command."""
        self._bench.begins(command)
        return super().perform(command)


class Bench:
    """A bridge to try things on. `settings` are added to those that every test has; an empty one takes it away.

    With `stores`, each process opens the store anew.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        stores: OpenStore | None = None,
        tokens: Tokens | None = None,
        **settings: str,
    ) -> None:
        self.clock = VirtualClock()
        self.places: list[Place] = []
        self._crash_at: int | None = None
        self._dead = False
        self._doing = threading.local()
        self._stores = stores
        self._tokens = tokens
        self.store = _MortalStore(store or self._open_store(), lambda: self._dead)
        self.adf = FakeAdf(self.clock)
        self.airflow = FakeAirflow(self.clock)
        self.completions = FakeCompletions()
        environment = {**ENVIRONMENT, **settings}
        self.config = config.load({name: value for name, value in environment.items() if value})
        self.app = self._new_app()

    # --- the process ---

    def _open_store(self) -> Store:
        return self._stores(self.reached_within, self.clock.now) if self._stores is not None else MemoryStore()

    def _new_app(self) -> App:
        world = World(self.clock, ScriptedRandom(), self.store, self.adf, self.airflow, self.completions)
        log = Log(self.config.secrets())
        # One thread: one thing happens after the other, so that a crash can be put anywhere.
        self.executor = _MortalExecutor(self, world, log)
        return App(self.config, world, self.executor, log, threads=1, tokens=self._tokens)

    @contextmanager
    def under_way(self, use_case: UseCase[Any]) -> Iterator[None]:
        """Know which use case a thread runs."""
        outer, self._doing.use_case = getattr(self._doing, "use_case", None), use_case
        try:
            yield
        finally:
            self._doing.use_case = outer

    def begins(self, command: Command[Any]) -> None:
        """Know what a thread is about to do; a process that has died does nothing."""
        if self._dead:
            raise Crash(command)
        self._doing.point = command.point if isinstance(command, Effect) else None

    def reached(self, point: Point) -> None:
        """An effect is done."""
        self._pass(point, "")

    def reached_within(self, point: str) -> None:
        """The store has got to a point of its own."""
        self._pass(getattr(self._doing, "point", None), point)

    def _pass(self, point: Point | None, within: str) -> None:
        path, line = _path(getattr(self._doing, "use_case", None))
        self.places.append(Place(path, line, point if path else None, within))
        if self._crash_at is not None and len(self.places) > self._crash_at:
            self._crash_at, self._dead = None, True
            raise Crash(self.places[-1])

    def crash_at(self, nth: int) -> None:
        """Have the process die at the nth place that it comes to from now on (0: the next)."""
        self._crash_at = len(self.places) + nth

    def another(self) -> App:
        """Return another instance of the bridge on the same store."""
        return self._new_app()

    def restart(self) -> None:
        """Start a new process on the same store."""
        self._crash_at, self._dead = None, False
        if self._stores is not None:
            self.store.inner = self._open_store()
        self.app = self._new_app()

    def surviving(self, act: Callable[[], object]) -> bool:
        """Do something in which the process may die; return whether it lived."""
        try:
            act()
        except Crash:
            self.restart()
            return False
        return True

    # --- the entry points ---

    def start(self, task: TaskRef | None = TASK, **changes: Any) -> dict[str, Any]:
        """Start a run, with a wait for it; return the answer."""
        answer = self.app.run(service.start_run(a_trigger(task, **changes), self.app.rules))
        document: dict[str, Any] = json.loads(answer.document)
        return document

    def register(self, task: TaskRef = TASK, key: RunKey = KEY, **changes: Any) -> service.Registered:
        """Register a wait for a run that exists."""
        request: WaitRequest = a_request(task, **changes)
        return self.app.run(service.register_wait(key, request, self.app.rules))

    def event(self, status: str = "Succeeded", key: RunKey = KEY, **changes: Any) -> Verdict:
        """Have an event arrive; return what became of it."""
        (received,) = self.app.receive(event_json(key, status, **changes))
        return received.record.verdict

    def tick(self) -> Ticked:
        """Have the timer fire."""
        return self.app.tick()

    def pass_time(self, duration: timedelta) -> None:
        """Let time pass, with the timer firing as it does (a tick that finds nothing due is passed over)."""
        end = self.clock.now() + duration
        while self.clock.now() < end:
            self.clock.advance(TICK)
            if self._anything_to_do():
                self.tick()

    def _anything_to_do(self) -> bool:
        now, store = self.clock.now(), self.store.inner
        due = any(store.due(name, before=now, limit=1) for name in self.app.rules.targets)
        waited_for = [one for one in self.app.rules.factories.values() if store.open_waits(one, limit=1)]
        unfinished = store.unfinished_requests(before=now, limit=1)
        return due or bool(unfinished) or any(decide.is_sweep_due(store.sweep(one), now) for one in waited_for)

    def call(self, call: Callable[[App, Request], Response], **parts: Any) -> Response:
        """Make a call of the HTTP API."""
        if isinstance(parts.get("body"), dict):
            parts["body"] = json.dumps(parts["body"]).encode()
        return http_api.answer(call, lambda: self.app, Request(**parts))

    # --- what came of it ---

    def wait(self, task: TaskRef = TASK) -> Wait:
        """Return the row of a task's wait."""
        wait = self.store.inner.find_wait(task.token)
        assert wait is not None
        return wait

    def due_at(self, task: TaskRef = TASK) -> datetime:
        """Return when the bridge looks at a task's wait again."""
        due_at = self.wait(task).due_at
        assert due_at is not None
        return due_at


def ended_unnoticed() -> Bench:
    """Return a bridge with a task that has been parked for long, whose run has ended unnoticed so far."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(timedelta(hours=1))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    return bench


@cache
def _name(code: CodeType) -> str:
    return f"{PurePath(code.co_filename).stem}.{code.co_name}"


def _path(use_case: object) -> tuple[tuple[str, ...], int]:
    """Return the functions that a use case is in, the outermost first, and the line that the last of them is at."""
    frames = []
    while isgenerator(use_case):
        if use_case.gi_frame is not None and use_case.gi_code is not do.__code__:
            frames.append((_name(use_case.gi_code), use_case.gi_frame.f_lineno))
        use_case = use_case.gi_yieldfrom
    return tuple(name for name, _ in frames), frames[-1][1] if frames else 0
