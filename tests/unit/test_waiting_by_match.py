"""Waiting for a run that somebody else starts: which run it is, and that it stays that one."""

import json
from typing import Any

import pytest

from bridge import http_api, policy, service, views
from bridge.model import Completion, Match, OnAbandon, Outcome, RunKey, RunStatus, Verdict, WaitState, match_key
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import ARM_ID, DEADLINE, FACTORY, MINUTE, OTHER_FACTORY, SECOND, TASK, a_task

ENDS = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
MATCH = Match("copy_orders", START, ENDS)
FIRST, SECOND_RUN = RunKey(FACTORY, "first"), RunKey(FACTORY, "second")


def waiting(bench: Bench, match: Match = MATCH) -> service.Registered:
    """Have a parked task wait for a pipeline's next run."""
    bench.airflow.run(TASK)
    registered = bench.register(TASK, match_key(FACTORY, match.pipeline, TASK.token), match=match)
    bench.airflow.park(TASK)
    bench.clock.advance(20 * SECOND)
    return registered


def an_event(bench: Bench, status: str, key: RunKey, *, pipeline: str = "copy_orders") -> Verdict:
    """Have an event arrive that tells the pipeline; return what became of it."""
    return bench.event(status, key, data={"runId": key.run_id, "status": status, "pipelineName": pipeline})


def told(bench: Bench) -> list[Completion]:
    """Return what the task was told."""
    return bench.airflow.told.get("ti-1", [])


def test_the_next_run() -> None:
    """The next run of a pipeline that Airflow did not start completes the task by its event, told under its own id."""
    bench = Bench()
    registered = waiting(bench)
    assert registered.wait is not None
    assert WaitState.OPEN is registered.wait.state
    bench.adf.begin(FIRST)
    bench.clock.advance(5 * SECOND)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    assert Verdict.MATCHED is an_event(bench, "Succeeded", FIRST, pipeline="Copy_Orders")
    assert [(Outcome.SUCCEEDED, FIRST)] == [(one.status, one.key) for one in told(bench)]


def test_a_run_that_is_there_already() -> None:
    """A run that began since then and has ended completes the task with the answer to its registration."""
    bench = Bench()
    bench.adf.begin(FIRST)
    bench.adf.end(FIRST, RunStatus.FAILED, message="why")
    bench.clock.advance(MINUTE)
    registered = waiting(bench)
    assert registered.wait is not None
    assert registered.wait.completion is not None
    assert (WaitState.INLINE, "why", FIRST) == (
        registered.wait.state,
        registered.wait.completion.message,
        registered.wait.completion.key,
    )


def test_runs_before_that() -> None:
    """Runs that began before, runs of other pipelines and runs of other factories are not meant."""
    bench = Bench()
    bench.adf.begin(RunKey(FACTORY, "before"))
    bench.clock.advance(MINUTE)
    waiting(bench, Match("copy_orders", bench.clock.now(), ENDS))
    others = [RunKey(FACTORY, "other pipeline"), RunKey(OTHER_FACTORY, "elsewhere"), RunKey(FACTORY, "before")]
    bench.adf.begin(others[0], pipeline="copy_returns")
    bench.adf.begin(others[1])
    for key in others:
        bench.adf.end(key, RunStatus.SUCCEEDED)
        an_event(bench, "Succeeded", key)
    bench.pass_time(3 * MINUTE)
    assert ([], WaitState.OPEN) == (told(bench), bench.wait().state)


def test_the_earliest_one_counts() -> None:
    """Of two runs the earlier one is waited for, although the event of the later one comes first."""
    bench = Bench()
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.clock.advance(SECOND)
    bench.adf.begin(SECOND_RUN)
    bench.clock.advance(5 * SECOND)
    bench.adf.end(SECOND_RUN, RunStatus.SUCCEEDED)
    assert Verdict.UNCONFIRMED is an_event(bench, "Succeeded", SECOND_RUN)
    bench.clock.advance(5 * SECOND)
    bench.adf.end(FIRST, RunStatus.FAILED)
    an_event(bench, "Failed", FIRST)
    bench.pass_time(MINUTE)
    assert [(Outcome.FAILED, FIRST)] == [(one.status, one.key) for one in told(bench)]


