"""Every rule of the bridge, as pure functions from what is known to what shall be.

Nothing here does I/O, sleeps or reads a clock. The numbers are in `bridge.policy`.

Contents: run events (`judge_event`) · readings of ADF (`apply_reading`, `settle`) · registering (`register`) ·
trigger requests (`admit`) · deadlines (`expire`) · delivery (`claim`, `on_task`, `on_refusal`, `after_reply`) ·
breakers (`breaker_after`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeGuard

from bridge import policy
from bridge.errors import (
    FieldError,
    IdempotencyMismatch,
    InvalidFields,
    RequestInFlight,
    UnknownOutcome,
    WaitConflict,
)
from bridge.model import (
    Breaker,
    Completion,
    Outcome,
    Run,
    RunEvent,
    RunKey,
    RunReading,
    RunStatus,
    StartRequest,
    StartState,
    TriggerRequest,
    Verdict,
    Wait,
    WaitRequest,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Accepted, Answer, Due, Refusal, RefusalKind, TaskView

OUTCOME_OF: Final = {
    RunStatus.SUCCEEDED: Outcome.SUCCEEDED,
    RunStatus.FAILED: Outcome.FAILED,
    RunStatus.CANCELLED: Outcome.CANCELLED,
}

# Airflow's task instance states: https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html
PARKED: Final = "awaiting_input"
ENDED: Final = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})
TRY_OVER: Final = frozenset({"up_for_retry", "restarting"})


# --- run events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run event means: the verdict so far, the rows to write before it is acknowledged, whether to ask ADF."""

    verdict: Verdict
    reason: str
    run: Run | None = None
    waits: tuple[Wait, ...] = ()
    ask_adf: bool = False

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.run is not None or bool(self.waits)


def judge_event(event: RunEvent, run: Run | None, waits: Sequence[Wait], now: datetime, rules: Rules) -> Judgement:
    """Judge an event by what is known of its run. Order never comes from event times; a known end absorbs all."""
    open_waits = tuple(wait for wait in waits if wait.state is WaitState.OPEN)
    if run is not None and run.has_ended:
        return Judgement(Verdict.DUPLICATE, f"ADF had said {run.status} before")
    if not event.status.is_terminal:
        if not open_waits:
            return Judgement(Verdict.PARKED, "nobody waits for this run yet, and it has not ended")
        told = tuple(wait.told(now, "event", f"says {event.status}: no end") for wait in open_waits)
        return Judgement(Verdict.NOTED, f"{event.status} is no end", waits=told)

    known = run or Run(key=event.key, created_at=now)
    # `hint_at` is when the last event that asked ADF did: of many at once, the one that writes it first asks.
    ask_adf = all(at is None or now - at >= policy.READ_SPACING for at in (known.read_at, known.hint_at))
    hint_at = now if ask_adf else known.hint_at
    hinted = replace(known, hint=event.status, hint_at=hint_at, pipeline=known.pipeline or event.pipeline)
    if not open_waits:
        over = "any more" if waits else "yet"
        return Judgement(Verdict.PARKED, f"nobody waits for this run {over}", run=hinted)
    # Should this process die before ADF was asked, the timer asks. The claim is news: its checks start anew.
    told = tuple(
        replace(
            wait.told(now, "event", f"says {event.status}"),
            checks=0,
            due_at=_sooner(wait.due_at, now + (rules.sweep if ask_adf else policy.READ_SPACING)),
        )
        for wait in open_waits
    )
    return Judgement(
        Verdict.MATCHED if ask_adf else Verdict.UNCONFIRMED,
        f"{len(told)} waiting" if ask_adf else "ADF was asked a moment ago; it is asked again shortly",
        run=hinted,
        waits=told,
        ask_adf=ask_adf,
    )


