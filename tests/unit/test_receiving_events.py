"""From a run's end to its task: what becomes of events, with all their ways of going wrong."""

import json
from datetime import timedelta

import pytest

from bridge import service
from bridge.errors import StoreUnavailable
from bridge.model import Outcome, RunKey, RunReading, RunStatus, TaskRef, Verdict, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.airflow import place_of
from tests.fakes.bench import Bench
from tests.fakes.samples import (
    FACTORY,
    KEY,
    MINUTE,
    OTHER_FACTORY,
    SECOND,
    STRANGE_ARM_ID,
    TASK,
    a_task,
    cloud_event,
    event_json,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a task that has been parked for long and waits for a run that goes on."""
    bench = Bench()
    waits_for(bench, TASK, KEY)
    bench.clock.advance(HOUR)
    return bench


def waits_for(bench: Bench, task: TaskRef, key: RunKey) -> None:
    """Have a task park and wait for a run."""
    if key not in bench.adf.runs:
        bench.adf.begin(key)
    bench.airflow.run(task)
    bench.register(task, key)
    bench.airflow.park(task)


def told(bench: Bench, task: TaskRef = TASK) -> list[Outcome]:
    """Return what the task was told, each time."""
    return [completion.status for completion in bench.airflow.told.get(task.task_instance_id, [])]


def test_the_main_road(bench: Bench) -> None:
    """A run ends, its event arrives, and the task is resumed within the same invocation, at one read of ADF."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    before = bench.adf.reads[KEY]
    assert Verdict.MATCHED is bench.event()
    assert ([Outcome.SUCCEEDED], WaitState.DELIVERED) == (told(bench), bench.wait().state)
    assert (1, 1) == (bench.adf.reads[KEY] - before, bench.airflow.patches[place_of(TASK)])


def test_why_a_run_failed(bench: Bench) -> None:
    """S30: a task learns that its run failed, and by which activity; a run that succeeded is not asked about one."""
    bench.adf.end(KEY, RunStatus.FAILED, message="Operation on target Copy failed")
    bench.event("Failed")
    (completion,) = bench.airflow.told["ti-1"]
    assert (Outcome.FAILED, "Operation on target Copy failed") == (completion.status, completion.message)
    assert 1 == bench.adf.activity_reads[KEY]


def test_an_event_before_the_wait(bench: Bench) -> None:
    """S01: an event that comes before the wait is parked; registering then asks ADF and answers with the completion."""
    key = RunKey(FACTORY, "early")
    task = a_task(task_id="late", task_instance_id="ti-late")
    bench.adf.begin(key)
    bench.adf.end(key, RunStatus.FAILED)
    assert Verdict.PARKED is bench.event("Failed", key)
    bench.clock.advance(timedelta(days=7))
    registered = bench.register(task, key, deadline=bench.clock.now() + HOUR)
    assert registered.wait is not None
    assert registered.wait.completion is not None
    assert (WaitState.INLINE, Outcome.FAILED) == (registered.wait.state, registered.wait.completion.status)
    bench.pass_time(MINUTE)
    assert [] == told(bench, task)


def test_an_event_while_the_wait_is_written() -> None:
    """S01: an event that slips in while a wait is being registered is seen by one of the two."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.store.before("put", bench.event)
    registered = bench.register()
    assert registered.wait is not None
    assert WaitState.INLINE is registered.wait.state


def test_a_task_that_parks_within_the_invocation() -> None:
    """S02: a task that parks a moment after its run ended is resumed within the invocation, once it has settled."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(2 * SECOND)
    arrived = bench.clock.now()
    bench.clock.after(1.5 * SECOND, lambda: bench.airflow.park(TASK))
    bench.event()
    # Looked at after 0, 1 and 3 s, seen parked then, held for 8 s: inside the invocation's 12 s.
    assert (WaitState.DELIVERED, 11 * SECOND) == (bench.wait().state, bench.clock.now() - arrived)
    assert ([Outcome.SUCCEEDED], []) == (told(bench), bench.airflow.too_early)


def test_a_task_that_parks_later() -> None:
    """S02: a task that parks when the invocation is over is resumed by the timer, once it has settled."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    arrived = bench.clock.now()
    bench.event()
    assert (WaitState.DUE, True) == (bench.wait().state, bench.clock.now() - arrived <= 12 * SECOND)
    bench.clock.after(44 * SECOND, lambda: bench.airflow.park(TASK))
    bench.pass_time(2 * MINUTE)
    assert ([Outcome.SUCCEEDED], []) == (told(bench), bench.airflow.too_early)


def test_a_task_resumed_right_after_parking_would_fail() -> None:
    """S02: without a hold, a task that was seen running would be resumed too early, and its try would be lost."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__HOLD_SECONDS="0")
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(2 * SECOND)
    bench.clock.after(0.5 * SECOND, lambda: bench.airflow.park(TASK))
    bench.event()
    assert ["ti-1"] == bench.airflow.too_early


@pytest.mark.parametrize("ids", [("e", "e"), ("e", "from-another-source")])
def test_the_same_fact_twice(bench: Bench, ids: tuple[str, str]) -> None:
    """S03: the same event again, or the same fact under another id, completes nothing a second time."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    verdicts = [bench.event(id=one) for one in ids]
    bench.pass_time(5 * MINUTE)
    assert [Verdict.MATCHED, Verdict.DUPLICATE] == verdicts
    assert ([Outcome.SUCCEEDED], 1) == (told(bench), bench.airflow.patches[place_of(TASK)])


def test_an_event_of_what_a_sweep_has_found(bench: Bench) -> None:
    """S03: where a sweep was quicker, the event delivers what the sweep made due, and the timer nothing more."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    swept = bench.app.run(service.sweep(KEY.factory, bench.app.rules))
    assert ((TASK.token,), WaitState.DUE) == (swept.due, bench.wait().state)
    assert Verdict.DUPLICATE is bench.event()
    assert ([Outcome.SUCCEEDED], WaitState.DELIVERED) == (told(bench), bench.wait().state)
    bench.pass_time(5 * MINUTE)
    assert 1 == bench.airflow.patches[place_of(TASK)]


def test_two_instances_take_the_same_event(bench: Bench) -> None:
    """S22: of two instances that handle the same event one delivers, and the other leaves without an error."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    # The second put of an event settles the run, the third one takes up the delivery.
    for nth in (2, 3):
        bench.store.before("put", bench.event, nth=nth)
    bench.event()
    bench.pass_time(2 * MINUTE)
    assert (WaitState.DELIVERED, 1) == (bench.wait().state, bench.airflow.patches[place_of(TASK)])


@pytest.mark.parametrize("late", ["InProgress", "Queued", "Failed", "Cancelled"])
def test_events_out_of_order(bench: Bench, late: str) -> None:
    """S04: what arrives after a run's end changes nothing, whatever it says."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    bench.adf.runs[KEY] = RunReading(RunStatus.spelled(late), late)
    assert Verdict.DUPLICATE is bench.event(late)
    bench.pass_time(5 * MINUTE)
    assert [Outcome.SUCCEEDED] == told(bench)


def test_an_older_runs_event(bench: Bench) -> None:
    """S04: an event of an older run of the pipeline does not touch the wait for the new one."""
    older = RunKey(FACTORY, "older-run")
    bench.adf.begin(older)
    bench.adf.end(older, RunStatus.FAILED)
    assert Verdict.PARKED is bench.event("Failed", older)
    assert (WaitState.OPEN, []) == (bench.wait().state, told(bench))


def test_adf_disagrees(bench: Bench) -> None:
    """S05: while ADF says that the run goes on, nothing is completed; it is asked again until it says how it ended."""
    assert Verdict.UNCONFIRMED is bench.event("Succeeded")
    assert WaitState.OPEN is bench.wait().state
    bench.pass_time(4 * MINUTE)
    assert [] == told(bench)
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.pass_time(2 * MINUTE)
    assert ([Outcome.FAILED], WaitState.DELIVERED) == (told(bench), bench.wait().state)


def test_adf_disagrees_about_the_end(bench: Bench) -> None:
    """S05: an event that claims a success completes a failed run as failed."""
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.event("Succeeded")
    assert [Outcome.FAILED] == told(bench)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(cloud_event(status="Paused"), id="status"),
        pytest.param(cloud_event(specversion="2.0"), id="version"),
    ],
)
def test_what_is_not_understood(bench: Bench, event: object) -> None:
    """S06: an event with an unknown status or version completes nothing and asks nothing, but stands in the list."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    before = bench.adf.reads[KEY]
    (received,) = bench.app.receive(json.dumps(event))
    (listed,) = bench.store.events(verdict=Verdict.UNKNOWN_STATUS, run_id=KEY.run_id, limit=5)
    assert (Verdict.UNKNOWN_STATUS, received.record) == (listed.verdict, listed)
    assert (0, []) == (bench.adf.reads[KEY] - before, told(bench))


def test_a_status_that_adf_invents(bench: Bench) -> None:
    """S06: a run that ADF gives an unknown status stays open, and is asked about again."""
    bench.adf.runs[KEY] = RunReading(None, "Paused")
    assert Verdict.UNCONFIRMED is bench.event()
    assert (WaitState.OPEN, []) == (bench.wait().state, told(bench))
    bench.adf.runs[KEY] = RunReading(RunStatus.SUCCEEDED, "Succeeded")
    bench.pass_time(2 * MINUTE)
    assert [Outcome.SUCCEEDED] == told(bench)


def test_names_on_two_targets_and_runs_in_two_factories() -> None:
    """S18: tasks of the same names on two targets that wait for the same run id in two factories are never mixed."""
    bench = Bench()
    prod, dev = TASK, a_task(target="dev", task_instance_id="ti-dev")
    here, there = KEY, RunKey(OTHER_FACTORY, KEY.run_id)
    waits_for(bench, prod, here)
    waits_for(bench, dev, there)
    bench.clock.advance(HOUR)
    bench.adf.end(there, RunStatus.FAILED)
    bench.event("Failed", there)
    assert ([], [Outcome.FAILED]) == (told(bench, prod), told(bench, dev))
    bench.adf.end(here, RunStatus.SUCCEEDED)
    bench.event("Succeeded", here)
    assert ([Outcome.SUCCEEDED], [Outcome.FAILED]) == (told(bench, prod), told(bench, dev))


def test_mapped_tasks() -> None:
    """S17: of the indexes of a mapped task only the one whose run ended is resumed, in whatever order they end."""
    bench = Bench()
    tasks = [a_task(task_id="group.copy", map_index=index, task_instance_id=f"ti-m{index}") for index in range(3)]
    keys = [RunKey(FACTORY, f"mapped-{index}") for index in range(3)]
    for task, key in zip(tasks, keys, strict=True):
        waits_for(bench, task, key)
    bench.clock.advance(HOUR)
    for index in (1, 2, 0):
        bench.adf.end(keys[index], RunStatus.SUCCEEDED)
        bench.event(key=keys[index])
        assert [f"ti-m{index}"] == [task for task, count in bench.airflow.resumed.items() if count == 1][-1:]
    assert {"ti-m0": 1, "ti-m1": 1, "ti-m2": 1} == bench.airflow.resumed


def test_two_tasks_wait_for_one_run(bench: Bench) -> None:
    """Every task that waits for a run is told its end."""
    other = a_task(task_id="other", task_instance_id="ti-other")
    waits_for(bench, other, KEY)
    bench.clock.advance(HOUR)
    bench.adf.end(KEY, RunStatus.CANCELLED)
    bench.event("Cancelled")
    assert ([Outcome.CANCELLED], [Outcome.CANCELLED]) == (told(bench), told(bench, other))


def test_a_strange_factory(bench: Bench) -> None:
    """S35: an event of a factory that is not on the allow-list asks ADF nothing and stands in the list as rejected."""
    assert Verdict.REJECTED is bench.event(source=STRANGE_ARM_ID)
    (listed,) = bench.store.events(verdict=Verdict.REJECTED, run_id=None, limit=5)
    assert (STRANGE_ARM_ID, []) == (listed.factory, told(bench))


def test_a_storm_of_events(bench: Bench) -> None:
    """S38: however many events one delivery holds about a run, ADF is asked once a second at most."""
    before = bench.adf.reads[KEY]
    received = bench.app.receive(json.dumps([cloud_event(id=str(number)) for number in range(500)]))
    assert (500, 1) == (len(received), bench.adf.reads[KEY] - before)
    bench.pass_time(MINUTE)
    assert bench.adf.reads[KEY] - before <= 6


def test_one_bad_event_in_a_batch(bench: Bench) -> None:
    """S26: a bad event in a batch is listed as malformed, and the others are handled."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    received = bench.app.receive(json.dumps([{"specversion": "1.0"}, cloud_event()]))
    assert [Verdict.MALFORMED, Verdict.MATCHED] == [one.record.verdict for one in received]
    assert [Outcome.SUCCEEDED] == told(bench)


