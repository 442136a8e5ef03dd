"""Pipelines that are started through their wrapper: whose end counts, who is asked, and how often."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge import http_api, policy, service
from bridge.errors import InvalidFields, PipelineNotFound
from bridge.model import Completion, FailedActivity, Outcome, RunKey, RunStatus, StartState, Verdict, WaitState, Wrapped
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import (
    ARM_ID,
    DEADLINE,
    FACTORY,
    MINUTE,
    OTHER_FACTORY,
    SECOND,
    TASK,
    a_task,
    cloud_event,
    event_json,
)
from tests.fakes.stepping import Stepping

HOUR = timedelta(hours=1)
WRAPPER = RunKey(FACTORY, "run-1")  # what createRun answers first
CHILD = RunKey(FACTORY, "child-1")
FORBIDDEN = Refusal(RefusalKind.FORBIDDEN, "ADF answered 403")


@pytest.fixture
def bench() -> Bench:
    """A bridge, and a task that has been parked for long; it started a wrapper, whose child goes on."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.airflow.run(TASK)
    bench.start()
    bench.airflow.park(TASK)
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.clock.advance(HOUR)
    bench.tick()
    bench.clock.advance(MINUTE)
    return bench


def notice(status: str = "Succeeded", child: str | None = CHILD.run_id, parent: RunKey = WRAPPER) -> str:
    """Return what a wrapper sends: while it does, it goes on itself."""
    data = {"runId": child, "parentRunId": parent.run_id, "pipelineName": "copy_orders", "status": status}
    return json.dumps(cloud_event(RunKey(FACTORY, child or parent.run_id), status, data=data))


def notify(bench: Bench, status: str = "Succeeded", *, child: str | None = CHILD.run_id) -> Verdict:
    """Have a notice arrive."""
    (received,) = bench.app.receive(notice(status, child))
    return received.record.verdict


def long_after_the_child(bench: Bench) -> None:
    """Let an hour pass since the child's end, which no sweep has shown: another instance has swept since."""
    bench.clock.advance(HOUR)
    mark = bench.store.inner.sweep(FACTORY)
    bench.store.inner.save_sweep(replace(mark, covered_until=bench.clock.now(), next_at=bench.clock.now()))


def told(bench: Bench) -> Completion:
    """Return the only completion that the task was told."""
    (completion,) = bench.airflow.told["ti-1"]
    return completion


