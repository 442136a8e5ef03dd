"""The rules over the whole product of states, facts and ages: for every combination there is one answer, the right one.

What is right is said here a second time, and differently: not as a sequence of questions but as conditions, of which
exactly one has to hold for every combination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import combinations_with_replacement, product
from typing import Any, Final

import pytest

from bridge import decide, policy
from bridge.decide import Send, Settle
from bridge.errors import IdempotencyMismatch, InvalidFields, Problem, WaitConflict
from bridge.model import (
    Breaker,
    OnAbandon,
    Outcome,
    Run,
    RunStatus,
    StartRequest,
    StartState,
    TaskRef,
    Verdict,
    Wait,
    WaitState,
)
from bridge.policy import TargetRules
from bridge.ports import Accepted, Answer, Due, NotRunning, Refusal, RefusalKind, TaskView
from tests.fakes.clock import START
from tests.fakes.samples import (
    KEY,
    MINUTE,
    RULES,
    SECOND,
    TASK,
    a_due_wait,
    a_reading,
    a_request,
    a_run,
    a_task,
    a_trigger,
    a_wait,
    an_event,
    our_answer,
)

HOUR: Final = timedelta(hours=1)
MOMENT: Final = timedelta(microseconds=1)
NOW: Final = START + 10 * HOUR
AHEAD: Final = NOW + HOUR
OBSERVING: Final = replace(RULES, targets={"prod": TargetRules(observe=True)})
LIVE: Final = frozenset({WaitState.OPEN, WaitState.DUE})
FINAL: Final = frozenset(WaitState) - LIVE
ENDS: Final = {
    RunStatus.SUCCEEDED: Outcome.SUCCEEDED,
    RunStatus.FAILED: Outcome.FAILED,
    RunStatus.CANCELLED: Outcome.CANCELLED,
}
GOING_ON: Final = frozenset(RunStatus) - ENDS.keys()
# What a refusal is for a target or a factory: a reason to leave it alone at once, or after three in a row, or none.
PAUSES: Final = frozenset({RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN, RefusalKind.THROTTLED})
TROUBLE: Final = frozenset({RefusalKind.UNAVAILABLE, RefusalKind.UNREACHABLE})
NO_TROUBLE: Final = frozenset({RefusalKind.NOT_FOUND, RefusalKind.CONFLICT, RefusalKind.INVALID})
ASKED: Final = (None, timedelta(0), 30 * SECOND, policy.RETRY_AFTER_CAP)
JITTERS: Final = (0.0, 0.999)

# https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html#task-instances, and what is no state.
PARKED: Final = "awaiting_input"
BEFORE_AND_AFTER: Final = (None, "scheduled", "queued", "running", "deferred", "up_for_reschedule", "hibernating")
TRY_OVER: Final = ("up_for_retry", "restarting")
OVER: Final = ("success", "failed", "skipped", "removed", "upstream_failed")
TASK_STATES: Final = (PARKED, *BEFORE_AND_AFTER, *TRY_OVER, *OVER)


KEPT: Final = tuple(one.name for one in fields(Wait) if one.name not in ("timeline", "news"))


def sample(found: Iterable[str]) -> list[str]:
    """Return the first of what was found wrong: one line each."""
    return [line for line, _ in zip(found, range(5), strict=False)]


def only(before: Wait, after: Wait, *may_change: str) -> str:
    """Say what of a wait has changed that may not have."""
    changed = {name for name in KEPT if getattr(before, name) != getattr(after, name)}
    return " ".join(sorted(changed.difference(may_change)))


def test_every_refusal_has_a_meaning() -> None:
    """No kind of refusal is two things for a breaker, or nothing."""
    assert sorted(RefusalKind) == sorted([*PAUSES, *TROUBLE, *NO_TROUBLE])


# --- the fence, and what the task looks like after it was answered ----------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A task as Airflow shows it, and the wait that looks for it."""

    wait: Wait
    seen: TaskView
    observed: bool
    is_same_try: bool

    @property
    def facts(self) -> str:
        """Say it in a line."""
        wait, seen = self.wait, self.seen
        return (
            f"{wait.state}, registered {NOW - wait.registered_at} ago, parked since {wait.seen_waiting_at}, "
            f"running {wait.seen_running_at}; {seen}, same try: {self.is_same_try}, observed: {self.observed}"
        )

    @property
    def is_parked(self) -> bool:
        """It waits to be answered."""
        return self.seen.state == PARKED

    @property
    def is_ours(self) -> bool:
        """It was answered by us."""
        return self.seen.answer is not None and self.seen.answer.token == self.wait.token

    @property
    def is_persons(self) -> bool:
        """It was answered by a person, after it had parked as far as we know."""
        answer = self.seen.answer
        return answer is not None and answer.token is None and answer.chosen != () and self.has_been_parked

    @property
    def has_been_parked(self) -> bool:
        """It was seen parked before."""
        return self.wait.seen_waiting_at is not None

    @property
    def ended_first(self) -> bool:
        """It had ended before it was answered."""
        answer, ended = self.seen.answer, self.seen.ended_at
        if self.seen.state not in OVER or answer is None or answer.at is None or ended is None:
            return False
        return ended < answer.at

    @property
    def settles_at(self) -> datetime:
        """Its parking is reported by then."""
        held = (self.wait.seen_waiting_at or NOW) + policy.DEFAULT_HOLD
        is_sure = self.wait.seen_running_at is None
        return min(held, self.wait.registered_at + policy.SETTLED_AFTER) if is_sure else held


