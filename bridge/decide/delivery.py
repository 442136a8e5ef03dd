"""The fence, and every answer of Airflow: when a parked task is answered, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeGuard

from bridge import policy
from bridge.decide.readings import once_closed
from bridge.model import (
    Outcome,
    TaskRef,
    Wait,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Accepted, Answer, Refusal, RefusalKind, TaskView

# Airflow's task instance states: https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html
PARKED: Final = "awaiting_input"
ENDED: Final = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})
TRY_OVER: Final = frozenset({"up_for_retry", "restarting"})


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
    if wait.state not in (WaitState.DUE, WaitState.INLINE) or not wait.is_due(now):
        return None
    if wait.lacks_listener:
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
        return refused(wait, seen, now, jitter)
    found = replace(wait, missing_since=None)
    if (closed := over(found, seen, now)) is not None:
        return Settle(closed)
    if seen.state != PARKED:
        return Settle(_not_parked(found, seen, now))
    return _parked(found, now, rules)


def after_reply(
    wait: Wait, reply: Accepted | Refusal, seen: TaskView | Refusal, now: datetime, jitter: float
) -> Settle:
    """Decide by what the task looks like after it was answered: 200 alone is no proof, and 409 is no failure."""
    if isinstance(seen, Refusal):
        return refused(wait, seen, now, jitter)
    if (moved := other_try(wait.task, seen)) is not None:
        return Settle(_close(wait, WaitState.STALE, now, f"while it was answered, {moved}"))
    if (closed := over(wait, seen, now)) is not None:
        return Settle(closed)
    if isinstance(reply, Accepted) and seen.state != PARKED:
        return Settle(_close(wait, WaitState.DELIVERED, now, f"resumed; the task is {seen.state or 'scheduled'}"))
    # An older try's answer stands there: the task will find that it is not its own, and park again.
    return Settle(_not_parked(wait, seen, now))


def on_refusal(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> Settle | None:
    """Decide by a refused completion; None for 409: somebody answered before, and the task says who."""
    if refusal.kind is RefusalKind.CONFLICT:
        return None
    return refused(wait, refusal, now, jitter)


def over(wait: Wait, seen: TaskView, now: datetime) -> Wait | None:
    """Return the wait closed, if this try of the task waits no more: resumed by us, by a person, or gone on."""
    answer = seen.answer
    if answer is not None and answer.token == wait.token and seen.state != PARKED:
        if seen.state in ENDED and _is_before(seen.ended_at, answer.at):
            return _close(wait, WaitState.OVERRIDDEN, now, f"the task had been ended as {seen.state} before")
        return _close(wait, WaitState.DELIVERED, now, f"Airflow has it; the task is {seen.state or 'scheduled'}")
    if (moved := other_try(wait.task, seen)) is not None:
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
        return Settle(observed(waiting, now))
    return Send(waiting)


def observed(wait: Wait, now: datetime) -> Wait:
    """Return a wait of a target in observe mode: it is said, once, what would be told."""
    again = replace(wait, due_at=now + policy.NOT_PARKED_CAP)
    if wait.timeline and wait.timeline[-1].what == "observed":
        return again
    outcome = wait.completion.status if wait.completion else Outcome.UNKNOWN
    return again.told(now, "observed", f"would be told {outcome}; the target is in observe mode")


def other_try(task: TaskRef, seen: TaskView) -> str | None:
    """Say how Airflow shows another try. Airflow 3 gives each try a new id at once; `try_number` lags behind."""
    if task.task_instance_id is not None:
        if seen.task_instance_id != task.task_instance_id:
            return "the task instance was cleared or retried: it is not the one that asked"
        return None
    if seen.try_number != task.try_number:
        return f"the task is in try {seen.try_number}, and try {task.try_number} asked"
    return None


def try_over(task: TaskRef, seen: TaskView) -> str | None:
    """Say how a try that asks for a run cannot be at work any more."""
    if (moved := other_try(task, seen)) is not None:
        return moved
    return f"the task is {seen.state}" if seen.state in TRY_OVER | ENDED else None


def _not_parked(wait: Wait, seen: TaskView, now: datetime) -> Wait:
    at = policy.not_parked_again(now, wait.attempts - 1)
    detail = f"the task is {seen.state or 'without a state'}; looked at again {_clock(at)}"
    told = wait.told(now, "not-parked", detail)
    return replace(told, seen_running_at=now, seen_waiting_at=None, due_at=at)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S.%f}"[:-3]


def refused(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> Settle:
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
    """Return the wait in a final state; one that was answered inline stays so unless it had to be delivered."""
    if wait.state is WaitState.INLINE and state is not WaitState.DELIVERED:
        return replace(wait, due_at=once_closed(wait, now))
    return replace(wait.told(now, state.value, detail), state=state, due_at=once_closed(wait, now))
