"""What run events and readings of ADF mean."""

from datetime import timedelta

import pytest

from bridge import decide
from bridge.model import Outcome, Run, RunStatus, Verdict, Wait, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.clock import START
from tests.fakes.samples import (
    DEADLINE,
    KEY,
    MINUTE,
    RULES,
    SECOND,
    a_completion,
    a_due_wait,
    a_reading,
    a_run,
    a_task,
    a_wait,
    an_ended_run,
    an_event,
)

NOW = START + timedelta(hours=1)
ENDS = [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]
GOES_ON = [RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELING]


@pytest.mark.parametrize(
    ("status", "run", "waits", "verdict", "ask"),
    [
        pytest.param(RunStatus.SUCCEEDED, None, [], Verdict.PARKED, False, id="end-of-an-unknown-run"),
        pytest.param(RunStatus.SUCCEEDED, a_run(), [], Verdict.PARKED, False, id="end-that-nobody-waits-for"),
        pytest.param(RunStatus.SUCCEEDED, a_run(), [a_wait()], Verdict.MATCHED, True, id="end-that-one-waits-for"),
        pytest.param(
            RunStatus.SUCCEEDED,
            a_run(),
            [a_wait(state=WaitState.WITHDRAWN)],
            Verdict.PARKED,
            False,
            id="nobody-waits-any-more",
        ),
        pytest.param(RunStatus.SUCCEEDED, a_run(), [a_due_wait()], Verdict.PARKED, False, id="given-up-already"),
        pytest.param(RunStatus.FAILED, an_ended_run(), [], Verdict.DUPLICATE, False, id="end-is-known"),
        pytest.param(RunStatus.IN_PROGRESS, an_ended_run(), [a_wait()], Verdict.DUPLICATE, False, id="too-late"),
        pytest.param(RunStatus.IN_PROGRESS, a_run(), [a_wait()], Verdict.NOTED, False, id="goes-on"),
        pytest.param(RunStatus.IN_PROGRESS, None, [], Verdict.PARKED, False, id="goes-on-nobody-waits"),
        pytest.param(
            RunStatus.SUCCEEDED,
            a_run(read_at=NOW - SECOND / 2),
            [a_wait()],
            Verdict.UNCONFIRMED,
            False,
            id="adf-was-asked-just-now",
        ),
        pytest.param(
            RunStatus.SUCCEEDED, a_run(read_at=NOW - SECOND), [a_wait()], Verdict.MATCHED, True, id="asked-before"
        ),
    ],
)
def test_judging_an_event(status: RunStatus, run: Run | None, waits: list[Wait], verdict: Verdict, ask: bool) -> None:
    """S04: an event is judged by what is known of its run, never by its time; a known end absorbs all that follows."""
    judgement = decide.judge_event(an_event(status), run, waits, NOW, RULES)
    assert (verdict, ask) == (judgement.verdict, judgement.ask_adf)


@pytest.mark.parametrize("status", ENDS)
def test_an_early_end_is_kept(status: RunStatus) -> None:
    """S01: the end of a run that nobody waits for is kept with the run, as a hint and not as its status."""
    judgement = decide.judge_event(an_event(status, pipeline="copy_orders"), None, [], NOW, RULES)
    assert judgement.run is not None
    assert (status, NOW, None, "copy_orders") == (
        judgement.run.hint,
        judgement.run.hint_at,
        judgement.run.status,
        judgement.run.pipeline,
    )


def test_an_event_alone_completes_nothing() -> None:
    """S05: what an event claims leaves every wait open; only ADF's answer can change that."""
    judgement = decide.judge_event(an_event(), a_run(), [a_wait()], NOW, RULES)
    assert [(WaitState.OPEN, None)] == [(wait.state, wait.completion) for wait in judgement.waits]


def test_the_timer_asks_should_the_event_be_dropped() -> None:
    """S24: the waits are to be checked a sweep interval later, should the process die before ADF was asked."""
    judgement = decide.judge_event(an_event(), a_run(), [a_wait()], NOW, RULES)
    assert [NOW + RULES.sweep] == [wait.due_at for wait in judgement.waits]


def test_an_event_never_postpones_a_check() -> None:
    """S35: however many events come, a check that is due sooner stays where it is."""
    judgement = decide.judge_event(an_event(), a_run(), [a_wait(due_at=NOW + SECOND)], NOW, RULES)
    assert [NOW + SECOND] == [wait.due_at for wait in judgement.waits]


