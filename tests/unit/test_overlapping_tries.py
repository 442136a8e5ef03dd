"""Two tries of a task that ask for a run at the same time, or in the wrong order, start one run between them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge import service
from bridge.errors import AirflowUnavailable, RequestInFlight, TryOver
from bridge.model import (
    Breaker,
    Continuation,
    NewTry,
    OnAbandon,
    PreviousTry,
    RunKey,
    RunStatus,
    TaskRef,
    WaitState,
)
from bridge.ports import Refusal, RefusalKind
from bridge.service import StartAnswer
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, MINUTE, SECOND, TASK, a_request, a_task, a_trigger
from tests.fakes.stepping import Stepping

RETRY = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
STEPS = 24  # more commands than a request takes


def asking(bench: Bench, task: TaskRef) -> Stepping[StartAnswer]:
    """Return the request of a try, as one instance of the bridge handles it."""
    previous = Continuation(PreviousTry.REATTACH, NewTry.RETRY) if task is RETRY else None
    return Stepping(bench, service.start_run(a_trigger(task, previous=previous), bench.app.rules))


def run_of(asked: Stepping[StartAnswer]) -> str:
    """Return the run with which a request was answered."""
    assert asked.result is not None
    return str(json.loads(asked.result.document)["run"]["run_id"])


def settled(bench: Bench, asked: Stepping[StartAnswer], task: TaskRef) -> Stepping[StartAnswer]:
    """Ask again as long as that is what the bridge says."""
    while isinstance(asked.problem, RequestInFlight):
        bench.clock.advance(asked.problem.retry_after or SECOND)
        asked = asking(bench, task).go_on()
    return asked


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
    slow = asking(bench, first).go_on(steps)
    quick = asking(bench, second).go_on()
    slow.go_on()
    tries = {first: slow, second: quick}
    retry = settled(bench, tries[RETRY], RETRY)
    assert ("run-1", 1) == (run_of(retry), len(bench.adf.creates))


def test_a_try_that_is_over(bench: Bench) -> None:
    """S14: the request of a try that is over starts nothing when the next one has a run; it is told so."""
    asking(bench, RETRY).go_on()
    late = asking(bench, TASK).go_on()
    assert (TryOver, 1) == (type(late.problem), len(bench.adf.creates))
    assert bench.store.inner.request(TASK.token) is None


def test_airflow_cannot_be_asked(bench: Bench) -> None:
    """S14: whether a try is over that was overtaken is not guessed."""
    asking(bench, RETRY).go_on()
    bench.airflow.down["prod"] = Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502")
    late = asking(bench, TASK).go_on()
    assert (AirflowUnavailable, 1) == (type(late.problem), len(bench.adf.creates))


def test_the_target_is_paused(bench: Bench) -> None:
    """S14: while the target is paused Airflow is not called; the request may come again when that is over."""
    asking(bench, RETRY).go_on()
    breaker = Breaker("target:prod", "unavailable", since=bench.clock.now(), probe_at=bench.clock.now() + MINUTE)
    bench.store.inner.save_breaker(breaker)
    late = asking(bench, TASK).go_on()
    assert (AirflowUnavailable, 1, 0) == (type(late.problem), len(bench.adf.creates), bench.airflow.calls["prod"])
    assert bench.store.inner.request(TASK.token) is None


def test_a_task_that_airflow_does_not_know(bench: Bench) -> None:
    """S14: that Airflow does not know the task is no proof that the try is over: it has its run."""
    asking(bench, RETRY).go_on()
    bench.airflow.remove(RETRY)
    assert "run-2" == run_of(asking(bench, TASK).go_on())


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "up_for_retry"])
def test_a_try_that_has_ended(bench: Bench, state: str) -> None:
    """S14: a try that Airflow shows as ended, by its own id still, starts nothing once a later one has asked."""
    asking(bench, RETRY).go_on()
    bench.airflow.run(TASK)
    bench.airflow.finish(TASK, state)
    late = asking(bench, TASK).go_on()
    assert (TryOver, 1) == (type(late.problem), len(bench.adf.creates))


def test_a_dag_run_made_anew(bench: Bench) -> None:
    """S47: the first try of a DAG run made anew under the same names starts its run, though an older one had more."""
    asking(bench, RETRY).go_on()
    bench.airflow.run(TASK)
    assert "run-2" == run_of(asking(bench, TASK).go_on())


@pytest.mark.parametrize("retry_steps", range(24))
@pytest.mark.parametrize("cancel_steps", range(16))
def test_a_cancel_at_the_same_time(bench: Bench, cancel_steps: int, retry_steps: int) -> None:
    """S14: a run that the next try asks for while it is being cancelled is never given to it, and cancelled then.

    Wherever they overtake each other: either the try has the run and it goes on, or it has its own.
    """
    bench.airflow.run(TASK)
    bench.start(wait=a_request(on_abandon=OnAbandon.CANCEL))
    bench.airflow.run(RETRY)
    waiting = bench.wait()
    bench.store.inner.put(None, (replace(waiting, state=WaitState.STALE, cancels=True, due_at=bench.clock.now()),))
    cancel = Stepping(bench, service.cancel_abandoned(TASK.token, bench.app.rules)).go_on(cancel_steps)
    retry = asking(bench, RETRY).go_on(retry_steps)
    cancel.go_on()
    retry = settled(bench, retry.go_on(), RETRY)
    goes_on = bench.adf.runs[RunKey(FACTORY, run_of(retry))].status is RunStatus.IN_PROGRESS
    bench.pass_time(MINUTE)
    kept = bench.adf.runs[RunKey(FACTORY, run_of(retry))].status is RunStatus.IN_PROGRESS
    assert (True, True) == (goes_on, kept)


def test_a_cancel_that_a_caller_asked_for(bench: Bench) -> None:
    """S14: a run whose cancel ADF has accepted, and does not show yet, is given to no next try."""
    bench.airflow.run(TASK)
    bench.start()
    key = RunKey(FACTORY, "run-1")
    before = bench.adf.runs[key]
    bench.app.run(service.cancel_run(key, bench.app.rules, recursive=True))
    bench.adf.runs[key] = before
    bench.airflow.run(RETRY)
    assert "run-2" == run_of(settled(bench, asking(bench, RETRY).go_on(), RETRY))
