"""Several cancels of one run: what ADF has taken is called off by nobody, and no next try is given such a run."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from bridge import service
from bridge.model import Continuation, NewTry, OnAbandon, PreviousTry, RunKey, RunStatus, TaskRef, Wait, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, TASK, a_request, a_task
from tests.fakes.stepping import Stepping

RUN = RunKey(FACTORY, "run-1")
OTHER = a_task(task_id="other", task_instance_id="ti-other", nonce="nonce-9")
THIRD = a_task(task_id="third", task_instance_id="ti-third", nonce="nonce-8")
RETRY = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
REFUSED = Refusal(RefusalKind.INVALID, "ADF answered 400")
UNAVAILABLE = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 502")
STEPS = 16  # more commands than a cancel takes


@pytest.fixture
def bench() -> Bench:
    """A bridge, and a run that goes on: two tasks that wait for it no more want it cancelled."""
    bench = Bench()
    bench.airflow.run(TASK)
    bench.start(wait=a_request(on_abandon=OnAbandon.CANCEL))
    bench.airflow.run(OTHER)
    bench.register(OTHER, RUN, on_abandon=OnAbandon.CANCEL)
    for task in (TASK, OTHER):
        gone = replace(bench.wait(task), state=WaitState.STALE, cancels=True, due_at=bench.clock.now())
        bench.store.inner.put(None, (gone,))
    return bench


def cancelling(bench: Bench, task: TaskRef) -> Stepping[Wait | None]:
    """Return the cancel that a task's wait wants, as one instance of the bridge does it."""
    return Stepping(bench, service.cancel_abandoned(task.token, bench.app.rules))


def refused(bench: Bench, task: TaskRef) -> None:
    """Have the cancel that a task's wait wants be refused by ADF, for good."""
    while bench.wait(task).cancels:
        bench.adf.cancel_script.append(REFUSED)
        cancelling(bench, task).go_on()
        bench.adf.cancel_script.clear()


def accepted(bench: Bench, task: TaskRef) -> None:
    """Have it be accepted; ADF shows the run as going on for some time yet."""
    cancelling(bench, task).go_on()
    assert ("cancelled", RunStatus.CANCELLED) == (bench.wait(task).timeline[-1].what, bench.adf.runs[RUN].status)
    bench.adf.begin(RUN)


def how_the_next_try_starts(bench: Bench) -> str:
    """Have the first task's next try ask for a run; return how it came to one."""
    bench.airflow.run(RETRY)
    return str(bench.start(RETRY, previous=Continuation(PreviousTry.REATTACH, NewTry.CLEAR))["start"]["how"])


@pytest.mark.parametrize("steps", range(STEPS))
def test_a_refusal_calls_nobody_elses_cancel_off(bench: Bench, steps: int) -> None:
    """S14: wherever a cancel that ADF refuses is overtaken by one that it accepts, no next try is given the run."""
    bench.adf.cancel_script.append(REFUSED)
    slow = cancelling(bench, TASK).go_on(steps)
    unasked, bench.adf.cancel_script = bench.adf.cancel_script, deque()
    accepted(bench, OTHER)
    bench.adf.cancel_script = unasked
    slow.go_on()
    refused(bench, TASK)
    assert ("not-cancelled", "started") == (bench.wait().timeline[-1].what, how_the_next_try_starts(bench))


def test_two_instances_cancel_one_run(bench: Bench) -> None:
    """S14: a cancel that another instance has accepted stands, though one was under way that ADF refuses."""
    # The first put notes the cancel that is refused, the second one settles it.
    bench.adf.cancel_script.append(REFUSED)
    bench.store.before("put", lambda: accepted(bench, OTHER), nth=2)
    cancelling(bench, TASK).go_on()
    assert ("not-cancelled", 2) == (bench.wait().timeline[-1].what, len(bench.adf.cancels))
    assert "started" == how_the_next_try_starts(bench)


def test_a_cancel_that_is_accepted_though_the_row_changes(bench: Bench) -> None:
    """An accepted cancel is told as one, and asked for once, though the run's row changes at that moment."""

    def changed() -> None:
        run, _ = bench.store.inner.run(RUN)
        assert run is not None
        bench.store.inner.put(run, ())

    bench.store.before("put", changed, nth=2)
    accepted(bench, TASK)
    assert [(RUN, True)] == bench.adf.cancels


def test_left_alone_by_one_and_cancelled_by_another(bench: Bench) -> None:
    """S14: a wait that lets the run be, for a third task waits, calls no cancel off that a caller has had accepted."""
    bench.app.run(service.cancel_run(RUN, bench.app.rules, recursive=True))
    bench.adf.begin(RUN)
    bench.airflow.run(THIRD)
    bench.register(THIRD, RUN)
    for task in (TASK, OTHER):
        cancelling(bench, task).go_on()
    assert ("not-cancelled", "started") == (bench.wait().timeline[-1].what, how_the_next_try_starts(bench))


@pytest.mark.parametrize("steps", range(STEPS))
def test_all_are_refused(bench: Bench, steps: int) -> None:
    """S14: a run that ADF cancels for nobody goes on, wherever the cancels overtake each other; the next try has it."""
    bench.adf.cancel_script += [REFUSED] * 10
    slow = cancelling(bench, TASK).go_on(steps)
    cancelling(bench, OTHER).go_on()
    slow.go_on()
    for task in (TASK, OTHER):
        refused(bench, task)
    assert "reattached" == how_the_next_try_starts(bench)


def test_one_is_refused_and_one_is_tried_again(bench: Bench) -> None:
    """S14: a run that one wait still wants cancelled is given to no next try, though another's cancel was refused."""
    bench.adf.cancel_script.append(UNAVAILABLE)
    cancelling(bench, OTHER).go_on()
    refused(bench, TASK)
    assert (True, "started") == (bench.wait(OTHER).cancels, how_the_next_try_starts(bench))


def test_a_callers_cancel_while_the_row_changes(bench: Bench) -> None:
    """S14: a cancel that a caller has had accepted is kept with the run, though its row changes at that moment."""
    for task in (TASK, OTHER):
        bench.store.inner.put(None, (replace(bench.wait(task), cancels=False),))
    bench.store.conflict("put")
    bench.app.run(service.cancel_run(RUN, bench.app.rules, recursive=True))
    bench.adf.begin(RUN)
    assert "started" == how_the_next_try_starts(bench)
