"""A run whose start was never answered is found again, or it is said that it was not; it is never started twice."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge import service
from bridge.errors import AdfUnavailable, RequestInFlight, UnknownOutcome
from bridge.model import Run, RunKey, StartState, TaskRef, Wrapped
from bridge.ports import PipelineDeclaration, Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.bench import Bench, Crash
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, MINUTE, SECOND, TASK, a_task, a_trigger
from tests.fakes.stepping import Stepping

NO_ANSWER = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 504")
FIRST = RunKey(FACTORY, "run-1")
OTHER = a_task(map_index=1, nonce="nonce-2", task_instance_id="ti-2")


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a task that runs."""
    bench = Bench()
    bench.airflow.run(TASK)
    return bench


@pytest.fixture
def keyed(bench: Bench) -> Bench:
    """A bridge in front of a pipeline that takes the key as a parameter."""
    bench.adf.declare("copy_orders", "day", "bridge_key")
    return bench


def is_sought(bench: Bench, task: TaskRef = TASK, **changes: Any) -> bool:
    """Whether a request that is sent (again) is told to come back."""
    try:
        bench.start(task, **changes)
    except RequestInFlight:
        return True
    return False


def settled(bench: Bench, task: TaskRef = TASK, *, within: timedelta = timedelta(minutes=5)) -> str:
    """Send a request again and again, as the operator does, until it is settled; return its run, or "unknown"."""
    end = bench.clock.now() + within
    while bench.clock.now() < end:
        try:
            return str(bench.start(task)["run"]["run_id"])
        except RequestInFlight as again:
            bench.clock.advance(again.retry_after or MINUTE)
        except UnknownOutcome:
            return "unknown"
    return "not settled"


def change(bench: Bench, key: RunKey, **changes: Any) -> None:
    """Have ADF show something else of a run."""
    bench.adf.runs[key] = replace(bench.adf.runs[key], **changes)


# --- by the key ---


def test_a_lost_answer(keyed: Bench) -> None:
    """S19: a run whose start was not answered, and that carries the key, is found at once and answers to the key."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    answer = keyed.start()
    assert ("run-1", "open", "adopted", 1) == (
        answer["run"]["run_id"],
        answer["wait"]["state"],
        answer["start"]["how"],
        len(keyed.adf.creates),
    )
    assert answer == keyed.start()


def test_the_wrapper_carries_the_key(bench: Bench) -> None:
    """S19: a wrapper takes the key whether or not the pipeline does."""
    bench.adf.wrap("copy_orders", "day")
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert ("adopted", 1) == (bench.start()["start"]["how"], len(bench.adf.creates))
    assert TASK.token == bench.adf.creates[0].parameters["bridge_key"]


def test_a_parameter_that_was_configured() -> None:
    """S19: the parameter that carries the key may have another name; it is spelled as the pipeline declares it."""
    bench = Bench(BRIDGE_CORRELATION_PARAMETER="correlation_id")
    bench.airflow.run(TASK)
    bench.adf.declare("copy_orders", "day", "Correlation_Id")
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert "adopted" == bench.start()["start"]["how"]
    assert {"day": "2026-03-01", "Correlation_Id": TASK.token} == bench.adf.creates[0].parameters


def test_a_parameter_of_the_callers_own(keyed: Bench) -> None:
    """A caller that uses that parameter for something else gets what it asks for."""
    keyed.start(parameters={"BRIDGE_KEY": "mine"})
    assert {"BRIDGE_KEY": "mine"} == keyed.adf.creates[0].parameters


def test_dying_right_after_create_run(keyed: Bench) -> None:
    """S19, S24: a process that dies between createRun and the write leads to the run that it has started."""
    keyed.crash_at(3)
    with pytest.raises(Crash):
        keyed.start()
    keyed.restart()
    assert (True, 0) == (is_sought(keyed), keyed.adf.run_searches)
    keyed.clock.advance(10 * SECOND)
    assert ("run-1", 1) == (settled(keyed), len(keyed.adf.creates))


def test_a_run_that_was_run_again(keyed: Bench) -> None:
    """S19: of two runs with the key the first one is taken: who runs a run again has its parameters copied."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.listed_after = 20 * SECOND
    assert is_sought(keyed)
    keyed.clock.advance(5 * SECOND)
    keyed.adf.begin(KEY, parameters={"bridge_key": TASK.token})
    keyed.clock.advance(40 * SECOND)
    assert "run-1" == settled(keyed)