@pytest.mark.parametrize("kind", [RefusalKind.FORBIDDEN, RefusalKind.THROTTLED, RefusalKind.UNAVAILABLE])
def test_adf_cannot_be_asked(bench: Bench, kind: RefusalKind) -> None:
    """S45: while ADF refuses to be read, events are taken in, nothing is completed, and all drains afterwards."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.adf.down = Refusal(kind, "ADF answered no")
    before = bench.adf.reads[KEY]
    assert Verdict.UNVERIFIED is bench.event()
    bench.pass_time(2 * HOUR)
    assert [] == told(bench)
    assert bench.adf.reads[KEY] - before < 150
    bench.adf.down = None
    bench.pass_time(6 * MINUTE)
    assert [Outcome.SUCCEEDED] == told(bench)


def test_a_paused_factory_holds_nobody_else(bench: Bench) -> None:
    """S45: a factory that refuses to be read is left alone after one refusal, and the other factory works on."""
    there = RunKey(OTHER_FACTORY, "r")
    other = a_task(task_id="other", task_instance_id="ti-other")
    waits_for(bench, other, there)
    bench.clock.advance(HOUR)
    bench.adf.read_script.append(Refusal(RefusalKind.FORBIDDEN, "ADF answered 403", MINUTE))
    bench.adf.end(there, RunStatus.SUCCEEDED)
    before = bench.adf.reads[KEY]
    assert Verdict.UNVERIFIED is bench.event()
    bench.clock.advance(10 * SECOND)
    assert Verdict.UNVERIFIED is bench.event()
    assert Verdict.MATCHED is bench.event(key=there)
    assert (1, [Outcome.SUCCEEDED]) == (bench.adf.reads[KEY] - before, told(bench, other))


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_lost_race_is_decided_anew(bench: Bench, nth: int) -> None:
    """S23: a write that somebody else overtook is decided anew, and the run's end arrives all the same."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.store.conflict("put", nth=nth)
    bench.event()
    bench.pass_time(2 * MINUTE)
    assert ([Outcome.SUCCEEDED], WaitState.DELIVERED) == (told(bench), bench.wait().state)