def answers_to(task: TaskRef) -> Sequence[Answer | None]:
    """Return what may stand there as the task's answer."""
    return (
        None,
        our_answer(task, at=NOW - MINUTE),
        our_answer(a_task(nonce="older"), at=NOW - MINUTE),
        Answer(token=None, by="ada", at=NOW - MINUTE, chosen=("Failed",)),
        Answer(token=None, by="ada", at=NOW - MINUTE),
    )


# The task instance's id as the wait knows it; id and number as Airflow shows them; whether that is the same try.
TRIES: Final = (
    ("ti-1", "ti-1", 1, True),
    ("ti-1", "ti-1", 0, True),  # the number lags behind
    ("ti-1", "ti-2", 1, False),
    ("ti-1", None, 1, False),
    (None, "ti-1", 1, True),
    (None, None, 1, True),
    (None, "ti-1", 2, False),
)


def cases(state: str | None) -> Iterator[Case]:
    """Yield all combinations of a task's state with everything else."""
    ages = (policy.SETTLED_AFTER - MOMENT, policy.SETTLED_AFTER)
    parked = (None, NOW - policy.DEFAULT_HOLD + MOMENT, NOW - policy.DEFAULT_HOLD)
    running, ended = (None, NOW - MINUTE), (None, NOW - 2 * MINUTE, NOW - SECOND)
    for known, shown, number, same in TRIES:
        task = a_task(task_instance_id=known)
        waits = [
            a_due_wait(
                task,
                state=wait_state,
                registered_at=NOW - age,
                deadline=AHEAD,
                due_at=NOW + MINUTE,
                attempts=3,
                failures=2,
                missing_since=NOW - MINUTE,
                seen_waiting_at=seen_waiting,
                seen_running_at=seen_running,
            )
            for wait_state, age, seen_waiting, seen_running in product(
                (WaitState.DUE, WaitState.INLINE), ages, parked, running
            )
        ]
        views = [
            TaskView(state, number, shown, ended_at=at, answer=answer)
            for answer in answers_to(task)
            for at in (ended if answer is not None and answer.token == task.token else ended[-1:])
        ]
        for wait, seen in product(waits, views):
            yield Case(wait, seen, observed=False, is_same_try=same)
            if state == PARKED:
                yield Case(wait, seen, observed=True, is_same_try=same)


def meanings(case: Case) -> dict[str, bool]:
    """Say what a look at a task may mean, and under which condition."""
    waits_on = not case.is_ours or case.is_parked  # it is not ours already
    in_try = case.is_same_try and case.seen.state not in TRY_OVER
    settled = case.settles_at <= NOW
    ended, person = case.seen.state in OVER, case.is_persons and not case.is_parked
    return {
        "delivered": case.is_ours and not case.is_parked and not case.ended_first,
        "overridden": (case.is_ours and case.ended_first) or (waits_on and in_try and (ended or person)),
        "stale": waits_on and not in_try,
        "send": in_try and case.is_parked and settled and not case.observed,
        "observe": in_try and case.is_parked and settled and case.observed,
        "hold": in_try and case.is_parked and not settled,
        "look again": waits_on and in_try and not case.is_parked and not ended and not person,
    }


def is_meant(case: Case, meaning: str, step: Send | Settle) -> str:
    """Say what is wrong about a step, for a meaning that the look has."""
    before, after = case.wait, step.wait
    first_parked = before.seen_waiting_at or NOW
    if after.missing_since is not None:
        return "is missing still"
    if meaning == "send":
        sends = isinstance(step, Send) and after.seen_waiting_at == first_parked and after.state is before.state
        return "" if sends and not only(before, after, "seen_waiting_at", "missing_since") else "is not sent"
    if isinstance(step, Send) or step.trouble is not None:
        return "is no settling without trouble"
    if meaning in ("delivered", "overridden", "stale"):
        state = WaitState(meaning)
        # What was answered inline stays so unless it had to be delivered after all.
        expected = state if before.state is WaitState.DUE or meaning == "delivered" else WaitState.INLINE
        return only(before, after, "state", "due_at", "missing_since") + (
            "" if (after.state, after.due_at) == (expected, None) else f" is {after.state}, due {after.due_at}"
        )
    expected_due, seen_running, seen_waiting = {
        "observe": (NOW + MINUTE, before.seen_running_at, first_parked),
        "hold": (case.settles_at, before.seen_running_at, first_parked),
        "look again": (NOW + 5 * SECOND, NOW, None),  # the third attempt
    }[meaning]
    is_so = (after.due_at, after.seen_running_at, after.seen_waiting_at) == (expected_due, seen_running, seen_waiting)
    changed = only(before, after, "due_at", "seen_running_at", "seen_waiting_at", "missing_since")
    return changed or ("" if is_so else f"is due {after.due_at}, seen parked {after.seen_waiting_at}")