def verdict_of(run: Run | None, refusal: Refusal | None) -> tuple[Verdict, str]:
    """Return the final verdict of an event for whose run ADF was asked."""
    if refusal is not None:
        return Verdict.UNVERIFIED, f"ADF could not be asked ({refusal.kind}); it is asked again later"
    if run is not None and run.has_ended:
        return Verdict.MATCHED, f"ADF confirms {run.status}"
    status = run.status if run is not None else None
    return Verdict.UNCONFIRMED, f"ADF says {status or 'a status unknown here'}: nothing is completed"


# --- readings of ADF -------------------------------------------------------------------------------------------------


def apply_reading(run: Run | None, key: RunKey, reading: RunReading, now: datetime) -> Run:
    """Put what ADF said into the run's row. A run that has ended stays as it ended."""
    known = run or Run(key=key, created_at=now)
    counted = replace(known, read_at=now, reads=known.reads + 1)
    if known.has_ended:
        return counted
    return replace(
        counted,
        status=reading.status if reading.status is not None else known.status,
        pipeline=reading.pipeline or known.pipeline,
        run_start=reading.run_start or known.run_start,
        run_end=reading.run_end,
        message=policy.cut(reading.message),
        failed_activity=reading.failed_activity,
    )


def settle(run: Run, waits: Sequence[Wait], now: datetime, rules: Rules) -> tuple[Wait, ...]:
    """Return the open waits as they stand after ADF was asked: due when the run has ended, else to be checked again."""
    return tuple(
        _due(wait, completion_of(wait.token, run), now)
        if run.has_ended
        else _check_again(wait, now, f"ADF says {run.status or 'a status unknown here'}", rules)
        for wait in waits
        if wait.state is WaitState.OPEN
    )


def postpone(waits: Sequence[Wait], refusal: Refusal, now: datetime, rules: Rules) -> tuple[Wait, ...]:
    """Return the open waits of a run that ADF could not be asked about.

    Trouble of ADF's own makes no check rarer: when it is over, all is told within a sweep interval.
    """
    detail = f"ADF could not be asked: {refusal.detail}"
    again = now + max(rules.sweep, refusal.retry_after or timedelta(0))
    return tuple(
        _check_again(wait, now, detail, rules)
        if refusal.kind in _SAYS_NOTHING
        else replace(wait.told(now, "checked", detail), due_at=min(wait.deadline, again))
        for wait in waits
        if wait.state is WaitState.OPEN
    )


def completion_of(token: str, run: Run) -> Completion:
    """Return what a wait is told about a run that has ended."""
    outcome = OUTCOME_OF.get(run.status, Outcome.UNKNOWN) if run.status is not None else Outcome.UNKNOWN
    return _completion(token, run, outcome, run.message)


def _completion(token: str, run: Run, outcome: Outcome, message: str | None) -> Completion:
    return Completion(
        token=token,
        status=outcome,
        key=run.key,
        pipeline=run.pipeline,
        run_start=run.run_start,
        run_end=run.run_end,
        message=message,
        failed_activity=run.failed_activity,
    )


def _due(wait: Wait, completion: Completion, now: datetime) -> Wait:
    told = wait.told(now, "decided", f"{completion.status}: to be delivered")
    return replace(told, state=WaitState.DUE, completion=completion, due_at=now)


def _check_again(wait: Wait, now: datetime, detail: str, rules: Rules) -> Wait:
    at = min(wait.deadline, policy.next_check(now, wait.checks, rules.sweep))
    return replace(wait.told(now, "checked", detail), checks=wait.checks + 1, due_at=at)


