"""A try goes on from the one before: with its run, from where that failed, or with a run of its own, and says why."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge import http_api
from bridge.errors import AdfRefused, AdfThrottled, AdfUnavailable, NotFound, Problem, RequestInFlight
from bridge.model import (
    Continuation,
    Mode,
    NewTry,
    OnAbandon,
    PreviousTry,
    Recovery,
    RecoveryMode,
    RunKey,
    RunStatus,
    TaskRef,
    WaitState,
)
from bridge.ports import Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.bench import EDGE, Bench
from tests.fakes.samples import FACTORY, KEY, MINUTE, OTHER_FACTORY, SECOND, TASK, a_request, a_task

NO_ANSWER = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 504")
FIRST, SECOND_RUN = RunKey(FACTORY, "run-1"), RunKey(FACTORY, "run-2")
RETRY = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
THIRD = a_task(try_number=3, nonce="nonce-3", task_instance_id="ti-3")


@pytest.fixture
def bench() -> Bench:
    """A bridge that has started a run for a task's first try."""
    bench = Bench()
    bench.airflow.run(TASK)
    bench.start()
    return bench


def retry(
    bench: Bench,
    do: PreviousTry = PreviousTry.REATTACH,
    *,
    after: NewTry = NewTry.RETRY,
    task: TaskRef = RETRY,
    **changes: Any,
) -> dict[str, Any]:
    """Send the request of the task's next try."""
    bench.airflow.run(task)
    return bench.start(task, previous=Continuation(do, after), **changes)


def came_to(answer: dict[str, Any]) -> tuple[str, str]:
    """Return how a request was answered, and with which run."""
    return answer["start"]["how"], answer["run"]["run_id"]


@pytest.mark.parametrize("do", [PreviousTry.REATTACH, PreviousTry.RECOVER])
@pytest.mark.parametrize("after", NewTry)
def test_a_run_that_goes_on(bench: Bench, do: PreviousTry, after: NewTry) -> None:
    """S14: while the previous try's run goes on the new try waits for it, and nothing is started."""
    answer = retry(bench, do, after=after)
    assert (("reattached", "run-1"), "open", 1) == (came_to(answer), answer["wait"]["state"], len(bench.adf.creates))
    assert "goes on" in answer["start"]["why"]
    assert "reattached" in [entry.what for entry in bench.wait(RETRY).timeline]


def test_a_repeated_request(bench: Bench) -> None:
    """S21: a request that was reattached gets the same answer again, whatever became of the run."""
    first = retry(bench)
    bench.adf.end(FIRST, RunStatus.FAILED)
    assert (first, 1) == (retry(bench), len(bench.adf.creates))


def test_both_tries_are_told(bench: Bench) -> None:
    """S14: when the run ends the new try is told; the old one is stale, and touches nothing."""
    retry(bench)
    bench.airflow.park(RETRY)
    bench.pass_time(MINUTE)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.event(key=FIRST)
    bench.pass_time(MINUTE)
    assert (WaitState.DELIVERED, WaitState.STALE) == (bench.wait(RETRY).state, bench.wait().state)


@pytest.mark.parametrize(
    ("do", "after", "status", "expected", "why"),
    [
        (PreviousTry.REATTACH, NewTry.RETRY, RunStatus.SUCCEEDED, ("reattached", "run-1"), "has succeeded"),
        (PreviousTry.REATTACH, NewTry.CLEAR, RunStatus.SUCCEEDED, ("started", "run-2"), "ended as Succeeded"),
        (PreviousTry.RECOVER, NewTry.CLEAR, RunStatus.SUCCEEDED, ("started", "run-2"), "ended as Succeeded"),
        (PreviousTry.REATTACH, NewTry.RETRY, RunStatus.FAILED, ("started", "run-2"), "ended as Failed"),
        (PreviousTry.RECOVER, NewTry.RETRY, RunStatus.FAILED, ("recovered", "run-2"), "run again"),
        (PreviousTry.RECOVER, NewTry.CLEAR, RunStatus.FAILED, ("recovered", "run-2"), "run again"),
        (PreviousTry.RECOVER, NewTry.RETRY, RunStatus.CANCELLED, ("started", "run-2"), "ended as Cancelled"),
        (PreviousTry.REATTACH, NewTry.RETRY, RunStatus.CANCELING, ("started", "run-2"), "is being cancelled"),
        (PreviousTry.RERUN, NewTry.RETRY, RunStatus.SUCCEEDED, ("started", "run-2"), None),
    ],
)
def test_a_run_that_has_ended(  # noqa: PLR0917 - a table
    bench: Bench, do: PreviousTry, after: NewTry, status: RunStatus, expected: tuple[str, str], why: str | None
) -> None:
    """What becomes of the previous try's run depends on how it ended, and on why there is another try."""
    bench.adf.end(FIRST, status)
    answer = retry(bench, do, after=after)
    assert (expected, True) == (came_to(answer), (why or "") in (answer["start"]["why"] or ""))


