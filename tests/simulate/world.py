"""One episode: a world from a seed, some minutes of chaos, then quiet, then the promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bridge.executor import World
from bridge.model import Completion, Outcome, TaskRef, WaitRequest, WaitState
from tests.fakes.samples import RULES
from tests.simulate.adf import SimAdf, TrueRun
from tests.simulate.airflow import SimAirflow
from tests.simulate.event_grid import EventGrid
from tests.simulate.instance import Instance, Setting
from tests.simulate.store import SimStore
from tests.simulate.tasks import Host, Task
from tests.simulate.timeline import Timeline, Violation

INSTANCES: Final = 3
TASKS: Final = 24
CHAOS: Final = 420.0
# The longest run that began in the chaos, the longest pause of a breaker, a sweep, and a delivery.
QUIET: Final = 300.0 + 300 + 120 + 600


@dataclass(frozen=True)
class Told:
    """What an episode came to."""

    runs: int
    faults: Counter[str]
    points: Counter[str]
    outcomes: Counter[str]
    happened: Counter[str]
    most_attempts: int


class Episode:
    """Everything of one seed. Two episodes of the same seed are the same to the last byte."""

    def __init__(self, seed: str, *, overlap: bool = True) -> None:
        self.timeline = timeline = Timeline(seed)
        chance = timeline.random
        self.requests: dict[str, WaitRequest] = {}
        self.store = SimStore(timeline, chance.choice((0.0, 0.002, 0.02)))
        self.airflow = SimAirflow(timeline, chance.choice((0.01, 0.05, 0.2)), self._untrue)
        self.adf = SimAdf(timeline, chance.choice((0.01, 0.05, 0.2)), self._tell_of)
        setting = Setting(
            timeline,
            self.store,
            self.airflow,
            World(timeline, timeline, self.store, self.adf, self.airflow),
            RULES,
            crashes=chance.choice((0.0, 0.003, 0.02)),
            stalls=chance.choice((0.0, 0.002)),
            slow=chance.choice((0.01, 0.2)),
        )
        self.bridges = [Instance(setting) for _ in range(INSTANCES)]
        self.grid = EventGrid(timeline, self.store, self.bridges, chance.choice((0.05, 0.3, 1.0)))
        host = Host(timeline, self.airflow, self.adf, self.bridges, RULES, self._remember, overlap)
        self.tasks = [Task(host, self._a_task(number), existing=number % 4 == 0) for number in range(TASKS)]
        for task in self.tasks:
            timeline.after(chance.uniform(0, CHAOS * 0.6), task.execute)
        for target in sorted(RULES.targets):
            if chance.random() < 0.3:
                start, length = chance.uniform(0, CHAOS), chance.uniform(20, 240)
                timeline.after(start, lambda target=target, length=length: self.airflow.go_down(target, length))  # type: ignore[misc]

    def _a_task(self, number: int) -> TaskRef:
        chance = self.timeline.random
        return TaskRef(
            target=chance.choice(sorted(RULES.targets)),
            dag_id="orders",
            run_id="manual",
            task_id=f"task-{number}",
            map_index=-1,
            try_number=1,
            task_instance_id=None if chance.random() < 0.15 else f"task-{number}/0",
            nonce="",
        )

    def _remember(self, task: TaskRef, request: WaitRequest) -> None:
        self.requests[task.token] = request

    def _tell_of(self, run: TrueRun) -> None:
        self.grid.tell_of(run)

    def _untrue(self, completion: Completion) -> str | None:
        """Say how a completion is not true: its status is ADF's, or `Expired` once the deadline has passed."""
        now = self.timeline.now()
        if completion.status is Outcome.EXPIRED:
            early = now < self.requests[completion.token].deadline
            return "told to have expired before its deadline" if early else None
        truth = self.adf.runs[completion.key].status(now)
        return None if truth.value == completion.status.value else f"told {completion.status}, ADF says {truth}"

    def run(self) -> Told:
        """Live through the chaos and the quiet; raise Violation when a promise was broken."""
        while self.timeline.seconds < CHAOS:
            self.timeline.step()
        self.timeline.chaos = False
        while self.timeline.seconds < CHAOS + QUIET and not self._is_settled():
            self.timeline.step()
        self._check_nothing_lost()
        waits = self.store.wait_rows()
        outcomes = Counter(wait.state.value for wait in waits)
        most = max((wait.attempts for wait in waits), default=0)
        return Told(
            len(self.adf.runs), self.timeline.faults, self.timeline.points, outcomes, self.timeline.happened, most
        )

    def _is_settled(self) -> bool:
        return all(task.is_over for task in self.tasks) and all(one.state.is_final for one in self.store.wait_rows())

    def _check_nothing_lost(self) -> None:
        now = self.timeline.now()
        for task in self.tasks:
            if not task.is_over:
                wait = self.store.wait_row(task.row.token)
                state = wait.state.value if wait is not None else "not there"
                raise Violation("lost", f"the task is {task.row.state}, its wait is {state}", task.row.token)
        for wait in self.store.wait_rows():
            ended = self.adf.runs[wait.key].ends + timedelta(minutes=5) < now
            if not wait.state.is_final and ended and now < wait.deadline:
                raise Violation("lost", f"the wait is {wait.state} at the end of its run", wait.token)
            done = wait.token in self.airflow.effective or wait.token in self.airflow.crossed
            if wait.state is WaitState.DELIVERED and not done:
                raise Violation("delivered", "a wait is delivered that was never told", wait.token)