@pytest.mark.parametrize("state", TASK_STATES, ids=str)
def test_every_look_at_a_task(state: str | None) -> None:
    """S14: whatever Airflow shows of a task, to whatever wait, means one thing, and only that is done."""

    def wrong() -> Iterator[str]:
        for case in cases(state):
            meant = [name for name, holds in meanings(case).items() if holds]
            if len(meant) != 1:
                yield f"{meant}: {case.facts}"
                continue
            step = decide.on_task(case.wait, case.seen, NOW, OBSERVING if case.observed else RULES, 0.5)
            if problem := is_meant(case, meant[0], step):
                yield f"{meant[0]}, but {problem}: {case.facts}"

    assert [] == sample(wrong())


@pytest.mark.parametrize("state", TASK_STATES, ids=str)
def test_every_look_after_an_answer(state: str | None) -> None:
    """S11: what a task looks like after it was answered decides, in every case; sent again is only what is parked."""

    def wrong() -> Iterator[str]:
        for case, accepted in product(cases(state), (True, False)):
            if case.observed:
                continue
            reply = Accepted() if accepted else Refusal(RefusalKind.CONFLICT, "Airflow answered 409")
            step = decide.after_reply(case.wait, reply, case.seen, NOW, 0.5)
            if problem := after_an_answer(case, step, accepted=accepted):
                yield f"accepted: {accepted}, {problem}: {case.facts}"

    assert [] == sample(wrong())


def after_an_answer(case: Case, step: Settle, *, accepted: bool) -> str:
    """Say what is wrong about a step after the answer."""
    before, after = case.wait, step.wait
    means = meanings(case)
    if not case.is_same_try:
        expected = {"stale"}
    elif means["delivered"] or means["overridden"] or means["stale"]:
        expected = {name for name in ("delivered", "overridden", "stale") if means[name]}
    else:
        expected = {"delivered"} if accepted and not case.is_parked else {before.state.value}
    states = {WaitState(one) for one in expected}
    if before.state is WaitState.INLINE and WaitState.DELIVERED not in states:
        states = {WaitState.INLINE}
    is_due = "delivered" not in expected and expected == {before.state.value}
    if after.state not in states or step.trouble is not None:
        return f"is {after.state}, not {sorted(states)}"
    if is_due:
        return "" if after.due_at == NOW + 5 * SECOND else f"is due {after.due_at}"
    return "" if after.due_at is None else f"is over, and due {after.due_at}"


# --- refusals ---------------------------------------------------------------------------------------------------------

CALLS: Final = ("fence", "answer", "look again")
MISSING: Final = (None, timedelta(0), policy.MISSING_GRACE - MOMENT, policy.MISSING_GRACE, HOUR)


def refused(call: str, wait: Wait, refusal: Refusal, jitter: float) -> Settle | None:
    """Decide on a refusal at one of the three calls; None: the task has to be looked at again."""
    if call == "fence":
        step = decide.on_task(wait, refusal, NOW, RULES, jitter)
        assert isinstance(step, Settle)
        return step
    if call == "answer":
        return decide.on_refusal(wait, refusal, NOW, jitter)
    return decide.after_reply(wait, Accepted(), refusal, NOW, jitter)


def due_after_refusal(refusal: Refusal, failures: int) -> tuple[datetime, datetime]:
    """Return the earliest and the latest time at which a refused wait may be due."""
    pause = min(policy.BACKOFF_FIRST * 2 ** (failures - 1), policy.BACKOFF_CAP)
    asked = refusal.retry_after or timedelta(0)
    return NOW + max(asked, pause / 2), NOW + max(asked, pause)