def test_the_timer_asks_when_adf_was_asked_just_now() -> None:
    """S35: an event that asks nothing, for ADF was asked a moment ago, has the timer ask as soon as that is allowed."""
    judgement = decide.judge_event(an_event(), a_run(read_at=NOW, reads=3), [a_wait()], NOW, RULES)
    assert [NOW + 4 * SECOND] == [wait.due_at for wait in judgement.waits]
    assert "asked again shortly" in judgement.reason


def test_an_event_is_no_news_of_what_is_known() -> None:
    """S35: an event changes neither the pipeline that a run is known by, nor the child that another event has named."""
    run = a_run(pipeline="copy_orders", claimed_run_id="child")
    judgement = decide.judge_event(an_event(pipeline="forged"), run, [a_wait()], NOW, RULES)
    assert judgement.run is not None
    assert ("copy_orders", "child") == (judgement.run.pipeline, judgement.run.claimed_run_id)


def test_what_the_end_of_a_run_delivers_at_once() -> None:
    """S03: an event of a known end delivers what is due for it, and nothing that is open, told, or due later."""
    waits = [
        a_due_wait(a_task(map_index=1), due_at=NOW),
        a_due_wait(a_task(map_index=2), due_at=NOW + SECOND),
        a_due_wait(a_task(map_index=3), state=WaitState.INLINE, due_at=NOW),
        a_wait(a_task(map_index=4), due_at=NOW),
    ]
    judgement = decide.judge_event(an_event(), an_ended_run(), waits, NOW, RULES)
    assert (Verdict.DUPLICATE, (waits[0].token,)) == (judgement.verdict, judgement.untold)


@pytest.mark.parametrize(
    ("waits", "word"), [([], "yet"), ([a_wait(state=WaitState.WITHDRAWN)], "any more")], ids=["never", "once"]
)
def test_nobody_waits(waits: list[Wait], word: str) -> None:
    """S01: the list of events tells a run that nobody waits for yet from one that nobody waits for any more."""
    assert f"nobody waits for this run {word}" == decide.judge_event(an_event(), a_run(), waits, NOW, RULES).reason


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (a_run(status=RunStatus.IN_PROGRESS), "InProgress"),
        (a_run(), "a status unknown here"),
        (None, "a status unknown here"),
    ],
)
def test_what_an_unconfirmed_event_says(run: Run | None, says: str) -> None:
    """S05: the list of events names the status that ADF gave instead."""
    assert (Verdict.UNCONFIRMED, f"ADF says {says}: nothing is completed") == decide.verdict_of(run, None)


@pytest.mark.parametrize("status", GOES_ON)
def test_a_status_that_is_no_end_writes_no_run(status: RunStatus) -> None:
    """A status that is no end is told to those who wait, and asks nothing of ADF."""
    judgement = decide.judge_event(an_event(status), a_run(), [a_wait()], NOW, RULES)
    assert (None, False, True) == (judgement.run, judgement.ask_adf, judgement.writes)
    assert [f"says {status}: no end"] == [wait.timeline[-1].detail for wait in judgement.waits]


@pytest.mark.parametrize(
    ("run", "refusal", "verdict"),
    [
        (an_ended_run(), None, Verdict.MATCHED),
        (a_run(status=RunStatus.IN_PROGRESS), None, Verdict.UNCONFIRMED),
        (a_run(), None, Verdict.UNCONFIRMED),
        (None, None, Verdict.UNCONFIRMED),
        (an_ended_run(), Refusal(RefusalKind.THROTTLED, "later"), Verdict.UNVERIFIED),
    ],
)
def test_the_final_verdict(run: Run | None, refusal: Refusal | None, verdict: Verdict) -> None:
    """S05: an event is matched only when ADF confirms it; otherwise it stands there as unconfirmed or unverified."""
    assert verdict == decide.verdict_of(run, refusal)[0]


@pytest.mark.parametrize("later", [*ENDS, *GOES_ON, None])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_final(end: RunStatus, later: RunStatus | None) -> None:
    """S04: a run that has ended stays as it ended, whatever a later reading says."""
    run = an_ended_run(end, message="as it ended")
    read = decide.apply_reading(run, KEY, a_reading(later, message="later"), NOW)
    assert (end, "as it ended", NOW, 1) == (read.status, read.message, read.read_at, read.reads)


def test_a_reading_is_what_counts() -> None:
    """S05: a run has the status that ADF gives it, and the hint of an event stays a hint."""
    run = a_run(hint=RunStatus.SUCCEEDED, pipeline="copy_orders")
    read = decide.apply_reading(run, KEY, a_reading(RunStatus.IN_PROGRESS), NOW)
    assert (RunStatus.IN_PROGRESS, RunStatus.SUCCEEDED, "copy_orders") == (read.status, read.hint, read.pipeline)