def test_a_run_that_was_run_again_and_is_listed_first(keyed: Bench) -> None:
    """S19: a run that runs ours again, and has its key copied, is not taken for ours that is listed later."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.listed_after = SECOND
    assert is_sought(keyed)
    ours = keyed.adf.runs.pop(FIRST)
    keyed.adf.begin(KEY, parameters={"bridge_key": TASK.token}, group=FIRST.run_id)
    keyed.clock.advance(MINUTE)
    assert is_sought(keyed)
    keyed.adf.runs[FIRST] = ours
    assert "run-1" == settled(keyed)


def test_a_list_that_is_late(keyed: Bench) -> None:
    """S19: a run that ADF lists only after a while is found then."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.listed_after = 45 * SECOND
    assert ("run-1", 1) == (settled(keyed), len(keyed.adf.creates))
    assert 45 * SECOND <= keyed.clock.now() - START <= MINUTE


def test_nothing_was_started(keyed: Bench) -> None:
    """S19: when no run is found for as long as ADF may take to list it, the caller is told so; nothing is started."""
    keyed.adf.create_script.append(NO_ANSWER)
    assert ("unknown", 1) == (settled(keyed), len(keyed.adf.creates))
    assert 3 * MINUTE <= keyed.clock.now() - START <= 4 * MINUTE


def test_a_key_that_is_unknown_stays_so(keyed: Bench) -> None:
    """S21: days later the same key is still not started; a run that has turned up meanwhile is adopted."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.listed_after = timedelta(hours=1)
    assert "unknown" == settled(keyed)
    keyed.clock.advance(timedelta(days=1))
    assert ("run-1", 1) == (settled(keyed), len(keyed.adf.creates))


def test_adf_cannot_be_asked(keyed: Bench) -> None:
    """S45: while ADF cannot be asked nothing is concluded, however long that takes; then the run is found."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.search_script.extend([NO_ANSWER] * 6)
    for _ in range(6):
        with pytest.raises(AdfUnavailable, match="504") as caught:
            keyed.start()
        assert caught.value.retry_after is not None
        keyed.clock.advance(2 * MINUTE)
    keyed.clock.advance(2 * MINUTE)
    assert "run-1" == settled(keyed)


@pytest.mark.parametrize("kind", [RefusalKind.FORBIDDEN, RefusalKind.INVALID])
def test_adf_will_not_say(keyed: Bench, kind: RefusalKind) -> None:
    """S19: where ADF refuses to list runs the caller is told why, and in the end that it is not known."""
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    keyed.adf.search_script.extend([Refusal(kind, "ADF answered no")] * 3)
    with pytest.raises(AdfUnavailable, match="ADF answered no"):
        keyed.start()
    keyed.clock.advance(4 * MINUTE)
    for _ in range(2):
        with pytest.raises(UnknownOutcome):
            keyed.start()
    keyed.adf.search_script.clear()
    keyed.clock.advance(10 * MINUTE)
    assert ("run-1", 1) == (keyed.start()["run"]["run_id"], len(keyed.adf.creates))


def test_many_runs(keyed: Bench) -> None:
    """S19: the run is found among more runs of the pipeline than ADF shows on a page."""
    for number in range(250):
        keyed.adf.begin(RunKey(FACTORY, f"other-{number}"), parameters={"bridge_key": f"key-{number}"})
    keyed.adf.create_script.append(Lost(NO_ANSWER))
    assert "run-1" == settled(keyed)


def test_too_many_runs(bench: Bench) -> None:
    """S19: where there are more runs than a search looks through, none is taken for the only one."""
    bench.adf.page_size = 1
    bench.adf.create_script.append(Lost(NO_ANSWER))
    for number in range(30):
        bench.adf.begin(RunKey(FACTORY, f"other-{number}"), parameters={"day": str(number)})
    bench.airflow.run(TASK)
    with pytest.raises(AdfUnavailable, match="too many runs"):
        bench.start()
    bench.clock.advance(5 * MINUTE)
    with pytest.raises(UnknownOutcome):
        bench.start()


def test_too_many_that_look_alike(bench: Bench) -> None:
    """S19: of more equal runs than claims are looked at, none is adopted, though all but one may be others'."""
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(bench)
    for number in range(30):
        key = RunKey(FACTORY, f"other-{number}")
        bench.adf.begin(key, parameters={"day": "2026-03-01"})
        bench.store.inner.put(Run(key, started_by=f"key-{number}"), ())
    assert "unknown" == settled(bench)


# --- by the parameters ---