def test_the_wrapper_is_started() -> None:
    """A pipeline that has a wrapper is started through it, with the key by which the run can be found again."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "Day")
    answer = bench.start()
    (create,) = bench.adf.creates
    assert ("copy_orders__notified", {"day": "2026-03-01", "bridge_key": TASK.token}) == (
        create.pipeline,
        create.parameters,
    )
    assert ("run-1", "copy_orders") == (answer["run"]["run_id"], answer["run"]["pipeline"])
    record = bench.store.inner.request(TASK.token)
    assert record is not None
    assert (StartState.STARTED, "copy_orders__notified") == (record.state, record.started_pipeline)


@pytest.mark.parametrize("wrapped", [Wrapped.AUTO, Wrapped.NEVER])
def test_the_pipeline_itself_is_started(wrapped: Wrapped) -> None:
    """A pipeline without a wrapper, or one that is not wanted, is started itself, and is given nothing of ours."""
    bench = Bench()
    if wrapped is Wrapped.NEVER:
        bench.adf.wrap("copy_orders", "day")
    bench.start(wrapped=wrapped)
    assert [("copy_orders", {"day": "2026-03-01"})] == [(one.pipeline, one.parameters) for one in bench.adf.creates]
    assert (1 if wrapped is Wrapped.AUTO else 0) == bench.adf.wrapper_reads


def test_a_wrapper_that_is_missing() -> None:
    """`always` starts nothing when there is no wrapper, and the same key may be used again."""
    bench = Bench()
    with pytest.raises(PipelineNotFound, match="bridge wrap"):
        bench.start(wrapped=Wrapped.ALWAYS)
    bench.adf.wrap("copy_orders", "day")
    bench.start(wrapped=Wrapped.ALWAYS)
    assert ["copy_orders__notified"] == [one.pipeline for one in bench.adf.creates]


def test_a_wrapper_that_is_out_of_date() -> None:
    """A parameter that the wrapper does not pass on is refused: ADF would drop it without a word."""
    bench = Bench()
    bench.adf.wrap("copy_orders")
    with pytest.raises(InvalidFields, match="day"):
        bench.start()
    assert [] == bench.adf.creates


@pytest.mark.parametrize(("pipeline", "name"), [("copy_orders", "bridge_key"), ("copy_orders__notified", "Bridge_Key")])
def test_a_callers_own_key(pipeline: str, name: str) -> None:
    """The parameter in which a wrapper carries the request's key is not the caller's to give."""
    bench = Bench()
    bench.adf.wrap("copy_orders", "day")
    bench.adf.pipelines["copy_orders__notified"] = bench.adf.wrappers["copy_orders"]
    with pytest.raises(InvalidFields) as refused:
        bench.start(pipeline=pipeline, parameters={"day": "2026-03-01", name: "mine"})
    assert ([f"parameters.{name}"], []) == ([error.field for error in refused.value.errors], bench.adf.creates)


def test_wrappers_that_cannot_be_read() -> None:
    """Where ADF does not tell whether there is a wrapper, nothing is started, and the answer says so."""
    bench = Bench()
    bench.adf.down = FORBIDDEN
    response = bench.call(
        http_api.post_run,
        body={"factory": "demo", "pipeline": "copy_orders", "parameters": {}},
        headers={"idempotency-key": "k"},
    )
    assert (403, "adf-refused", []) == (response.status, json.loads(response.body)["code"], bench.adf.creates)


def test_the_notice(bench: Bench) -> None:
    """A notice comes while the wrapper still goes on: the child has ended, says ADF at one read."""
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    before = sum(bench.adf.reads.values())
    assert Verdict.MATCHED is notify(bench)
    assert (Outcome.SUCCEEDED, WRAPPER, CHILD) == (told(bench).status, told(bench).key, told(bench).watched_key)
    assert 1 == sum(bench.adf.reads.values()) - before
    assert Verdict.DUPLICATE is notify(bench)


def test_the_child_failed(bench: Bench) -> None:
    """The task is told the child's message and activity, not the wrapper's."""
    cause = FailedActivity("Copy", "Copy", "2200", "no such table")
    bench.adf.end(CHILD, RunStatus.FAILED, message="Operation on target Copy failed", cause=cause)
    notify(bench, "Failed")
    assert ("Operation on target Copy failed", cause) == (told(bench).message, told(bench).failed_activity)


def test_the_child_was_cancelled(bench: Bench) -> None:
    """S30: a cancelled child makes its wrapper say Failed; ADF knows better, and so does the task."""
    bench.adf.end(CHILD, RunStatus.CANCELLED)
    assert Verdict.MATCHED is notify(bench, "Failed")
    assert Outcome.CANCELLED is told(bench).status


def test_no_child_ever_started(bench: Bench) -> None:
    """A wrapper whose child cannot start says so with a notice of its own; its own end is what counts."""
    del bench.adf.runs[CHILD]
    assert Verdict.UNCONFIRMED is notify(bench, "Failed", child=None)
    bench.clock.advance(SECOND)
    bench.adf.end(WRAPPER, RunStatus.FAILED, message="Operation on target Run failed: too many queued runs")
    bench.pass_time(30 * SECOND)
    assert (Outcome.FAILED, None) == (told(bench).status, told(bench).watched_run_id)
    assert "too many queued runs" in (told(bench).message or "")


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_the_childs_own_end(bench: Bench, status: RunStatus) -> None:
    """S27: without a notice the sweep sees the child's end, while the wrapper still tries to tell: no look."""
    before = sum(bench.adf.reads.values())
    bench.adf.end(CHILD, status, message="why")
    bench.pass_time(75 * SECOND)
    assert (status.value, CHILD, WRAPPER) == (told(bench).status.value, told(bench).watched_key, told(bench).key)
    assert (0, 0) == (sum(bench.adf.reads.values()) - before, bench.adf.child_reads.total())
    assert RunStatus.IN_PROGRESS is bench.adf.runs[WRAPPER].status


