"""One request starts at most one run, or says plainly that it could not find out."""

from datetime import timedelta

import pytest

from bridge import service
from bridge.errors import (
    AdfRefused,
    AdfThrottled,
    AdfUnavailable,
    IdempotencyMismatch,
    InvalidFields,
    PipelineNotFound,
    Problem,
    RequestInFlight,
    StoreUnavailable,
    TryAgain,
    UnknownOutcome,
    WaitConflict,
)
from bridge.model import RunKey, RunStatus, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.adf import Create, Lost
from tests.fakes.bench import Bench, Crash
from tests.fakes.clock import START
from tests.fakes.samples import DEADLINE, FACTORY, MINUTE, SECOND, TASK, a_request, a_trigger
from tests.fakes.stepping import Stepping

UNAVAILABLE = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 503")
FIRST = RunKey(FACTORY, "run-1")


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a task that runs."""
    bench = Bench()
    bench.airflow.run(TASK)
    return bench


def replayed(bench: Bench) -> bool:
    """Send the request again; return whether its answer was given before."""
    return bench.app.run(service.start_run(a_trigger(), bench.app.rules)).replay


def test_a_run_is_started(bench: Bench) -> None:
    """A request starts the pipeline with its parameters, and its wait is open; ADF is not read for it."""
    answer = bench.start()
    assert [Create(FACTORY, "copy_orders", {"day": "2026-03-01"})] == bench.adf.creates
    assert ("run-1", "open", None) == (answer["run"]["run_id"], answer["wait"]["state"], answer["completed"])
    assert (0, START + 60 * MINUTE) == (sum(bench.adf.reads.values()), bench.due_at())


def test_a_run_without_a_wait(bench: Bench) -> None:
    """A run may be started without anybody waiting for it."""
    answer = bench.start(None)
    assert ("run-1", None, None) == (answer["run"]["run_id"], answer["wait"], answer["completed"])


def test_the_same_key_gets_the_same_answer(bench: Bench) -> None:
    """S21: a request that is repeated, even days later and after its deadline, gets the first answer to the letter."""
    first = bench.start()
    bench.clock.advance(timedelta(days=3))
    assert first == bench.start()
    assert (True, 1) == (replayed(bench), len(bench.adf.creates))


def test_another_body_under_the_same_key(bench: Bench) -> None:
    """S21: the same key with another body is refused, and starts nothing."""
    bench.start()
    with pytest.raises(IdempotencyMismatch):
        bench.start(body_hash="hash-2")
    assert 1 == len(bench.adf.creates)


def test_a_request_that_is_under_way(bench: Bench) -> None:
    """S21: a repetition of a request that is under way is told to come back, and starts nothing."""
    during: list[Problem] = []

    def repeat() -> None:
        with pytest.raises(RequestInFlight) as caught:
            bench.start()
        during.append(caught.value)

    bench.store.before("save_request", repeat, nth=2)
    bench.start()
    assert ([2 * SECOND], 1) == ([problem.retry_after for problem in during], len(bench.adf.creates))


@pytest.mark.parametrize("outcome", [UNAVAILABLE, Lost(UNAVAILABLE)])
def test_an_outcome_that_is_unknown(bench: Bench, outcome: Refusal | Lost) -> None:
    """S20: a createRun that ADF did not answer is sent once and never again under its key; the caller is told so."""
    bench.adf.create_script.append(outcome)
    bench.adf.listed_after = timedelta(days=1)
    with pytest.raises(RequestInFlight):
        bench.start()
    for _ in range(3):
        bench.clock.advance(timedelta(hours=2))
        with pytest.raises(UnknownOutcome) as caught:
            bench.start()
        assert caught.value.retry_after is None
    assert 1 == len(bench.adf.creates)


@pytest.mark.parametrize(
    ("kind", "problem", "status", "retry"),
    [
        (RefusalKind.NOT_FOUND, PipelineNotFound, 404, False),
        (RefusalKind.INVALID, AdfRefused, 422, False),
        (RefusalKind.CONFLICT, AdfRefused, 422, False),
        (RefusalKind.FORBIDDEN, AdfRefused, 403, False),
        (RefusalKind.THROTTLED, AdfThrottled, 503, True),
        (RefusalKind.UNREACHABLE, AdfUnavailable, 503, True),
        (RefusalKind.UNAUTHENTICATED, AdfUnavailable, 503, True),
    ],
)
def test_a_refusal_starts_nothing(
    bench: Bench, kind: RefusalKind, problem: type[Problem], status: int, retry: bool
) -> None:
    """A request that ADF surely refused is answered as such, and may be sent again under the same key."""
    bench.adf.create_script.append(Refusal(kind, "ADF answered no"))
    with pytest.raises(problem, match="Nothing was started") as caught:
        bench.start()
    assert (status, retry) == (caught.value.status, caught.value.retry_after is not None)
    assert ("run-2", 2) == (bench.start()["run"]["run_id"], len(bench.adf.creates))


@pytest.mark.parametrize("looked_for", [False, True])
def test_a_process_that_comes_to_a_halt(bench: Bench, *, looked_for: bool) -> None:
    """S21: a process that was halted until its run may be looked for asks ADF for none any more, and says so."""
    halted = Stepping(bench, service.start_run(a_trigger(), bench.app.rules))
    while bench.store.inner.request(TASK.token) is None:
        halted.go_on(1)
    bench.clock.advance(10 * MINUTE)
    if looked_for:
        with pytest.raises(RequestInFlight):
            bench.start()
    halted.go_on()
    assert (TryAgain, []) == (type(halted.problem), bench.adf.creates)
    if not looked_for:
        assert ("started", 1) == (bench.start()["start"]["how"], len(bench.adf.creates))


def test_adf_says_when_to_come_back(bench: Bench) -> None:
    """S12: what ADF asks for in Retry-After is passed on to the caller."""
    bench.adf.create_script.append(Refusal(RefusalKind.THROTTLED, "ADF answered 429", 90 * SECOND))
    with pytest.raises(AdfThrottled) as caught:
        bench.start()
    assert 90 * SECOND == caught.value.retry_after


def test_adf_does_not_show_the_pipeline_so_soon(bench: Bench) -> None:
    """S12: so is what it asks for where it is asked about the pipeline, before anything is started."""
    bench.adf.pipeline_script.append(Refusal(RefusalKind.THROTTLED, "ADF answered 429", 90 * SECOND))
    with pytest.raises(AdfThrottled, match="Nothing was started") as caught:
        bench.start()
    assert (90 * SECOND, []) == (caught.value.retry_after, bench.adf.creates)


@pytest.mark.parametrize(
    "deadline", [DEADLINE - timedelta(hours=6), DEADLINE - timedelta(days=1), DEADLINE + timedelta(days=60)]
)
def test_a_deadline_that_makes_no_sense(bench: Bench, deadline: object) -> None:
    """A request with a deadline that has passed, or that lies beyond ADF's memory, starts nothing."""
    with pytest.raises(InvalidFields):
        bench.start(wait=a_request(deadline=deadline))
    assert [] == bench.adf.creates


