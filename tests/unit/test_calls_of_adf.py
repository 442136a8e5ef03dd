"""What many tasks that wait for one run cost: Data Factory is asked about the run, never once for each task."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge import policy, service
from bridge.model import FailedActivity, Match, RunKey, RunStatus, TaskRef, Verdict, WaitState, match_key
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, KEY, MINUTE, OTHER_FACTORY, SECOND, TASK, a_task, cloud_event

HOUR = timedelta(hours=1)
TASKS = 60
ENDS = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
CAUSE = FailedActivity("Copy", "Copy", "2200", "no such column")


def task_of(number: int) -> TaskRef:
    """Return one of the tasks."""
    return a_task(map_index=number, task_instance_id=f"ti-{number}")


def wait_by_match(bench: Bench, *, tasks: int = TASKS, statuses: tuple[RunStatus, ...] = ENDS) -> None:
    """Have that many parked tasks wait for the pipeline's next run, each from its own moment on."""
    for number in range(tasks):
        task, match = task_of(number), Match("copy_orders", bench.clock.now(), statuses)
        bench.airflow.run(task)
        bench.register(task, match_key(FACTORY, match.pipeline, task.token), match=match)
        bench.airflow.park(task)
        bench.clock.advance(timedelta(milliseconds=100))


def wait_by_id(bench: Bench) -> None:
    """Have as many wait for a run whose id they know."""
    for number in range(TASKS):
        bench.airflow.run(task_of(number))
        bench.register(task_of(number), KEY)
        bench.airflow.park(task_of(number))


def an_event(bench: Bench, status: RunStatus, key: RunKey) -> Verdict:
    """Have an event arrive; return what became of it."""
    (received,) = bench.app.receive(json.dumps(cloud_event(key, status.value)))
    return received.record.verdict


def states(bench: Bench, tasks: int = TASKS) -> set[WaitState]:
    """Return the states that the waits are in."""
    return {bench.wait(task_of(number)).state for number in range(tasks)}


@pytest.fixture
def bench() -> Bench:
    """Many tasks that have waited for long, for the next run of a pipeline."""
    bench = Bench()
    wait_by_match(bench)
    bench.pass_time(5 * MINUTE)
    return bench


@pytest.fixture
def bound(bench: Bench) -> Bench:
    """The same, and that run has begun and was found."""
    bench.adf.begin(KEY)
    bench.pass_time(5 * MINUTE)
    return bench


def test_a_run_is_found_once(bench: Bench) -> None:
    """One search finds the run for all that wait for it, from whatever moment on."""
    before = bench.adf.calls
    bench.adf.begin(KEY)
    bench.pass_time(5 * MINUTE)
    rows = [bench.store.inner.run(bench.wait(task_of(number)).key)[0] for number in range(TASKS)]
    assert {KEY.run_id} == {row.watched_run_id for row in rows if row is not None}
    assert 1 == bench.adf.calls - before


def test_runs_that_do_not_count() -> None:
    """Runs that end as nobody waits for cost one search while they go on, and none when they have ended."""
    bench = Bench()
    wait_by_match(bench, statuses=(RunStatus.SUCCEEDED,))
    bench.pass_time(5 * MINUTE)
    before = bench.adf.calls
    for number in range(5):
        key = RunKey(FACTORY, f"failed-{number}")
        bench.adf.begin(key)
        bench.adf.end(key, RunStatus.FAILED)
        bench.pass_time(MINUTE)
    assert (0, {WaitState.OPEN}) == (bench.adf.calls - before, states(bench))


def test_a_long_run(bound: Bench) -> None:
    """Waiting by match for a run that goes on costs no more than waiting for it by its id, whatever others do."""
    by_id = Bench()
    by_id.adf.begin(KEY)
    wait_by_id(by_id)
    calls = []
    for bench in (by_id, bound):
        bench.pass_time(10 * MINUTE)
        before = bench.adf.calls
        for number in range(60):
            other = RunKey(FACTORY, f"other-{number}")
            bench.adf.begin(other)
            bench.adf.end(other, RunStatus.SUCCEEDED)
            an_event(bench, RunStatus.SUCCEEDED, other)
            bench.pass_time(MINUTE)
        calls.append(bench.adf.calls - before)
    assert [1, 1] == calls


def test_the_end_by_the_sweep(bound: Bench) -> None:
    """S27: the end that a sweep finds is told from its page; why the run failed is asked once."""
    before = bound.adf.calls
    bound.adf.end(KEY, RunStatus.FAILED, cause=CAUSE)
    bound.pass_time(2 * MINUTE)
    assert ({WaitState.DELIVERED}, 1) == (states(bound), bound.adf.calls - before)
    assert {CAUSE} == {one.failed_activity for told in bound.airflow.told.values() for one in told}


def test_a_slow_sweep(bound: Bench) -> None:
    """An end on a page serves all, however long it takes to write it down for each."""
    before = bound.adf.calls
    bound.adf.end(KEY, RunStatus.SUCCEEDED)
    for nth in range(1, TASKS):
        bound.store.before("put", lambda: bound.clock.advance(SECOND), nth=nth)
    bound.pass_time(2 * MINUTE)
    assert ({WaitState.DELIVERED}, 0) == (states(bound), bound.adf.calls - before)