@pytest.mark.parametrize("page_size", [100, 1])
@pytest.mark.parametrize("first", ["wrapper", "child"])
def test_both_ends_on_the_pages(bench: Bench, page_size: int, first: str) -> None:
    """S30: where a sweep shows both ends, in whatever order, the child's is told, once."""
    bench.adf.end(CHILD, RunStatus.CANCELLED)
    bench.adf.end(WRAPPER, RunStatus.FAILED)
    if first == "child":
        bench.adf.runs[WRAPPER] = bench.adf.runs.pop(WRAPPER)
    bench.adf.page_size = page_size
    bench.pass_time(75 * SECOND)
    assert (Outcome.CANCELLED, CHILD) == (told(bench).status, told(bench).watched_key)
    looked_for = first == "wrapper" and page_size == 1
    assert (1 if looked_for else 0) == bench.adf.child_reads[WRAPPER]


def test_wrapped_runs_that_nobody_waits_for(bench: Bench) -> None:
    """The ends of other wrapped runs, which a sweep shows as well, leave nothing behind, and nothing is asked."""
    other, its_child = RunKey(FACTORY, "run-2"), RunKey(FACTORY, "child-2")
    bench.adf.begin(other, pipeline="copy_orders__notified")
    bench.adf.begin_child(its_child, other)
    bench.adf.end(its_child, RunStatus.FAILED)
    before = bench.adf.calls
    bench.pass_time(3 * MINUTE)
    assert ((None, ()), before) == (bench.store.inner.run(other), bench.adf.calls)


def test_a_child_of_somebody_else(bench: Bench) -> None:
    """The end of another pipeline that the wrapper's run started, if it did, is not the end of what it wraps."""
    stranger = RunKey(FACTORY, "child-2")
    bench.adf.begin_child(stranger, WRAPPER, pipeline="another_pipeline")
    bench.adf.end(stranger, RunStatus.SUCCEEDED)
    bench.pass_time(3 * MINUTE)
    assert WaitState.OPEN is bench.wait().state


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_the_notice_is_lost(bench: Bench, status: RunStatus) -> None:
    """S27: the child's end was seen by no sweep: the wrapper's is, and ADF is asked for the child: one more look."""
    bench.adf.end(CHILD, status, message="why")
    long_after_the_child(bench)
    bench.adf.end(WRAPPER, RunStatus.SUCCEEDED if status is RunStatus.SUCCEEDED else RunStatus.FAILED)
    bench.pass_time(75 * SECOND)
    assert (status.value, CHILD) == (told(bench).status.value, told(bench).watched_key)
    assert 1 == bench.adf.child_reads[WRAPPER]


def test_the_wrapper_was_cancelled(bench: Bench) -> None:
    """S30: a wrapper that was cancelled sends nothing; the sweep finds it, and waits for its child, too."""
    bench.adf.end(WRAPPER, RunStatus.CANCELLED)
    bench.pass_time(75 * SECOND)
    assert WaitState.OPEN is bench.wait().state
    bench.adf.end(CHILD, RunStatus.CANCELLED)
    bench.pass_time(75 * SECOND)
    assert Outcome.CANCELLED is told(bench).status


def test_the_child_is_not_to_be_found(bench: Bench) -> None:
    """S45: where ADF does not tell which run the wrapper started, nothing is completed unverified; it drains after."""
    bench.adf.end(CHILD, RunStatus.FAILED)
    long_after_the_child(bench)
    bench.adf.end(WRAPPER, RunStatus.FAILED)
    bench.adf.child_script.append(FORBIDDEN)
    bench.pass_time(30 * SECOND)
    assert WaitState.OPEN is bench.wait().state
    bench.pass_time(3 * MINUTE)
    assert (Outcome.FAILED, CHILD) == (told(bench).status, told(bench).watched_key)