def test_a_run_that_is_over_before_its_wait_is_written(bench: Bench) -> None:
    """S01: a run that ends and sends its event before its wait is written is answered with the completion."""

    def ends() -> None:
        bench.adf.end(FIRST, RunStatus.SUCCEEDED)
        bench.event(key=FIRST)

    bench.store.before("save_request", ends, nth=2)
    answer = bench.start()
    assert ("inline", "Succeeded") == (answer["wait"]["state"], answer["completed"]["status"])


@pytest.mark.parametrize(
    ("nth", "created", "ends_well"),
    [
        pytest.param(2, 0, False, id="key-reserved"),
        pytest.param(3, 1, False, id="run-created"),
        pytest.param(4, 1, True, id="start-recorded"),
        pytest.param(5, 1, True, id="wait-written"),
        pytest.param(6, 1, True, id="start-answered"),
    ],
)
def test_dying_on_the_way(bench: Bench, nth: int, created: int, ends_well: bool) -> None:
    """S24: a process that dies while starting a run never leads to a second one: the request goes on, or is unknown."""
    bench.adf.listed_after = timedelta(days=1)
    bench.crash_at(nth)
    with pytest.raises(Crash):
        bench.start()
    bench.restart()
    if not ends_well:
        with pytest.raises(RequestInFlight):
            bench.start()
        bench.clock.advance(MINUTE)
        with pytest.raises(RequestInFlight):
            bench.start()
        bench.clock.advance(2 * MINUTE)
        with pytest.raises(UnknownOutcome):
            bench.start()
    else:
        answer = bench.start()
        assert ("run-1", "open") == (answer["run"]["run_id"], answer["wait"]["state"])
        assert WaitState.OPEN is bench.wait().state
    assert created == len(bench.adf.creates)


