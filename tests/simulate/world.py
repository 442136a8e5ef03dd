"""The simulated world: a bridge of several instances on one table, Airflow, ADF, Event Grid, and the promises.

`World` is its parts, and what has to hold in it. `Episode` lives through one that chance drives: from a seed, some
minutes of chaos, then quiet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from bridge.model import Completion, FactoryId, OnAbandon, Outcome, RunKey, TaskRef, Wait, WaitRequest, WaitState
from tests.fakes.airflow import place_of
from tests.fakes.samples import FACTORY
from tests.fakes.samples import RULES as SAMPLE_RULES
from tests.simulate.adf import SimAdf, TrueRun
from tests.simulate.airflow import GOING_ON, SimAirflow
from tests.simulate.audit import Audit
from tests.simulate.event_grid import EventGrid
from tests.simulate.instance import Instance, Setting
from tests.simulate.store import SimTable
from tests.simulate.tasks import Host, Task
from tests.simulate.timeline import Timeline, Violation

INSTANCES: Final = 3
_IN_TIME: Final = timedelta(minutes=2)  # longer than any call in the simulated world takes
TASKS: Final = 24
CHAOS: Final = 420.0
# The longest run that began in the chaos, the longest pause of a breaker, a sweep, and a delivery.
QUIET: Final = 300.0 + 300 + 120 + 600
# Operators repeat a request for less than that.
RULES: Final = replace(SAMPLE_RULES, retention=timedelta(minutes=5))


@dataclass(frozen=True)
class Trouble:
    """How often what goes wrong."""

    table: float = 0
    airflow: float = 0
    adf: float = 0
    crashes: float = 0
    stalls: float = 0
    slow: float = 0
    drops: float = 0
    meddling: float = 0


class World:
    """The parts, put together; and the promises. A test has other parts made."""

    wrapping: FactoryId | None = FACTORY  # whose pipelines have wrappers

    def __init__(self, timeline: Timeline, trouble: Trouble) -> None:
        self.timeline = timeline
        self.requests: dict[str, WaitRequest] = {}
        self.audit = Audit()
        self.table = SimTable(timeline, self.audit, trouble.table)
        self.airflow = SimAirflow(timeline, trouble.airflow, self._untrue)
        self.adf = self.make_adf(trouble.adf)
        self.adf.check_cancel = self._check_cancel
        self.adf.wrapping = self.wrapping
        setting = Setting(
            timeline,
            self.table,
            self.audit,
            self.airflow,
            self.adf,
            RULES,
            crashes=trouble.crashes,
            stalls=trouble.stalls,
            slow=trouble.slow,
        )
        self.bridges = [self.make_bridge(setting) for _ in range(INSTANCES)]
        self.grid = self.make_grid(trouble.drops)
        self.tasks: list[Task] = []
        self._host = Host(timeline, self.airflow, self.adf, self.bridges, RULES, self._remember, trouble.meddling)

    def new_task(self, target: str, *, existing: bool, has_id: bool = True) -> Task:
        """Have one more task; `existing` when it waits for a run that somebody else has started."""
        name = f"task-{len(self.tasks)}"
        task = TaskRef(
            target=target,
            dag_id="orders",
            run_id="manual",
            task_id=name,
            map_index=-1,
            try_number=1,
            task_instance_id=f"{name}/0" if has_id else None,
            nonce="",
        )
        self.tasks.append(Task(self._host, task, existing=existing))
        return self.tasks[-1]

    def _remember(self, task: TaskRef, request: WaitRequest) -> None:
        self.requests[task.token] = request

    def make_adf(self, trouble: float) -> SimAdf:
        """Make the ADF that this world has."""
        return SimAdf(self.timeline, trouble, self.tell_of)

    def make_bridge(self, setting: Setting) -> Instance:
        """Make one instance of the bridge."""
        return Instance(setting)

    def make_grid(self, drops: float) -> EventGrid:
        """Make the Event Grid that this world has."""
        return EventGrid(self.timeline, self.audit, self.bridges, self.adf.truth, drops)

    def tell_of(self, run: TrueRun) -> None:
        """Have a run's events published."""
        self.grid.tell_of(run)

    # --- the promises ---

    def _untrue(self, completion: Completion) -> str | None:
        """Say how a completion is not true: its status is ADF's, or `Expired` once the deadline has passed."""
        now = self.timeline.now()
        if completion.status is Outcome.EXPIRED:
            early = now < self.requests[completion.token].deadline
            return "told to have expired before its deadline" if early else None
        true = self.adf.truth(completion.key)
        if completion.watched_key != true.key:
            return f"told of {completion.watched_key.run_id}, which is not {true.key.run_id}"
        truth = true.status(now)
        return None if truth.value == completion.status.value else f"told {completion.status}, ADF says {truth}"

    def _check_cancel(self, key: RunKey) -> None:
        """Raise Violation when a run is cancelled that is waited for, or whose waits do not want that."""
        now = self.timeline.now()
        waits = [wait for wait in self.audit.every_wait() if wait.key == key]
        reasons = [self._still_waits(wait, now) for wait in waits if wait.on_abandon is OnAbandon.CANCEL]
        if not reasons or all(reasons):
            raise Violation("cancelled", f"{key.run_id} was cancelled: {reasons or 'no wait wants that'}")
        for wait in waits:
            # One that registers while the run is being cancelled comes too late.
            settled = now - wait.registered_at > _IN_TIME
            if wait.state is WaitState.OPEN and settled:
                raise Violation("cancelled", f"{key.run_id} was cancelled, and another task waits for it", wait.token)

    def _still_waits(self, wait: Wait, now: datetime) -> str:
        """Say how a task still waits in the try that registered; nothing if it does not."""
        row = self.airflow.instances.get(place_of(wait.task))
        if now >= wait.deadline:
            return ""
        if row is None:
            # Unless Airflow had shown before that the try was over, and the task was removed since.
            seen = wait.token in self.airflow.seen_over
            return "" if seen else "its task is not there, which proves nothing"
        return f"its task is {row.state}" if row.token == wait.token and row.state in GOING_ON else ""

    def come_to_rest(self) -> None:
        """Have nothing go wrong from now on, until nothing is left to do; raise Violation for what is lost."""
        self.timeline.chaos = False
        self._live_until(self.timeline.seconds + QUIET)
        self._check_nothing_lost()
        self.check_told()
        self.table.check_index()

    def _live_until(self, seconds: float) -> None:
        while self.timeline.seconds < seconds and not self._is_settled():
            self.timeline.step()

    def _is_settled(self) -> bool:
        waits = self.audit.waits.values()
        return all(task.is_over for task in self.tasks) and all(
            wait.state.is_final and wait.due_at is None for wait in waits
        )

    def _check_nothing_lost(self) -> None:
        now = self.timeline.now()
        for task in self.tasks:
            if not task.is_over:
                wait = self.audit.wait(task.row.token)
                state = wait.state.value if wait is not None else "not there"
                raise Violation("lost", f"the task is {task.row.state}, its wait is {state}", task.row.token)
        for wait in self.audit.every_wait():
            ended = self.adf.runs[wait.key].ends + timedelta(minutes=5) < now
            if not wait.state.is_final and ended and now < wait.deadline:
                raise Violation("lost", f"the wait is {wait.state} at the end of its run", wait.token)

    def check_told(self) -> None:
        """Raise Violation for a wait that is delivered and that nobody was told of."""
        for wait in self.audit.every_wait():
            done = wait.token in self.airflow.effective or wait.token in self.airflow.crossed
            if wait.state is WaitState.DELIVERED and not done:
                raise Violation("delivered", "a wait is delivered that was never told", wait.token)