@pytest.mark.parametrize("other", ["of another wrapper", "of a pipeline that is no wrapper", "not known"])
def test_a_child_that_is_none(bench: Bench, other: str) -> None:
    """S35: an event that names somebody else's run as the child completes nothing, at one read of ADF."""
    stranger = RunKey(FACTORY, "child-2")
    if other == "of another wrapper":
        elsewhere = RunKey(FACTORY, "wrapper-2")
        bench.adf.begin(elsewhere, pipeline="copy_orders__notified")
        bench.adf.begin_child(stranger, elsewhere)
    elif other == "of a pipeline that is no wrapper":
        bench.adf.begin_child(stranger, WRAPPER, pipeline="another_pipeline")
    if stranger in bench.adf.runs:
        bench.adf.end(stranger, RunStatus.SUCCEEDED)
    before = sum(bench.adf.reads.values())
    assert Verdict.UNCONFIRMED is notify(bench, child=stranger.run_id)
    assert (1, WaitState.OPEN) == (sum(bench.adf.reads.values()) - before, bench.wait().state)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    bench.adf.end(WRAPPER, RunStatus.SUCCEEDED)
    bench.pass_time(2 * MINUTE)
    assert CHILD == told(bench).watched_key


def test_after_a_forged_claim(bench: Bench) -> None:
    """S35: what an event claimed and ADF denied is forgotten: the next look reads the wrapper's own run."""
    notify(bench, child="forged")
    assert 1 == bench.adf.reads[RunKey(FACTORY, "forged")]
    assert "ADF denies what an event said" in bench.wait().timeline[-1].detail
    before = bench.adf.reads[WRAPPER]
    bench.pass_time(policy.UNREAD_AT_MOST + 15 * SECOND)
    assert (1, True) == (bench.adf.reads[RunKey(FACTORY, "forged")], bench.adf.reads[WRAPPER] > before)


@pytest.mark.parametrize("during", [True, False])
def test_a_forged_claim_delays_nothing(during: bool) -> None:
    """S35: a task that registers for a run of long ago while ADF is down hears soon after, whatever events invent."""
    bench = Bench()
    bench.adf.begin(WRAPPER)
    bench.adf.end(WRAPPER, RunStatus.FAILED)
    bench.pass_time(2 * HOUR)
    bench.adf.down = Refusal(RefusalKind.THROTTLED, "ADF answered 429")
    bench.airflow.run(TASK)
    bench.register(TASK, WRAPPER)
    bench.airflow.park(TASK)
    bench.clock.advance(10 * SECOND)
    if during:
        notify(bench, child="forged")
    bench.adf.down = None
    bench.clock.advance(10 * SECOND)
    if not during:
        notify(bench, child="forged")
    bench.pass_time(5 * MINUTE)
    assert Outcome.FAILED is told(bench).status


def test_a_forged_claim_and_a_true_event(bench: Bench) -> None:
    """S35: what ADF denies of a forged event undoes nothing of a true one that came while ADF was asked."""
    forged = Stepping(bench, service.receive(notice(child="forged"), bench.app.rules))
    while not bench.adf.reads[RunKey(FACTORY, "forged")]:
        forged.go_on(1)
    notify(bench)
    due_at = bench.due_at()
    forged.go_on()
    assert due_at == bench.due_at()


@pytest.mark.parametrize("ticks", [False, True])
def test_many_forged_claims(bench: Bench, ticks: bool) -> None:
    """S35: children that do not exist are read ever more seldom, however many events invent one."""
    before = sum(bench.adf.reads.values())
    for number in range(600):
        assert Verdict.UNCONFIRMED is notify(bench, child=f"forged-{number}")
        bench.clock.advance(SECOND)
        if ticks and number % 15 == 0:
            bench.tick()
    assert 30 > sum(bench.adf.reads.values()) - before


