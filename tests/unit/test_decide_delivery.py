"""What is done about a due wait, by what Airflow says of its task."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bridge import decide
from bridge.decide import Send, Settle
from bridge.model import Wait, WaitState
from bridge.policy import DEFAULT_HOLD, Rules, TargetRules
from bridge.ports import Accepted, Answer, Refusal, RefusalKind, TaskView
from tests.fakes.clock import START
from tests.fakes.samples import (
    MINUTE,
    RULES,
    SECOND,
    a_due_wait,
    a_task,
    a_view,
    a_wait,
    our_answer,
)

NOW = START + timedelta(hours=1)
HOLD = DEFAULT_HOLD
PERSON = Answer(token=None, by="ada", at=NOW, chosen=("Failed",))
OLDER = our_answer(a_task(nonce="nonce-0", try_number=0))
CONFLICT = Refusal(RefusalKind.CONFLICT, "Airflow answered 409")


def on_task(wait: Wait, seen: TaskView | Refusal, rules: Rules = RULES) -> Send | Settle:
    """Decide, an hour after the wait was registered."""
    return decide.on_task(wait, seen, NOW, rules, 0.5)


def settled(step: Send | Settle) -> Wait:
    """Return the wait as it is to be written."""
    assert isinstance(step, Settle)
    return step.wait


# --- taking up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "claimed"),
    [
        pytest.param(a_due_wait(due_at=NOW), True, id="due"),
        pytest.param(a_due_wait(due_at=NOW + SECOND), False, id="not-yet"),
        pytest.param(a_due_wait(due_at=None), False, id="never"),
        pytest.param(a_wait(due_at=START), False, id="open"),
        pytest.param(a_due_wait(state=WaitState.DELIVERED), False, id="delivered"),
    ],
)
def test_taking_up_a_delivery(wait: Wait, claimed: bool) -> None:
    """S22: only a wait that is due is taken up, and then it is nobody else's for a minute."""
    taken = decide.claim(wait, NOW)
    expected = (wait.attempts + 1, NOW + MINUTE) if claimed else None
    assert expected == ((taken.attempts, taken.due_at) if taken is not None else None)


# --- the fence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        pytest.param(a_view("running"), WaitState.DUE, id="runs-still"),
        pytest.param(a_view(None), WaitState.DUE, id="no-state"),
        pytest.param(a_view("running", answer=OLDER), WaitState.DUE, id="older-answer-before-parking"),
        pytest.param(a_view("running", answer=PERSON), WaitState.DUE, id="older-try's-person-before-parking"),
        pytest.param(a_view(task_instance_id="ti-2"), WaitState.STALE, id="parked-in-another-try"),
        pytest.param(a_view("running", task_instance_id="ti-2"), WaitState.STALE, id="runs-in-another-try"),
        pytest.param(a_view(None, task_instance_id="ti-2"), WaitState.STALE, id="cleared"),
        pytest.param(a_view("up_for_retry", task_instance_id="ti-2"), WaitState.STALE, id="will-retry"),
        pytest.param(a_view("up_for_retry"), WaitState.STALE, id="try-is-over"),
        pytest.param(a_view("success", ended_at=NOW), WaitState.OVERRIDDEN, id="marked-success"),
        pytest.param(a_view("failed", ended_at=NOW), WaitState.OVERRIDDEN, id="marked-failed"),
        pytest.param(a_view("skipped"), WaitState.OVERRIDDEN, id="skipped"),
        pytest.param(a_view("removed"), WaitState.OVERRIDDEN, id="removed"),
        pytest.param(a_view("success", answer=our_answer()), WaitState.DELIVERED, id="ours-and-done"),
        pytest.param(a_view("scheduled", answer=our_answer()), WaitState.DELIVERED, id="ours-and-scheduled"),
        pytest.param(a_view("running", answer=our_answer()), WaitState.DELIVERED, id="ours-and-running"),
        pytest.param(
            a_view("failed", answer=our_answer(at=NOW), ended_at=NOW - SECOND),
            WaitState.OVERRIDDEN,
            id="marked-before-our-answer",
        ),
        pytest.param(
            a_view("failed", answer=our_answer(at=NOW), ended_at=NOW + SECOND),
            WaitState.DELIVERED,
            id="failed-by-our-answer",
        ),
        pytest.param(
            a_view("up_for_retry", answer=our_answer(), task_instance_id="ti-2"),
            WaitState.DELIVERED,
            id="ours-and-retrying",
        ),
    ],
)
def test_the_fence(seen: TaskView, state: WaitState) -> None:
    """S14: nothing is sent to a task that is not parked in the very try that waits, and the wait closes accordingly."""
    assert state is settled(on_task(a_due_wait(), seen)).state


