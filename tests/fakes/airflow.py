"""Airflow 3.3 as its REST API shows it: task instances that park, are answered, cleared, retried and marked.

What was observed on a live Airflow and is kept here: an answer stands until the next try parks; a second answer is a
409; a clear or a retry gives the task instance a new id at once, its `try_number` follows later; an answer to a task
that is not parked is taken and changes nothing; a try that is resumed before its worker has reported that it parked,
which may take six seconds, fails.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bridge.model import Completion, TaskRef
from bridge.ports import Accepted, Answer, ParkedPage, ParkedTask, Refusal, RefusalKind, TaskView
from tests.fakes.adf import Lost
from tests.fakes.clock import VirtualClock

Place = tuple[str, str, str, str, int]

PARKED: Final = "awaiting_input"
TOO_EARLY: Final = timedelta(seconds=6.2)
MISSING: Final = Refusal(RefusalKind.NOT_FOUND, "Airflow answered 404")
ANSWERED: Final = Refusal(RefusalKind.CONFLICT, "Airflow answered 409")


def place_of(task: TaskRef) -> Place:
    """Return where Airflow's API finds a task instance: everything but which try it is."""
    return (task.target, task.dag_id, task.run_id, task.task_id, task.map_index)


@dataclass
class Instance:
    """A task instance, with the one answer that its row can hold."""

    id: str | None
    try_number: int
    state: str | None = "running"
    ended_at: datetime | None = None
    parked_at: datetime | None = None
    has_parked: bool = False
    answer: Answer | None = None


@dataclass
class FakeAirflow:
    """The port `Airflow`, for any target. `resumed` counts what took effect, `calls` everything that arrived."""

    clock: VirtualClock
    instances: dict[Place, Instance] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    reads: Counter[Place] = field(default_factory=Counter)
    patches: Counter[Place] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    page_size: int = 100
    resumed: Counter[str | None] = field(default_factory=Counter)
    too_early: list[str | None] = field(default_factory=list)
    told: dict[str | None, list[Completion]] = field(default_factory=dict)
    read_script: deque[Refusal | None] = field(default_factory=deque)
    patch_script: deque[Refusal | Lost | None] = field(default_factory=deque)
    down: dict[str, Refusal] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # --- what happens inside Airflow ---

    def run(self, task: TaskRef) -> Instance:
        """Have the task running, in this try."""
        instance = Instance(task.task_instance_id, task.try_number)
        self.instances[place_of(task)] = instance
        return instance

    def park(self, task: TaskRef) -> None:
        """Have the task park: its row is written anew, without an answer."""
        instance = self.instances.get(place_of(task)) or self.run(task)
        instance.state, instance.answer, instance.has_parked = PARKED, None, True
        instance.parked_at = self.clock.now()

    def finish(self, task: TaskRef, state: str = "success") -> None:
        """Have the task end, by itself or because a person marked it."""
        instance = self.instances[place_of(task)]
        instance.state, instance.ended_at = state, self.clock.now()

    def retry(self, task: TaskRef, *, new_id: str) -> None:
        """Have the try fail with retries left."""
        instance = self.instances[place_of(task)]
        instance.state, instance.id, instance.ended_at = "up_for_retry", new_id, self.clock.now()

    def clear(self, task: TaskRef, *, new_id: str | None) -> None:
        """Have a person clear the task: a new id at once, the number of the try later."""
        instance = self.instances[place_of(task)]
        instance.state, instance.id = None, new_id

    def next_try(self, task: TaskRef) -> None:
        """Have the next try run."""
        instance = self.instances[place_of(task)]
        instance.state, instance.try_number = "running", instance.try_number + 1

    def answer_as(self, person: str, task: TaskRef, option: str) -> None:
        """Have a person answer in Required Actions."""
        with self.lock:
            instance = self.instances[place_of(task)]
            instance.answer = Answer(token=None, by=person, at=self.clock.now(), chosen=(option,))
            if instance.state == PARKED:
                instance.state = "scheduled"

    def remove(self, task: TaskRef) -> None:
        """Have the task instance deleted."""
        self.instances.pop(place_of(task), None)

    # --- the port ---

    def read_task(self, task: TaskRef) -> TaskView | Refusal:
        """Read a task instance with its answer."""
        with self.lock:
            self.calls[task.target] += 1
            self.reads[place_of(task)] += 1
            step = self.read_script.popleft() if self.read_script else self.down.get(task.target)
            if step is not None:
                return step
            found = self.instances.get(place_of(task))
            if found is None:
                return MISSING
            return TaskView(found.state, found.try_number, found.id, ended_at=found.ended_at, answer=found.answer)

    def resume(self, task: TaskRef, completion: Completion) -> Accepted | Refusal:
        """Answer a task."""
        with self.lock:
            self.calls[task.target] += 1
            self.patches[place_of(task)] += 1
            step = self.patch_script.popleft() if self.patch_script else self.down.get(task.target)
            if isinstance(step, Refusal):
                return step
            refusal = self._answer(task, completion)
            if refusal is not None:
                return refusal
            return step.refusal if step is not None else Accepted()

    def parked(self, target: str, page: int) -> ParkedPage | Refusal:
        """List the parked tasks."""
        with self.lock:
            self.calls[target] += 1
            self.lists[target] += 1
            if (refusal := self.down.get(target)) is not None:
                return refusal
            shown = [
                ParkedTask(place[1], place[2], place[3], place[4], one.try_number, one.id)
                for place, one in self.instances.items()
                if place[0] == target and one.state == PARKED
            ]
        start = page * self.page_size
        return ParkedPage(shown[start : start + self.page_size], more=len(shown) > start + self.page_size)

    def check(self, target: str) -> Refusal | None:
        """Say whether a target is up."""
        return self.down.get(target)

    def _answer(self, task: TaskRef, completion: Completion) -> Refusal | None:
        found = self.instances.get(place_of(task))
        if found is None or not found.has_parked:
            return MISSING
        if found.answer is not None:
            return ANSWERED
        now = self.clock.now()
        found.answer = Answer(completion.token, by="bridge", at=now, chosen=(completion.status.value,))
        if found.state == PARKED:
            self.resumed[found.id] += 1
            self.told.setdefault(found.id, []).append(completion)
            found.state = "scheduled"
            if found.parked_at is not None and now - found.parked_at < TOO_EARLY:
                self.too_early.append(found.id)
                found.state, found.ended_at = "failed", now
        return None
