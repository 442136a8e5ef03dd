"""Whether a run is waited for any more, and what becomes of it when it is not.

A listing of parked tasks only nominates. It takes two reads of the task, a minute apart, that both show another try or
an ended task, to prove that a wait is abandoned; errors and absence prove nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum, auto

from bridge import policy
from bridge.decide.breakers import ABOUT_ONE_THING
from bridge.decide.delivery import ENDED, over
from bridge.decide.readings import next_delivery, sooner
from bridge.model import Run, StartRequest, TaskRef, Wait, WaitState
from bridge.policy import Rules
from bridge.ports import Accepted, NotRunning, OpenWait, ParkedTask, Refusal, RefusalKind, TaskView

_ABANDONED = (WaitState.STALE, WaitState.OVERRIDDEN)


def watched(waits: Sequence[OpenWait], target: str) -> dict[str, TaskRef]:
    """Return, by token, the tasks of a target whose runs are to be cancelled when they are abandoned."""
    return {one.token: one.watched for one in waits if one.watched is not None and one.watched.target == target}


def nominated(tasks: dict[str, TaskRef], parked: Iterable[ParkedTask]) -> dict[str, TaskRef]:
    """Return the tasks that a listing does not show as parked in the try that waits; they are looked at singly."""
    shown = {_name(one) for one in parked}
    return {token: task for token, task in tasks.items() if _name(task) not in shown}


def in_turn(tasks: dict[str, TaskRef], jitter: float) -> dict[str, TaskRef]:
    """Return those that one look reads singly; of too many, chance says which, so that each gets its turn.

    Some are nominated for as long as they wait, though nothing is wrong: they are on a page that is not read.
    """
    start = int(jitter * len(tasks)) if len(tasks) > policy.LOOKS_AT_ONCE else 0
    named = list(tasks.items())
    return dict([*named[start:], *named[:start]][: policy.LOOKS_AT_ONCE])


def _name(task: TaskRef | ParkedTask) -> tuple[str | int, ...]:
    if task.task_instance_id is not None:
        return (task.task_instance_id,)
    return (task.dag_id, task.run_id, task.task_id, task.map_index, task.try_number)


class NextTry(Enum):
    """What the task's next try does about the run that an earlier one waits for."""

    HAS_IT = auto()  # it was answered with it, and waits
    MAY_TAKE_IT = auto()  # it has asked for it and was not answered yet, or may yet ask
    DOES_WITHOUT = auto()


def on_look(
    wait: Wait, seen: TaskView, requests: Sequence[StartRequest], waits: Collection[Wait], now: datetime
) -> Wait | None:
    """Decide on an open wait by one read of its task; None when that changes nothing.

    The second read that shows the try to be over closes the wait, and its run is to be cancelled, unless it is the next
    try's now. `requests` are the last trigger requests of the task, whatever their try, `waits` all those for its run.
    """
    if wait.state is not WaitState.OPEN:
        return None
    closed, following = over(wait, seen, now), _next_try(wait, seen, requests, waits)
    if closed is None or closed.state not in _ABANDONED or following is NextTry.MAY_TAKE_IT:
        return replace(wait, abandoned_at=None) if wait.abandoned_at is not None else None
    reason = closed.timeline[-1].detail
    if wait.abandoned_at is None:
        told = wait.told(now, "maybe-abandoned", f"{reason}; looked at once more")
        return replace(told, abandoned_at=now, due_at=sooner(wait.due_at, now + policy.ABANDONED_AFTER))
    if now - wait.abandoned_at < policy.ABANDONED_AFTER:
        return None
    if following is NextTry.HAS_IT:
        told = wait.told(now, "taken-over", f"{reason}: the task's next try waits for the run")
        return replace(told, state=closed.state, due_at=None)
    told = wait.told(now, "abandoned", f"{reason}: nobody waits for the run")
    return replace(told, state=closed.state, cancels=True, due_at=now)


def _next_try(wait: Wait, seen: TaskView, requests: Sequence[StartRequest], waits: Collection[Wait]) -> NextTry:
    """Tell what the requests say that came after the one of this wait, which may have been registered later.

    The one that came last may be that of an earlier try. That it was answered is not enough: it has to wait still.
    """
    own = next((one for one in requests if one.idempotency_key == wait.token), None)
    since = own.received_at if own is not None else wait.registered_at
    later = [one for one in requests if one.idempotency_key != wait.token and one.received_at >= since]
    with_it = [one for one in later if one.key == wait.key]
    waiting = {one.token for one in waits if one.state is WaitState.OPEN}
    if any(one.answer is not None and one.idempotency_key in waiting for one in with_it):
        return NextTry.HAS_IT
    if any(one.is_unfinished for one in with_it):
        return NextTry.MAY_TAKE_IT
    has_spoken = any(one.key is not None for one in later)
    may_follow = wait.keep_for_next_try and seen.state not in ENDED and not has_spoken
    return NextTry.MAY_TAKE_IT if may_follow else NextTry.DOES_WITHOUT


