"""Threads of one process: a target that does not answer holds few of them, and none that others need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pytest

from bridge import service
from bridge.app import App
from bridge.executor import Executor, Sleepers, World
from bridge.model import RunKey, RunStatus, TaskRef, WaitState
from bridge.ports import Refusal, TaskView
from bridge.telemetry import Log
from tests.fakes.airflow import FakeAirflow
from tests.fakes.bench import Bench
from tests.fakes.clock import ScriptedRandom, VirtualClock
from tests.fakes.samples import FACTORY, MINUTE, a_task, event_json

THREADS: Final = 8
PATIENCE_SECONDS: Final = 20
MOMENT_SECONDS: Final = 0.2  # in which one call too many would have come


class SilentAirflow(FakeAirflow):
    """An Airflow one of whose targets does not answer until it is told to; it counts the calls that it holds."""

    def __init__(self, clock: VirtualClock, silent: str) -> None:
        super().__init__(clock)
        self._silent = silent
        self.answers = threading.Event()
        self.held = threading.Semaphore(0)
        self.most = self._holding = 0
        self._counting = threading.Lock()

    def read_task(self, task: TaskRef) -> TaskView | Refusal:
        """Read a task instance, or wait until it may be read."""
        if task.target == self._silent:
            with self._counting:
                self._holding += 1
                self.most = max(self.most, self._holding)
            self.held.release()
            assert self.answers.wait(PATIENCE_SECONDS)
            with self._counting:
                self._holding -= 1
        return super().read_task(task)


class Stage:
    """A bridge of many threads, with parked tasks of two targets. The first, `dev`, does not answer."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.airflow = self.bench.airflow = SilentAirflow(self.bench.clock, "dev")
        world = World(self.bench.clock, ScriptedRandom(), self.bench.store, self.bench.adf, self.airflow)
        executor = Executor(world, sleepers=Sleepers(THREADS))
        self.app = App(self.bench.config, world, executor, Log(), threads=THREADS)
        self.pool = ThreadPoolExecutor(2 * THREADS)

    def waits(self, target: str, number: int) -> TaskRef:
        """Have a task that has been parked for long wait for a run that has just ended."""
        task = a_task(target=target, map_index=number, task_instance_id=f"{target}-{number}")
        self.bench.adf.begin(self.key(task))
        self.airflow.run(task)
        self.bench.register(task, self.key(task))
        self.airflow.park(task)
        return task

    def key(self, task: TaskRef) -> RunKey:
        """Return the run that a task waits for."""
        return RunKey(FACTORY, f"{task.target}-{task.map_index}")

    def receives(self, task: TaskRef) -> Future[list[service.Received]]:
        """Have the event of a task's run arrive, in a thread of its own."""
        return self.pool.submit(self.app.receive, event_json(self.key(task), "Succeeded"))

    def state(self, task: TaskRef) -> WaitState:
        """Return where a task's wait stands."""
        return self.bench.wait(task).state


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A bridge of many threads; at the end all of them are let go."""
    stage = Stage()
    yield stage
    stage.airflow.answers.set()
    stage.pool.shutdown()


def ends(stage: Stage, *tasks: TaskRef) -> None:
    """Have the runs of tasks end, a minute after they have parked."""
    stage.bench.clock.advance(MINUTE)
    for task in tasks:
        stage.bench.adf.end(stage.key(task), RunStatus.SUCCEEDED)


def until(condition: Callable[[], bool]) -> bool:
    """Wait until something holds; return whether it came to that."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < give_up_at:
        threading.Event().wait(0.005)
    return condition()


def test_events_of_a_silent_target(stage: Stage) -> None:
    """S42: a target that does not answer holds a quarter of the threads; its other events are left to the timer."""
    silent, other = [stage.waits("dev", number) for number in range(5)], stage.waits("prod", 0)
    ends(stage, *silent, other)
    held = [stage.receives(task) for task in silent[:2]]
    assert all(stage.airflow.held.acquire(timeout=PATIENCE_SECONDS) for _ in held)
    for task in silent[2:]:
        stage.receives(task).result(PATIENCE_SECONDS)  # it is acknowledged, and calls nobody
    stage.receives(other).result(PATIENCE_SECONDS)
    assert ([WaitState.DUE] * 5, WaitState.DELIVERED, 2) == (
        [stage.state(task) for task in silent],
        stage.state(other),
        stage.airflow.most,
    )
    assert [False, False] == [one.done() for one in held]


def test_the_timer_and_a_silent_target(stage: Stage) -> None:
    """S42: the timer attends to four tasks of a target at once, and to other targets meanwhile."""
    silent, other = [stage.waits("dev", number) for number in range(10)], stage.waits("prod", 0)
    ends(stage, *silent, other)
    for task in (*silent, other):
        stage.app.run(service.check_run(stage.key(task), stage.app.rules))
    ticking = stage.pool.submit(stage.app.tick)
    assert all(stage.airflow.held.acquire(timeout=PATIENCE_SECONDS) for _ in range(4))
    assert not stage.airflow.held.acquire(timeout=MOMENT_SECONDS)
    assert until(lambda: stage.state(other) is WaitState.DELIVERED)
    assert ([WaitState.DUE] * 10, 4) == ([stage.state(task) for task in silent], stage.airflow.most)
    stage.airflow.answers.set()
    ticking.result(PATIENCE_SECONDS)
    assert ([WaitState.DELIVERED] * 10, 4) == ([stage.state(task) for task in silent], stage.airflow.most)