def after_refusal(wait: Wait, refusal: Refusal, step: Settle) -> str:
    """Say what is wrong about a step after a refusal."""
    after, kind = step.wait, refusal.kind
    if kind is RefusalKind.NOT_FOUND:
        since = wait.missing_since or NOW
        is_gone = NOW - since >= policy.MISSING_GRACE
        state = WaitState.GONE if is_gone and wait.state is WaitState.DUE else wait.state
        due = None if is_gone else policy.not_parked_again(NOW, wait.attempts - 1)
        so = (after.state, after.due_at, step.trouble) == (state, due, None)
        return only(wait, after, "state", "due_at", "missing_since") + (
            "" if so else f"is {after.state} {after.due_at}"
        )
    pauses = kind in (RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN)
    attempts, failures = (wait.attempts - 1, wait.failures) if pauses else (wait.attempts, wait.failures + 1)
    earliest, latest = due_after_refusal(refusal, 1 if pauses else failures)
    counts = (after.attempts, after.failures, step.trouble) == (attempts, failures, refusal)
    in_time = after.due_at is not None and earliest <= after.due_at <= latest
    return only(wait, after, "attempts", "failures", "due_at") + (
        "" if counts and in_time else f"is {after.attempts} {after.failures} {after.due_at} {step.trouble}"
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", RefusalKind)
def test_every_refusal_at_every_call(kind: RefusalKind, call: str) -> None:
    """S13: no refusal ends a wait but a 404 that lasts; none is forgotten; a pause burns no attempt."""

    def wrong() -> Iterator[str]:
        for state, missing, failures, attempts, asked, jitter in product(
            (WaitState.DUE, WaitState.INLINE), MISSING, (0, 5, 40), (1, 9), ASKED, JITTERS
        ):
            since = NOW - missing if missing is not None else None
            wait = a_due_wait(
                state=state, missing_since=since, failures=failures, attempts=attempts, deadline=AHEAD, due_at=AHEAD
            )
            refusal = Refusal(kind, "no", asked)
            step = refused(call, wait, refusal, jitter)
            if step is None or (kind is RefusalKind.CONFLICT and call == "answer"):
                if (kind, call, step) != (RefusalKind.CONFLICT, "answer", None):
                    yield f"only the task says what a 409 means: {step}"
            elif problem := after_refusal(wait, refusal, step):
                yield f"{problem}: {wait}"

    assert [] == sample(wrong())


# --- taking up, and giving up -----------------------------------------------------------------------------------------

TIMES: Final = (None, NOW - HOUR, NOW, NOW + MOMENT)


@pytest.mark.parametrize("state", WaitState)
def test_what_is_taken_up(state: WaitState) -> None:
    """S22: taken up is what has a completion to deliver and is due; it is nobody else's then, for a minute."""
    for due_at in TIMES:
        wait = a_due_wait(state=state, due_at=due_at, attempts=4)
        taken = decide.claim(wait, NOW)
        is_due = state in (WaitState.DUE, WaitState.INLINE) and due_at is not None and due_at <= NOW
        assert (replace(wait, attempts=5, due_at=NOW + MINUTE) if is_due else None) == taken


@pytest.mark.parametrize("state", WaitState)
@pytest.mark.parametrize("on_abandon", OnAbandon)
def test_every_deadline(state: WaitState, on_abandon: OnAbandon) -> None:
    """S29: an open wait is told at its deadline; what is being delivered closes an hour later, and nothing else."""
    late, too_late = timedelta(0), policy.DELIVERY_GRACE
    for age, due_at, cancels in product(
        (late - MOMENT, late, too_late - MOMENT, too_late, 9 * HOUR), (None, NOW), (True, False)
    ):
        wait = a_due_wait(state=state, deadline=NOW - age, due_at=due_at, cancels=cancels, on_abandon=on_abandon)
        is_being_delivered = state is WaitState.DUE or (state is WaitState.INLINE and due_at is not None)
        is_open = state is WaitState.OPEN
        gives_up = (is_open and age >= late) or (is_being_delivered and age >= too_late)
        assert gives_up == decide.is_past_deadline(wait, NOW)
        if not gives_up:
            continue
        after = decide.expire(wait, a_run(status=RunStatus.IN_PROGRESS), NOW)
        if is_open:
            assert after.completion is not None
            told = (after.state, after.due_at, after.completion.status, after.completion.token, after.cancels)
            assert (WaitState.DUE, NOW, Outcome.EXPIRED, wait.token, on_abandon is OnAbandon.CANCEL) == told
        else:
            closed = WaitState.EXPIRED if state is WaitState.DUE else WaitState.INLINE
            due = NOW if cancels else None
            assert (closed, due, wait.completion) == (after.state, after.due_at, after.completion)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_is_over_stays_so(state: WaitState) -> None:
    """S04, S29: nothing that happens to a run changes a wait that is over."""
    wait = a_due_wait(state=state, due_at=None)
    ended = a_run(status=RunStatus.FAILED, read_at=NOW)
    refusal = Refusal(RefusalKind.UNAVAILABLE, "no")
    assert (None, None, None) == (
        decide.claim(wait, NOW),
        decide.withdraw(wait, NOW),
        decide.take_inline(ended, wait, NOW),
    )
    assert () == (*decide.settle(ended, [wait], NOW), *decide.postpone([wait], refusal, NOW, RULES))
    assert not decide.is_past_deadline(wait, NOW + 99 * HOUR)
    assert None is decide.on_look(wait, TaskView("failed", 1, "ti-1"), (), (), NOW)
    assert () == decide.tell_of_cancel([wait], NOW)
    for status in RunStatus:
        assert () == decide.judge_event(an_event(status), a_run(), [wait], NOW, RULES).waits


# --- run events -------------------------------------------------------------------------------------------------------

WAITING: Final = (
    (),
    *((state,) for state in WaitState),
    (WaitState.OPEN, WaitState.OPEN),
    (WaitState.OPEN, WaitState.DUE),
)
RUNS: Final = (None, *RunStatus)


def waits_in(states: Sequence[WaitState], **changes: Any) -> tuple[Wait, ...]:
    """Return waits in these states."""
    return tuple(
        a_wait(a_task(map_index=number), state=state, deadline=AHEAD, due_at=AHEAD, **changes)
        for number, state in enumerate(states)
    )


@pytest.mark.parametrize("said", RunStatus)
def test_every_event(said: RunStatus) -> None:
    """S03, S04, S35: an event writes a hint, and asks ADF once in a while where somebody waits; nothing else, ever."""
    reads, ago = (1, 4, 99), (None, MOMENT, 8 * SECOND, MINUTE)

    def wrong() -> Iterator[str]:
        for states, status in product(WAITING, RUNS):
            waits = waits_in(states)
            for count, read, hinted in product(reads, ago, ago):
                run = a_run(
                    status=status,
                    hint=RunStatus.FAILED if hinted is not None else None,
                    reads=count,
                    read_at=NOW - read if read is not None else None,
                    hint_at=NOW - hinted if hinted is not None else None,
                )
                judged = decide.judge_event(an_event(said), run, waits, NOW, RULES)
                if problem := event_is_wrong(said, run, waits, judged):
                    yield f"{problem}: {states} {run}"

    assert [] == sample(wrong())


def event_is_wrong(said: RunStatus, run: Run, waits: Sequence[Wait], judged: decide.Judgement) -> str:
    """Say what is wrong about a judgement."""
    spacing = timedelta(seconds=min(60, 2 ** max(0, run.reads - 1)))
    lately = [at for at in (run.read_at, run.hint_at) if at is not None and NOW - at < spacing]
    open_waits = [wait for wait in waits if wait.state is WaitState.OPEN]
    is_news = run.status not in ENDS and said in ENDS
    asks = is_news and bool(open_waits) and not lately
    verdicts = {
        Verdict.DUPLICATE: run.status in ENDS,
        Verdict.NOTED: run.status not in ENDS and said not in ENDS and bool(open_waits),
        Verdict.PARKED: run.status not in ENDS and not open_waits,
        Verdict.MATCHED: asks,
        Verdict.UNCONFIRMED: is_news and bool(open_waits) and bool(lately),
    }
    if [judged.verdict] != [verdict for verdict, holds in verdicts.items() if holds]:
        return f"is {judged.verdict}"
    if judged.ask_adf != asks:
        return "asks ADF" if judged.ask_adf else "does not ask ADF"
    if (judged.run is not None) != is_news or (judged.run is not None and judged.run.hint is not said):
        return "does not write just the hint"
    if judged.run is not None and (judged.run.status, judged.run.reads) != (run.status, run.reads):
        return "believes the event"
    if judged.run is not None and judged.run.hint_at != (run.hint_at if lately else NOW):
        return f"says that ADF was asked at {judged.run.hint_at}"
    noted = open_waits if run.status not in ENDS else []
    if [wait.token for wait in judged.waits] != [wait.token for wait in noted]:
        return "does not write just the open waits"
    # Should the process die before ADF was asked, the timer asks, soon; what is no end changes no time.
    latest = NOW + (RULES.sweep if asks else spacing) if is_news else AHEAD
    late = [wait for wait in judged.waits if wait.due_at != latest or wait.state is not WaitState.OPEN]
    return f"is due {late[0].due_at}" if late else ""


@pytest.mark.parametrize("kind", [None, *RefusalKind])
def test_every_verdict_after_asking(kind: RefusalKind | None) -> None:
    """S05: an event is confirmed by an end that ADF told, and by nothing else."""
    refusal = Refusal(kind, "no") if kind is not None else None
    for status in RUNS:
        verdict, _ = decide.verdict_of(a_run(status=status), refusal)
        confirmed = Verdict.MATCHED if status in ENDS else Verdict.UNCONFIRMED
        unasked = Verdict.UNCONFIRMED if kind is RefusalKind.NOT_FOUND else Verdict.UNVERIFIED
        assert (unasked if refusal is not None else confirmed) is verdict
    assert Verdict.MATCHED is not decide.verdict_of(None, refusal)[0]


# --- readings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [None, *RunStatus])
def test_every_reading(read: RunStatus | None) -> None:
    """S04, S06: ADF's word counts, the first end stays, an unknown status ends nothing; each open wait is settled."""
    for known, state, left in product((None, *RUNS), WaitState, (-HOUR, timedelta(0), MINUTE, 2 * HOUR)):
        run = a_run(status=known, reads=3) if known is not None else None
        after = decide.apply_reading(run, KEY, a_reading(read), NOW)
        last = known if known in ENDS or read is None else read
        assert (last, NOW, 4 if run else 1) == (after.status, after.read_at, after.reads)
        wait = a_wait(state=state, deadline=NOW + left, due_at=NOW)
        settled = decide.settle(after, [wait], NOW)
        assert (1 if state is WaitState.OPEN else 0) == len(settled)
        for one in settled:
            told = one.completion.status if one.completion is not None else None
            if last in ENDS:
                assert (WaitState.DUE, NOW, ENDS[last]) == (one.state, one.due_at, told)
            else:
                assert (WaitState.OPEN, min(wait.deadline, NOW + HOUR), None) == (one.state, one.due_at, told)


@pytest.mark.parametrize("sign", ["x", "ü", "💥"])
def test_a_reading_with_a_huge_message(sign: str) -> None:
    """S32: of a message of a megabyte a run keeps 4,000 characters, which end by saying that there is more."""
    run = decide.apply_reading(None, KEY, a_reading(RunStatus.FAILED, message=sign * 1_000_000), NOW)
    completion = decide.completion_of(TASK.token, run)
    assert run.message == completion.message
    assert (4_000, sign, True) == (len(run.message or ""), (run.message or "")[0], "cut" in (run.message or "")[-50:])


@pytest.mark.parametrize("kind", RefusalKind)
def test_every_refusal_of_adf(kind: RefusalKind) -> None:
    """S45: a refusal of ADF's ends no wait: it is asked again, soon if the trouble is ADF's own, else in an hour."""
    for state, asked, left in product(WaitState, ASKED, (-HOUR, timedelta(0), SECOND, 9 * HOUR)):
        wait = a_wait(state=state, deadline=NOW + left, due_at=NOW)
        postponed = decide.postpone([wait], Refusal(kind, "no", asked), NOW, RULES)
        pause = HOUR if kind in NO_TROUBLE else max(RULES.sweep, asked or RULES.sweep)
        expected = [(WaitState.OPEN, min(wait.deadline, NOW + pause))] if state is WaitState.OPEN else []
        assert expected == [(one.state, one.due_at) for one in postponed]


# --- registering, and withdrawing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [None, *WaitState])
def test_every_registration(existing: WaitState | None) -> None:
    """S01: registering answers with the end that is known, asks ADF where that is in doubt, and repeats its answer."""
    request = a_request(deadline=AHEAD)
    others = waits_in((WaitState.OPEN, WaitState.DELIVERED))[1:]
    ago = (None, timedelta(0), RULES.sweep - MOMENT, RULES.sweep, 9 * HOUR)
    for status, hint, read, just_started in product(RUNS, RUNS, ago, (True, False)):
        run = a_run(status=status, hint=hint, read_at=NOW - read if read is not None else None)
        before = a_due_wait(state=existing, due_at=NOW) if existing is not None else None
        waits = [*others, before] if before is not None else others

        def register(
            run: Run = run, waits: Sequence[Wait] = waits, started: bool = just_started
        ) -> decide.Registration:
            return decide.register(request, run, waits, NOW, RULES, just_started=started)

        if existing is WaitState.WITHDRAWN:
            with pytest.raises(WaitConflict):
                register()
            continue
        found = register()
        is_inline = existing is WaitState.DUE or (existing is None and status in ENDS)
        if is_inline:
            assert found.wait.completion is not None
            assert (True, False, WaitState.INLINE) == (found.writes, found.ask_adf, found.wait.state)
            assert NOW + MINUTE == found.wait.due_at
            decided = before.completion.status if before is not None and before.completion is not None else None
            assert (decided or ENDS[RunStatus(status or "")]) == found.wait.completion.status
        elif before is not None:
            assert decide.Registration(before) == found
        else:
            in_doubt = hint in ENDS or (not just_started and (read is None or read >= RULES.sweep))
            due = NOW + (RULES.sweep if in_doubt else HOUR)
            assert (True, in_doubt, WaitState.OPEN) == (found.writes, found.ask_adf, found.wait.state)
            assert (due, TASK.token, None) == (found.wait.due_at, found.wait.token, found.wait.completion)


@pytest.mark.parametrize("state", WaitState)
def test_every_answer_with_the_completion(state: WaitState) -> None:
    """S01: a wait is answered with its completion when that is known, and when it is not over."""
    for status in RUNS:
        wait = a_due_wait(state=state) if state is not WaitState.OPEN else a_wait()
        taken = decide.take_inline(a_run(status=status), wait, NOW)
        if state is WaitState.DUE or (state is WaitState.OPEN and status in ENDS):
            assert taken is not None
            assert (WaitState.INLINE, NOW + MINUTE) == (taken.state, taken.due_at)
            assert taken.completion is not None
        else:
            assert taken is None


@pytest.mark.parametrize("state", WaitState)
def test_every_withdrawal(state: WaitState) -> None:
    """What is not over is withdrawn, for good."""
    withdrawn = decide.withdraw(a_due_wait(state=state), NOW)
    expected = (WaitState.WITHDRAWN, None) if state in LIVE else None
    assert expected == ((withdrawn.state, withdrawn.due_at) if withdrawn is not None else None)


@pytest.mark.parametrize(
    ("left", "fits"),
    [
        (-HOUR, False),
        (timedelta(0), False),
        (MOMENT, True),
        (timedelta(days=45), True),
        (timedelta(days=45) + MOMENT, False),
    ],
)
def test_every_deadline_asked_for(left: timedelta, fits: bool) -> None:
    """S28: a deadline lies ahead, and no further than Data Factory remembers."""
    try:
        decide.check_deadline(NOW + left, NOW, field="deadline")
    except InvalidFields:
        assert not fits
    else:
        assert fits


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, *StartState])
def test_every_trigger_request(state: StartState | None) -> None:
    """S19, S20, S21: createRun is sent for a key that nobody has used, and never again, whatever became of it."""
    request = a_trigger(body_hash="hash-1")
    for body, left, run_id, answer in product(
        ("hash-1", "other"), (-HOUR, timedelta(0), MOMENT, MINUTE), (None, "run-1"), (None, "{}")
    ):
        record = None
        if state is not None:
            record = StartRequest(
                request.idempotency_key, body, state, KEY.factory, "p", START, NOW + left, run_id, answer, version="1"
            )
        came_to: object
        try:
            admission = decide.admit(request, record, NOW)
            (came_to,) = (one.name for one in fields(admission) if getattr(admission, one.name) is not None)
        except Problem as problem:
            came_to = type(problem)
        conditions: dict[object, bool] = {
            "reserve": state is None,
            IdempotencyMismatch: state is not None and body == "other",
            "replay": body == "hash-1" and state is StartState.STARTED and answer is not None,
            "started": body == "hash-1" and state is StartState.STARTED and answer is None,
            "unsettled": body == "hash-1" and state is not StartState.STARTED,
        }
        if state is None:
            conditions = {"reserve": True}
        assert [came_to] == [one for one, holds in conditions.items() if holds]