def test_a_run_that_nobody_asked_about(bench: Bench) -> None:
    """A try that rerun was asked of does not look at the one before; nor does a first one."""
    reads = bench.adf.reads.total()
    answer = retry(bench, PreviousTry.RERUN)
    assert (("started", "run-2"), None, reads) == (came_to(answer), answer["start"]["why"], bench.adf.reads.total())


def test_recovering(bench: Bench) -> None:
    """A failed run is run again from the failed activity, in its group; the next retry does so from the last one."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    retry(bench, PreviousTry.RECOVER)
    bench.adf.end(SECOND_RUN, RunStatus.FAILED)
    retry(bench, PreviousTry.RECOVER, task=THIRD)
    assert [None, Recovery("run-1"), Recovery("run-2")] == [one.recovery for one in bench.adf.creates]
    assert {"run-1"} == {reading.group for reading in bench.adf.runs.values()}
    assert {} == bench.adf.creates[1].parameters


def test_recovering_what_a_wrapper_ran() -> None:
    """Of a wrapped run the pipeline's own one is run again, without the wrapper: that would run all of it."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.airflow.run(TASK)
    bench.start()
    bench.adf.begin_child(KEY, FIRST)
    for key in (KEY, FIRST):
        bench.adf.end(key, RunStatus.FAILED)
    answer = retry(bench, PreviousTry.RECOVER)
    assert ("recovered", "copy_orders", Recovery(KEY.run_id)) == (
        answer["start"]["how"],
        bench.adf.creates[1].pipeline,
        bench.adf.creates[1].recovery,
    )


def test_recovering_a_wrapper_without_a_child() -> None:
    """A wrapper that failed before it started its pipeline is started anew."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.airflow.run(TASK)
    bench.start()
    bench.adf.end(FIRST, RunStatus.FAILED)
    answer = retry(bench, PreviousTry.RECOVER)
    assert (("started", "run-2"), "copy_orders__notified") == (came_to(answer), bench.adf.creates[1].pipeline)


@pytest.mark.parametrize("kind", [RefusalKind.INVALID, RefusalKind.NOT_FOUND])
def test_adf_will_not_recover(bench: Bench, kind: RefusalKind) -> None:
    """A run that ADF refuses to run again, as for its age, is run anew, once, and the task is told why."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.adf.create_script.append(Refusal(kind, "ADF answered 400: too old"))
    answer = retry(bench, PreviousTry.RECOVER)
    assert ("started", 3, True) == (
        answer["start"]["how"],
        len(bench.adf.creates),
        "too old" in answer["start"]["why"],
    )


