"""What registering a wait comes to, and withdrawing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bridge import policy
from bridge.decide import queueing
from bridge.decide.readings import become_due, completion_of, once_closed
from bridge.errors import (
    FieldError,
    InvalidFields,
    RunTaken,
    WaitConflict,
)
from bridge.model import (
    Mode,
    Run,
    StartedHow,
    StartRequest,
    Wait,
    WaitRequest,
    WaitState,
)
from bridge.policy import Rules


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
    start: StartRequest | None = None,
    just_started: bool = False,
) -> Registration:
    """Decide on a wait for a run; ADF is asked when the run is news to the store, or an event said that it has ended.

    `start` is the trigger request that the run answers to. A repetition changes nothing, but for a completion that was
    decided meanwhile: the caller takes it with the answer.
    """
    token = request.task.token
    existing = next((wait for wait in waits if wait.token == token), None)
    if existing is not None and existing.state is WaitState.WITHDRAWN:
        check_free(existing)
    if existing is not None and (existing.mode is Mode.QUEUE or request.reply_to is not None):
        anew = queueing.registered_again(existing, request.reply_to, now)
        return Registration(existing) if anew is None else Registration(anew, writes=True)
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
        asked_at=start.received_at if start is not None else None,
        match=request.match,
        keep_for_next_try=request.keep_for_next_try,
    ).told(now, "registered", f"waits for {_what(known)} until {request.deadline:%Y-%m-%d %H:%M:%SZ}")
    if request.reply_to is not None:
        wait = queueing.listened_to(wait, request.reply_to, now)
    if start is not None and start.why is not None:
        wait = wait.told(now, start.how, start.why)
    if known.has_ended:
        return Registration(_inline(become_due(wait, completion_of(token, known), now), now), writes=True)
    hinted = known.hint is not None and known.hint.is_terminal
    # The next sweep looks back so far at least.
    fresh = min(rules.sweep, policy.SWEEP_OVERLAP)
    unread = known.read_at is None or now - known.read_at >= fresh
    ask_adf = hinted or (unread and not just_started)
    # Should this process die before ADF was asked, the timer asks.
    due_at = min(request.deadline, now + (rules.sweep if ask_adf else policy.UNREAD_AT_MOST))
    return Registration(replace(wait, due_at=due_at), writes=True, ask_adf=ask_adf)


def owned(run: Run, start: StartRequest) -> Run:
    """Return a run's row as answering to a trigger request. Raises RunTaken when it answers to another one already.

    A run that a later try was attached to goes on answering to the one that started it; one that the bridge has set out
    to cancel meanwhile is taken from it.
    """
    if start.how is StartedHow.REATTACHED:
        if run.cancelled_at is not None and not run.has_ended:
            raise RunTaken
        return run
    if run.started_by not in (None, start.idempotency_key):
        raise RunTaken
    return replace(run, started_by=start.idempotency_key)


def _what(run: Run) -> str:
    if run.match is not None:
        return f"the first run of {run.match.pipeline!r} since {run.match.since:%Y-%m-%d %H:%M:%SZ}"
    return f"run {run.key.run_id}"


def take_inline(run: Run, wait: Wait, now: datetime, *, reply_to: str | None = None) -> Wait | None:
    """Return the wait as answered at once when its run turned out to have ended, else None.

    `reply_to` is the listener that is to be answered, if one is: another that has registered since is not.
    """
    if wait.reply_to != reply_to:
        return None
    if wait.state is WaitState.OPEN and run.has_ended:
        return _inline(become_due(wait, completion_of(wait.token, run), now), now)
    if wait.state is WaitState.DUE:
        return _inline(wait, now)
    return None


def _inline(wait: Wait, now: datetime) -> Wait:
    """Return the wait as answered with its completion, and to be looked at once more.

    The answer may have been lost, and an earlier one may have let the task park: then it is resumed after all. In mode
    queue nothing is to be looked at: a task that is deferred all the same has a listener, which registers.
    """
    if wait.mode is Mode.QUEUE:
        return queueing.answered(wait, now)
    told = wait.told(now, "answered", "the run has ended: the answer is the completion")
    return replace(told, state=WaitState.INLINE, due_at=now + policy.INLINE_PROOF)


def check_deadline(deadline: datetime, now: datetime, *, field: str) -> None:
    """Refuse a deadline that has passed or that ADF's memory of a run does not reach; `field` is its name there."""
    if deadline <= now:
        raise InvalidFields([FieldError(field, "has passed already")])
    if deadline > now + policy.MAX_DEADLINE:
        days = policy.MAX_DEADLINE.days
        raise InvalidFields([FieldError(field, f"is over {days} days away; ADF keeps runs no longer")])


def check_free(taken: Wait | None) -> None:
    """Refuse a token that names a wait already."""
    if taken is not None:
        msg = f"It names a wait for run {taken.key.run_id} ({taken.state}). Start the task's try anew: a new token."
        raise WaitConflict(msg)


def withdraw(wait: Wait, now: datetime) -> Wait | None:
    """Return the wait as withdrawn, or None when it is over anyway."""
    if wait.state.is_final:
        return None
    told = wait.told(now, "withdrawn", "the caller stopped waiting")
    return replace(told, state=WaitState.WITHDRAWN, due_at=once_closed(wait, now))