def test_dying_after_a_refusal(bench: Bench) -> None:
    """S24: a process that dies right after a refusal was noted leaves the key free for another go."""
    bench.adf.create_script.append(Refusal(RefusalKind.INVALID, "no"))
    bench.crash_at(4)
    with pytest.raises(Crash):
        bench.start()
    bench.restart()
    assert "run-2" == bench.start()["run"]["run_id"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_store_goes_away(bench: Bench, nth: int) -> None:
    """S23: a store that fails on the way is told as such, and never leads to a second run."""
    bench.store.fail("save_request", nth=nth)
    with pytest.raises(StoreUnavailable):
        bench.start()
    bench.clock.advance(2 * MINUTE)
    assert ("run-1", 1) == (bench.start()["run"]["run_id"], len(bench.adf.creates))


def test_a_slow_create_run_still_answers(bench: Bench) -> None:
    """S19: a run whose start was given up as unknown meanwhile is written down when ADF answers after all."""
    bench.adf.listed_after = timedelta(days=1)

    def too_late() -> None:
        bench.clock.advance(3 * MINUTE)
        with pytest.raises(RequestInFlight):
            bench.start()
        bench.clock.advance(MINUTE)
        with pytest.raises(UnknownOutcome):
            bench.start()

    bench.store.before("save_request", too_late, nth=2)
    assert "run-1" == bench.start()["run"]["run_id"]
    assert (True, 1) == (replayed(bench), len(bench.adf.creates))


def test_repeating_after_withdrawing(bench: Bench) -> None:
    """A request whose wait was withdrawn is refused when repeated: nobody parks for an answer that never comes."""
    bench.start()
    bench.app.run(service.withdraw(TASK.token))
    with pytest.raises(WaitConflict):
        bench.start()
    assert 1 == len(bench.adf.creates)


def test_a_token_that_is_taken(bench: Bench) -> None:
    """A token that waits for another run starts none."""
    bench.adf.begin(RunKey(FACTORY, "other"))
    bench.register(key=RunKey(FACTORY, "other"))
    with pytest.raises(WaitConflict):
        bench.start()
    assert [] == bench.adf.creates


def test_two_at_the_same_moment(bench: Bench) -> None:
    """S21: of two equal requests at the same moment one starts the run, and the other gets its answer."""
    bench.store.before("save_request", bench.start, nth=1)
    assert "run-1" == bench.start()["run"]["run_id"]
    assert 1 == len(bench.adf.creates)


def test_two_answers_at_the_same_moment(bench: Bench) -> None:
    """S22: a repetition that overtakes the answer gives the same answer, and the wait is one."""
    answers = []
    bench.store.before("save_request", lambda: answers.append(bench.start()), nth=3)
    assert [bench.start()] == answers