@pytest.mark.parametrize(
    ("kind", "error"), [(RefusalKind.THROTTLED, AdfThrottled), (RefusalKind.UNREACHABLE, AdfUnavailable)]
)
def test_adf_will_not_recover_and_is_busy(bench: Bench, kind: RefusalKind, error: type[Problem]) -> None:
    """S12: a run that ADF refuses to run again, and whose pipeline it does not show now, is run anew a little later."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    too_old = Refusal(RefusalKind.INVALID, "ADF answered 400: too old")
    bench.adf.create_script.extend([too_old, too_old])
    bench.adf.pipeline_script.append(Refusal(kind, "ADF answered 429"))
    with pytest.raises(error):
        retry(bench, PreviousTry.RECOVER)
    bench.clock.advance(10 * MINUTE)
    answer = retry(bench, PreviousTry.RECOVER)
    assert ("started", 2, True) == (answer["start"]["how"], len(bench.adf.runs), "too old" in answer["start"]["why"])


def test_recovering_a_wrapper_that_is_named_itself() -> None:
    """A wrapper that is started as a pipeline of its own is run anew, not again: what failed is another pipeline's."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.adf.declare("copy_orders__notified", "day", "bridge_key")
    bench.airflow.run(TASK)
    bench.start(pipeline="copy_orders__notified")
    bench.adf.begin_child(KEY, FIRST)
    for key in (KEY, FIRST):
        bench.adf.end(key, RunStatus.FAILED)
    bench.pass_time(5 * MINUTE)
    answer = retry(bench, PreviousTry.RECOVER, pipeline="copy_orders__notified")
    assert (("started", "run-2"), True) == (came_to(answer), "is one of 'copy_orders'" in answer["start"]["why"])


def test_recovering_what_adf_has_just_forgotten(bench: Bench) -> None:
    """A failed run that ADF does not know any more when it is to be run again is run anew, and the task is told why."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.adf.read_script.extend([bench.adf.runs[FIRST], Refusal(RefusalKind.NOT_FOUND, "ADF answered 404")])
    answer = retry(bench, PreviousTry.RECOVER)
    assert (("started", "run-2"), True) == (came_to(answer), "does not know run run-1" in answer["start"]["why"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parameters": {"day": "2026-03-02"}}, "other parameters"),
        ({"pipeline": "copy_items"}, "another pipeline, 'copy_orders'"),
        ({"factory": OTHER_FACTORY}, "another factory"),
    ],
)
@pytest.mark.parametrize("do", [PreviousTry.REATTACH, PreviousTry.RECOVER])
def test_a_try_that_asks_for_something_else(bench: Bench, do: PreviousTry, changes: dict[str, Any], why: str) -> None:
    """S14: a try with another pipeline, factory or other parameters has a run of its own: ADF would run the old one."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    answer = retry(bench, do, **changes)
    assert (("started", "run-2"), True) == (came_to(answer), why in answer["start"]["why"])


def test_another_task(bench: Bench) -> None:
    """S17, S18: the run of another map index, task, DAG run or target is not taken over."""
    others = [
        a_task(**{"try_number": 2, "nonce": name, name: value})
        for name, value in (("map_index", 3), ("task_id", "other"), ("run_id", "other"), ("target", "dev"))
    ]
    assert ["started"] * 4 == [came_to(retry(bench, task=task))[0] for task in others]


def test_a_dag_run_made_anew(bench: Bench) -> None:
    """S47: a first try, of a DAG run that was deleted and made again under the same names, takes over nothing."""
    again = a_task(nonce="nonce-9", task_instance_id="ti-9")
    assert ("started", "run-2") == came_to(retry(bench, task=again))


def test_a_retry_after_a_clear(bench: Bench) -> None:
    """S14: a retry does not take what ended before the task was cleared, though the try after that never got so far."""
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.airflow.run(THIRD)
    answer = bench.start(THIRD, previous=Continuation(PreviousTry.REATTACH, NewTry.RETRY, since_try=2))
    assert ("started", "run-2") == came_to(answer)


def test_recovering_from_the_failure(bench: Bench) -> None:
    """A retry runs a failed run again from the failed activity, also where the first try asked for all of another."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    asked: dict[str, Any] = {"recover_from": Recovery("run-1", RecoveryMode.ALL), "parameters": {}}
    bench.start(RETRY, **asked)
    bench.adf.end(SECOND_RUN, RunStatus.FAILED)
    retry(bench, PreviousTry.RECOVER, task=THIRD, **asked)
    assert Recovery("run-2", RecoveryMode.FROM_FAILURE) == bench.adf.creates[2].recovery


def test_the_try_before_the_last(bench: Bench) -> None:
    """A try that never got as far as the bridge is passed over: the run of the one before it is taken."""
    assert ("reattached", "run-1") == came_to(retry(bench, task=THIRD))


def test_the_previous_start_is_not_settled(bench: Bench) -> None:
    """S19: a try finds out first whether the one before has started a run."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.adf.create_script.append(Lost(NO_ANSWER))
    with pytest.raises(RequestInFlight):
        retry(bench)
    with pytest.raises(RequestInFlight, match="previous try") as caught:
        retry(bench, task=THIRD)
    assert caught.value.retry_after is not None
    bench.clock.advance(MINUTE + SECOND)
    assert (("reattached", "run-2"), 2) == (came_to(retry(bench, task=THIRD)), len(bench.adf.creates))


