"""One instance of the bridge: the use cases that run in it, one command at a time, until it dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bridge import decide, service
from bridge.commands import (
    Command,
    CreateRun,
    Effect,
    FindWait,
    Jitter,
    Now,
    Point,
    QueryRuns,
    ReadRun,
    ReadTask,
    Resume,
    SleepUntil,
    UseCase,
    do,
)
from bridge.errors import Problem
from bridge.executor import Executor, World
from bridge.model import FactoryId, Wait
from bridge.policy import Rules
from tests.simulate.airflow import Caller, SimAirflow
from tests.simulate.store import SimStore
from tests.simulate.timeline import Timeline, Violation

TICK: Final = 15.0
REACH: Final = timedelta(seconds=12)
AT_ONCE: Final = 8
SLEEPERS: Final = 4
# Few use cases come by here: a crash is made likelier, so that there are some at every point.
RARE: Final = frozenset({Point.WAIT_WITHDRAWN, Point.WAIT_EXPIRED, Point.FAILURE_READ, Point.START_REFUSED})
RARELY_MORE: Final = 10
PEERS: Final = (CreateRun, ReadRun, QueryRuns, ReadTask, Resume)

Result = Callable[[Any], None]
Failure = Callable[[Exception], None]


@dataclass
class Process:
    """A running use case, and whom to tell how it ended."""

    use_case: UseCase[Any]
    life: int
    on_result: Result
    on_failure: Failure
    caller: Caller
    command: Command[Any] | None = None


def ignore(_: object) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Setting:
    """What the instances of one simulated bridge share, and how often they die."""

    timeline: Timeline
    store: SimStore
    airflow: SimAirflow
    world: World
    rules: Rules
    crashes: float
    stalls: float
    slow: float


class Instance:
    """Runs use cases side by side. `life` tells what began before it died from what began after."""

    def __init__(self, setting: Setting) -> None:
        self._in = setting
        self._timeline = setting.timeline
        self._executor = Executor(setting.world)
        self._sleeping = 0
        self._ticking = 0
        self.life = 0
        self.up = True
        self._timeline.after(self._timeline.random.uniform(0, TICK), self._tick)

    # --- one command at a time ---

    def spawn(self, use_case: UseCase[Any], on_result: Result = ignore, on_failure: Failure = ignore) -> None:
        """Start a use case: its commands come one by one, those of others in between."""
        process = Process(use_case, self.life, on_result, on_failure, Caller())
        self._go_on(process, lambda: next(process.use_case))

    def _go_on(self, process: Process, resume: Callable[[], Command[Any]]) -> None:
        """Take the next command of a use case and plan it; the clock and chance are read at once."""
        try:
            command = resume()
            while isinstance(command, Now | Jitter):
                command = process.use_case.send(self._executor.perform(command))
        except StopIteration as done:
            process.on_result(done.value)
            return
        except Exception as error:  # noqa: BLE001 - what a use case does not handle is its caller's
            process.on_failure(error)
            return
        process.command = command
        if isinstance(command, SleepUntil):
            self._sleep(process, command)
        else:
            self._timeline.after(self._latency(command), lambda: self._perform(process))

    def _latency(self, command: Command[Any]) -> float:
        chance = self._timeline.random.random()
        if self._timeline.chaos and chance < self._in.stalls:
            self._timeline.faults["instance stalled for a minute"] += 1
            return 60 + 5000 * chance
        return chance * (0.6 if isinstance(command, Effect) else 0.02)

    def _perform(self, process: Process) -> None:
        if process.life != self.life:
            return
        command = process.command
        assert command is not None
        if self._timeline.hits("crash before a command", self._in.crashes / 4):
            self._die()
            return
        self._in.airflow.caller = process.caller
        try:
            result = self._executor.perform(command)
        except Violation:
            raise
        except Exception as problem:  # noqa: BLE001 - the use case decides what it handles, as with the executor
            error = problem
            self._go_on(process, lambda: process.use_case.throw(error))
            return
        if isinstance(command, Effect) and self._timeline.hits("crash after an effect", self._deadly(command)):
            self._timeline.points[command.point.value] += 1
            self._die()
            return
        if isinstance(command, PEERS) and self._timeline.hits("peer answered slowly", self._in.slow):
            self._timeline.after(self._timeline.random.uniform(1, 25), lambda: self._hear(process, result))
        else:
            self._hear(process, result)

    def _deadly(self, effect: Effect[Any]) -> float:
        return self._in.crashes * (RARELY_MORE if effect.point in RARE else 1)

    def _hear(self, process: Process, result: object) -> None:
        if process.life == self.life:
            self._go_on(process, lambda: process.use_case.send(result))

    def _sleep(self, process: Process, command: SleepUntil) -> None:
        if self._sleeping >= SLEEPERS:
            self._timeline.after(0, lambda: self._awake(process, slept=False))
            return
        self._sleeping += 1
        self._timeline.at(command.when, lambda: self._awake(process, slept=True))

    def _awake(self, process: Process, *, slept: bool) -> None:
        if process.life != self.life:
            return
        self._sleeping -= slept
        self._go_on(process, lambda: process.use_case.send(slept))

    def _die(self) -> None:
        """Lose everything that runs; come back later."""
        self.life += 1
        self.up = False
        self._sleeping = self._ticking = 0
        self._timeline.after(self._timeline.random.uniform(1, 40), self._come_back)

    def _come_back(self) -> None:
        self.up = True

    # --- the entry points, as `bridge.app` has them ---

    def receive(self, raw: str, acknowledge: Result, refuse: Failure) -> None:
        """Take in a delivery of Event Grid, and deliver at once what it makes due."""
        self.spawn(self._receive(raw), acknowledge, refuse)

    def _receive(self, raw: str) -> UseCase[list[service.Received]]:
        until = self._timeline.now() + self._in.rules.inline
        received = yield from service.receive(raw, self._in.rules)
        for one in received:
            for token in one.due:
                yield from self._deliver_inline(token, until)
        return received

    def _deliver_inline(self, token: str, until: datetime) -> UseCase[None]:
        try:
            wait: Wait | None = yield from do(FindWait(token))
            while wait is not None:
                wait = yield from service.deliver(token, self._in.rules)
                again = decide.again_by(wait, until)
                if again is None or not (yield from do(SleepUntil(again))):
                    return
        except Problem:
            return

    def _tick(self) -> None:
        self._timeline.after(TICK, self._tick)
        if not self.up or self._ticking > 0:
            return
        for factory in self._in.rules.factories.values():
            self._work(self._sweep(factory))
        for target in sorted(self._in.rules.targets):
            self._tick_target(target)

    def _work(self, use_case: UseCase[Any]) -> None:
        self._ticking += 1
        self.spawn(use_case, self._worked, self._worked)

    def _worked(self, _: object) -> None:
        self._ticking -= 1

    def _sweep(self, factory: FactoryId) -> UseCase[None]:
        swept = yield from service.sweep(factory, self._in.rules)
        until = self._timeline.now()
        for token in swept.due:
            yield from self._deliver_inline(token, until)

    def _tick_target(self, target: str) -> None:
        now = self._timeline.now()
        breaker = self._in.store.breakers()
        state = next((one for one in breaker if one.name == service.target_breaker(target)), None)
        coming = self._in.store.due(target, before=now + REACH, limit=AT_ONCE * 4)
        due = [one for one in coming if one.due_at <= now]
        chosen = decide.to_attend(due, state, now) if state is not None else due
        for one in chosen[:AT_ONCE]:
            self._work(service.attend(one.token, self._in.rules))
        for one in coming[:AT_ONCE]:
            if one.due_at > now:
                self._timeline.at(one.due_at, self._later(one.token))

    def _later(self, token: str) -> Callable[[], None]:
        life = self.life

        def attend() -> None:
            if life == self.life and self.up:
                self.spawn(service.attend(token, self._in.rules))

        return attend
