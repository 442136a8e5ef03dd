"""Runs that nobody waits for any more: when that is proven, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from bridge import decide, policy, service
from bridge.model import (
    Continuation,
    Match,
    NewTry,
    OnAbandon,
    PreviousTry,
    RunKey,
    RunStatus,
    TaskRef,
    WaitState,
    match_key,
)
from bridge.ports import NotRunning, OpenWait, ParkedTask, Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.airflow import FakeAirflow, place_of
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import DEADLINE, FACTORY, KEY, MINUTE, SECOND, TASK, a_request, a_task, a_wait

HOUR = timedelta(hours=1)
CANCEL = OnAbandon.CANCEL
FIRST = RunKey(FACTORY, "run-1")
CHILD = RunKey(FACTORY, "child")
FORBIDDEN = Refusal(RefusalKind.FORBIDDEN, "ADF answered 403")
UNAVAILABLE = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 502")


def waiting(bench: Bench, on_abandon: OnAbandon = CANCEL, task: TaskRef = TASK, key: RunKey = KEY) -> None:
    """Have a parked task wait for a run that goes on, since an hour ago."""
    if key not in bench.adf.runs:
        bench.adf.begin(key)
    bench.airflow.run(task)
    bench.register(task, key, on_abandon=on_abandon)
    bench.airflow.park(task)


def words(bench: Bench, task: TaskRef = TASK) -> list[str]:
    """Return the words of a wait's story."""
    return [line.what for line in bench.wait(task).timeline]


def cleared(airflow: FakeAirflow) -> None:
    """A person clears the task."""
    airflow.clear(TASK, new_id="ti-2")


def retried(airflow: FakeAirflow) -> None:
    """The try fails and another one follows."""
    airflow.retry(TASK, new_id="ti-2")


def marked(airflow: FakeAirflow) -> None:
    """A person marks the task."""
    airflow.finish(TASK, "success")


def answered(airflow: FakeAirflow) -> None:
    """A person answers in Required Actions, and the task goes on to its end."""
    airflow.answer_as("ana", TASK, "Succeeded")
    airflow.finish(TASK, "success")


@pytest.mark.parametrize(
    ("leaves", "state"),
    [
        (cleared, WaitState.STALE),
        (retried, WaitState.STALE),
        (marked, WaitState.OVERRIDDEN),
        (answered, WaitState.OVERRIDDEN),
    ],
)
def test_abandoned(leaves: Callable[[FakeAirflow], None], state: WaitState) -> None:
    """S14: when the task waits no more, its run is cancelled within two sweeps, once, with the runs that it started."""
    bench = Bench()
    waiting(bench)
    bench.pass_time(5 * MINUTE)
    leaves(bench.airflow)
    bench.pass_time(135 * SECOND)
    assert ([(KEY, True)], state, None) == (bench.adf.cancels, bench.wait().state, bench.wait().due_at)
    assert ["maybe-abandoned", "abandoned", "cancelled"] == words(bench)[-3:]
    bench.pass_time(HOUR)
    assert 1 == len(bench.adf.cancels)