def test_once_found_it_stays() -> None:
    """A run that was found is waited for, even if an earlier one turns up later; ADF is not searched again for it."""
    bench = Bench()
    waiting(bench)
    bench.clock.advance(MINUTE)
    bench.adf.begin(SECOND_RUN)
    bench.pass_time(2 * MINUTE)
    row, _ = bench.store.inner.run(bench.wait().key)
    assert row is not None
    assert SECOND_RUN.run_id == row.watched_run_id
    searches = len(bench.adf.searches)
    bench.adf.begin(FIRST)
    bench.adf.runs[FIRST] = bench.adf.runs[SECOND_RUN].__class__(
        RunStatus.SUCCEEDED, "Succeeded", "copy_orders", START + SECOND, run_end=bench.clock.now()
    )
    an_event(bench, "Succeeded", FIRST)
    bench.pass_time(2 * MINUTE)
    assert ([], searches) == (told(bench), len(bench.adf.searches))
    bench.adf.end(SECOND_RUN, RunStatus.SUCCEEDED)
    an_event(bench, "Succeeded", SECOND_RUN)
    bench.pass_time(MINUTE)
    assert [SECOND_RUN] == [one.key for one in told(bench)]


def test_only_some_ends_count() -> None:
    """A run that ends otherwise is passed over, and the next one is waited for."""
    bench = Bench()
    waiting(bench, Match("copy_orders", START, (RunStatus.SUCCEEDED,)))
    for key, status in ((FIRST, RunStatus.FAILED), (SECOND_RUN, RunStatus.SUCCEEDED)):
        bench.adf.begin(key)
        bench.pass_time(2 * MINUTE)
        bench.adf.end(key, status)
        an_event(bench, status.value, key)
        bench.pass_time(MINUTE)
    assert [(Outcome.SUCCEEDED, SECOND_RUN)] == [(one.status, one.key) for one in told(bench)]


def test_the_event_is_lost() -> None:
    """S27: without an event the sweep finds the run, by pages; it searches only when the pipeline has had a run."""
    bench = Bench()
    waiting(bench)
    bench.pass_time(5 * MINUTE)
    searches = len(bench.adf.searches)
    bench.adf.begin(RunKey(FACTORY, "of another pipeline"), pipeline="copy_returns")
    bench.pass_time(5 * MINUTE)
    assert searches == len(bench.adf.searches)
    bench.adf.begin(FIRST)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.pass_time(2 * MINUTE)
    assert [FIRST] == [one.key for one in told(bench)]


def test_no_run_in_time() -> None:
    """S29: when no run begins before the deadline, the task is told which one it waited for."""
    bench = Bench()
    waiting(bench)
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.pass_time(MINUTE)
    (completion,) = told(bench)
    assert (Outcome.EXPIRED, True) == (completion.status, "No run of 'copy_orders'" in (completion.message or ""))
    document = views.completion_document(completion)
    assert (None, None, True) == (document["run_id"], document["monitor_url"], "match~" not in json.dumps(document))


def test_none_that_counts_in_time() -> None:
    """S29: a task that waited for a success alone is told so, though there was a run that failed."""
    bench = Bench()
    waiting(bench, Match("copy_orders", START, (RunStatus.SUCCEEDED,)))
    bench.adf.begin(FIRST)
    bench.pass_time(2 * MINUTE)
    bench.adf.end(FIRST, RunStatus.FAILED)
    bench.pass_time(2 * MINUTE)
    bench.clock.sleep_until(DEADLINE)
    bench.tick()
    bench.pass_time(MINUTE)
    (completion,) = told(bench)
    words = ("No run of 'copy_orders'", "ended as Succeeded")
    assert [True, True] == [one in (completion.message or "") for one in words]
    assert views.completion_document(completion)["run_id"] is None


def test_an_event_of_a_later_run() -> None:
    """S05: that a later run has ended is no reason to look at the earlier one again soon, which is waited for."""
    bench = Bench()
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.clock.advance(SECOND)
    bench.adf.begin(SECOND_RUN)
    bench.clock.advance(5 * SECOND)
    an_event(bench, "Succeeded", SECOND_RUN)
    assert policy.UNREAD_AT_MOST == bench.due_at() - bench.clock.now()


def test_a_run_that_no_search_shows_yet() -> None:
    """A run that ADF knows by its id a moment before it finds it is the one, unless it finds an earlier one."""
    bench = Bench()
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.clock.advance(SECOND)
    bench.adf.begin(SECOND_RUN)
    bench.adf.unsearchable = {FIRST}
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    assert Verdict.MATCHED is an_event(bench, "Succeeded", FIRST)
    assert [FIRST] == [one.key for one in told(bench)]


def test_two_events_at_once() -> None:
    """S22: each of two events that come together asks for the run that it names itself."""
    bench = Bench()
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.store.before("run", lambda: an_event(bench, "Succeeded", RunKey(FACTORY, "forged")), nth=3)
    an_event(bench, "Succeeded", FIRST)
    assert [FIRST] == [one.key for one in told(bench)]