def test_a_status_unknown_here_ends_no_run() -> None:
    """S06: a status of ADF that is unknown here leaves the run's status as it was."""
    read = decide.apply_reading(a_run(status=RunStatus.IN_PROGRESS), KEY, a_reading(None), NOW)
    assert RunStatus.IN_PROGRESS is read.status


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (RunStatus.SUCCEEDED, Outcome.SUCCEEDED),
        (RunStatus.FAILED, Outcome.FAILED),
        (RunStatus.CANCELLED, Outcome.CANCELLED),
    ],
)
def test_settling_an_ended_run(status: RunStatus, outcome: Outcome) -> None:
    """S30: a wait is told the end that ADF gave; a cancelled run is neither a success nor a failure."""
    (wait,) = decide.settle(an_ended_run(status), [a_wait()], NOW)
    assert wait.completion is not None
    assert (WaitState.DUE, NOW, outcome) == (wait.state, wait.due_at, wait.completion.status)


@pytest.mark.parametrize("state", [state for state in WaitState if state is not WaitState.OPEN])
def test_only_open_waits_are_settled(state: WaitState) -> None:
    """S03: a wait that has its completion, or is over, is not settled again."""
    assert () == decide.settle(an_ended_run(), [a_wait(state=state)], NOW)


def test_a_run_that_goes_on_is_left_to_the_sweep() -> None:
    """S35: a claim that ADF does not confirm costs no more reads of that run than any other wait: one an hour."""
    (wait,) = decide.settle(a_run(status=RunStatus.IN_PROGRESS), [a_wait()], NOW)
    assert (WaitState.OPEN, NOW + 60 * MINUTE) == (wait.state, wait.due_at)


def test_a_check_is_never_after_the_deadline() -> None:
    """S29: a wait is looked at at its deadline at the latest."""
    (wait,) = decide.settle(a_run(), [a_wait()], DEADLINE - MINUTE)
    assert DEADLINE == wait.due_at


@pytest.mark.parametrize("asked", [None, 10 * MINUTE])
def test_what_adf_did_not_answer_is_asked_again(asked: timedelta | None) -> None:
    """S12: a run that ADF could not be asked about is asked about again, not before ADF wants it."""
    (wait,) = decide.postpone([a_wait()], Refusal(RefusalKind.THROTTLED, "later", asked), NOW, RULES)
    assert (WaitState.OPEN, NOW + (asked or MINUTE)) == (wait.state, wait.due_at)


@pytest.mark.parametrize("status", [None, *GOES_ON])
def test_there_is_no_completion_of_a_run_that_goes_on(status: RunStatus | None) -> None:
    """S06: what is no known end would be told as Unknown, never as a success."""
    assert Outcome.UNKNOWN is decide.completion_of("t", a_run(status=status)).status


@pytest.mark.parametrize(
    ("wait", "after", "late"),
    [
        (a_wait(), timedelta(0), True),
        (a_wait(), -SECOND, False),
        (a_due_wait(), timedelta(0), False),
        (a_due_wait(), 60 * MINUTE, True),
        (a_wait(state=WaitState.DELIVERED), 60 * MINUTE, False),
        (a_wait(state=WaitState.STALE), 60 * MINUTE, False),
    ],
)
def test_deadlines(wait: Wait, after: timedelta, late: bool) -> None:
    """S29: an open wait is given up at its deadline; a decided one is offered for another hour."""
    assert late == decide.is_past_deadline(wait, DEADLINE + after)


def test_an_open_wait_is_told_that_it_expired() -> None:
    """S29: a task whose run did not end in time is told Expired, with the last status that is known."""
    wait = decide.expire(a_wait(), a_run(status=RunStatus.IN_PROGRESS), DEADLINE)
    assert wait.completion is not None
    expected = "The run did not end before 2026-03-01 18:00:00Z; its last known status is InProgress."
    assert (WaitState.DUE, Outcome.EXPIRED, expected) == (
        wait.state,
        wait.completion.status,
        wait.completion.message,
    )


def test_an_undeliverable_completion_expires() -> None:
    """S29: a completion that could not be delivered in time closes its wait, and stays readable in it."""
    wait = decide.expire(a_due_wait(), an_ended_run(), DEADLINE + 60 * MINUTE)
    assert (WaitState.EXPIRED, None, a_completion()) == (wait.state, wait.due_at, wait.completion)