def _sooner(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


# --- registering ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering a wait comes to: whether its row is to be written, and whether ADF has to be asked then."""

    wait: Wait
    writes: bool = False
    ask_adf: bool = False


def register(
    request: WaitRequest,
    known: Run,
    waits: Sequence[Wait],
    now: datetime,
    rules: Rules,
    *,
    just_started: bool = False,
) -> Registration:
    """Decide on a wait for a run; ADF is asked when the run is news to the store, or an event said that it has ended.

    A repetition changes nothing, but for a completion that was decided meanwhile: the caller takes it with the answer.
    """
    token = request.task.token
    existing = next((wait for wait in waits if wait.token == token), None)
    if existing is not None and existing.state is WaitState.WITHDRAWN:
        check_free(existing)
    if existing is not None and existing.state is not WaitState.DUE:
        return Registration(existing)
    if existing is not None:
        return Registration(_inline(existing, now), writes=True)
    wait = Wait(
        token=token,
        key=known.key,
        task=request.task,
        mode=request.mode,
        deadline=request.deadline,
        on_abandon=request.on_abandon,
        registered_at=now,
    ).told(now, "registered", f"waits for run {known.key.run_id} until {request.deadline:%Y-%m-%d %H:%M:%SZ}")
    if known.has_ended:
        return Registration(_inline(_due(wait, completion_of(token, known), now), now), writes=True)
    hinted = known.hint is not None and known.hint.is_terminal
    unread = known.read_at is None or now - known.read_at >= rules.sweep
    ask_adf = hinted or (unread and not just_started)
    # Should this process die before ADF was asked, the timer asks.
    due_at = min(request.deadline, now + rules.sweep) if ask_adf else request.deadline
    return Registration(replace(wait, due_at=due_at), writes=True, ask_adf=ask_adf)


def take_inline(run: Run, wait: Wait, now: datetime) -> Wait | None:
    """Return the wait as answered at once when its run turned out to have ended, else None."""
    if wait.state is WaitState.OPEN and run.has_ended:
        return _inline(_due(wait, completion_of(wait.token, run), now), now)
    if wait.state is WaitState.DUE:
        return _inline(wait, now)
    return None


def _inline(wait: Wait, now: datetime) -> Wait:
    told = wait.told(now, "answered", "the run has ended: the answer is the completion")
    return replace(told, state=WaitState.INLINE, due_at=None)


def check_deadline(deadline: datetime, now: datetime) -> None:
    """Refuse a deadline that has passed or that ADF's memory of a run does not reach."""
    if deadline <= now:
        raise InvalidFields([FieldError("wait.deadline", "has passed already")])
    if deadline > now + policy.MAX_DEADLINE:
        days = policy.MAX_DEADLINE.days
        raise InvalidFields([FieldError("wait.deadline", f"is over {days} days away; ADF keeps runs no longer")])


def check_free(taken: Wait | None) -> None:
    """Refuse a token that names a wait already."""
    if taken is not None:
        msg = f"It names a wait for run {taken.key.run_id} ({taken.state}). Start the task's try anew: a new token."
        raise WaitConflict(msg)


def withdraw(wait: Wait, now: datetime) -> Wait | None:
    """Return the wait as withdrawn, or None when it is over anyway."""
    if wait.state.is_final:
        return None
    return replace(wait.told(now, "withdrawn", "the caller stopped waiting"), state=WaitState.WITHDRAWN, due_at=None)


# --- trigger requests -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admission:
    """What a trigger request comes to: a record to reserve, a run to go on with, or an answer to give again."""

    reserve: StartRequest | None = None
    started: StartRequest | None = None
    unknown: StartRequest | None = None
    replay: str | None = None


def admit(request: TriggerRequest, record: StartRequest | None, now: datetime) -> Admission:
    """Decide on a trigger request by the record under its key. createRun is sent for a reserved record only, once."""
    if record is None:
        return Admission(
            reserve=StartRequest(
                idempotency_key=request.idempotency_key,
                body_hash=request.body_hash,
                state=StartState.STARTING,
                factory=request.factory,
                pipeline=request.pipeline,
                received_at=now,
                lease_until=now + policy.START_LEASE,
            )
        )
    if record.body_hash != request.body_hash:
        msg = "The key was used before with another body. Use a new key for a new request."
        raise IdempotencyMismatch(msg)
    match record.state:
        case StartState.STARTED if record.answer is not None:
            return Admission(replay=record.answer)
        case StartState.STARTED:
            return Admission(started=record)
        case StartState.STARTING if now < record.lease_until:
            msg = "The first request with this key is still being handled. Send it again a little later."
            raise RequestInFlight(msg, retry_after=timedelta(seconds=2))
        case StartState.STARTING:
            return Admission(unknown=replace(record, state=StartState.UNKNOWN))
        case StartState.UNKNOWN:
            raise unknown_outcome(record)


def unknown_outcome(record: StartRequest) -> UnknownOutcome:
    """Return the error for a request whose createRun was sent and never answered for sure."""
    return UnknownOutcome(
        f"ADF was asked to start {record.pipeline!r} at {record.received_at:%Y-%m-%d %H:%M:%SZ} and did not say "
        "whether it did. The bridge does not start it again under this key: look in ADF's monitor, then use a new key."
    )


# --- deadlines --------------------------------------------------------------------------------------------------------


def is_past_deadline(wait: Wait, now: datetime) -> bool:
    """Whether an open wait has to be given up, or a due one can no longer be delivered."""
    if wait.state is WaitState.OPEN:
        return now >= wait.deadline
    return wait.state is WaitState.DUE and now >= wait.deadline + policy.DELIVERY_GRACE


def expire(wait: Wait, run: Run | None, now: datetime) -> Wait:
    """Return a wait after its deadline: an open one is told so, an undeliverable one is closed."""
    if wait.state is WaitState.OPEN:
        known = run or Run(key=wait.key)
        last = known.status or "unknown"
        message = f"The run did not end before {wait.deadline:%Y-%m-%d %H:%M:%SZ}; its last known status is {last}."
        return _due(wait, _completion(wait.token, known, Outcome.EXPIRED, message), now)
    told = wait.told(now, "expired", "the completion could not be delivered in time")
    return replace(told, state=WaitState.EXPIRED, due_at=None)


# --- delivery ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """The task is parked, is that try, and has settled: answer it."""

    wait: Wait


@dataclass(frozen=True, slots=True)
class Settle:
    """Write the wait as it is now. `trouble` tells the target's breaker what happened; None means all went well."""

    wait: Wait
    trouble: Refusal | None = None


def claim(wait: Wait, now: datetime) -> Wait | None:
    """Return the wait as taken up by this instance, or None when nothing is due. Written before Airflow is called."""
    if wait.state is not WaitState.DUE or wait.due_at is None or wait.due_at > now:
        return None
    return replace(wait, attempts=wait.attempts + 1, due_at=now + policy.DELIVERY_LEASE)


def again_by(wait: Wait | None, until: datetime) -> datetime | None:
    """Return when an invocation that may last until then tries again, or None when it leaves the wait to the timer."""
    if wait is None or wait.state is not WaitState.DUE or wait.due_at is None or wait.due_at > until:
        return None
    return wait.due_at


def on_task(wait: Wait, seen: TaskView | Refusal, now: datetime, rules: Rules, jitter: float) -> Send | Settle:
    """The fence: decide by what Airflow says of the task instance before anything is sent."""
    if isinstance(seen, Refusal):
        return _refused(wait, seen, now, jitter)
    found = replace(wait, missing_since=None)
    if (over := _over(found, seen, now)) is not None:
        return Settle(over)
    if seen.state != PARKED:
        return Settle(_not_parked(found, seen, now))
    return _parked(found, now, rules)


def after_reply(
    wait: Wait, reply: Accepted | Refusal, seen: TaskView | Refusal, now: datetime, jitter: float
) -> Settle:
    """Decide by what the task looks like after it was answered: 200 alone is no proof, and 409 is no failure."""
    if isinstance(seen, Refusal):
        return _refused(wait, seen, now, jitter)
    if (moved := _other_try(wait, seen)) is not None:
        return Settle(_close(wait, WaitState.STALE, now, f"while it was answered, {moved}"))
    if (over := _over(wait, seen, now)) is not None:
        return Settle(over)
    if isinstance(reply, Accepted) and seen.state != PARKED:
        return Settle(_close(wait, WaitState.DELIVERED, now, f"resumed; the task is {seen.state or 'scheduled'}"))
    # An older try's answer stands there: the task will find that it is not its own, and park again.
    return Settle(_not_parked(wait, seen, now))


def on_refusal(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> Settle | None:
    """Decide by a refused completion; None for 409: somebody answered before, and the task says who."""
    if refusal.kind is RefusalKind.CONFLICT:
        return None
    return _refused(wait, refusal, now, jitter)


def _over(wait: Wait, seen: TaskView, now: datetime) -> Wait | None:
    """Return the wait closed, if this try of the task waits no more: resumed by us, by a person, or gone on."""
    answer = seen.answer
    if answer is not None and answer.token == wait.token and seen.state != PARKED:
        if seen.state in ENDED and _is_before(seen.ended_at, answer.at):
            return _close(wait, WaitState.OVERRIDDEN, now, f"the task had been ended as {seen.state} before")
        return _close(wait, WaitState.DELIVERED, now, f"Airflow has it; the task is {seen.state or 'scheduled'}")
    if (moved := _other_try(wait, seen)) is not None:
        return _close(wait, WaitState.STALE, now, moved)
    if seen.state in TRY_OVER:
        return _close(wait, WaitState.STALE, now, f"the try ended ({seen.state}) before it was answered")
    by_person = f"{answer.by or 'somebody'} answered {', '.join(answer.chosen)}" if _is_persons(answer) else ""
    if seen.state in ENDED:
        detail = f"the task was ended as {seen.state}" + (f"; {by_person}" if by_person else "")
        return _close(wait, WaitState.OVERRIDDEN, now, detail)
    # Before a task parks it may still show what an earlier try was answered; after, the answer is this try's.
    if by_person and seen.state != PARKED and wait.seen_waiting_at is not None:
        return _close(wait, WaitState.OVERRIDDEN, now, f"{by_person} in Required Actions")
    return None


def _is_persons(answer: Answer | None) -> TypeGuard[Answer]:
    return answer is not None and answer.token is None and bool(answer.chosen)


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other


def _parked(wait: Wait, now: datetime, rules: Rules) -> Send | Settle:
    target = rules.targets[wait.task.target]
    first_seen = wait.seen_waiting_at or now
    waiting = replace(wait, seen_waiting_at=first_seen)
    start = policy.deliver_from(waiting, first_seen, target.hold)
    if now < start:
        return Settle(replace(waiting.told(now, "held", f"parked; held until {_clock(start)}"), due_at=start))
    if target.observe:
        return Settle(_observed(waiting, now))
    return Send(waiting)


def _observed(wait: Wait, now: datetime) -> Wait:
    again = replace(wait, due_at=now + policy.NOT_PARKED_CAP)
    if wait.timeline and wait.timeline[-1].what == "observed":
        return again
    outcome = wait.completion.status if wait.completion else Outcome.UNKNOWN
    return again.told(now, "observed", f"would be told {outcome}; the target is in observe mode")


def _other_try(wait: Wait, seen: TaskView) -> str | None:
    """Say how this is another try. Airflow 3 gives each try a new id at once; `try_number` lags behind."""
    if wait.task.task_instance_id is not None:
        if seen.task_instance_id != wait.task.task_instance_id:
            return "the task instance was cleared or retried: it is not the one that waits"
        return None
    if seen.try_number != wait.task.try_number:
        return f"the task is in try {seen.try_number}, the wait is of try {wait.task.try_number}"
    return None


def _not_parked(wait: Wait, seen: TaskView, now: datetime) -> Wait:
    at = policy.not_parked_again(now, wait.attempts - 1)
    detail = f"the task is {seen.state or 'without a state'}; looked at again {_clock(at)}"
    told = wait.told(now, "not-parked", detail)
    return replace(told, seen_running_at=now, seen_waiting_at=None, due_at=at)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S.%f}"[:-3]


def _refused(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> Settle:
    """One table for every refusal: gone after a grace, paused without burning an attempt, or tried again later."""
    match refusal.kind:
        case RefusalKind.NOT_FOUND:
            return Settle(_missing(wait, now))
        case RefusalKind.UNAUTHENTICATED | RefusalKind.FORBIDDEN:
            at = policy.later(now, failures=1, asked=refusal.retry_after, jitter=jitter)
            told = wait.told(now, "paused", f"{refusal.detail}; the target is paused")
            return Settle(replace(told, attempts=wait.attempts - 1, due_at=at), trouble=refusal)
        case (
            RefusalKind.THROTTLED
            | RefusalKind.UNAVAILABLE
            | RefusalKind.UNREACHABLE
            | RefusalKind.CONFLICT
            | RefusalKind.INVALID
        ):
            failures = wait.failures + 1
            at = policy.later(now, failures=failures, asked=refusal.retry_after, jitter=jitter)
            told = wait.told(now, "failed", f"{refusal.detail}; tried again {_clock(at)}")
            return Settle(replace(told, failures=failures, due_at=at), trouble=refusal)


def _missing(wait: Wait, now: datetime) -> Wait:
    since = wait.missing_since or now
    if now - since >= policy.MISSING_GRACE:
        return _close(wait, WaitState.GONE, now, "Airflow does not know the task")
    told = wait if wait.missing_since else wait.told(now, "missing", "Airflow does not know the task (yet)")
    return replace(told, missing_since=since, due_at=policy.not_parked_again(now, wait.attempts - 1))


def _close(wait: Wait, state: WaitState, now: datetime, detail: str) -> Wait:
    return replace(wait.told(now, state.value, detail), state=state, due_at=None)


# --- breakers ---------------------------------------------------------------------------------------------------------

TROUBLE_OPENS_AFTER: Final = 3
_PAUSING: Final = frozenset({RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN, RefusalKind.THROTTLED})
_SAYS_NOTHING: Final = frozenset({RefusalKind.NOT_FOUND, RefusalKind.CONFLICT, RefusalKind.INVALID})


def breaker_after(breaker: Breaker, trouble: Refusal | None, now: datetime, jitter: float) -> Breaker | None:
    """Return the breaker after a call, or None when nothing changes.

    Refused credentials, permissions and throttling pause at once; three failures in a row do, too. One call that goes
    through closes it. An answer about one task says nothing about its target.
    """
    if trouble is None or trouble.kind in _SAYS_NOTHING:
        return Breaker(breaker.name, version=breaker.version) if breaker.failures else None
    failures = breaker.failures + 1
    opens = breaker.is_open or trouble.kind in _PAUSING or failures >= TROUBLE_OPENS_AFTER
    return replace(
        breaker,
        failures=failures,
        reason=trouble.kind.value,
        detail=trouble.detail,
        since=breaker.since or now,
        probe_at=policy.later(now, failures=failures, asked=trouble.retry_after, jitter=jitter) if opens else None,
    )


def may_call(breaker: Breaker, now: datetime) -> bool:
    """Whether a target or factory may be called: its breaker is closed, or a probe is due."""
    return breaker.probe_at is None or now >= breaker.probe_at


def to_attend(due: Sequence[Due], breaker: Breaker, now: datetime) -> Sequence[Due]:
    """Return which due waits of a target the timer attends to.

    While the target is paused, that is one delivery as its probe when that has come, and all that does not call it.
    """
    if not breaker.is_open:
        return due
    asking_adf = [one for one in due if one.state is WaitState.OPEN]
    probe = next((one for one in due if one.state is WaitState.DUE), None)
    return [*asking_adf, probe] if probe is not None and may_call(breaker, now) else asking_adf


def claim_probe(breaker: Breaker, now: datetime) -> Breaker | None:
    """Return an open breaker with its probe taken by this instance, or None when it is closed (no probe is needed)."""
    if breaker.probe_at is None:
        return None
    return replace(breaker, probe_at=now + policy.DELIVERY_LEASE)