# --- breakers ---------------------------------------------------------------------------------------------------------

NAME: Final = "target:prod"


def breakers() -> Iterator[Breaker]:
    """Yield breakers of every kind."""
    yield Breaker(NAME)
    for failures in (1, 2):
        yield Breaker(NAME, "unavailable", "no", failures, START, version="3")
    for failures, probe_at in product((1, 3, 99), (NOW - HOUR, NOW, NOW + MOMENT, NOW + HOUR)):
        yield Breaker(NAME, "forbidden", "no", failures, START, probe_at, "3")


@pytest.mark.parametrize("kind", [None, *RefusalKind])
def test_every_breaker_after_every_call(kind: RefusalKind | None) -> None:
    """S07, S08, S09: what a peer itself refuses pauses it, at once or after three; whatever else it says ends that."""
    for breaker, asked, jitter in product(breakers(), ASKED, JITTERS):
        trouble = Refusal(kind, "why", asked) if kind is not None else None
        after = decide.breaker_after(breaker, trouble, NOW, jitter)
        if kind is None or kind in NO_TROUBLE:
            assert (Breaker(NAME, version=breaker.version) if breaker.failures else None) == after
            continue
        assert after is not None
        assert (breaker.failures + 1, kind.value, "why", breaker.version) == (
            after.failures,
            after.reason,
            after.detail,
            after.version,
        )
        assert (breaker.since or NOW) == after.since
        assert (breaker.is_open or kind in PAUSES or breaker.failures >= 2) == after.is_open
        if after.probe_at is not None:
            least = max(asked or timedelta(0), SECOND)
            assert NOW + least <= after.probe_at <= NOW + max(asked or timedelta(0), MINUTE)


