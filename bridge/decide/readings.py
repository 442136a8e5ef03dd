"""What a reading of ADF, or a deadline, means for a run and the waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.decide.breakers import ABOUT_ONE_THING
from bridge.model import (
    Completion,
    OnAbandon,
    Outcome,
    Run,
    RunKey,
    RunReading,
    RunStatus,
    Wait,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal, RefusalKind

OUTCOME_OF: Final = {
    RunStatus.SUCCEEDED: Outcome.SUCCEEDED,
    RunStatus.FAILED: Outcome.FAILED,
    RunStatus.CANCELLED: Outcome.CANCELLED,
}

# When a wait was due before an event, and when it is due for it, by token.
DueBefore = Mapping[str, tuple[datetime | None, datetime | None]]


def apply_reading(run: Run | None, key: RunKey, reading: RunReading, now: datetime) -> Run:
    """Put what ADF said into the run's row. A run that has ended stays as it ended."""
    known = run or Run(key=key, created_at=now)
    if known.match is not None and reading.watched_run_id is None and not known.has_ended:
        # The run that was found is passed over, or none was found yet.
        known = replace(known, status=None, watched_run_id=None, run_start=None)
    watched = reading.watched_run_id or known.watched_run_id
    counted = replace(known, read_at=now, reads=known.reads + 1, watched_run_id=watched)
    if known.has_ended:
        return counted
    return replace(
        counted,
        status=reading.status if reading.status is not None else known.status,
        pipeline=policy.unwrapped(reading.pipeline) or known.pipeline,
        run_start=reading.run_start or known.run_start,
        run_end=reading.run_end,
        message=policy.cut(reading.message),
        failed_activity=reading.failed_activity,
    )


def count_refusal(run: Run | None, refusal: Refusal, now: datetime) -> Run | None:
    """Return a run's row after ADF did not tell what was asked: an answer about this one thing is a read, too."""
    if run is None or refusal.kind not in ABOUT_ONE_THING:
        return run
    return replace(run, reads=run.reads + 1, hint_at=now)


def was_denied(run: Run | None, reading: RunReading | Refusal) -> bool:
    """Whether ADF's answer is about another run that an event had named for this one, and not about this one."""
    is_known = run is not None and run.watched_run_id is not None
    return not is_known and isinstance(reading, Refusal) and reading.kind is RefusalKind.NOT_FOUND


def without_claim(run: Run | None, denied: str | None) -> Run | None:
    """Return a run's row without the run that an event named for it, if it is that one which ADF has denied."""
    if run is None or denied is None or run.claimed_run_id != denied:
        return run
    return replace(run, claimed_run_id=None)


def settle(run: Run, waits: Sequence[Wait], now: datetime) -> tuple[Wait, ...]:
    """Return the open waits as they stand after ADF was asked: due when the run has ended, else to be checked again."""
    pause = policy.check_again(run.reads, said_to_have_ended=_is_said_to_have_ended(run))
    return tuple(
        become_due(wait, completion_of(wait.token, run), now)
        if run.has_ended
        else _checked(wait, now, f"ADF says {run.status or 'a status unknown here'}", pause)
        for wait in waits
        if wait.state is WaitState.OPEN
    )


def _is_said_to_have_ended(run: Run) -> bool:
    """Whether an event says so of the run that is waited for; a match may have found another one than it named."""
    named = run.match is None or (run.watched_run_id is not None and run.claimed_run_id == run.watched_run_id)
    return named and run.hint is not None and run.hint.is_terminal


def postpone(
    waits: Sequence[Wait],
    refusal: Refusal,
    now: datetime,
    rules: Rules,
    due: DueBefore | None = None,
) -> tuple[Wait, ...]:
    """Return the open waits of a run that ADF could not be asked about.

    Trouble of ADF's own makes the next check no later than a sweep: when it is over, all is told soon. With `due` ADF
    denies what an event named: the waits that nobody has touched since are due as they were before it, the others as
    they are. A forged event neither hastens nor delays anything.
    """
    trouble = max(rules.sweep, refusal.retry_after or timedelta(0))
    pause = policy.UNREAD_AT_MOST if refusal.kind in ABOUT_ONE_THING else trouble
    said = "ADF could not be asked" if due is None else "ADF denies what an event said"
    return tuple(
        _checked(wait, now, f"{said}: {refusal.detail}", pause, _due_anyway(wait, due))
        for wait in waits
        if wait.state is WaitState.OPEN
    )


