"""One instance of the bridge: the use cases that run in it, one command at a time, until it dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from bridge import decide, service
from bridge.adapters import table_index as index
from bridge.app import FINISH_AT_ONCE, FINISH_EVERY, REPAIR_EVERY, REPAIR_ROWS
from bridge.commands import (
    CancelRun,
    Command,
    CreateRun,
    Effect,
    FindChild,
    FindPipeline,
    FindWait,
    Jitter,
    ListParked,
    Now,
    Point,
    QueryRuns,
    ReadRun,
    ReadTask,
    Resume,
    SearchRuns,
    SleepUntil,
    UseCase,
    do,
)
from bridge.errors import Problem, StoreConflict, StoreUnavailable
from bridge.executor import Executor, World
from bridge.model import Breaker, FactoryId, StartRequest, Wait
from bridge.policy import Rules
from bridge.ports import Completions, Due
from tests.simulate.adf import SimAdf
from tests.simulate.airflow import SimAirflow
from tests.simulate.audit import Audit
from tests.simulate.caller import Caller
from tests.simulate.starts import Starts
from tests.simulate.store import Died, SimTable
from tests.simulate.timeline import Timeline, Violation

T = TypeVar("T")

TICK: Final = 15.0
REACH: Final = timedelta(seconds=12)
AT_ONCE: Final = 8
SLEEPERS: Final = 4
PURGE_EVERY: Final = timedelta(minutes=1)
# What few use cases come by: a crash there is made likelier, so that there are some at every point. None is certain,
# or nothing would ever get beyond it; and what lies on the way to a rare point (listing, looking, watching, cancelling)
# is not much likelier than it needs to be. Every use case passes through the store many times: less likely there.
LIKELIER: Final[Mapping[str, float]] = {
    Point.FAILURE_READ: 5,
    Point.CHILD_FOUND: 9,
    Point.START_REFUSED: 10,
    Point.START_RECORDED: 1.5,
    Point.RUN_CREATED: 1.5,
    Point.START_LEFT: 5,
    Point.EVENT_NOTED: 1.5,
    Point.START_ANSWERED: 1.5,
    Point.RUN_CLAIMED: 12,
    Point.BREAKER_SAVED: 1.5,
    Point.WAIT_EXPIRED: 25,
    Point.WAIT_WITHDRAWN: 32,
    Point.RUNS_QUERIED: 1.5,
    Point.SWEEP_TAKEN: 2,
    Point.SWEEP_SAVED: 5,
    Point.COMPLETION_SENT: 4.5,
    Point.TASK_READ_AGAIN: 5.5,
    Point.DELIVERY_SETTLED: 1.5,
    Point.PARKED_LISTED: 5,
    Point.TASK_LOOKED_AT: 10,
    Point.WAIT_WATCHED: 45,
    Point.CANCEL_NOTED: 24,
    Point.RUN_CANCELLED: 28,
    Point.CANCEL_SETTLED: 24,
    index.PURGED_HINTS: 4,
    index.PURGED_ROWS: 5,
    index.HINT_REMOVED: 0.4,
    index.HINT_WRITTEN: 0.4,
    index.ROWS_WRITTEN: 0.4,
    Point.COMPLETION_QUEUED: 7,
}
PEERS: Final = (
    *(CreateRun, FindPipeline, FindChild, ReadRun, QueryRuns, SearchRuns, CancelRun),
    *(ReadTask, ListParked, Resume),
)
# A request is begun and not answered: who asks may die then as well.
BEGUN: Final = frozenset({Point.RUN_CREATED, Point.START_RECORDED, Point.KEY_RESERVED, Point.WAIT_WRITTEN})
# A process that stalls right after createRun is what a run that looks like another one's is dangerous for.
STALLS_AFTER_CREATE_RUN: Final = 120

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


def expect(error: Exception) -> None:
    """Pass over a failure that the bridge speaks of; anything else is an error of the bridge's, or of the simulator."""
    if not isinstance(error, Problem):
        raise error


@dataclass(frozen=True)
class Setting:
    """What the instances of one simulated bridge share, and how often they die."""

    timeline: Timeline
    table: SimTable
    audit: Audit
    airflow: SimAirflow
    adf: SimAdf
    starts: Starts
    rules: Rules
    completions: Completions
    crashes: float = 0
    stalls: float = 0
    slow: float = 0


