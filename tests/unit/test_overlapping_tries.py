"""Two tries of a task that ask for a run at the same time, or in the wrong order, start one run between them."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from bridge import service
from bridge.commands import Command
from bridge.errors import AirflowUnavailable, Problem, RequestInFlight, TryOver
from bridge.model import Continuation, NewTry, PreviousTry, TaskRef
from bridge.ports import Refusal, RefusalKind
from bridge.service import StartAnswer
from tests.fakes.bench import Bench
from tests.fakes.samples import SECOND, TASK, a_task, a_trigger

RETRY = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
STEPS = 24  # more commands than a request takes


class Asking:
    """A request under way, as one instance of the bridge handles it: command by command."""

    def __init__(self, bench: Bench, task: TaskRef) -> None:
        previous = Continuation(PreviousTry.REATTACH, NewTry.RETRY) if task is RETRY else None
        request = a_trigger(task, previous=previous)
        self._bench = bench
        self._use_case: Generator[Command[Any], Any, StartAnswer] = service.start_run(request, bench.app.rules)
        self._send: Any = None
        self._throw: BaseException | None = None
        self.answer: dict[str, Any] | None = None
        self.problem: Problem | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was answered."""
        return self.answer is not None or self.problem is not None

    def go_on(self, steps: int = 1_000) -> Asking:
        """Do the next steps, as far as there are any."""
        for _ in range(steps):
            if self.is_over:
                break
            self._step()
        return self

    def _step(self) -> None:
        try:
            command = self._use_case.throw(self._throw) if self._throw else self._use_case.send(self._send)
        except StopIteration as end:
            self.answer = json.loads(end.value.document)
            return
        except Problem as problem:
            self.problem = problem
            return
        self._send = self._throw = None
        try:
            self._send = self._bench.executor.perform(command)
        except Exception as error:  # noqa: BLE001 - it is the use case's to handle
            self._throw = error


def settled(bench: Bench, asking: Asking, task: TaskRef) -> Asking:
    """Ask again as long as that is what the bridge says."""
    while isinstance(asking.problem, RequestInFlight):
        bench.clock.advance(asking.problem.retry_after or SECOND)
        asking = Asking(bench, task).go_on()
    return asking


@pytest.fixture
def bench() -> Bench:
    """A bridge; Airflow has given the first try up, and the second is at work."""
    bench = Bench()
    bench.airflow.run(RETRY)
    return bench


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize("first", [TASK, RETRY], ids=["the first try's comes first", "the second try's comes first"])
def test_one_run(bench: Bench, first: TaskRef, steps: int) -> None:
    """S14: wherever one try's request is overtaken by the other's, one run is started, and the second try has it."""
    second = RETRY if first is TASK else TASK
    slow = Asking(bench, first).go_on(steps)
    quick = Asking(bench, second).go_on()
    slow.go_on()
    tries = {first: slow, second: quick}
    retry = settled(bench, tries[RETRY], RETRY)
    assert retry.answer is not None
    assert ("run-1", 1) == (retry.answer["run"]["run_id"], len(bench.adf.creates))


def test_a_try_that_is_over(bench: Bench) -> None:
    """S14: the request of a try that is over starts nothing when the next one has a run; it is told so."""
    Asking(bench, RETRY).go_on()
    late = Asking(bench, TASK).go_on()
    assert (TryOver, 1) == (type(late.problem), len(bench.adf.creates))
    assert bench.store.inner.request(TASK.token) is None


def test_airflow_cannot_be_asked(bench: Bench) -> None:
    """S14: whether a try is over that was overtaken is not guessed."""
    Asking(bench, RETRY).go_on()
    bench.airflow.down["prod"] = Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502")
    late = Asking(bench, TASK).go_on()
    assert (AirflowUnavailable, 1) == (type(late.problem), len(bench.adf.creates))


def test_a_dag_run_made_anew(bench: Bench) -> None:
    """S47: the first try of a DAG run made anew under the same names starts its run, though an older one had more."""
    Asking(bench, RETRY).go_on()
    bench.airflow.run(TASK)
    anew = Asking(bench, TASK).go_on()
    assert anew.answer is not None
    assert "run-2" == anew.answer["run"]["run_id"]