def keeps_running(wait: Wait, run: Run | None, waits: Collection[Wait], rules: Rules) -> str | None:
    """Say why an abandoned run is not cancelled after all: it has ended, or somebody else waits for it."""
    target = rules.targets.get(wait.task.target)
    if target is None or target.observe:
        return "the target is in observe mode" if target is not None else "the target is not configured any more"
    if run is not None and run.has_ended:
        return f"it had ended as {run.status}"
    if any(_waits_as_well(other, wait) for other in waits):
        return "another task waits for it"
    return None


def is_waited_for_besides(token: str, waits: Collection[Wait]) -> bool:
    """Whether somebody else waits for the run of the task that has this token; one without a wait is nobody's try."""
    own = next((wait for wait in waits if wait.token == token), None)
    if own is None:
        return any(wait.state is WaitState.OPEN for wait in waits)
    return any(_waits_as_well(other, own) for other in waits)


def _waits_as_well(other: Wait, wait: Wait) -> bool:
    """Whether somebody else waits: not an earlier try of the same task, which is over if this one is.

    A try of a DAG run made anew under the same names may look like one, but has asked later.
    """
    earlier_try = (
        other.task.place == wait.task.place
        and other.task.try_number < wait.task.try_number
        and (other.asked_at or other.registered_at) <= (wait.asked_at or wait.registered_at)
    )
    return other.state is WaitState.OPEN and other.token != wait.token and not earlier_try


def tell_of_cancel(waits: Iterable[Wait], now: datetime) -> tuple[Wait, ...]:
    """Return the open waits of a run that a caller has had cancelled; they are told its end when ADF says so."""
    said = "a caller had the run cancelled"
    return tuple(wait.told(now, "cancelled", said) for wait in waits if wait.state is WaitState.OPEN)


def let_run(wait: Wait, reason: str, now: datetime) -> Wait:
    """Return a wait whose run is left alone."""
    return _settled(wait.told(now, "not-cancelled", f"the run is left alone: {reason}"))


def on_cancel(wait: Wait, reply: Accepted | NotRunning | Refusal, now: datetime, jitter: float) -> Wait:
    """Return a wait after ADF was asked to cancel its run; what ADF could not do now is tried again until a limit."""
    if isinstance(reply, Accepted):
        return _settled(wait.told(now, "cancelled", "ADF was asked to cancel the run, and the runs that it started"))
    if isinstance(reply, NotRunning):
        return _settled(wait.told(now, "not-cancelled", "the run was not running any more"))
    if reply.kind in ABOUT_ONE_THING:
        return _settled(wait.told(now, "not-cancelled", f"the run goes on: {reply.detail}"))
    if now >= wait.deadline + policy.DELIVERY_GRACE:
        return _settled(wait.told(now, "not-cancelled", f"given up: {reply.detail}"))
    failures = wait.failures + 1
    pause = policy.BACKOFF_CAP if reply.kind is RefusalKind.FORBIDDEN else None
    at = policy.later(now, failures=failures, asked=reply.retry_after or pause, jitter=jitter)
    told = wait.told(now, "cancel-failed", f"the run could not be cancelled yet: {reply.detail}")
    if wait.state in (WaitState.DUE, WaitState.INLINE) and not wait.lacks_listener:
        return replace(told, due_at=sooner(wait.due_at, at))  # what the task is told does not wait for that
    return replace(told, failures=failures, due_at=at)


def after_cancel(run: Run, waits: Collection[Wait], wait: Wait, *, taken: bool) -> Run | None:
    """Return the run's row to be written with what became of a cancel; None when it is as it has to be.

    `wait` is the one whose cancel this was, as it is now; `waits` are as stored. What ADF has taken stays marked. Else
    the last of those who want the run cancelled takes the mark away, and the next try may go on with the run: while
    another one wants it, that one may be about to ask ADF. Who leaves it writes the row all the same: of two who settle
    at once, one sees that it is the last.
    """
    if run.cancelled_at is None or run.cancel_taken:
        return None
    if taken:
        return replace(run, cancel_taken=True)
    if wait.cancels:
        return None
    is_last = not any(other.cancels for other in waits if other.token != wait.token)
    return replace(run, cancelled_at=None) if is_last else run


def _settled(wait: Wait) -> Wait:
    """Return the wait with nothing left to do for its run; a completion to be delivered, or proved, stays due."""
    due_at = wait.due_at if wait.state in (WaitState.DUE, WaitState.INLINE) else None
    if due_at is not None and wait.lacks_listener:
        due_at = next_delivery(wait, due_at)
    return replace(wait, cancels=False, due_at=due_at)