def test_a_child_needs_no_row(bench: Bench) -> None:
    """A notice that is told to the wait for its wrapper leaves no row for its child, for which nobody waits."""
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    notify(bench)
    assert (None, ()) == bench.store.inner.run(CHILD)


def test_a_pipeline_that_is_named_like_a_wrapper() -> None:
    """Where a pipeline only has a wrapper's name, its own end is told, not that of the last pipeline that it ran."""
    bench = Bench()
    bench.adf.begin(WRAPPER, pipeline="sales__notified")
    bench.adf.begin_child(CHILD, WRAPPER, pipeline="load_something")
    bench.airflow.run(TASK)
    bench.register(TASK, WRAPPER)
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    bench.adf.end(WRAPPER, RunStatus.FAILED, message="Copy B failed")
    bench.pass_time(3 * MINUTE)
    assert (Outcome.FAILED, "Copy B failed") == (told(bench).status, told(bench).message)
    assert WRAPPER == told(bench).watched_key


def test_upper_and_lower_case() -> None:
    """Names are compared as ADF does: the child of `COPY_ORDERS__Notified` may be called `copy_orders`."""
    bench = Bench()
    bench.adf.begin(WRAPPER, pipeline="COPY_ORDERS__Notified")
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.airflow.run(TASK)
    bench.register(TASK, WRAPPER)
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    assert Verdict.MATCHED is notify(bench)
    assert CHILD == told(bench).watched_key


def test_a_lost_notice_and_other_spelling() -> None:
    """S27: so are they where the wrapper's own end is all that is seen."""
    bench = Bench()
    bench.adf.begin(WRAPPER, pipeline="COPY_ORDERS__Notified")
    bench.airflow.run(TASK)
    bench.register(TASK, WRAPPER)
    bench.airflow.park(TASK)
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.adf.end(CHILD, RunStatus.CANCELLED)
    bench.clock.advance(3 * HOUR)  # too long for a sweep by pages
    bench.adf.end(WRAPPER, RunStatus.FAILED)
    bench.pass_time(75 * SECOND)
    assert (Outcome.CANCELLED, "copy_orders") == (told(bench).status, told(bench).pipeline)


def test_a_pipeline_that_starts_others() -> None:
    """The end of a run that an ordinary pipeline started is not that pipeline's end."""
    bench = Bench()
    bench.adf.begin(WRAPPER, pipeline="orchestrate")
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.airflow.run(TASK)
    bench.register(TASK, WRAPPER)
    bench.airflow.park(TASK)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    assert Verdict.UNCONFIRMED is notify(bench)
    assert WaitState.OPEN is bench.wait().state


def test_both_are_waited_for(bench: Bench) -> None:
    """One notice completes a task that waits for the wrapper, and one that waits for the child."""
    other = a_task(task_id="other", task_instance_id="ti-other")
    bench.airflow.run(other)
    bench.register(other, CHILD)
    bench.airflow.park(other)
    bench.clock.advance(MINUTE)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    notify(bench)
    bench.pass_time(MINUTE)
    assert {"ti-1": 1, "ti-other": 1} == bench.airflow.resumed


def test_the_notice_is_early() -> None:
    """S01: a notice that comes before the wait is registered is parked with the wrapper's run, and found there."""
    bench = Bench()
    bench.adf.begin(WRAPPER, pipeline="copy_orders__notified")
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    assert Verdict.PARKED is notify(bench)
    bench.airflow.run(TASK)
    registered = bench.register(TASK, WRAPPER)
    assert registered.wait is not None
    assert registered.wait.completion is not None
    assert (WaitState.INLINE, CHILD) == (registered.wait.state, registered.wait.completion.watched_key)


def test_by_the_factorys_name(bench: Bench) -> None:
    """A pipeline's expression knows the factory's name only: it is looked up among the allowed ones."""
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    event = json.loads(notice()) | {"source": "factories/ADF-demo"}
    (received,) = bench.app.receive(json.dumps(event))
    assert (Verdict.MATCHED, ARM_ID) == (received.record.verdict, received.record.factory)