def test_left_running() -> None:
    """S14: with `leave`, nobody looks at the task, and the run goes on."""
    bench = Bench()
    waiting(bench, OnAbandon.LEAVE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert ([], 0, WaitState.OPEN) == (bench.adf.cancels, bench.airflow.calls["prod"], bench.wait().state)


def test_parked_tasks_cost_a_listing() -> None:
    """250 parked tasks whose runs go on cost 3 calls of Airflow in a sweep, and no read of a single one."""
    bench = Bench()
    for number in range(250):
        task = a_task(map_index=number, task_instance_id=f"ti-{number}")
        waiting(bench, task=task, key=RunKey(FACTORY, f"run-of-{number}"))
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert (3, 3) == (bench.airflow.lists["prod"], bench.airflow.calls["prod"])


def test_few_among_many() -> None:
    """A single task among thousands of parked ones costs one page and one read, not all pages."""
    bench = Bench()
    for number in range(1000):
        bench.airflow.park(a_task(map_index=number, task_instance_id=f"ti-{number}"))
    mine = a_task(task_id="mine", task_instance_id="ti-mine")
    waiting(bench, task=mine)
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert (1, 2) == (bench.airflow.lists["prod"], bench.airflow.calls["prod"])


def test_more_than_a_look_reads() -> None:
    """S14: many tasks that wait and that no listing shows do not hide one that waits no more."""
    bench = Bench()
    bench.airflow.page_size = 0
    for number in range(policy.LOOKS_AT_ONCE + 10):
        task = a_task(map_index=number, task_instance_id=f"ti-{number}")
        waiting(bench, task=task, key=RunKey(FACTORY, f"run-of-{number}"))
        bench.clock.advance(SECOND)
    last = policy.LOOKS_AT_ONCE + 9
    bench.airflow.clear(a_task(map_index=last, task_instance_id=f"ti-{last}"), new_id="ti-anew")
    bench.pass_time(5 * MINUTE)
    assert [(RunKey(FACTORY, f"run-of-{last}"), True)] == bench.adf.cancels


def test_one_read_proves_nothing() -> None:
    """A task that shows up again between the two reads is not abandoned, and the count begins anew."""
    bench = Bench()
    waiting(bench)
    for _ in range(4):
        bench.airflow.clear(TASK, new_id="ti-2")
        bench.clock.advance(MINUTE)
        bench.tick()
        bench.airflow.instances.clear()
        bench.airflow.park(TASK)
        bench.clock.advance(MINUTE)
        bench.airflow.page_size = 0  # the listing misses it: it is read by itself
        bench.tick()
        bench.airflow.page_size = 100
    assert ([], WaitState.OPEN, None) == (bench.adf.cancels, bench.wait().state, bench.wait().abandoned_at)


@pytest.mark.parametrize(
    "kind", [RefusalKind.NOT_FOUND, RefusalKind.UNAVAILABLE, RefusalKind.FORBIDDEN, RefusalKind.UNREACHABLE]
)
def test_errors_prove_nothing(kind: RefusalKind) -> None:
    """Errors of Airflow's and tasks that are not there never cancel a run, however long that lasts."""
    bench = Bench()
    waiting(bench)
    if kind is RefusalKind.NOT_FOUND:
        bench.airflow.instances.clear()
    else:
        bench.airflow.down["prod"] = Refusal(kind, "Airflow is in trouble")
    bench.pass_time(3 * HOUR)
    assert ([], WaitState.OPEN) == (bench.adf.cancels, bench.wait().state)


def test_too_soon() -> None:
    """Two reads less than a minute apart are one: a sweep interval of ten seconds does not make it faster."""
    bench = Bench(BRIDGE_SWEEP_SECONDS="10")
    waiting(bench)
    bench.pass_time(MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(MINUTE)
    assert [] == bench.adf.cancels
    bench.pass_time(45 * SECOND)
    assert [(KEY, True)] == bench.adf.cancels


def test_somebody_else_waits() -> None:
    """A run that another task waits for as well is left alone, and so is the other wait."""
    bench = Bench()
    other = a_task(task_id="other", task_instance_id="ti-other")
    waiting(bench)
    waiting(bench, OnAbandon.LEAVE, other)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(5 * MINUTE)
    assert ([], WaitState.STALE, "not-cancelled") == (bench.adf.cancels, bench.wait().state, words(bench)[-1])
    assert (WaitState.OPEN, None) == (bench.wait(other).state, bench.wait().due_at)


@pytest.mark.parametrize("reattached", [True, False])
def test_the_next_try(reattached: bool) -> None:
    """S14: a next try that waits for the same run keeps it; one that starts its own lets the old one be cancelled."""
    bench = Bench()
    waiting(bench)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.clock.advance(MINUTE)
    bench.tick()
    again = a_task(task_instance_id="ti-2", try_number=2, nonce="nonce-2")
    bench.airflow.next_try(TASK)
    waiting(bench, task=again, key=KEY if reattached else RunKey(FACTORY, "run-of-2"))
    bench.pass_time(3 * MINUTE)
    assert ([] if reattached else [(KEY, True)]) == bench.adf.cancels
    assert WaitState.OPEN is bench.wait(again).state


def test_observed() -> None:
    """A target in observe mode has nothing cancelled for it: what would be done is recorded."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__OBSERVE="true")
    waiting(bench)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(5 * MINUTE)
    assert ([], WaitState.STALE, "not-cancelled") == (bench.adf.cancels, bench.wait().state, words(bench)[-1])
    assert "observe" in bench.wait().timeline[-1].detail


@pytest.mark.parametrize("on_abandon", OnAbandon)
def test_the_deadline(on_abandon: OnAbandon) -> None:
    """S29: at the deadline the task is told, and `on_abandon` decides about the run; a late end changes nothing."""
    bench = Bench()
    waiting(bench, on_abandon)
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.pass_time(MINUTE)
    told = [completion.status.value for completion in bench.airflow.told["ti-1"]]
    assert (["Expired"], WaitState.DELIVERED) == (told, bench.wait().state)
    assert ([(KEY, True)] if on_abandon is CANCEL else []) == bench.adf.cancels
    bench.event("Cancelled")
    bench.pass_time(HOUR)
    assert {"ti-1": 1} == bench.airflow.resumed


def test_the_deadline_while_somebody_else_waits() -> None:
    """S29: a run that another task waits for goes on after the deadline of the first."""
    bench = Bench()
    other = a_task(task_id="other", task_instance_id="ti-other")
    waiting(bench)
    bench.airflow.run(other)
    bench.register(other, deadline=DEADLINE + HOUR)
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.pass_time(MINUTE)
    assert ([], WaitState.OPEN) == (bench.adf.cancels, bench.wait(other).state)


@pytest.mark.parametrize(
    "trouble", [UNAVAILABLE, Refusal(RefusalKind.THROTTLED, "ADF answered 429", MINUTE), FORBIDDEN, Lost(UNAVAILABLE)]
)
def test_cancelling_in_trouble(trouble: Refusal | Lost) -> None:
    """A cancel that fails is sent again until it is answered; an answer that was lost shows as a run that has ended."""
    bench = Bench()
    waiting(bench)
    bench.adf.cancel_script.append(trouble)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert (2, False, None) == (len(bench.adf.cancels), bench.wait().cancels, bench.wait().due_at)
    assert RunStatus.CANCELLED is bench.adf.runs[KEY].status


def test_cancelling_is_given_up() -> None:
    """A cancel that nobody permits is tried every few minutes until an hour after the deadline, then given up."""
    bench = Bench()
    waiting(bench)
    bench.adf.cancel_script += [FORBIDDEN] * 1_000
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(HOUR)
    assert 20 >= len(bench.adf.cancels)
    assert not bench.store.breaker(f"factory:{FACTORY.key}").is_open
    bench.clock.sleep_until(DEADLINE + HOUR)
    bench.pass_time(10 * MINUTE)
    assert (False, None, "not-cancelled") == (bench.wait().cancels, bench.wait().due_at, words(bench)[-1])


def test_cancelling_while_the_target_is_paused() -> None:
    """The pause of a target holds back what calls it, and no cancel of a run."""
    bench = Bench()
    waiting(bench)
    bench.adf.cancel_script.append(UNAVAILABLE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(150 * SECOND)
    bench.airflow.down["prod"] = Refusal(RefusalKind.FORBIDDEN, "Airflow answered 403")
    due = a_task(task_id="other", task_instance_id="ti-other")
    waiting(bench, OnAbandon.LEAVE, due, FIRST)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.event("Succeeded", FIRST)
    bench.pass_time(5 * MINUTE)
    assert (True, 2) == (bench.store.breaker("target:prod").is_open, len(bench.adf.cancels))


def test_the_run_ends_meanwhile() -> None:
    """A run that ended before it could be cancelled is told apart: nothing was cancelled."""
    bench = Bench()
    waiting(bench)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.clock.advance(MINUTE)
    bench.tick()
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.adf.query_script += [UNAVAILABLE] * 10
    bench.pass_time(75 * SECOND)
    assert ("not-cancelled", WaitState.STALE) == (words(bench)[-1], bench.wait().state)
    assert RunStatus.SUCCEEDED is bench.adf.runs[KEY].status


def wrapped(bench: Bench) -> None:
    """Have the run be a wrapper's, which has started the run that it wraps."""
    bench.adf.begin(KEY, pipeline="copy_orders__notified")
    bench.adf.begin_child(CHILD, KEY)


@pytest.mark.parametrize(
    ("given", "key", "other"),
    [
        pytest.param(lambda _: None, KEY, None, id="by match"),
        pytest.param(wrapped, KEY, None, id="by match, the wrapped run"),
        pytest.param(wrapped, KEY, CHILD, id="the wrapped run"),
        pytest.param(wrapped, CHILD, KEY, id="the wrapper"),
    ],
)
def test_somebody_waits_under_another_name(given: Callable[[Bench], None], key: RunKey, other: RunKey | None) -> None:
    """A run is not cancelled while a task waits for it by match, for the run that it wraps, or for its wrapper."""
    bench = Bench()
    given(bench)
    waiting(bench, key=key)
    sensor = a_task(task_id="sensor", nonce="nonce-9", task_instance_id="ti-9")
    if other is not None:
        waiting(bench, OnAbandon.LEAVE, sensor, other)
    else:
        match = Match("copy_orders", START, tuple(RunStatus))
        bench.airflow.run(sensor)
        bench.register(sensor, match_key(FACTORY, match.pipeline, sensor.token), match=match)
        bench.airflow.park(sensor)
    bench.pass_time(5 * MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert ([], "not-cancelled", WaitState.OPEN) == (bench.adf.cancels, words(bench)[-1], bench.wait(sensor).state)


def test_somebody_waits_for_another_run_of_the_pipeline() -> None:
    """A run is cancelled though a task waits by match for a run of its pipeline, if that one has found another run."""
    bench = Bench()
    waiting(bench)
    bench.clock.advance(MINUTE)
    sensor = a_task(task_id="sensor", nonce="nonce-9", task_instance_id="ti-9")
    match = Match("copy_orders", bench.clock.now(), tuple(RunStatus))
    bench.airflow.run(sensor)
    bench.register(sensor, match_key(FACTORY, match.pipeline, sensor.token), match=match)
    bench.airflow.park(sensor)
    bench.adf.begin(RunKey(FACTORY, "another"))
    bench.pass_time(5 * MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert ([(KEY, True)], WaitState.OPEN) == (bench.adf.cancels, bench.wait(sensor).state)


def test_a_run_without_a_wrapper_has_no_child_to_look_for() -> None:
    """What a cancel asks of ADF: the run once, and for its child only where it is a wrapper's."""
    bench = Bench()
    waiting(bench)
    bench.pass_time(5 * MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert ([(KEY, True)], 0) == (bench.adf.cancels, bench.adf.child_reads.total())


def test_a_wait_that_is_not_there_any_more() -> None:
    """What was purged while it was about to be cancelled is nothing to do."""
    bench = Bench()
    assert bench.app.run(service.cancel_abandoned(TASK.token, bench.app.rules)) is None


def test_adf_cannot_be_asked_who_waits() -> None:
    """A run is not cancelled before ADF has said whose it is; that is asked again."""
    bench = Bench()
    waiting(bench)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(MINUTE)
    bench.adf.read_script += [UNAVAILABLE] * 2
    bench.pass_time(5 * MINUTE)
    assert ([(KEY, True)], ["abandoned", "cancel-failed", "cancelled"]) == (bench.adf.cancels, words(bench)[-3:])


def test_older_airflows() -> None:
    """A task instance without an id is known by its names and its try."""
    task = a_task(task_instance_id=None)
    parked = ParkedTask(task.dag_id, task.run_id, task.task_id, -1, 1, None)
    tasks = decide.watched([OpenWait(task.token, "run-1", START, task)], "prod")
    assert {} == decide.nominated(tasks, [parked])
    later = ParkedTask(task.dag_id, task.run_id, task.task_id, -1, 2, None)
    assert {task.token: task} == decide.nominated(tasks, [later])


def test_what_is_watched() -> None:
    """Only waits that want their run cancelled have their tasks looked at."""
    assert (TASK, None) == (a_wait(on_abandon=CANCEL).watched, a_wait().watched)
    assert timedelta(minutes=1) <= policy.ABANDONED_AFTER


def test_the_proof_of_an_answer_outlives_the_cancel() -> None:
    """S29: an answer that was given with a cancel still to come is proved afterwards, as any other."""
    later = START + MINUTE
    wait = a_wait(state=WaitState.INLINE, on_abandon=CANCEL, cancels=True, due_at=later)
    assert {(later, False)} == {
        (after.due_at, after.cancels)
        for after in (decide.let_run(wait, "it had ended", START), decide.on_cancel(wait, NotRunning(), START, 0.5))
    }


def test_a_forbidden_cancel_holds_no_completion_up() -> None:
    """S29: a cancel that is refused does not make the task wait longer for what it is told at the deadline."""
    bench = Bench()
    waiting(bench)
    bench.adf.cancel_script += [FORBIDDEN] * 100
    bench.airflow.instances[place_of(TASK)].state = "running"
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.airflow.park(TASK)
    bench.pass_time(2 * MINUTE)
    assert ["Expired"] == [completion.status.value for completion in bench.airflow.told.get("ti-1", [])]


def cleared_after_a_start(bench: Bench) -> None:
    """Have a task start a run, and a person clear it later."""
    bench.airflow.run(TASK)
    bench.start(wait=a_request(on_abandon=CANCEL))
    bench.airflow.park(TASK)
    bench.pass_time(5 * MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")


def how_the_next_try_starts(bench: Bench) -> str:
    """Have the task's next try ask for a run; return how it came to one."""
    retry = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
    bench.airflow.run(retry)
    return str(bench.start(retry, previous=Continuation(PreviousTry.REATTACH, NewTry.CLEAR))["start"]["how"])


def test_a_run_that_adf_does_not_cancel() -> None:
    """S14: a run that ADF will not cancel goes on, and the next try goes on with it."""
    bench = Bench()
    cleared_after_a_start(bench)
    bench.adf.cancel_script.append(Refusal(RefusalKind.INVALID, "ADF answered 400"))
    bench.pass_time(3 * MINUTE)
    assert ("not-cancelled", "reattached") == (words(bench)[-1], how_the_next_try_starts(bench))


def test_a_run_whose_cancel_is_tried_again() -> None:
    """S14: a run that could not be cancelled yet is given to no next try: it is still to be cancelled."""
    bench = Bench()
    cleared_after_a_start(bench)
    bench.adf.cancel_script += [UNAVAILABLE] * 100
    bench.pass_time(3 * MINUTE)
    assert ("cancel-failed", "started") == (words(bench)[-1], how_the_next_try_starts(bench))


def test_a_cancel_that_is_called_off() -> None:
    """S14: a run that somebody else waits for before it could be cancelled goes on, and the next try has it, too."""
    bench = Bench()
    cleared_after_a_start(bench)
    bench.adf.cancel_script += [UNAVAILABLE] * 100
    bench.pass_time(3 * MINUTE)
    assert "cancel-failed" == words(bench)[-1]
    waiting(bench, task=a_task(task_id="other", task_instance_id="ti-9", nonce="nonce-9"), key=FIRST)
    bench.adf.cancel_script.clear()
    bench.pass_time(10 * MINUTE)
    assert ("not-cancelled", "reattached") == (words(bench)[-1], how_the_next_try_starts(bench))