def test_the_previous_start_stays_unknown(bench: Bench) -> None:
    """S19: when it cannot be found out whether the previous try started a run, a new one is, and the task is told."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.adf.create_script.append(NO_ANSWER)
    with pytest.raises(RequestInFlight):
        retry(bench)
    bench.clock.advance(5 * MINUTE)
    answer = retry(bench, task=THIRD)
    assert (("started", "run-3"), True) == (came_to(answer), "could not be found out" in answer["start"]["why"])


def test_adf_cannot_be_asked(bench: Bench) -> None:
    """S45: while ADF cannot be asked about the earlier run nothing is started; the request may be sent again."""
    bench.adf.read_script.append(NO_ANSWER)
    with pytest.raises(AdfUnavailable, match="nothing was started"):
        retry(bench)
    assert (("reattached", "run-1"), 1) == (came_to(retry(bench)), len(bench.adf.creates))


def test_adf_does_not_let_the_bridge_read_runs(bench: Bench) -> None:
    """S45: where the permission to read the earlier run is missing it is named, and nothing is started."""
    bench.adf.read_script.append(Refusal(RefusalKind.FORBIDDEN, "ADF answered 403"))
    with pytest.raises(AdfRefused, match="pipelineruns/read") as raised:
        retry(bench)
    assert (403, 1) == (raised.value.status, len(bench.adf.creates))


def test_adf_is_too_busy_to_be_asked(bench: Bench) -> None:
    """S12: who asks while ADF throttles is told so, and how long to stay away, as where it throttles the start."""
    bench.adf.read_script.append(Refusal(RefusalKind.THROTTLED, "ADF answered 429", MINUTE))
    with pytest.raises(AdfThrottled, match="nothing was started") as raised:
        retry(bench)
    assert (MINUTE, 1) == (raised.value.retry_after, len(bench.adf.creates))
    bench.clock.advance(10 * SECOND)
    with pytest.raises(AdfThrottled, match="paused") as raised:
        retry(bench)
    assert (1, True) == (bench.adf.reads[FIRST], (raised.value.retry_after or SECOND) > 30 * SECOND)


def test_a_run_that_an_event_speaks_falsely_of(bench: Bench) -> None:
    """S35: a forged event that names a child which ADF does not know does not make the run itself unknown."""
    run, waits = bench.store.run(FIRST)
    assert run is not None
    bench.store.put(replace(run, claimed_run_id="forged"), waits)
    assert ("reattached", "run-1") == came_to(retry(bench))


def test_a_run_that_adf_forgot(bench: Bench) -> None:
    """A run that ADF does not know any more is started anew."""
    del bench.adf.runs[FIRST]
    answer = retry(bench)
    assert (("started", "run-2"), True) == (came_to(answer), "not known" in answer["start"]["why"])


@pytest.mark.parametrize("mode", [Mode.RESUME, Mode.QUEUE])
def test_a_next_try_that_gives_up(mode: Mode) -> None:
    """S30: a task that gives up has its run cancelled, though the wait of the try before is open still."""
    settings: dict[str, Any] = EDGE
    bench = Bench(**settings)
    target = "edge" if mode is Mode.QUEUE else "prod"
    first, second = (replace(task, target=target) for task in (TASK, RETRY))
    bench.airflow.run(first)
    bench.start(first, wait=a_request(first, mode=mode))
    bench.pass_time(20 * MINUTE)
    taken = retry(bench, task=second, wait=a_request(second, mode=mode))
    waits = bench.wait(first).state, bench.wait(second).state
    response = bench.call(http_api.cancel_run, path={"run_id": "run-1"}, body={"token": second.token})
    assert (("reattached", "run-1"), (WaitState.OPEN, WaitState.OPEN)) == (came_to(taken), waits)
    assert ("accepted", [(FIRST, True)]) == (json.loads(response.body)["cancel"], bench.adf.cancels)


def test_a_try_that_gives_up_late(bench: Bench) -> None:
    """S30: the run that the next try waits for by now is not cancelled for a try that gives up too late."""
    retry(bench)
    response = bench.call(http_api.cancel_run, path={"run_id": "run-1"}, body={"token": TASK.token})
    assert ("waited-for", []) == (json.loads(response.body)["cancel"], bench.adf.cancels)


# --- explicit recoveries ---


@pytest.mark.parametrize(
    "recovery",
    [Recovery("run-1"), Recovery("run-1", RecoveryMode.FROM_ACTIVITY, "Load"), Recovery("run-1", RecoveryMode.ALL)],
)
def test_an_explicit_recovery(bench: Bench, recovery: Recovery) -> None:
    """A caller may name the run to run again, and from where on."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    answer = bench.start(RETRY, recover_from=recovery, parameters={})
    assert ("recovered", recovery, "copy_orders") == (
        answer["start"]["how"],
        bench.adf.creates[1].recovery,
        bench.adf.creates[1].pipeline,
    )