def test_every_call_of_a_paused_peer() -> None:
    """S07: a peer is called when it is not paused, or by the one that takes its probe; nobody else has a probe then."""
    for breaker in breakers():
        may = not breaker.is_open or (breaker.probe_at is not None and breaker.probe_at <= NOW)
        assert may == decide.may_call(breaker, NOW)
        taken = decide.claim_probe(breaker, NOW)
        assert (None if not breaker.is_open else replace(breaker, probe_at=NOW + MINUTE)) == taken
        assert taken is None or not decide.may_call(taken, NOW)


def test_what_the_timer_attends_to() -> None:
    """S07: of a paused target's due waits the timer takes those that do not call it, and one of the others to probe."""
    calling = (WaitState.DUE, WaitState.INLINE)
    kinds = (*calling, WaitState.OPEN, WaitState.STALE)
    for breaker, size in product(breakers(), range(5)):
        for states in combinations_with_replacement(kinds, size):
            due = [Due(f"t{number}", NOW - MINUTE, state) for number, state in enumerate(states)]
            attended = decide.to_attend(due, breaker, NOW)
            quiet = [one for one in due if one.state not in calling]
            probes = [one for one in attended if one.state in calling]
            may_probe = decide.may_call(breaker, NOW) and len(quiet) < len(due)
            assert quiet == [one for one in attended if one.state not in calling]
            if not breaker.is_open:
                assert due == list(attended)
            else:
                assert (1 if may_probe else 0) == len(probes)


