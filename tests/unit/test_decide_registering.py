"""What a request to start a run, to wait or to stop waiting comes to."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bridge import decide
from bridge.errors import IdempotencyMismatch, InvalidFields
from bridge.model import Run, RunStatus, StartRequest, StartState, WaitState
from tests.fakes.clock import START
from tests.fakes.samples import (
    FACTORY,
    MINUTE,
    RULES,
    SECOND,
    TASK,
    a_completion,
    a_due_wait,
    a_request,
    a_run,
    a_trigger,
    a_wait,
    an_ended_run,
)

NOW = START + timedelta(hours=1)


TAKEN_OR_TOLD = (WaitState.DUE, WaitState.WITHDRAWN)


@pytest.mark.parametrize(
    ("run", "just_started", "ask"),
    [
        pytest.param(a_run(), False, True, id="never-read"),
        pytest.param(a_run(), True, False, id="just-started"),
        pytest.param(a_run(read_at=NOW - 59 * SECOND), False, False, id="read-a-moment-ago"),
        pytest.param(a_run(read_at=NOW - MINUTE), False, True, id="read-long-ago"),
        pytest.param(a_run(hint=RunStatus.FAILED), True, True, id="just-started-and-said-to-have-ended"),
        pytest.param(a_run(hint=RunStatus.FAILED, read_at=NOW), False, True, id="said-to-have-ended"),
    ],
)
def test_adf_is_asked_where_it_may_know_more(run: Run, just_started: bool, ask: bool) -> None:
    """S01: registering asks ADF when the run is news, was read long ago, or is said to have ended; else it does not."""
    registration = decide.register(a_request(), run, [], NOW, RULES, just_started=just_started)
    expected = (True, ask, WaitState.OPEN)
    assert expected == (registration.writes, registration.ask_adf, registration.wait.state)


@pytest.mark.parametrize(("hint", "due_at"), [(None, NOW + 60 * MINUTE), (RunStatus.SUCCEEDED, NOW + MINUTE)])
def test_the_timer_asks_should_registering_be_cut_short(hint: RunStatus | None, due_at: object) -> None:
    """S24: a wait that ADF has to be asked for is due soon in case this process dies; another one within an hour."""
    registration = decide.register(a_request(), a_run(hint=hint, read_at=NOW), [], NOW, RULES)
    assert due_at == registration.wait.due_at


def test_a_run_that_has_ended_is_answered_at_once() -> None:
    """S01: a wait for a run that ADF said has ended is answered with the completion, and proved a minute later."""
    registration = decide.register(a_request(), an_ended_run(), [], NOW, RULES)
    expected = (WaitState.INLINE, NOW + MINUTE, replace(a_completion(), run_end=START), False)
    wait = registration.wait
    assert expected == (wait.state, wait.due_at, wait.completion, registration.ask_adf)


@pytest.mark.parametrize("state", [state for state in WaitState if state not in TAKEN_OR_TOLD])
def test_registering_again_changes_nothing(state: WaitState) -> None:
    """S21: a wait is registered once; the same token finds it as it is."""
    known = a_wait(state=state)
    assert decide.Registration(known) == decide.register(a_request(), a_run(), [known], NOW, RULES)


def test_registering_again_takes_the_completion_along() -> None:
    """S03: a caller that comes back for a decided completion gets it with the answer, and it is not delivered again."""
    registration = decide.register(a_request(), an_ended_run(), [a_due_wait()], NOW, RULES)
    assert (True, WaitState.INLINE, NOW + MINUTE) == (
        registration.writes,
        registration.wait.state,
        registration.wait.due_at,
    )


def test_another_wait_for_the_same_run_is_another_wait() -> None:
    """Two tasks may wait for one run; each has its own wait."""
    other = a_wait(replace(TASK, task_id="other"))
    assert TASK.token == decide.register(a_request(), a_run(), [other], NOW, RULES).wait.token


@pytest.mark.parametrize(
    ("run", "state", "expected"),
    [
        (an_ended_run(), WaitState.OPEN, WaitState.INLINE),
        (a_run(), WaitState.OPEN, None),
        (an_ended_run(), WaitState.DUE, WaitState.INLINE),
        (an_ended_run(), WaitState.DELIVERED, None),
        (an_ended_run(), WaitState.STALE, None),
    ],
)
def test_taking_a_completion_inline(run: Run, state: WaitState, expected: WaitState | None) -> None:
    """S01: what ADF says while a wait is being registered goes into the answer, unless it was delivered meanwhile."""
    wait = a_due_wait() if state is WaitState.DUE else a_wait(state=state)
    taken = decide.take_inline(run, wait, NOW)
    assert expected is (taken.state if taken is not None else None)


@pytest.mark.parametrize(
    ("deadline", "complaint"),
    [
        (NOW, "has passed"),
        (NOW - SECOND, "has passed"),
        (NOW + timedelta(days=45, seconds=1), "over 45 days"),
    ],
)
def test_deadlines_that_make_no_sense(deadline: object, complaint: str) -> None:
    """A deadline lies ahead, and within the time for which ADF remembers a run."""
    with pytest.raises(InvalidFields, match=complaint):
        decide.check_deadline(deadline, NOW, field="deadline")  # type: ignore[arg-type]


@pytest.mark.parametrize("deadline", [NOW + SECOND, NOW + timedelta(days=45)])
def test_deadlines_that_do(deadline: object) -> None:
    """Any other deadline is taken."""
    decide.check_deadline(deadline, NOW, field="deadline")  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(WaitState))
def test_withdrawing(state: WaitState) -> None:
    """A wait that is open or due can be withdrawn; one that is over stays as it is."""
    withdrawn = decide.withdraw(a_wait(state=state), NOW)
    expected = None if state.is_final else (WaitState.WITHDRAWN, None)
    assert expected == ((withdrawn.state, withdrawn.due_at) if withdrawn is not None else None)


def record(state: StartState, **changes: object) -> StartRequest:
    """Return the record of the sample request, reserved at the start."""
    known = StartRequest(
        idempotency_key=TASK.token,
        body_hash="hash-1",
        state=state,
        factory=FACTORY,
        pipeline="copy_orders",
        received_at=START,
        lease_until=START + MINUTE,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def test_a_new_key_is_reserved() -> None:
    """S20: the key is written down before anything is started."""
    request = a_trigger()
    reserve = record(
        StartState.STARTING,
        place=TASK.place,
        try_number=1,
        parameters_hash=request.parameters_hash,
        wait=request.wait,
        finish_at=START + 2 * MINUTE,
    )
    assert decide.Admission(reserve=reserve) == decide.admit(request, None, START)


def test_the_same_request_gets_the_same_answer() -> None:
    """S21: a request that was answered is answered again to the letter."""
    known = record(StartState.STARTED, run_id="r", answer='{"run": 1}')
    assert decide.Admission(replay='{"run": 1}') == decide.admit(a_trigger(), known, NOW)


def test_a_started_run_is_gone_on_with() -> None:
    """S24: a request whose run was started and not answered goes on with that run."""
    known = record(StartState.STARTED, run_id="r")
    assert decide.Admission(started=known) == decide.admit(a_trigger(), known, NOW)


@pytest.mark.parametrize("state", list(StartState))
def test_another_body_under_the_same_key(state: StartState) -> None:
    """S21: the same key with another body is refused, whatever became of the first."""
    with pytest.raises(IdempotencyMismatch):
        decide.admit(a_trigger(body_hash="hash-2"), record(state), NOW)


@pytest.mark.parametrize("state", [StartState.STARTING, StartState.SEARCHING, StartState.UNKNOWN])
def test_a_request_that_is_not_settled(state: StartState) -> None:
    """S19: a request that was not answered for sure is settled first; it is never sent again under its key."""
    known = record(state)
    assert decide.Admission(unsettled=known) == decide.admit(a_trigger(), known, NOW + timedelta(days=3))


@pytest.mark.parametrize(
    ("after", "keyed", "expected"),
    [
        (9 * SECOND, True, None),
        (10 * SECOND, True, StartState.STARTING),
        (10 * SECOND, False, None),
        (MINUTE - SECOND, False, None),
        (MINUTE, False, StartState.SEARCHING),
        (MINUTE, True, StartState.SEARCHING),
    ],
)
def test_when_a_run_is_looked_for(after: timedelta, keyed: bool, expected: StartState | None) -> None:
    """S19: while createRun may be under way, only a run that carries the key is looked for; then any that fits."""
    known = record(StartState.STARTING, correlation="bridge_key" if keyed else None)
    sought = decide.to_search(known, START + after)
    assert expected == (sought.state if sought is not None else None)


def test_an_unknown_outcome() -> None:
    """S19: a request whose outcome is unknown says when it was sent, and is not to be repeated."""
    problem = decide.unknown_outcome(record(StartState.UNKNOWN))
    assert (True, None) == ("2026-03-01 12:00:00Z" in problem.detail, problem.retry_after)