@dataclass(frozen=True)
class Told:
    """What an episode came to."""

    runs: int
    outcomes: Counter[str]
    most_attempts: int


class Episode(World):
    """A world that chance drives. Two episodes of the same seed are the same to the last byte."""

    def __init__(self, seed: str) -> None:
        timeline = Timeline(seed)
        chance = timeline.random
        trouble = Trouble(
            table=chance.choice((0.0, 0.0005, 0.006)),
            airflow=chance.choice((0.01, 0.05, 0.2)),
            adf=chance.choice((0.01, 0.05, 0.2)),
            # Not more than that: an instance that dies all the time never finishes what takes minutes.
            crashes=chance.choice((0.0, 0.015, 0.03)),
            stalls=chance.choice((0.0, 0.002)),
            slow=chance.choice((0.01, 0.2)),
            drops=chance.choice((0.05, 0.3, 1.0)),
            meddling=0.4,
        )
        super().__init__(timeline, trouble)
        for number in range(TASKS):
            target = chance.choice(sorted(RULES.targets))
            task = self.new_task(target, existing=number % 4 == 0, has_id=chance.random() >= 0.15)
            timeline.after(chance.uniform(0, CHAOS * 0.6), task.execute)
        for target in sorted(RULES.targets):
            if chance.random() < 0.3:
                start, length = chance.uniform(0, CHAOS), chance.uniform(20, 240)
                timeline.after(start, lambda target=target, length=length: self.airflow.go_down(target, length))  # type: ignore[misc]
        for _ in range(chance.choice((0, 0, 3, 30))):
            number = chance.randrange(1_000)
            timeline.after(chance.uniform(0, CHAOS), lambda number=number: self.table.lose_an_index_row(number))  # type: ignore[misc]

    def run(self) -> Told:
        """Live through the chaos and the quiet; raise Violation when a promise was broken."""
        while self.timeline.seconds < CHAOS:
            self.timeline.step()
        self.come_to_rest()
        waits = self.audit.every_wait()
        outcomes = Counter(wait.state.value for wait in waits)
        return Told(len(self.adf.runs), outcomes, max((wait.attempts for wait in waits), default=0))