# --- runs that nobody waits for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", TASK_STATES, ids=str)
def test_every_look_for_the_abandoned(state: str | None) -> None:
    """A wait is abandoned when two looks, a minute apart, show that its try is over; one that does not starts anew."""

    def wrong() -> Iterator[str]:
        due = (case for case in cases(state) if case.wait.state is WaitState.DUE and not case.observed)
        for case, seen_so in product(due, (None, NOW - MINUTE + MOMENT, NOW - MINUTE)):
            wait = replace(case.wait, state=WaitState.OPEN, due_at=AHEAD, abandoned_at=seen_so, completion=None)
            means = meanings(case)
            is_over = means["stale"] or means["overridden"]
            found = decide.on_look(wait, case.seen, (), (), NOW)
            came_to = (found.state, found.abandoned_at, found.due_at, found.cancels) if found is not None else None
            expected: tuple[WaitState, datetime | None, datetime, bool] | None = None
            if is_over and seen_so is None:
                expected = (WaitState.OPEN, NOW, NOW + MINUTE, False)
            elif is_over and seen_so == NOW - MINUTE:
                closed = WaitState.STALE if means["stale"] else WaitState.OVERRIDDEN
                expected = (closed, seen_so, NOW, True)
            elif not is_over and seen_so is not None:
                expected = (WaitState.OPEN, None, AHEAD, False)
            if came_to != expected:
                yield f"{came_to}, not {expected}: {case.facts}"

    assert [] == sample(wrong())