def failed_through_a_wrapper() -> Bench:
    """Return a scene in which the first try's run has failed, and so has the wrapper's run that started it."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.start()
    bench.adf.begin_child(KEY, FIRST)
    for key in (KEY, FIRST):
        bench.adf.end(key, RunStatus.FAILED)
    return bench


def test_recovering_by_the_wrappers_run() -> None:
    """A caller that names a wrapper's run means the run of its pipeline."""
    bench = failed_through_a_wrapper()
    bench.start(RETRY, recover_from=Recovery("run-1"), parameters={})
    assert Recovery(KEY.run_id) == bench.adf.creates[1].recovery


@pytest.mark.parametrize("name", ["copy_orders__notified", "Copy_Orders__Notified"])
def test_recovering_the_run_of_a_wrapper_that_is_named_itself(name: str) -> None:
    """Who names the wrapper as the pipeline, in whatever case, means the wrapper's own run."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.adf.declare("copy_orders__notified", "day", "bridge_key")
    bench.start(pipeline="copy_orders__notified")
    bench.adf.begin_child(KEY, FIRST)
    for key in (KEY, FIRST):
        bench.adf.end(key, RunStatus.FAILED)
    bench.start(RETRY, pipeline=name, recover_from=Recovery("run-1"), parameters={})
    assert Recovery("run-1") == bench.adf.creates[1].recovery


def test_recovering_by_a_wrappers_run_that_adf_has_just_forgotten() -> None:
    """That ADF has forgotten what a wrapper's run started is an answer, not an outage to be waited for."""
    bench = failed_through_a_wrapper()
    bench.adf.child_script.append(Refusal(RefusalKind.NOT_FOUND, "ADF answered 404"))
    with pytest.raises(NotFound, match="does not know what run run-1 started"):
        bench.start(RETRY, recover_from=Recovery("run-1"), parameters={})


def test_recovering_what_is_not_there(bench: Bench) -> None:
    """A run that ADF does not know, or that is another pipeline's, is not run again, and the caller is told."""
    bench.adf.begin(KEY, pipeline="copy_items")
    for run_id in ("nowhere", KEY.run_id):
        with pytest.raises(NotFound, match="Nothing was started"):
            bench.start(RETRY, recover_from=Recovery(run_id), parameters={})
    assert 1 == len(bench.adf.creates)