def test_the_only_run_that_looks_so(bench: Bench) -> None:
    """S19: without a key the only run with the same parameters is adopted, once it can be no other request's."""
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert ("run-1", 1) == (settled(bench), len(bench.adf.creates))
    assert MINUTE <= bench.clock.now() - START <= 2 * MINUTE


def test_a_parameter_that_adf_drops(bench: Bench) -> None:
    """S19: ADF shows no parameter that the pipeline does not declare; a run without it is found all the same."""
    given = {"day": "2026-03-01", "surplus": 1}
    bench.adf.create_script.append(NO_ANSWER)
    bench.adf.begin(FIRST, parameters={"day": "2026-03-01"})
    while is_sought(bench, parameters=given):
        bench.clock.advance(MINUTE)
    assert "run-1" == bench.start(parameters=given)["run"]["run_id"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"parameters": {"day": "2026-03-02"}}, id="another value"),
        pytest.param({"parameters": {}}, id="no value"),
        pytest.param({"parameters": {"day": "2026-03-01", "full": "true"}}, id="one more"),
        pytest.param({"pipeline": "copy_items"}, id="another pipeline"),
        pytest.param({"by_hand": False}, id="by a trigger"),
        pytest.param({"group": "0a1b"}, id="run again"),
        pytest.param({"parameters": {"day": "2026-03-01", "bridge_key": "other"}}, id="another request's"),
        pytest.param({"run_start": START - 3 * MINUTE}, id="before"),
        pytest.param({"run_start": START + 3 * MINUTE}, id="after"),
    ],
)
def test_a_run_that_looks_different(bench: Bench, changes: dict[str, Any]) -> None:
    """S19: a run of another pipeline, time, invoker or group, or with another parameter, is not adopted."""
    bench.adf.begin(KEY, parameters={"day": "2026-03-01"})
    change(bench, KEY, **changes)
    bench.adf.create_script.append(NO_ANSWER)
    assert "unknown" == settled(bench)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x", "x"),
        (5, "5"),
        (True, "true"),
        (True, "True"),
        (None, ""),
        (1.5, "1.5"),
        ([1, {"a": None}], '[1,{"a":null}]'),
        ("secret", "**********"),
    ],
)
def test_parameters_as_adf_shows_them(bench: Bench, value: object, shown: str) -> None:
    """S19: ADF shows every parameter as text, its defaults as well, and asterisks for a secret."""
    bench.adf.pipelines["copy_orders"] = PipelineDeclaration(
        "copy_orders", frozenset({"day", "more"}), defaults={"Day": "other", "more": "default"}
    )
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(bench, parameters={"Day": value})
    change(bench, FIRST, parameters={"day": shown, "more": "default"})
    bench.clock.advance(2 * MINUTE)
    assert "run-1" == bench.start(parameters={"Day": value})["run"]["run_id"]


def test_two_lost_answers_and_one_run(bench: Bench) -> None:
    """S19: of two equal requests whose answers were lost, and of which one run was started, one adopts that."""
    bench.airflow.run(OTHER)
    bench.adf.create_script.extend([Lost(NO_ANSWER), NO_ANSWER])
    assert (True, True) == (is_sought(bench), is_sought(bench, OTHER))
    assert {"run-1", "unknown"} == {settled(bench), settled(bench, OTHER)}


def test_two_searches_at_the_same_moment(bench: Bench) -> None:
    """S19: two searches that find the same run at the same moment do not both adopt it."""
    bench.airflow.run(OTHER)
    bench.adf.create_script.extend([Lost(NO_ANSWER), NO_ANSWER])
    assert (True, True) == (is_sought(bench), is_sought(bench, OTHER))
    bench.clock.advance(2 * MINUTE)
    other: list[str] = []
    bench.store.before("put", lambda: other.append(settled(bench, OTHER)), nth=1)
    assert ("unknown", ["run-1"]) == (settled(bench), other)


def test_two_runs_that_look_alike(bench: Bench) -> None:
    """S19: which of two equal runs is whose cannot be told: it is said so, and neither is adopted."""
    bench.airflow.run(OTHER)
    bench.adf.create_script.extend([Lost(NO_ANSWER), Lost(NO_ANSWER)])
    assert (True, True) == (is_sought(bench), is_sought(bench, OTHER))
    assert {"unknown"} == {settled(bench), settled(bench, OTHER)}