@pytest.mark.parametrize("state", WaitState)
def test_what_keeps_a_run_running(state: WaitState) -> None:
    """A run that has ended, or that another task waits for, or whose target is only observed, is not cancelled."""
    wait = a_wait(state=WaitState.STALE, cancels=True)
    (other,) = waits_in([state])
    other = replace(other, token="another")
    targets = (RULES, OBSERVING, replace(RULES, targets={}))
    for status, rules, waits in product((None, *RUNS), targets, ([wait], [wait, other])):
        run = a_run(status=status) if status is not None else None
        keeps = status in ENDS or rules is not RULES or (other in waits and state is WaitState.OPEN)
        assert keeps == (decide.keeps_running(wait, run, waits, rules) is not None)


@pytest.mark.parametrize("kind", [Accepted(), NotRunning(), *RefusalKind], ids=str)
def test_every_answer_to_a_cancel(kind: Accepted | NotRunning | RefusalKind) -> None:
    """A cancel that ADF could not take now is tried again, until an hour after the deadline; all else settles it."""
    for state, left, asked, jitter, failures in product(
        (WaitState.DUE, WaitState.STALE, WaitState.EXPIRED),
        (HOUR, timedelta(0), MOMENT - policy.DELIVERY_GRACE, -policy.DELIVERY_GRACE),
        ASKED,
        JITTERS,
        (0, 7),
    ):
        wait = a_due_wait(state=state, deadline=NOW + left, due_at=AHEAD, cancels=True, failures=failures)
        reply = Refusal(kind, "no", asked) if isinstance(kind, RefusalKind) else kind
        after = decide.on_cancel(wait, reply, NOW, jitter)
        tries_again = kind in (PAUSES | TROUBLE) and left > -policy.DELIVERY_GRACE
        assert (tries_again, state) == (after.cancels, after.state)
        if tries_again:
            assert after.due_at is not None
            assert SECOND <= after.due_at - NOW <= policy.RETRY_AFTER_CAP
            assert asked is None or after.due_at >= NOW + asked
        else:
            assert (AHEAD if state is WaitState.DUE else None) == after.due_at


@pytest.mark.parametrize("state", [WaitState.DUE, WaitState.INLINE])
def test_what_is_to_be_cancelled_stays_due(state: WaitState) -> None:
    """A wait whose run is to be cancelled is attended to until that is done, however it closes meanwhile."""
    wait = a_due_wait(state=state, cancels=True, due_at=NOW, deadline=NOW - 9 * HOUR)
    closed = [
        decide.expire(wait, None, NOW),
        decide.withdraw(wait, NOW),
        *(decide.on_task(wait, TaskView(name, 1, "ti-1"), NOW, RULES, 0.5).wait for name in OVER),
    ]
    assert [] == [one for one in closed if one is not None and (one.cancels, one.due_at) != (True, NOW)]