@pytest.mark.parametrize(
    ("identity", "seen", "sends"),
    [
        pytest.param("ti-1", a_view(try_number=0), True, id="the-number-lags-behind"),
        pytest.param("ti-1", a_view(task_instance_id="ti-2"), False, id="the-id-is-another"),
        pytest.param("ti-1", a_view(task_instance_id=None), False, id="there-is-no-id"),
        pytest.param(None, a_view(), True, id="no-id-same-try"),
        pytest.param(None, a_view(try_number=2), False, id="no-id-another-try"),
    ],
)
def test_which_try_it_is(identity: str | None, seen: TaskView, sends: bool) -> None:
    """S14: a try is known by its task instance's id; only without one does the number of the try count."""
    wait = a_due_wait(a_task(task_instance_id=identity))
    assert sends == isinstance(on_task(wait, seen), Send)


def test_a_task_that_runs_still_is_looked_at_soon() -> None:
    """S02: a task that has not parked yet is looked at again, and that it was seen running is remembered."""
    wait = settled(on_task(a_due_wait(attempts=2), a_view("running")))
    assert (NOW + 2 * SECOND, NOW, None) == (wait.due_at, wait.seen_running_at, wait.seen_waiting_at)


# --- the hold ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "held_until"),
    [
        pytest.param(a_due_wait(), None, id="parked-long-since"),
        pytest.param(a_due_wait(registered_at=NOW - 15 * SECOND), None, id="settled"),
        pytest.param(a_due_wait(registered_at=NOW - SECOND), NOW + 8 * SECOND, id="registered-a-moment-ago"),
        pytest.param(a_due_wait(registered_at=NOW - 14 * SECOND), NOW + SECOND, id="settles-before-the-hold-is-over"),
        pytest.param(a_due_wait(seen_running_at=NOW - SECOND), NOW + 8 * SECOND, id="ran-a-moment-ago"),
        pytest.param(
            a_due_wait(seen_running_at=START, seen_waiting_at=NOW - 7 * SECOND), NOW + SECOND, id="held-already"
        ),
        pytest.param(a_due_wait(seen_running_at=START, seen_waiting_at=NOW - 8 * SECOND), None, id="held-long-enough"),
    ],
)
def test_the_hold(wait: Wait, held_until: object) -> None:
    """S02: a task is answered only once it has settled: some seconds after it was first seen parked, or long before."""
    step = on_task(wait, a_view())
    if held_until is None:
        assert isinstance(step, Send)
    else:
        assert (held_until, WaitState.DUE) == (settled(step).due_at, settled(step).state)


def test_the_hold_starts_when_it_was_first_seen_parked() -> None:
    """S02: looking again does not start the hold anew."""
    held = settled(on_task(a_due_wait(registered_at=NOW), a_view()))
    again = decide.on_task(held, a_view(), NOW + 4 * SECOND, RULES, 0.5)
    assert (NOW, NOW + 8 * SECOND) == (settled(again).seen_waiting_at, settled(again).due_at)
    assert isinstance(decide.on_task(held, a_view(), NOW + 8 * SECOND, RULES, 0.5), Send)


def test_an_observed_target_is_sent_nothing() -> None:
    """In observe mode everything is decided and told, and nothing is sent."""
    rules = replace(RULES, targets={"prod": TargetRules(observe=True)})
    wait = settled(on_task(a_due_wait(), a_view(), rules))
    assert (WaitState.DUE, NOW + MINUTE, "observed") == (wait.state, wait.due_at, wait.timeline[-1].what)
    again = settled(decide.on_task(wait, a_view(), NOW + MINUTE, rules, 0.5))
    assert 1 == len(again.timeline)


# --- a person ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "detail"),
    [
        pytest.param(a_view("failed", answer=PERSON), "the task was ended as failed; ada answered Failed", id="over"),
        pytest.param(a_view("running", answer=PERSON), "ada answered Failed in Required Actions", id="goes-on"),
        pytest.param(
            a_view("queued", answer=replace(PERSON, by=None)),
            "somebody answered Failed in Required Actions",
            id="without-a-name",
        ),
    ],
)
def test_a_persons_answer_is_an_override(seen: TaskView, detail: str) -> None:
    """S16: an answer that a person gave in Required Actions is accepted, and told with the person's name."""
    wait = settled(on_task(a_due_wait(seen_waiting_at=START), seen))
    assert (WaitState.OVERRIDDEN, detail) == (wait.state, wait.timeline[-1].detail)


