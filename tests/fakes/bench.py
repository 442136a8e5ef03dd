"""The whole bridge on fakes: the real use cases, executor, app and HTTP API, with nothing real around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from bridge import config, decide, http_api, service
from bridge.app import App, Ticked
from bridge.commands import Point
from bridge.executor import Executor, Sleepers, World
from bridge.http_api import Request, Response
from bridge.model import RunKey, TaskRef, Verdict, Wait, WaitRequest
from bridge.ports import Store
from bridge.telemetry import Log
from tests.fakes.adf import FakeAdf
from tests.fakes.airflow import FakeAirflow
from tests.fakes.clock import ScriptedRandom, VirtualClock
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
TICK: Final = timedelta(seconds=15)


class Crash(BaseException):
    """The process died. No `except Exception` sees it."""


class Bench:
    """A bridge to try things on. `settings` are added to those that every test has."""

    def __init__(self, store: Store | None = None, **settings: str) -> None:
        self.clock = VirtualClock()
        self.store = FaultyStore(store if store is not None else MemoryStore())
        self.adf = FakeAdf(self.clock)
        self.airflow = FakeAirflow(self.clock)
        self.config = config.load({**ENVIRONMENT, **settings})
        self.points: list[Point] = []
        self._crash_at: int | None = None
        self.app = self._new_app()

    # --- the process ---

    def _new_app(self) -> App:
        world = World(self.clock, ScriptedRandom(), self.store, self.adf, self.airflow)
        log = Log(self.config.secrets())
        executor = Executor(world, sleepers=Sleepers(4), reach=self._reach, tell=log.story)
        # One thread: one thing happens after the other, so that a crash can be put anywhere.
        return App(self.config, world, executor, log, threads=1)

    def _reach(self, point: Point) -> None:
        self.points.append(point)
        if self._crash_at is not None and len(self.points) > self._crash_at:
            self._crash_at = None
            raise Crash(point)

    def crash_at(self, nth: int) -> None:
        """Have the process die right after its nth effect from now on (0: the next)."""
        self._crash_at = len(self.points) + nth

    def another(self) -> App:
        """Return another instance of the bridge on the same store."""
        return self._new_app()

    def restart(self) -> None:
        """Start a new process on the same store."""
        self._crash_at = None
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
        return due or any(decide.is_sweep_due(store.sweep(one), now) for one in waited_for)

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
