"""The simulated world: a bridge of several instances on one table, Airflow, ADF, Event Grid, and the promises.

`World` is its parts, and what has to hold in it. `Episode` lives through one that chance drives: from a seed, some
minutes of chaos, then quiet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final

from bridge.app import REPAIR_EVERY
from bridge.model import Completion, FactoryId, Mode, Outcome, TaskRef, WaitRequest, WaitState, Wrapped
from tests.fakes.samples import FACTORY
from tests.fakes.samples import RULES as SAMPLE_RULES
from tests.simulate.abandonment import Abandonment
from tests.simulate.adf import SimAdf
from tests.simulate.airflow import SimAirflow
from tests.simulate.asking import Asked
from tests.simulate.attempt import Host
from tests.simulate.audit import Audit
from tests.simulate.event_grid import EventGrid
from tests.simulate.instance import Instance, Setting
from tests.simulate.listening import TRIGGERERS, Deferred, Listener, SimCompletions
from tests.simulate.starts import Starts
from tests.simulate.store import SimTable
from tests.simulate.tasks import Task
from tests.simulate.timeline import Timeline, Violation
from tests.simulate.true_run import TrueRun

INSTANCES: Final = 3
TASKS: Final = 14
DEFERRED: Final = 4
QUEUE_TROUBLE: Final = 0.3  # of its few messages
# Tasks of one DAG that are mapped over something else than what they ask the bridge for.
MAPPED: Final = (4, 3)
CREATE_RUN_FAILS: Final = 0.7  # of the times at which they ask
CHAOS: Final = 440.0
# The longest run that began in the chaos, the longest pause of a breaker, a sweep, and a delivery.
QUIET: Final = 300.0 + 300 + 120 + 600
# Operators repeat a request, and others replay it, for less than that.
RULES: Final = replace(SAMPLE_RULES, retention=timedelta(minutes=6))
# An instance repairs every so often, if it does not die.
_REPAIRED_IN: Final = REPAIR_EVERY * 3


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
        self.adf.wrapping = self.wrapping
        self.starts = Starts(timeline, self.audit, self.adf, self.table.was_lost, RULES.retention)
        self.abandonment = Abandonment(timeline, self.audit, self.airflow, self.adf, self.starts)
        self.abandonment.awaited = lambda: [
            *(one.awaited for one in self.tasks),
            *(one.awaited for one in self.deferred),
        ]
        self.starts.on_caller_died = self.abandonment.prolong_unfinished
        self.adf.check_create, self.adf.check_cancel = self.starts.creating, self.abandonment.check_cancel
        self.audit.on_request, self.audit.on_request_gone = self.starts.wrote, self.starts.removed
        self.completions = SimCompletions(timeline, QUEUE_TROUBLE if trouble.airflow else 0)
        self.audit.on_wait = self.completions.wrote
        setting = Setting(
            timeline,
            self.table,
            self.audit,
            self.airflow,
            self.adf,
            self.starts,
            RULES,
            self.completions,
            crashes=trouble.crashes,
            stalls=trouble.stalls,
            slow=trouble.slow,
        )
        self.bridges = [self.make_bridge(setting) for _ in range(INSTANCES)]
        self.grid = self.make_grid(trouble.drops)
        self.tasks: list[Task] = []
        self.deferred: list[Deferred] = []
        self._host = Host(
            timeline, self.airflow, self.adf, self.bridges, self.starts, RULES, self._remember, trouble.meddling
        )

    def new_task(
        self, target: str, asked: Asked, *, existing: bool = False, has_id: bool = True, map_index: int = -1
    ) -> Task:
        """Have one more task; `existing` when it waits for a run that somebody else has started.

        One with a map index is a further one of the task before, unless that is 0.
        """
        name = f"task-{len(self.tasks) - max(map_index, 0)}"
        task = TaskRef(
            target=target,
            dag_id="orders",
            run_id="manual",
            task_id=name,
            map_index=map_index,
            try_number=1,
            task_instance_id=f"{name}[{map_index}]/0" if has_id else None,
            nonce="",
        )
        self.tasks.append(Task(self._host, task, asked, existing=existing))
        return self.tasks[-1]

    def new_deferred(self, target: str) -> Deferred:
        """Have one more task in mode queue."""
        name = f"deferred-{len(self.deferred)}"
        task = TaskRef(target, "orders", "manual", name, -1, 1, f"{name}/0", nonce=name)
        self.deferred.append(Deferred(self._host, task, self._untrue))
        self.completions.tasks[task.token] = self.deferred[-1]
        return self.deferred[-1]

    def _remember(self, request: WaitRequest) -> None:
        self.requests[request.task.token] = request

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

    def come_to_rest(self) -> None:
        """Have nothing go wrong from now on, until nothing is left to do; raise Violation for what is lost."""
        self.timeline.chaos = False
        quiet_since = self.timeline.now()
        self.abandonment.prolong()
        self._live_until(self.timeline.seconds + QUIET)
        self._check_nothing_lost()
        self.check_told()
        self.abandonment.check_cancelled()
        if self.timeline.now() > quiet_since + _REPAIRED_IN:
            self.table.check_index(quiet_since)

    def _live_until(self, seconds: float) -> None:
        while self.timeline.seconds < seconds and not self._is_settled():
            self.timeline.step()

    def _is_settled(self) -> bool:
        waits = self.audit.waits.values()
        return (
            all(task.is_over for task in self.tasks)
            and all(task.is_told for task in self.deferred)
            and self.starts.never_finished is None
            and all(wait.state.is_final and wait.due_at is None for wait in waits)
        )

    def _check_nothing_lost(self) -> None:
        now = self.timeline.now()
        for task in self.tasks:
            if not task.is_over:
                wait = self.audit.wait(task.row.token)
                state = wait.state.value if wait is not None else "not there"
                raise Violation("lost", f"the task is {task.row.state}, its wait is {state}", task.row.token)
        for deferred in self.deferred:
            if not deferred.is_told:
                wait = self.audit.wait(deferred.token)
                state = wait.state.value if wait is not None else "not there"
                raise Violation("lost", f"a deferred task was never told, its wait is {state}", deferred.token)
        if (key := self.starts.never_finished) is not None:
            raise Violation("unfinished", "a request was begun and comes to no end", key)
        for wait in self.audit.every_wait():
            ended = self.adf.runs[wait.key].ends + timedelta(minutes=5) < now
            if not wait.state.is_final and ended and now < wait.deadline:
                raise Violation("lost", f"the wait is {wait.state} at the end of its run", wait.token)

    def check_told(self) -> None:
        """Raise Violation for a wait that is delivered and that nobody was told of."""
        for wait in self.audit.every_wait():
            done = wait.token in self.airflow.effective or wait.token in self.airflow.crossed
            if wait.mode is Mode.RESUME and wait.state is WaitState.DELIVERED and not done:
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
            task = self._any_task(existing=number % 3 == 0)
            timeline.after(chance.uniform(0, CHAOS * 0.6), task.execute)
        for tasks in MAPPED:
            start = chance.uniform(0, CHAOS * 0.6)
            self._any_tasks(tasks, start)
            if chance.random() < CREATE_RUN_FAILS:
                timeline.after(start, lambda: self.adf.lose_create_runs(chance.uniform(10, 40)))
        self._defer_some()
        for target in sorted(RULES.targets):
            if chance.random() < 0.3:
                start, length = chance.uniform(0, CHAOS), chance.uniform(20, 240)
                timeline.after(start, lambda target=target, length=length: self.airflow.go_down(target, length))  # type: ignore[misc]
        for _ in range(chance.choice((0, 0, 3, 30))):
            number = chance.randrange(1_000)
            timeline.after(chance.uniform(0, CHAOS), lambda number=number: self.table.lose_an_index_row(number))  # type: ignore[misc]

    def _defer_some(self) -> None:
        """Have tasks in mode queue, and triggerers that die or are relieved of their tasks."""
        timeline, chance = self.timeline, self.timeline.random
        listeners = [Listener(self._host, self.completions, number) for number in range(TRIGGERERS)]
        for _ in range(DEFERRED):
            task, listener = self.new_deferred(chance.choice(sorted(RULES.targets))), chance.choice(listeners)
            timeline.after(chance.uniform(0, CHAOS * 0.6), partial(task.defers_to, listener))
        for listener in listeners:
            for nth in range(chance.choice((1, 2, 3))):
                timeline.after(CHAOS * (nth + chance.random()) / 3, listener.dies)
            if chance.random() < 0.5:
                timeline.after(chance.uniform(0, CHAOS), partial(listener.give, chance.choice(listeners)))
            if chance.random() < 0.5:
                timeline.after(chance.uniform(0, CHAOS), partial(listener.shares, chance.choice(listeners)))

    def _any_task(self, *, existing: bool) -> Task:
        chance = self.timeline.random
        asked = Asked.anything(chance, list(RULES.factories.values()))
        target = chance.choice(sorted(RULES.targets))
        return self.new_task(target, asked, existing=existing, has_id=chance.random() >= 0.15)

    def _any_tasks(self, number: int, seconds: float) -> None:
        """Have mapped tasks that ask for the same, nearly at the same time."""
        chance = self.timeline.random
        asked = Asked.anything(chance, list(RULES.factories.values()))
        target = chance.choice(sorted(RULES.targets))
        for map_index in range(number):
            # In a factory that has a wrapper for the pipeline, one of them starts that, and so the same pipeline.
            wrapped = Wrapped.AUTO if map_index == 0 else asked.wrapped
            task = self.new_task(target, replace(asked, wrapped=wrapped), map_index=map_index)
            self.timeline.after(seconds + chance.uniform(0, 5), task.execute)

    def run(self) -> Told:
        """Live through the chaos and the quiet; raise Violation when a promise was broken."""
        while self.timeline.seconds < CHAOS:
            self.timeline.step()
        self.come_to_rest()
        waits = self.audit.every_wait()
        outcomes = Counter(wait.state.value for wait in waits)
        return Told(len(self.adf.runs), outcomes, max((wait.attempts for wait in waits), default=0))