def test_another_run_is_found_meanwhile() -> None:
    """An event of another run than the one that was found is not about this wait: nothing is written or asked."""
    bench = Bench()
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.pass_time(2 * MINUTE)
    bench.adf.begin(SECOND_RUN)
    bench.adf.end(SECOND_RUN, RunStatus.SUCCEEDED)
    row, before = bench.store.inner.run(bench.wait().key), bench.adf.calls
    assert Verdict.PARKED is an_event(bench, "Succeeded", SECOND_RUN)
    assert (row, before) == (bench.store.inner.run(bench.wait().key), bench.adf.calls)


def test_a_forged_event() -> None:
    """S35: an event about a run that ADF does not have completes nothing; a burst of them costs one read."""
    bench = Bench()
    waiting(bench)
    bench.clock.advance(MINUTE)
    before = bench.adf.calls
    for number in range(100):
        assert an_event(bench, "Succeeded", RunKey(FACTORY, f"forged-{number}")) in (
            Verdict.UNCONFIRMED,
            Verdict.PARKED,
        )
    assert (1, []) == (bench.adf.calls - before, told(bench))


def test_adf_in_trouble() -> None:
    """S45: where ADF cannot be searched, the wait stays, and is completed when it can."""
    bench = Bench()
    bench.adf.down = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 502")
    waiting(bench)
    bench.adf.begin(FIRST)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.pass_time(5 * MINUTE)
    assert WaitState.OPEN is bench.wait().state
    bench.adf.down = None
    bench.pass_time(3 * MINUTE)
    assert [FIRST] == [one.key for one in told(bench)]


# --- the API ----------------------------------------------------------------------------------------------------------


def body(**changes: Any) -> dict[str, Any]:
    """Return the body of a registration by match."""
    task = TASK
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number", "task_instance_id", "nonce")
    return {
        "match": {"factory": "demo", "pipeline": "copy_orders", "since": START.isoformat()},
        "target": "prod",
        "mode": "resume",
        "task": {name: getattr(task, name) for name in names},
        "deadline": DEADLINE.isoformat(),
        **changes,
    }


def test_registering_by_match() -> None:
    """A wait by match is answered without a run; the same token twice is one wait."""
    bench = Bench()
    bench.call(http_api.post_wait, body=body())
    document = json.loads(bench.call(http_api.post_wait, body=body()).body)
    assert ("open", None, None, None) == (
        document["wait"]["state"],
        document["wait"]["run_id"],
        document["run"]["run_id"],
        document["run"]["monitor_url"],
    )
    assert {"pipeline": "copy_orders", "since": START.isoformat(), "statuses": [str(one) for one in ENDS]} == (
        document["wait"]["match"]
    )
    assert (1, ARM_ID) == (len(bench.store.inner.open_waits(FACTORY, limit=9)), document["run"]["factory"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"match": {"factory": "demo", "pipeline": "p"}}, "match.since"),
        ({"match": {"factory": "demo", "pipeline": "a/b", "since": START.isoformat()}}, "match.pipeline"),
        ({"match": {"factory": "demo", "pipeline": "p", "since": "today"}}, "match.since"),
        (
            {"match": {"factory": "demo", "pipeline": "p", "since": START.isoformat(), "statuses": ["Running"]}},
            "match.statuses",
        ),
        ({"match": {"factory": "demo", "pipeline": "p", "since": START.isoformat(), "other": 1}}, "match.other"),
        ({"run_id": "r-1"}, "run_id"),
        ({"on_abandon": OnAbandon.CANCEL.value}, "on_abandon"),
        ({"match": "p"}, "match"),
    ],
)
def test_matches_that_make_no_sense(changes: dict[str, Any], field: str) -> None:
    """S26: a wait by match that is not right is refused, with the name of the field."""
    response = Bench().call(http_api.post_wait, body=body(**changes))
    assert (422, True) == (response.status, field in [one["field"] for one in json.loads(response.body)["errors"]])


@pytest.mark.parametrize("name", ["copy_orders__notified", "copy_orders__NOTIFIED"])
def test_a_wrappers_name(name: str) -> None:
    """S26: what a wrapper tells is the end of the pipeline that it runs: a wait for the wrapper is refused, and why."""
    match = {"factory": "demo", "pipeline": name, "since": START.isoformat()}
    response = Bench().call(http_api.post_wait, body=body(match=match))
    (error,) = json.loads(response.body)["errors"]
    assert (422, "match.pipeline", True) == (response.status, error["field"], "'copy_orders'" in error["message"])


def test_a_run_id_is_no_match() -> None:
    """Nobody can name the row of a wait by match as a run."""
    key = match_key(FACTORY, "copy_orders", a_task().token)
    plain = {name: value for name, value in body().items() if name != "match"}
    response = Bench().call(http_api.post_wait, body={**plain, "factory": "demo", "run_id": key.run_id})
    assert 422 == response.status