@pytest.mark.parametrize("name", ["factories/adf-strange", "factories/"])
def test_by_a_name_that_nobody_knows(bench: Bench, name: str) -> None:
    """S35: a name that no allowed factory has is rejected."""
    (received,) = bench.app.receive(json.dumps(json.loads(notice()) | {"source": name}))
    assert Verdict.REJECTED is received.record.verdict


def test_by_a_name_that_two_have() -> None:
    """S18: a name that two allowed factories have is rejected, never guessed."""
    twin = OTHER_FACTORY.arm_id.replace("rg-demo", "rg-twin")
    bench = Bench(BRIDGE_FACTORIES=f"one={OTHER_FACTORY.arm_id}; two={twin}")
    event = json.loads(event_json(RunKey(OTHER_FACTORY, "r-1"), "Succeeded")) | {"source": "factories/adf-other"}
    (received,) = bench.app.receive(json.dumps(event))
    assert (Verdict.REJECTED, True) == (received.record.verdict, "several" in received.record.reason)


def test_the_pipelines_own_name(bench: Bench) -> None:
    """A task that is told before the child is known reads its pipeline's name, not the wrapper's."""
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.pass_time(MINUTE)
    assert (Outcome.EXPIRED, "copy_orders") == (told(bench).status, told(bench).pipeline)


def test_what_is_shown(bench: Bench) -> None:
    """The API shows both runs, and the link leads to the one that a person wants to see."""
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    notify(bench)
    document = json.loads(bench.call(http_api.get_run, path={"run_id": WRAPPER.run_id}).body)["run"]
    assert (WRAPPER.run_id, CHILD.run_id, CHILD.monitor_url) == (
        document["run_id"],
        document["watched_run_id"],
        document["monitor_url"],
    )


def test_said_to_have_ended(bench: Bench) -> None:
    """S05: where the notice and ADF disagree, ADF is asked again soon, a few times, and then left to the sweep."""
    bench.tick()
    before = bench.adf.reads[CHILD]
    assert Verdict.UNCONFIRMED is notify(bench)
    bench.clock.advance(5 * SECOND)
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    bench.pass_time(15 * SECOND)
    assert (Outcome.SUCCEEDED, 2) == (told(bench).status, bench.adf.reads[CHILD] - before)


def test_a_claim_that_adf_cannot_be_asked_about(bench: Bench) -> None:
    """S28: an event that ADF cannot be asked about now is not denied: it is asked again soon, and the end is told."""
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)
    bench.adf.read_script.append(Refusal(RefusalKind.THROTTLED, "ADF answered 429"))
    assert Verdict.UNVERIFIED is notify(bench)
    assert bench.clock.now() + bench.app.rules.sweep == bench.due_at()
    assert "ADF could not be asked" in bench.wait().timeline[-1].detail


def test_a_forged_claim_that_was_noted_while_adf_was_down(bench: Bench) -> None:
    """S35: a run that an event claimed while ADF could not be asked costs one read then, not one with every look."""
    forged = RunKey(FACTORY, "forged")
    bench.adf.read_script.append(Refusal(RefusalKind.THROTTLED, "ADF answered 429"))
    assert Verdict.UNVERIFIED is notify(bench, child=forged.run_id)
    bench.pass_time(3 * HOUR)
    assert (2, WaitState.OPEN) == (bench.adf.reads[forged], bench.wait().state)


def test_a_claim_that_comes_during_a_denial(bench: Bench) -> None:
    """S35: ADF's denial of one claim forgets no other one that was noted meanwhile."""

    def noted_meanwhile() -> None:
        run, _ = bench.store.inner.run(WRAPPER)
        assert run is not None
        bench.store.inner.put(replace(run, claimed_run_id=CHILD.run_id), ())

    bench.store.before("put", noted_meanwhile, nth=2)
    notify(bench, child="forged")
    after, _ = bench.store.inner.run(WRAPPER)
    assert after is not None
    assert CHILD.run_id == after.claimed_run_id
