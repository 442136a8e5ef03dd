"""Cancelling runs: because nobody waits any more, or because a caller asks for it. Doing it twice does no harm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

from bridge import decide, policy
from bridge.commands import (
    CancelRun,
    FindChild,
    FindWait,
    Jitter,
    ListOpen,
    LoadRun,
    Now,
    Point,
    Put,
    UseCase,
    do,
)
from bridge.errors import AdfRefused, AdfThrottled, AdfUnavailable, NotFound, Problem, StoreConflict
from bridge.model import Run, RunKey, Wait
from bridge.policy import Rules
from bridge.ports import Accepted, NotRunning, Refusal, RefusalKind
from bridge.service.asking import Asked, ask
from bridge.service.breakers import enter, factory_breaker, leave
from bridge.service.checking import check_run
from bridge.service.contention import DECISION_TRIES


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What ADF said to a cancel: accepted, or that the run was not running; and the run as far as it is known."""

    run: Run
    accepted: bool


def cancel_run(key: RunKey, rules: Rules, *, recursive: bool) -> UseCase[Cancelled]:
    """Cancel a run for a caller. The waits for it are told its end as always: `Cancelled`, once ADF says so."""
    reply = yield from _cancel(key, recursive=recursive)
    if isinstance(reply, Refusal):
        raise _refused(key, reply)
    if isinstance(reply, NotRunning):
        yield from check_run(key, rules)
    if isinstance(reply, Accepted):
        yield from _note(key)
    run, _ = yield from do(LoadRun(key))
    return Cancelled(run or Run(key=key), accepted=isinstance(reply, Accepted))


def _note(key: RunKey) -> UseCase[None]:
    """Have the story of the waits say it, and the run's row, so that no next try goes on with the run."""
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        if run is None:
            return
        now = yield from do(Now())
        marked = replace(run, cancelled_at=now, cancel_taken=True)
        try:
            yield from do(Put(marked, decide.tell_of_cancel(waits, now), point=Point.CANCEL_SETTLED))
        except StoreConflict:
            continue
        return


def waiting_for(key: RunKey) -> UseCase[tuple[Wait, ...]]:
    """Return the waits that a cancel of a run would end. Raises what cancelling it would, when ADF cannot be asked."""
    run, waits = yield from do(LoadRun(key))
    others = yield from _waiting_elsewhere(key, run)
    if isinstance(others, Refusal):
        raise _refused(key, others)
    return (*waits, *others)


def cancel_abandoned(token: str, rules: Rules) -> UseCase[Wait | None]:
    """Cancel the run of a wait that is over and wants that; None when there is nothing to do (any more)."""
    wait = yield from do(FindWait(token))
    if wait is None or not wait.cancels:
        return None
    run, waits = yield from do(LoadRun(wait.key))
    reason = decide.keeps_running(wait, run, waits, rules)
    others = (yield from _waiting_elsewhere(wait.key, run)) if reason is None else ()
    if not isinstance(others, Refusal):
        reason = reason or decide.keeps_running(wait, run, others, rules)
    try:
        if reason is not None:
            return (yield from _settle(decide.let_run(wait, reason, (yield from do(Now())))))
        if isinstance(others, Refusal):
            return (yield from _settle((yield from _on_cancel(wait, others))))
        # Written before ADF is asked: a try that asks for the run at this moment has changed the row, or finds it so.
        marked = replace(run or Run(key=wait.key), cancelled_at=(yield from do(Now())))
        _, (wait,) = yield from do(Put(marked, (wait,), point=Point.CANCEL_NOTED))
        reply = yield from _cancel(wait.key, recursive=True)
        return (yield from _settle((yield from _on_cancel(wait, reply)), taken=not isinstance(reply, Refusal)))
    except StoreConflict:
        return None  # it is due still: decided anew


def _on_cancel(wait: Wait, reply: Accepted | NotRunning | Refusal) -> UseCase[Wait]:
    jitter = yield from do(Jitter())
    return decide.on_cancel(wait, reply, (yield from do(Now())), jitter)


def _settle(wait: Wait, *, taken: bool = False) -> UseCase[Wait]:
    """Write what became of a cancel, and what that makes of the run's row, which others may change meanwhile.

    Raises StoreConflict when it is the wait that somebody has changed.
    """
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(wait.key))
        after = decide.after_cancel(run, waits, wait, taken=taken) if run is not None else None
        try:
            _, (written,) = yield from do(Put(after, (wait,), point=Point.CANCEL_SETTLED))
        except StoreConflict:
            continue
        return written
    raise StoreConflict(wait.token)


def _waiting_elsewhere(key: RunKey, run: Run | None) -> UseCase[tuple[Wait, ...] | Refusal]:
    """Return the waits that a cancel of this run would end, and that are not kept with it.

    These are waits for the run that it wraps, or for the one that wraps it, and those by match that have found it.
    """
    reading = yield from ask(key, Asked())
    if isinstance(reading, Refusal):
        return reading
    child: str | Refusal | None = run.watched_run_id if run is not None else None
    if child is None and policy.is_wrapper(reading.pipeline):
        child = yield from do(FindChild(key, reading, point=Point.CHILD_FOUND))
    if isinstance(child, Refusal):
        return child
    named = (key.run_id, child, reading.parent_run_id)
    related = [RunKey(key.factory, one) for one in named if one is not None]
    found: list[Wait] = []
    for other in related[1:]:
        found += (yield from do(LoadRun(other)))[1]
    pipeline = policy.unwrapped(reading.pipeline)
    hints = (yield from do(ListOpen(key.factory, policy.MATCHES, pipeline.lower()))) if pipeline is not None else ()
    for hint in hints:
        matched, waits = yield from do(LoadRun(RunKey(key.factory, hint.run_id)))
        if matched is not None and matched.watched_key in related:
            found += waits
    return tuple(found)


def _cancel(key: RunKey, *, recursive: bool) -> UseCase[Accepted | NotRunning | Refusal]:
    breaker = yield from enter(factory_breaker(key.factory))
    if isinstance(breaker, Refusal):
        return breaker
    reply = yield from do(CancelRun(key, recursive, point=Point.RUN_CANCELLED))
    # That the identity may read runs and not cancel them is no reason to pause the factory.
    trouble = reply if isinstance(reply, Refusal) and reply.kind is not RefusalKind.FORBIDDEN else None
    yield from leave(breaker, trouble)
    return reply


def _refused(key: RunKey, refusal: Refusal) -> Problem:
    again = refusal.retry_after or timedelta(seconds=30)
    match refusal.kind:
        case RefusalKind.NOT_FOUND:
            return NotFound(f"ADF does not know run {key.run_id} in this factory.")
        case RefusalKind.THROTTLED:
            return AdfThrottled(f"The run was not cancelled. {refusal.detail}", retry_after=again)
        case RefusalKind.UNREACHABLE | RefusalKind.UNAUTHENTICATED | RefusalKind.UNAVAILABLE:
            detail = f"The run may go on; cancelling it again does no harm. {refusal.detail}"
            return AdfUnavailable(detail, retry_after=again)
        case RefusalKind.FORBIDDEN:
            return AdfRefused(
                f"The run goes on. {refusal.detail} Give the bridge's identity the permission to cancel runs in this "
                "factory.",
                status=403,
            )
        case RefusalKind.CONFLICT | RefusalKind.INVALID:
            return AdfRefused(f"The run goes on. {refusal.detail}")
        case _:
            assert_never(refusal.kind)