class Instance:
    """Runs use cases side by side. `life` tells what began before it died from what began after."""

    def __init__(self, setting: Setting) -> None:
        self._in = setting
        self._timeline = setting.timeline
        self.life = 0
        self.up = True
        self._begin()
        self._timeline.after(self._timeline.random.uniform(0, TICK), self._tick)

    def _begin(self) -> None:
        """Begin a process: it remembers nothing of the one before."""
        life = self.life
        self._sleeping = self._ticking = 0
        self._keys: Counter[str] = Counter()
        self._finish_at = self._repair_at = self._purge_at = datetime.min.replace(tzinfo=UTC)
        self._store = self._in.table.store(lives=lambda: self.life == life, reach=self._reach)
        world = World(self._timeline, self._timeline, self._store, self._in.adf, self._in.airflow, self._in.completions)
        self._executor = Executor(world, tell=self._in.audit.logged)

    # --- one command at a time ---

    def spawn(
        self,
        use_case: UseCase[Any],
        on_result: Result = ignore,
        on_failure: Failure = expect,
        caller: Caller | None = None,
    ) -> None:
        """Start a use case: its commands come one by one, those of others in between."""
        process = Process(use_case, self.life, on_result, on_failure, caller or Caller())
        self._keys[process.caller.key] += 1
        self._go_on(process, lambda: next(process.use_case))

    def _go_on(self, process: Process, resume: Callable[[], Command[Any]]) -> None:
        """Take the next command of a use case and plan it; the clock and chance are read at once."""
        try:
            command = resume()
            while isinstance(command, Now | Jitter):
                command = process.use_case.send(self._executor.perform(command))
        except StopIteration as done:
            self._keys[process.caller.key] -= 1
            process.on_result(done.value)
            return
        except Exception as error:  # noqa: BLE001 - what a use case does not handle is its caller's
            self._keys[process.caller.key] -= 1
            if isinstance(error, StoreUnavailable):
                self._in.starts.died(process.caller.key)
            process.on_failure(error)
            return
        process.command = command
        if isinstance(command, SleepUntil):
            self._sleep(process, command)
        else:
            self._timeline.after(self._latency(process, command), lambda: self._perform(process))

    def _latency(self, process: Process, command: Command[Any]) -> float:
        chance = self._timeline.random.random()
        if self._timeline.hits("instance stalled for a minute", self._in.stalls):
            self._in.starts.stalled(process.caller.key)
            return 60 + 10 * chance
        return chance * (0.6 if isinstance(command, Effect) else 0.02)

    def _perform(self, process: Process) -> None:
        if process.life != self.life:
            return
        command = process.command
        assert command is not None
        if self._timeline.hits("crash before a command", self._in.crashes / 8):
            self._die(process.life)
            return
        self._in.airflow.caller = self._in.adf.caller = process.caller
        try:
            result = self._executor.perform(command)
        except Violation:
            raise
        except Died:
            self._die(process.life)
            return
        except Exception as problem:  # noqa: BLE001 - the use case decides what it handles, as with the executor
            error = problem
            self._timeline.faults["store conflict"] += isinstance(error, StoreConflict)
            if process.life == self.life:
                self._go_on(process, lambda: process.use_case.throw(error))
            return
        if isinstance(command, Effect) and self.dies_at(command.point):
            if command.point in BEGUN:
                self._in.starts.died_with(process.caller.key)
            self._die(process.life)
            return
        if isinstance(command, CreateRun) and self._timeline.hits(
            "instance stalled after createRun", self._in.stalls * STALLS_AFTER_CREATE_RUN
        ):
            self._in.starts.stalled(process.caller.key)
            self._timeline.after(self._timeline.random.uniform(60, 120), lambda: self._hear(process, result))
        elif isinstance(command, PEERS) and self._timeline.hits("peer answered slowly", self._in.slow):
            self._timeline.after(self._timeline.random.uniform(1, 25), lambda: self._hear(process, result))
        else:
            self._hear(process, result)

    def dies_at(self, point: str) -> bool:
        """Whether the process dies at a point."""
        where = "crash inside the store" if point in index.POINTS else "crash after an effect"
        # What is old enough to be removed is so late: hardly any of it is before the quiet.
        later = point in {index.PURGED_HINTS, index.PURGED_ROWS}
        if not self._timeline.hits(where, self._in.crashes * LIKELIER.get(point, 1), later=later):
            return False
        self._timeline.points[str(point)] += 1
        return True

    def _reach(self, point: str) -> None:
        """Pass a point inside the store."""
        if self.dies_at(point):
            raise Died

    def _hear(self, process: Process, result: object) -> None:
        if process.life == self.life:
            self._go_on(process, lambda: process.use_case.send(result))

    def _sleep(self, process: Process, command: SleepUntil) -> None:
        if self._sleeping >= SLEEPERS and not command.of_timer:
            self._timeline.after(0, lambda: self._awake(process, slept=False))
            return
        self._sleeping += 1
        self._timeline.at(command.when, lambda: self._awake(process, slept=True))

    def _awake(self, process: Process, *, slept: bool) -> None:
        if process.life != self.life:
            return
        self._sleeping -= slept
        self._go_on(process, lambda: process.use_case.send(slept))

    def _die(self, life: int) -> None:
        """Lose everything that runs; come back later. What is already dead does not die."""
        if life == self.life:
            self.life += 1
            self.up = False
            for key, processes in self._keys.items():
                if processes:
                    self._in.starts.died(key)
            self._come_back_later()

    def _come_back_later(self) -> None:
        self._timeline.after(self._timeline.random.uniform(1, 40), self.come_back)

    def come_back(self) -> None:
        """Begin anew."""
        if not self.up:
            self.up = True
            self._begin()

    # --- the entry points, as `bridge.app` has them ---

    def receive(self, raw: str, acknowledge: Result) -> None:
        """Take in a delivery of Event Grid, and deliver at once what it makes due."""
        self.spawn(self._receive(raw), acknowledge)

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
        life = self.life
        self._finish_starts()
        for target in sorted(self._in.rules.targets):
            if life == self.life:
                self._tick_target(target)

    def _work(self, use_case: UseCase[Any], caller: Caller | None = None) -> None:
        self._ticking += 1
        self.spawn(use_case, self._worked, self._failed, caller)

    def _finish_starts(self) -> None:
        """Finish what callers have begun who died since."""
        now, nothing = self._timeline.now(), tuple[StartRequest, ...]()
        if now < self._finish_at:
            return
        self._finish_at = now + FINISH_EVERY
        due = self._touch(lambda: tuple(self._store.unfinished_requests(before=now, limit=FINISH_AT_ONCE)), nothing)
        for record in due:
            self._work(service.finish(record.idempotency_key, self._in.rules), Caller(key=record.idempotency_key))

    def _failed(self, error: Exception) -> None:
        expect(error)
        self._worked(error)

    def _worked(self, _: object) -> None:
        self._ticking -= 1
        if self._ticking == 0:
            self._keep_up()

    def _keep_up(self) -> None:
        """Mend the store's ways to its rows, and remove what is too old."""
        now, life = self._timeline.now(), self.life
        if now >= self._repair_at:
            self._repair_at = now + REPAIR_EVERY
            self._touch(lambda: self._store.repair(limit=REPAIR_ROWS), 0)
        if now >= self._purge_at and life == self.life:
            self._purge_at = now + PURGE_EVERY
            self._touch(lambda: self._store.purge(now - self._in.rules.retention), 0)

    def _touch(self, call: Callable[[], T], otherwise: T) -> T:
        """Use the store outside of a use case; the process may die in that."""
        life = self.life
        try:
            return call()
        except Problem:
            return otherwise
        except Died:
            self._die(life)
            return otherwise

    def _sweep(self, factory: FactoryId) -> UseCase[None]:
        swept = yield from service.sweep(factory, self._in.rules)
        until = self._timeline.now()
        for token in swept.due:
            yield from self._deliver_inline(token, until)
        if swept.taken:
            yield from service.watch(factory, self._in.rules)

    def _tick_target(self, target: str) -> None:
        now, life, name = self._timeline.now(), self.life, service.target_breaker(target)
        breaker = self._touch(lambda: self._store.breaker(name), Breaker(name))
        nothing: Sequence[Due] = ()
        coming = self._touch(lambda: self._store.due(target, before=now + REACH, limit=AT_ONCE * 4), nothing)
        if life != self.life:
            return
        chosen = decide.to_attend([one for one in coming if one.due_at <= now], breaker, now)
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