def test_two_factories() -> None:
    """S18: what one factory answers is no answer for another one's waits, though they are due in the same moment."""
    bench = Bench()
    for number, factory in enumerate((FACTORY, OTHER_FACTORY)):
        task, match = task_of(number), Match("copy_orders", bench.clock.now(), ENDS)
        bench.airflow.run(task)
        bench.register(task, match_key(factory, match.pipeline, task.token), match=match)
        bench.airflow.park(task)
        mark = bench.store.inner.sweep(factory)
        bench.store.inner.save_sweep(replace(mark, next_at=bench.clock.now() + 2 * HOUR))
        bench.adf.begin(RunKey(factory, f"run-of-{number}"))
    bench.clock.advance(policy.UNREAD_AT_MOST)
    bench.tick()
    rows = [bench.store.inner.run(bench.wait(task_of(number)).key)[0] for number in range(2)]
    assert ["run-of-0", "run-of-1"] == [row.watched_run_id for row in rows if row is not None]


def test_what_was_said_grows_old() -> None:
    """The same wait is never given the same answer twice: what was said before it was settled is no news to it."""
    bench, asked = Bench(), service.Asked()
    wait_by_match(bench, tasks=1)
    bench.clock.advance(MINUTE)
    key = bench.wait(task_of(0)).key
    found = []
    for status in (None, RunStatus.IN_PROGRESS, RunStatus.SUCCEEDED):
        if status is not None:
            bench.adf.begin(KEY, status=status)
        bench.app.run(service.check_run(key, bench.app.rules, asked=asked))
        bench.clock.advance(SECOND)
        row, _ = bench.store.inner.run(key)
        assert row is not None
        found.append(row.status)
    assert [None, RunStatus.IN_PROGRESS, RunStatus.SUCCEEDED] == found


def test_run_by_run(bound: Bench) -> None:
    """S28: after a long pause, when runs are read one by one, the one that many wait for is read once."""
    bound.clock.advance(10 * HOUR)
    before = bound.adf.calls
    swept = bound.app.run(service.sweep(FACTORY, bound.app.rules))
    assert (TASKS, 1) == (swept.reads, bound.adf.calls - before)


def test_the_end_by_its_event(bound: Bench) -> None:
    """The end that an event tells is read once for all, and so is why the run failed."""
    before = bound.adf.calls
    bound.adf.end(KEY, RunStatus.FAILED, cause=CAUSE)
    assert Verdict.MATCHED is an_event(bound, RunStatus.FAILED, KEY)
    assert ({WaitState.DELIVERED}, 2) == (states(bound), bound.adf.calls - before)


def test_the_end_of_a_run_that_was_not_found_yet(bench: Bench) -> None:
    """One read and one search tell whether it is the earliest one, for all of them."""
    bench.adf.begin(KEY)
    bench.clock.advance(SECOND)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    before = bench.adf.calls
    assert Verdict.MATCHED is an_event(bench, RunStatus.SUCCEEDED, KEY)
    assert ({WaitState.DELIVERED}, 2) == (states(bench), bench.adf.calls - before)


def test_an_early_event(bound: Bench) -> None:
    """S05: an event that comes before ADF shows the end costs a few more reads in all, and then none."""
    before = bound.adf.calls
    assert Verdict.UNCONFIRMED is an_event(bound, RunStatus.SUCCEEDED, KEY)
    bound.clock.advance(5 * SECOND)
    bound.tick()  # it reaches a few seconds ahead, for two looks
    assert 3 == bound.adf.calls - before
    bound.pass_time(10 * MINUTE)
    assert bound.adf.calls - before < 10
    before = bound.adf.calls
    bound.pass_time(HOUR)
    assert bound.adf.calls - before <= 1


def test_a_second_look(bound: Bench) -> None:
    """S05: the end that ADF shows a moment after its event reaches all at the next tick, at one more read."""
    mark = bound.store.inner.sweep(FACTORY)
    bound.store.inner.save_sweep(replace(mark, next_at=bound.clock.now() + MINUTE))
    an_event(bound, RunStatus.SUCCEEDED, KEY)
    before = bound.adf.calls
    bound.clock.advance(2 * SECOND)
    bound.adf.end(KEY, RunStatus.SUCCEEDED)
    bound.pass_time(15 * SECOND)
    assert ({WaitState.DELIVERED}, 1) == (states(bound), bound.adf.calls - before)