def test_a_run_that_answers_to_another_key(bench: Bench) -> None:
    """S19: a run that an equal request has started and knows is not adopted by one whose own answer was lost."""
    bench.airflow.run(OTHER)
    assert "run-1" == bench.start(OTHER)["run"]["run_id"]
    bench.adf.create_script.append(NO_ANSWER)
    assert "unknown" == settled(bench)


def test_a_run_whose_claim_is_forgotten(bench: Bench) -> None:
    """S19: a search that outlasts the retention adopts no run: whose each is, is not known any more."""
    bench.airflow.run(OTHER)
    bench.start(OTHER)
    bench.adf.create_script.append(NO_ANSWER)
    assert is_sought(bench)
    bench.clock.advance(bench.app.rules.retention)
    run, _ = bench.store.inner.run(RunKey(FACTORY, "run-1"))
    assert run is not None
    bench.store.inner.put(replace(run, started_by=None), ())
    assert "unknown" == settled(bench)


def test_a_run_that_is_about_to_be_written_down(bench: Bench) -> None:
    """S19: a run that another request has just started, and not written down yet, is left to that."""
    bench.airflow.run(OTHER)
    bench.adf.create_script.append(NO_ANSWER)
    assert is_sought(bench)
    seen: list[bool] = []
    bench.store.before("save_request", lambda: seen.append(is_sought(bench)), nth=2)
    assert ("run-2", [True]) == (bench.start(OTHER)["run"]["run_id"], seen)
    assert "unknown" == settled(bench)


def test_a_run_that_was_taken(bench: Bench) -> None:
    """S19: a request that is so slow to write its run down that another has adopted it does not share it."""
    bench.airflow.run(OTHER)
    bench.adf.create_script.append(NO_ANSWER)
    assert is_sought(bench)
    taken: list[str] = []

    def much_later() -> None:
        bench.clock.advance(MINUTE + SECOND)
        taken.append(settled(bench))

    bench.store.before("save_request", much_later, nth=2)
    with pytest.raises(RequestInFlight):
        bench.start(OTHER)
    assert (["run-2"], "unknown") == (taken, settled(bench, OTHER))


@pytest.mark.parametrize("ahead", [-10 * MINUTE, 10 * MINUTE])
def test_clocks_that_differ(bench: Bench, ahead: timedelta) -> None:
    """S31: a run is found although ADF's clock is off."""
    bench.adf.ahead = ahead
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(bench)
    assert "run-1" == settled(bench)


def test_without_the_permission_to_read_pipelines(bench: Bench) -> None:
    """A bridge that may not read pipelines starts them all the same, and finds their runs by the parameters."""
    bench.adf.pipeline_script.append(Refusal(RefusalKind.FORBIDDEN, "ADF answered 403"))
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(bench, wrapped=Wrapped.NEVER)
    bench.clock.advance(2 * MINUTE)
    assert "run-1" == bench.start(wrapped=Wrapped.NEVER)["run"]["run_id"]


def test_dying_between_claim_and_write(bench: Bench) -> None:
    """S24: a process that dies between claiming a run and writing that down leaves the run to the same request."""
    bench.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(bench)
    bench.clock.advance(2 * MINUTE)
    found = len(bench.places)
    bench.app.run(service.start_run(a_trigger(), bench.app.rules))
    claimed = next(n for n, place in enumerate(bench.places[found:]) if place.point == "start.run-claimed")
    again = Bench()
    again.airflow.run(TASK)
    again.adf.create_script.append(Lost(NO_ANSWER))
    assert is_sought(again)
    again.clock.advance(2 * MINUTE)
    again.crash_at(claimed)
    with pytest.raises(Crash):
        again.start()
    again.restart()
    assert ("run-1", 1) == (settled(again), len(again.adf.creates))


@pytest.mark.parametrize("other", [True, False])
def test_a_search_that_was_quicker(other: bool) -> None:
    """A request is answered with the run that a search has found; the one that it has started beside it is named."""
    bench = Bench()
    start = Stepping(bench, service.start_run(a_trigger(), bench.app.rules))
    while not bench.adf.creates:
        start.go_on(1)
    record = bench.store.inner.request(TASK.token)
    assert record is not None
    found = "a-persons" if other else "run-1"
    bench.adf.begin(RunKey(FACTORY, "a-persons"))
    bench.store.inner.save_request(replace(record, state=StartState.STARTED, run_id=found))
    answer = start.go_on().result
    assert answer is not None
    document = json.loads(answer.document)
    assert (found, other) == (document["run"]["run_id"], "run-1" in (document["start"]["why"] or ""))