def test_a_lost_answer_to_a_recovery(bench: Bench) -> None:
    """S19: a recovery whose answer was lost is found by its group."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.clock.advance(MINUTE)
    bench.adf.create_script.append(Lost(NO_ANSWER))
    with pytest.raises(RequestInFlight):
        retry(bench, PreviousTry.RECOVER)
    bench.clock.advance(2 * MINUTE)
    assert (("recovered", "run-2"), 2) == (came_to(retry(bench, PreviousTry.RECOVER)), len(bench.adf.creates))


def test_a_lost_answer_to_a_recovery_of_a_run_with_a_key() -> None:
    """S19: it is found although the run carries the key of the one that it runs again."""
    bench = Bench()
    bench.adf.declare("copy_orders", "day", "bridge_key")
    bench.airflow.run(TASK)
    bench.start()
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.clock.advance(MINUTE)
    bench.adf.create_script.append(Lost(NO_ANSWER))
    with pytest.raises(RequestInFlight):
        retry(bench, PreviousTry.RECOVER)
    bench.clock.advance(2 * MINUTE)
    assert ("recovered", "run-2") == came_to(retry(bench, PreviousTry.RECOVER))


def test_a_recovery_refused_with_a_secret(bench: Bench) -> None:
    """S34: why a run cannot be run again is told without the parameters that ADF repeats."""
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.adf.create_script.append(Refusal(RefusalKind.INVALID, "ADF answered 400: 2026-03-01 is no day"))
    answer = retry(bench, PreviousTry.RECOVER)
    assert "2026-03-01 is no day" not in answer["start"]["why"]
    assert "is no day" in answer["start"]["why"]


def test_a_run_that_its_try_had_not_claimed(bench: Bench) -> None:
    """S19: a run that a retry goes on with is not adopted by an equal request, although its own try died too early."""
    run, waits = bench.store.run(FIRST)
    assert run is not None
    bench.store.put(replace(run, started_by=None), waits)
    retry(bench)
    run, _ = bench.store.run(FIRST)
    assert run is not None
    assert TASK.token == run.started_by


def test_a_run_that_was_taken_from_its_try(bench: Bench) -> None:
    """S19: a run that an equal request has adopted is not taken over by a retry of the task that had started it."""
    run, waits = bench.store.run(FIRST)
    assert run is not None
    bench.store.put(replace(run, started_by="another"), waits)
    with pytest.raises(RequestInFlight, match="previous try"):
        retry(bench)
    bench.clock.advance(5 * MINUTE)
    assert ("started", "run-2") == came_to(retry(bench))


# --- abandonment ---


def watched(bench: Bench, *, keep: bool = True) -> None:
    """Have the first try wait for a run that is to be cancelled when it is abandoned."""
    bench.airflow.run(TASK)
    bench.start(wait=a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=keep))
    bench.airflow.park(TASK)


def show(bench: Bench, task: TaskRef, state: str | None) -> None:
    """Have Airflow show a try of the task in some state."""
    bench.airflow.run(task).state = state


@pytest.mark.parametrize("state", ["up_for_retry", "scheduled", "queued", "running", None])
def test_a_run_that_the_next_try_may_take_over(state: str | None) -> None:
    """S14: a run is not abandoned while the task's next try may take it over, however long that takes to begin."""
    bench = Bench()
    watched(bench)
    show(bench, RETRY if state != "up_for_retry" else TASK, state)
    bench.pass_time(timedelta(minutes=30))
    assert ([], WaitState.OPEN) == (bench.adf.cancels, bench.wait().state)
    assert ("reattached", "run-1") == came_to(retry(bench))
    bench.pass_time(timedelta(minutes=30))
    assert [] == bench.adf.cancels


def test_a_next_try_that_has_a_run_of_its_own() -> None:
    """S14: once the next try has started a run of its own the earlier one is abandoned, and cancelled."""
    bench = Bench()
    watched(bench)
    retry(bench, PreviousTry.RERUN)
    bench.pass_time(timedelta(minutes=4))
    assert [(FIRST, True)] == bench.adf.cancels


def test_a_task_that_has_ended_for_good() -> None:
    """S14: a run that no next try can take over, because the task has failed for good, is abandoned."""
    bench = Bench()
    watched(bench)
    show(bench, TASK, "failed")
    bench.pass_time(timedelta(minutes=4))
    assert [(FIRST, True)] == bench.adf.cancels


def test_a_run_that_is_kept_for_nobody() -> None:
    """S14: where no next try takes runs over, one that is cleared away is cancelled as soon as that is proven."""
    bench = Bench()
    watched(bench, keep=False)
    show(bench, RETRY, "queued")
    bench.pass_time(timedelta(minutes=4))
    assert [(FIRST, True)] == bench.adf.cancels