def _due_anyway(wait: Wait, due: DueBefore | None) -> datetime | None:
    """Return when a wait is due whatever an event said that turned out to be false; None when ADF denied nothing."""
    if due is None:
        return None
    before, written = due.get(wait.token, (wait.due_at, None))
    return before if wait.due_at == written else wait.due_at


def completion_of(token: str, run: Run) -> Completion:
    """Return what a wait is told about a run that has ended."""
    outcome = OUTCOME_OF.get(run.status, Outcome.UNKNOWN) if run.status is not None else Outcome.UNKNOWN
    return _completion(token, run, outcome, run.message)


def _completion(token: str, run: Run, outcome: Outcome, message: str | None) -> Completion:
    by_match = run.match is not None
    return Completion(
        token=token,
        status=outcome,
        key=run.watched_key if by_match else run.key,
        pipeline=run.pipeline,
        run_start=run.run_start,
        run_end=run.run_end,
        message=message,
        failed_activity=run.failed_activity,
        watched_run_id=None if by_match else run.watched_run_id,
    )


def become_due(wait: Wait, completion: Completion, now: datetime) -> Wait:
    """Return a wait whose completion is decided: to be delivered from now on."""
    why = f", {completion.failed_activity.summary}" if completion.failed_activity is not None else ""
    told = wait.told(now, "decided", f"{completion.status}{why}: to be delivered")
    due = replace(told, state=WaitState.DUE, completion=completion, decided_at=now, due_at=now)
    return replace(due, due_at=next_delivery(due, now))


def next_delivery(wait: Wait, now: datetime) -> datetime:
    """Return when a decided wait is delivered from: now, or once a listener has registered for it."""
    return delivered_until(wait) if wait.lacks_listener else now


def delivered_until(wait: Wait) -> datetime:
    """Return when a decided wait is given up. A bridge that was down at the deadline still has its time to deliver."""
    return max(wait.deadline, wait.decided_at or wait.deadline) + policy.DELIVERY_GRACE


def _checked(wait: Wait, now: datetime, detail: str, pause: timedelta, due: datetime | None = None) -> Wait:
    """Return an open wait after ADF was asked; the sweep looks for its run's end, this is when it is read by itself."""
    return replace(wait.told(now, "checked", detail), due_at=min(wait.deadline, due or now + pause))


def _not_in_time(run: Run, deadline: datetime) -> str:
    """Say what did not happen before a deadline."""
    by = f"before {deadline:%Y-%m-%d %H:%M:%SZ}"
    if run.match is not None and run.watched_run_id is None:
        every = set(run.match.statuses) == set(OUTCOME_OF)
        ended = "" if every else f", and ended as {' or '.join(run.match.statuses)},"
        return f"No run of {run.match.pipeline!r} began after {run.match.since:%Y-%m-%d %H:%M:%SZ}{ended} and {by}."
    return f"The run did not end {by}; its last known status is {run.status or 'unknown'}."


def sooner(one: datetime | None, other: datetime) -> datetime:
    """Return the earlier of two times, one of which may be none."""
    return other if one is None else min(one, other)


def is_past_deadline(wait: Wait, now: datetime) -> bool:
    """Whether an open wait has to be given up, or a due one can no longer be delivered."""
    if wait.state is WaitState.OPEN:
        return now >= wait.deadline
    being_delivered = wait.state is WaitState.DUE or (wait.state is WaitState.INLINE and wait.due_at is not None)
    return being_delivered and now >= delivered_until(wait)


def expire(wait: Wait, run: Run | None, now: datetime) -> Wait:
    """Return a wait after its deadline: an open one is told so, an undeliverable one is closed."""
    if wait.state is WaitState.OPEN:
        known = run or Run(key=wait.key)
        message = _not_in_time(known, wait.deadline)
        cancels = wait.on_abandon is OnAbandon.CANCEL
        due = become_due(wait, _completion(wait.token, known, Outcome.EXPIRED, message), now)
        return replace(due, cancels=cancels, due_at=now if cancels else due.due_at)
    if wait.state is WaitState.INLINE:
        return replace(wait, due_at=once_closed(wait, now))
    nobody = "; no listener has registered for it" if wait.lacks_listener else ""
    told = wait.told(now, "expired", f"the completion could not be delivered in time{nobody}")
    return replace(told, state=WaitState.EXPIRED, due_at=once_closed(wait, now))


def once_closed(wait: Wait, now: datetime) -> datetime | None:
    """Return when a wait that is over is looked at again: at once if its run is to be cancelled still, else never."""
    return now if wait.cancels else None