# --- after the answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "seen", "state"),
    [
        pytest.param(Accepted(), a_view("scheduled", answer=our_answer()), WaitState.DELIVERED, id="resumed"),
        pytest.param(Accepted(), a_view("scheduled"), WaitState.DELIVERED, id="resumed-answer-not-shown"),
        pytest.param(Accepted(), a_view(answer=our_answer()), WaitState.DUE, id="parked-still"),
        pytest.param(
            Accepted(),
            a_view("failed", answer=our_answer(at=NOW), ended_at=NOW - SECOND),
            WaitState.OVERRIDDEN,
            id="marked-before",
        ),
        pytest.param(
            Accepted(),
            a_view(None, answer=our_answer(), task_instance_id="ti-2"),
            WaitState.STALE,
            id="cleared",
        ),
        pytest.param(CONFLICT, a_view("success", answer=our_answer()), WaitState.DELIVERED, id="409-ours"),
        pytest.param(CONFLICT, a_view(answer=OLDER), WaitState.DUE, id="409-older-try's"),
        pytest.param(CONFLICT, a_view(answer=PERSON), WaitState.DUE, id="409-a-person's-still-parked"),
        pytest.param(CONFLICT, a_view("running", answer=PERSON), WaitState.OVERRIDDEN, id="409-a-person's"),
        pytest.param(CONFLICT, a_view(task_instance_id="ti-2"), WaitState.STALE, id="409-another-try"),
    ],
)
def test_after_the_answer(reply: Accepted | Refusal, seen: TaskView, state: WaitState) -> None:
    """S11: neither 200 nor 409 decides: what the task looks like afterwards does, and only another try is stale."""
    wait = a_due_wait(seen_waiting_at=START)
    assert state is decide.after_reply(wait, reply, seen, NOW, 0.5).wait.state


def test_an_older_answer_is_waited_out() -> None:
    """S11: a task that holds an older try's answer is answered later, after it has parked anew."""
    wait = decide.after_reply(a_due_wait(seen_waiting_at=START), CONFLICT, a_view(answer=OLDER), NOW, 0.5).wait
    assert (NOW + SECOND, None, NOW) == (wait.due_at, wait.seen_waiting_at, wait.seen_running_at)


def test_a_conflict_is_decided_by_the_task() -> None:
    """S11: a 409 is no failure; the task says what it means."""
    assert decide.on_refusal(a_due_wait(), CONFLICT, NOW, 0.5) is None


def test_an_answer_whose_effect_cannot_be_read_is_looked_at_again() -> None:
    """S13: when Airflow cannot be read after the answer, the wait stays due: the next look tells what happened."""
    lost = Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502")
    step = decide.after_reply(a_due_wait(), Accepted(), lost, NOW, 0.5)
    assert (WaitState.DUE, lost) == (step.wait.state, step.trouble)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN])
def test_a_pause_burns_no_attempt(kind: RefusalKind) -> None:
    """S09: refused credentials or permissions pause the target; the wait loses no attempt and counts no failure."""
    refusal = Refusal(kind, "Airflow answered 40x")
    step = on_task(a_due_wait(attempts=3), refusal)
    assert isinstance(step, Settle)
    assert (WaitState.DUE, 2, 0, refusal) == (
        step.wait.state,
        step.wait.attempts,
        step.wait.failures,
        step.trouble,
    )


@pytest.mark.parametrize(
    "kind",
    [RefusalKind.THROTTLED, RefusalKind.UNAVAILABLE, RefusalKind.UNREACHABLE, RefusalKind.INVALID],
)
def test_a_failure_is_tried_again_later(kind: RefusalKind) -> None:
    """S07: whatever else fails is tried again, with growing pauses."""
    first = on_task(a_due_wait(), Refusal(kind, "no"))
    second = on_task(settled(first), Refusal(kind, "no"))
    pauses = [(settled(step).failures, settled(step).due_at) for step in (first, second)]
    assert [(1, NOW + 1.5 * SECOND), (2, NOW + 3 * SECOND)] == pauses


@pytest.mark.parametrize("kind", [k for k in RefusalKind if k not in (RefusalKind.NOT_FOUND, RefusalKind.CONFLICT)])
def test_retry_after_is_honoured(kind: RefusalKind) -> None:
    """S12: a wait is not tried again before the time that Airflow asked for."""
    wait = settled(on_task(a_due_wait(), Refusal(kind, "later", 10 * MINUTE)))
    assert NOW + 10 * MINUTE == wait.due_at


@pytest.mark.parametrize(
    ("missing_for", "state"),
    [
        (None, WaitState.DUE),
        (timedelta(0), WaitState.DUE),
        (10 * MINUTE - SECOND, WaitState.DUE),
        (10 * MINUTE, WaitState.GONE),
    ],
)
def test_a_task_that_airflow_does_not_know(missing_for: timedelta | None, state: WaitState) -> None:
    """S10: a task that Airflow does not know is looked for for ten minutes, then the wait closes as gone."""
    wait = a_due_wait(missing_since=NOW - missing_for if missing_for is not None else None)
    step = on_task(wait, Refusal(RefusalKind.NOT_FOUND, "Airflow answered 404"))
    assert isinstance(step, Settle)
    assert (state, None) == (step.wait.state, step.trouble)


def test_a_task_that_comes_back_is_not_missing() -> None:
    """S10: the grace starts anew once the task was seen again."""
    wait = settled(on_task(a_due_wait(missing_since=START), a_view("running")))
    assert wait.missing_since is None


def test_a_mapped_task_is_judged_by_itself() -> None:
    """S17: the answer to another index of a mapped task is not this index's answer."""
    others = our_answer(a_task(map_index=1))
    step = on_task(a_due_wait(a_task(map_index=2)), a_view("running", answer=others))
    assert WaitState.DUE is settled(step).state
