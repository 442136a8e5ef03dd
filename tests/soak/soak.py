"""A soak from its first run to its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event, Lock, Thread
from typing import Any

import requests

from bridge.model import Wait
from bridge.ports import WaitFilter
from tests.soak.kills import Kill, Killer
from tests.soak.plan import Plan
from tests.soak.scene import TARGET, Scene
from tests.soak.tasks import SoakTask
from tests.soak.verdict import Account, Verdict, judge
from tests.soak.witness import Witness

_PROGRESS_SECONDS = 10
_TICK_SECONDS = 1
_LOOK_SECONDS = 0.25
_SETTLED_WITHIN = timedelta(minutes=3)
_LIVE_AT_MOST = 1_000
_PAGE = 500
_AIMS = 3  # at a moment that the store did not bear out


@dataclass(frozen=True)
class Soaked:
    """What a soak came to.

    `crashes` are the exit codes of hosts that ended without a kill, `deliveries` Event Grid's attempts, `waits` the
    bridge's own record (for the numbers, not for the verdict), `unsettled` how many waits the bridge still had to
    attend to when it had been given time.
    """

    plan: Plan
    verdict: Verdict
    tasks: tuple[SoakTask, ...]
    kills: tuple[Kill, ...]
    crashes: tuple[int, ...]
    answers_refused: int
    runs: tuple[dict[str, Any], ...]
    deliveries: tuple[dict[str, Any], ...]
    waits: tuple[Wait, ...]
    unsettled: int
    seconds: float

    @property
    def precise_kills(self) -> int:
        """How many kills struck between the store's write and Airflow's answer."""
        return sum(kill.moment.is_precise for kill in self.kills)

    @property
    def broken_promises(self) -> dict[str, int]:
        """How often each promise was broken, those about the soak itself included. All well: nothing but zeros."""
        plan, verdict = self.plan, self.verdict
        missing = plan.kills - len(self.kills), plan.precise_kills - self.precise_kills
        codes = f" (exit codes {', '.join(map(str, self.crashes))})" if self.crashes else ""
        return {
            "duplicates": verdict.count("duplicate"),
            "lost": verdict.count("lost"),
            "told a wrong status or run": verdict.count("wrong"),
            "answered for another task": verdict.count("foreign"),
            "told that nobody knows of a run that there is": verdict.count("not found"),
            "told too often that nobody knows": max(0, len(verdict.unknown) - plan.unknown_at_most),
            "waits that the bridge did not close": self.unsettled,
            f"hosts that ended without a kill{codes}": len(self.crashes),
            "processes that survived a kill": sum(kill.survived for kill in self.kills),
            "planned kills that did not come about": max(0, *missing),
        }

    @property
    def is_well(self) -> bool:
        """Whether every promise was kept under as many kills as were planned."""
        return not any(self.broken_promises.values())


class _Pace:
    """Lets tasks start one after the other, so many a second."""

    def __init__(self, starts_per_second: float) -> None:
        self._between = 1 / starts_per_second
        self._next = time.monotonic()
        self._lock = Lock()
        self.started = 0

    def wait(self, stop: Event) -> None:
        with self._lock:
            at = self._next = max(self._next + self._between, time.monotonic())
        stop.wait(max(0.0, at - time.monotonic()))
        with self._lock:
            self.started += 1


class Soak:
    """One soak. Run it in the thread that started the scene; `tell` is given lines about its progress."""

    def __init__(self, plan: Plan, scene: Scene, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._scene = scene
        self._tell = tell
        self._stop, self._end = Event(), Event()
        self._tasks = [SoakTask(planned, scene.airflow, self._stop) for planned in plan.planned_runs()]
        self._witness = Witness(scene.airflow, self._tasks)
        self._pace = _Pace(plan.starts_per_second)
        self._killer = Killer(plan, scene, self._witness)
        self._kills: list[Kill] = []
        self._lives: list[Future[None]] = []
        self._began = self._moved_at = time.monotonic()
        self._finished = 0

    def run(self) -> Soaked:
        """Let the runs pass, kill the host meanwhile, wait until the bridge is at rest, and judge."""
        with ExitStack() as stack:
            stack.enter_context(self._beside(_PROGRESS_SECONDS, self._tell_progress))
            if self._plan.hurry:
                stack.enter_context(self._beside(_TICK_SECONDS, self._tick))
            with ThreadPoolExecutor(self._plan.at_once, thread_name_prefix="task") as pool:
                try:
                    self._lives = [pool.submit(self._live, task) for task in self._tasks]
                    self._kill_as_planned()
                    while not self._is_over():
                        self._end.wait(_LOOK_SECONDS)
                finally:
                    self._stop.set()
            unsettled = self._rest()
        for life in self._lives:
            life.result()
        return self._take_stock(unsettled)

    def _live(self, task: SoakTask) -> None:
        self._pace.wait(self._stop)
        task.run(self._scene)

    def _kill_as_planned(self) -> None:
        for planned in self._plan.schedule():
            while self._pace.started < planned.after_starts and not self._is_over():
                self._end.wait(_LOOK_SECONDS)
            for _ in range(0 if self._is_over() else _AIMS):
                kill = self._killer.perform(planned.moment, self._is_over)
                if kill is not None:
                    self._kills.append(kill)
                    self._tell(_sentence(len(self._kills), kill))
                if kill is None or kill.moment is planned.moment:
                    break

    def _is_over(self) -> bool:
        """Whether every task has ended, or nothing has happened for too long."""
        self._killer.look_after_host()
        finished = sum(life.done() for life in self._lives)
        if finished != self._finished:
            self._finished, self._moved_at = finished, time.monotonic()
        idle = time.monotonic() - self._moved_at
        return finished == len(self._tasks) or idle > self._plan.patience.total_seconds()

    def _rest(self) -> int:
        """Give the bridge time to attend to what is left; return how many waits are left then."""
        deadline = time.monotonic() + _SETTLED_WITHIN.total_seconds()
        while True:
            self._killer.look_after_host()
            far = datetime.now(UTC) + timedelta(days=1)
            left = len(self._scene.store.due(TARGET, before=far, limit=_LIVE_AT_MOST))
            subscriptions = self._scene.event_grid.get("subscriptions")["subscriptions"]
            pending = sum(one["pending"] for one in subscriptions)
            if (not left and not pending) or time.monotonic() >= deadline:
                return left
            self._end.wait(_LOOK_SECONDS)

    def _take_stock(self, unsettled: int) -> Soaked:
        runs = self._scene.adf.get("runs")["runs"]
        by_token: dict[str, dict[str, str]] = {}
        wrapped = self._scene.wrapped()
        for run in runs:
            if (started := wrapped.get(run["runId"])) is not None:
                by_token.setdefault(run["parameters"]["token"], {})[started] = run["status"]
        accounts = [
            Account(
                token=task.token,
                tellings=task.tellings,
                taken=self._witness.taken[task.token],
                refusal=task.refusal,
                runs=by_token.get(task.token, {}),
            )
            for task in self._tasks
        ]
        return Soaked(
            plan=self._plan,
            verdict=judge(accounts),
            tasks=tuple(self._tasks),
            kills=tuple(self._kills),
            crashes=tuple(self._killer.crashes),
            answers_refused=self._witness.refused.total(),
            runs=tuple(runs),
            deliveries=tuple(self._scene.event_grid.get("deliveries")["deliveries"]),
            waits=tuple(self._waits()),
            unsettled=unsettled,
            seconds=time.monotonic() - self._began,
        )

    def _waits(self) -> Iterator[Wait]:
        cursor: str | None = None
        while True:
            page, cursor = self._scene.store.waits(WaitFilter(), limit=_PAGE, cursor=cursor)
            yield from page
            if cursor is None:
                return

    @contextmanager
    def _beside(self, every_seconds: float, work: Callable[[], None]) -> Iterator[None]:
        """Do something again and again in a thread, until the soak has ended."""

        def repeat() -> None:
            while not self._end.wait(every_seconds):
                work()

        thread = Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _tick(self) -> None:
        with suppress(requests.RequestException):  # there is no host right now
            self._scene.tick()

    def _tell_progress(self) -> None:
        started, finished = self._pace.started, sum(life.done() for life in self._lives)
        precise = sum(kill.moment.is_precise for kill in self._kills)
        self._tell(
            f"{time.monotonic() - self._began:5.0f} s  {finished} of {self._plan.runs} tasks done, "
            f"{started - finished} under way; {len(self._kills)} of {self._plan.kills} kills, {precise} precise"
        )


def _sentence(number: int, kill: Kill) -> str:
    store = f" (in the store: {kill.found})" if kill.found else ""
    return f"kill {number} at {kill.at:%H:%M:%S} {kill.moment}{store}, down for {kill.down_seconds:.1f} s"