@pytest.mark.parametrize("real", ["no run", "of another pipeline", "an older run"])
def test_a_forged_event(bench: Bench, real: str) -> None:
    """S35: an event that names a run that nobody waits for costs one read, and leaves nothing to be done sooner."""
    forged = RunKey(FACTORY, "forged")
    due = {bench.due_at(task_of(number)) for number in range(TASKS)}
    if real != "no run":
        bench.adf.begin(forged, pipeline="copy_returns" if real == "of another pipeline" else "copy_orders")
    if real == "an older run":
        began = bench.adf.runs[forged].run_start
        assert began is not None
        bench.adf.end(forged, RunStatus.SUCCEEDED)
        bench.adf.runs[forged] = replace(bench.adf.runs[forged], run_start=began - HOUR)
    before = bench.adf.calls
    assert Verdict.UNCONFIRMED is an_event(bench, RunStatus.SUCCEEDED, forged)
    assert (1, {WaitState.OPEN}) == (bench.adf.calls - before, states(bench))
    assert due == {bench.due_at(task_of(number)) for number in range(TASKS)}


def test_many_forged_events() -> None:
    """S35: events about runs that do not exist are read ever more seldom: every one would be a call."""
    bench = Bench()
    wait_by_match(bench, tasks=10)
    bench.pass_time(5 * MINUTE)
    before = bench.adf.calls
    for number in range(600):
        an_event(bench, RunStatus.SUCCEEDED, RunKey(FACTORY, f"forged-{number}"))
        bench.clock.advance(SECOND)
    assert 20 > bench.adf.calls - before


def test_no_child_no_search(bench: Bench) -> None:
    """A wrapper that could not start its child speaks of no run of the pipeline: nothing is looked for."""
    data = {"runId": None, "parentRunId": "wrapper-1", "pipelineName": "copy_orders", "status": "Failed"}
    before = bench.adf.calls
    bench.app.receive(json.dumps(cloud_event(RunKey(FACTORY, "wrapper-1"), "Failed", data=data)))
    assert 0 == bench.adf.calls - before


def test_adf_in_trouble(bound: Bench) -> None:
    """S45: what cannot be asked now is asked again for all of them, not once for each."""
    bound.adf.end(KEY, RunStatus.SUCCEEDED)
    bound.adf.down = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 502")
    before = bound.adf.calls
    assert Verdict.UNVERIFIED is an_event(bound, RunStatus.SUCCEEDED, KEY)
    assert 1 == bound.adf.calls - before
    bound.adf.down = None
    bound.pass_time(3 * MINUTE)
    assert {WaitState.DELIVERED} == states(bound)


def test_an_event_has_its_time() -> None:
    """Event Grid waits 30 s: what an event does not get done in its time, the timer does."""
    bench = Bench()
    keys = [RunKey(FACTORY, f"run-{number}") for number in range(10)]
    for number, key in enumerate(keys):
        task, match = task_of(number), Match("copy_orders", bench.clock.now(), ENDS)
        bench.airflow.run(task)
        bench.register(task, match_key(FACTORY, match.pipeline, task.token), match=match)
        bench.airflow.park(task)
        bench.adf.begin(key)
        bench.clock.advance(20 * SECOND)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.adf.takes = 4 * SECOND
    began, searches = bench.clock.now(), len(bench.adf.searches)
    an_event(bench, RunStatus.SUCCEEDED, keys[-1])
    assert (3, True) == (len(bench.adf.searches) - searches, bench.clock.now() - began < 15 * SECOND)
    bench.pass_time(3 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench, len(keys))
    assert keys == [bench.airflow.told[f"ti-{number}"][0].key for number in range(10)]


def test_the_first_notes_take_time(bench: Bench) -> None:
    """A store that is slow leaves the rest of an event's waits to the sweep."""
    bench.adf.begin(KEY)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    puts = bench.store.calls["put"]
    for nth in range(1, 200):
        bench.store.before("put", lambda: bench.clock.advance(SECOND), nth=nth)
    began = bench.clock.now()
    an_event(bench, RunStatus.SUCCEEDED, KEY)
    within = policy.EVENT_BUDGET + bench.app.rules.inline + 5 * SECOND
    assert (True, True) == (bench.store.calls["put"] - puts < 40, bench.clock.now() - began <= within)
    bench.pass_time(3 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench)


def test_a_wrapped_run_that_goes_on() -> None:
    """S05: an early notice that names the true child costs a few reads, and then none: the sweep shows its end."""
    bench, wrapper, child = Bench(), RunKey(FACTORY, "run-1"), RunKey(FACTORY, "child-1")
    bench.adf.wrap("copy_orders", "day")
    bench.airflow.run(TASK)
    bench.start()
    bench.airflow.park(TASK)
    bench.adf.begin_child(child, wrapper)
    bench.clock.advance(MINUTE)
    data = {"runId": child.run_id, "parentRunId": wrapper.run_id, "pipelineName": "copy_orders", "status": "Succeeded"}
    bench.app.receive(json.dumps(cloud_event(child, "Succeeded", data=data)))
    bench.pass_time(10 * MINUTE)
    before = bench.adf.calls
    bench.pass_time(HOUR)
    assert 1 >= bench.adf.calls - before
    bench.adf.end(child, RunStatus.SUCCEEDED)
    before = bench.adf.calls
    bench.pass_time(75 * SECOND)
    assert (WaitState.DELIVERED, 0) == (bench.wait().state, bench.adf.calls - before)