def test_a_store_that_is_down(bench: Bench) -> None:
    """S23: an event that cannot be written down is not acknowledged; its repetition is."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.store.go_down()
    with pytest.raises(StoreUnavailable):
        bench.app.receive(event_json())
    bench.store.come_back()
    assert Verdict.MATCHED is bench.event()
    assert [Outcome.SUCCEEDED] == told(bench)


def test_endless_conflicts_are_not_acknowledged(bench: Bench) -> None:
    """S23: an event whose write loses every race is not acknowledged, and the caller is told to come back."""
    for nth in range(1, 7):
        bench.store.conflict("put", nth=nth)
    with pytest.raises(StoreUnavailable) as caught:
        bench.app.receive(event_json())
    assert 2 * SECOND == caught.value.retry_after


def test_a_delivery_that_breaks_fails_no_event(bench: Bench) -> None:
    """S23: what breaks after the event was written down is left to the timer; the event is acknowledged."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.store.fail("put", nth=3)
    assert Verdict.MATCHED is bench.event()
    assert (WaitState.DUE, []) == (bench.wait().state, told(bench))
    bench.pass_time(MINUTE)
    assert [Outcome.SUCCEEDED] == told(bench)


def test_a_late_event_after_the_deadline(bench: Bench) -> None:
    """S29: a task whose deadline passed is told Expired, once; the run's end, when it comes, changes nothing."""
    bench.pass_time(6 * HOUR)
    assert [Outcome.EXPIRED] == told(bench)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    bench.pass_time(HOUR)
    assert [Outcome.EXPIRED] == told(bench)


def test_a_run_that_ended_unnoticed_before_the_deadline(bench: Bench) -> None:
    """S27: at the deadline ADF is asked once more: a run that ended unnoticed is told as it ended."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.pass_time(6 * HOUR)
    assert [Outcome.SUCCEEDED] == told(bench)
