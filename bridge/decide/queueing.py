"""Mode queue: who is told, when it is sent, and what came of that.

The registration is the truth, a message only wakes the listener: whoever registers a wait whose completion is decided
is answered with it, however often it was sent before. So nothing is lost with a listener that dies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from bridge import policy
from bridge.decide.delivery import Settle, observed, refused
from bridge.decide.readings import once_closed
from bridge.errors import WaitConflict
from bridge.model import Completion, Listening, Mode, Wait, WaitState
from bridge.policy import Rules
from bridge.ports import Accepted, Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class ToQueue:
    """Put this into the target's queue, once for each of these listeners."""

    wait: Wait
    reply_to: tuple[str, ...]
    completion: Completion


def to_queue(wait: Wait, now: datetime, rules: Rules) -> ToQueue | Settle:
    """Decide on a wait that this instance has taken up: there is nothing to look at, the token is the fence."""
    assert wait.reply_to is not None  # noqa: S101 - only what has a listener is taken up
    assert wait.completion is not None  # noqa: S101 - a due wait has its completion
    if rules.targets[wait.task.target].observe:
        return Settle(observed(wait, now))
    return ToQueue(wait, _listeners(wait, now), wait.completion)


def _listeners(wait: Wait, now: datetime) -> tuple[str, ...]:
    """Return who may serve the task: the listener that registered it last, and those that did so shortly before.

    Two triggerers may run the trigger for a moment, and the one that registered last need not be the one to keep it.
    One that serves it no more has its message thrown away.
    """
    before = [one.reply_to for one in wait.listeners if now - one.at <= policy.LISTENS_FOR]
    last = [wait.reply_to] if wait.reply_to is not None else []
    return (*last, *before)


def on_queued(wait: Wait, reply: Accepted | Refusal, now: datetime, jitter: float) -> Settle:
    """Decide by the broker's answer. What it has accepted is delivered: a listener that is gone registers anew."""
    if isinstance(reply, Accepted):
        names = " and ".join(_listeners(wait, now))
        told = wait.told(now, WaitState.DELIVERED, f"sent to the listener {names}")
        return Settle(replace(told, state=WaitState.DELIVERED, due_at=once_closed(wait, now)))
    if reply.kind in (RefusalKind.NOT_FOUND, RefusalKind.CONFLICT):
        # No answer about this one task: the queue is what is wrong.
        reply = replace(reply, kind=RefusalKind.UNREACHABLE)
    return refused(wait, reply, now, jitter)


def listened_to(wait: Wait, reply_to: str, now: datetime) -> Wait:
    """Return a wait as its listener has just registered it; it is told, and so are those that did shortly before."""
    if wait.mode is not Mode.QUEUE:
        msg = f"It names a wait in mode {wait.mode}. Start the task's try anew: a new token."
        raise WaitConflict(msg)
    anew = wait if wait.reply_to == reply_to else wait.told(now, "listening", f"{reply_to} listens for it")
    return replace(anew, reply_to=reply_to, listened_at=now, listeners=_before(wait, reply_to, now))


def _before(wait: Wait, reply_to: str, now: datetime) -> tuple[Listening, ...]:
    """Return who registered a wait before this listener, as far as that matters still."""
    known = list(wait.listeners)
    if wait.reply_to is not None and wait.listened_at is not None:
        known.insert(0, Listening(wait.reply_to, wait.listened_at))
    others = [one for one in known if one.reply_to != reply_to and now - one.at <= policy.LISTENS_FOR]
    return tuple(others[: policy.LISTENERS - 1])


def answered(wait: Wait, now: datetime) -> Wait:
    """Return a decided wait as told by the answer to its registration, to a listener or to the task itself.

    Should the answer be lost, its listener registers again and is answered again.
    """
    if wait.reply_to is None:
        told = wait.told(now, "answered", "the run has ended: the answer is the completion")
        return replace(told, state=WaitState.INLINE, due_at=once_closed(wait, now))
    told = wait.told(now, "answered", f"the answer to {wait.reply_to} is the completion")
    return replace(told, state=WaitState.DELIVERED, due_at=once_closed(wait, now))


def registered_again(wait: Wait, reply_to: str | None, now: datetime) -> Wait | None:
    """Return a wait in mode queue that is registered once more; None when that changes nothing.

    What was decided is answered, to whoever asks, also when it was sent to another listener before.
    """
    anew = listened_to(wait, reply_to, now) if reply_to is not None else wait
    if wait.completion is None:
        return anew if reply_to is not None else None
    if reply_to is None:
        # The task itself asks once more. What has a listener is the listener's.
        return answered(wait, now) if wait.state is WaitState.DUE and wait.reply_to is None else None
    has_it = wait.state is WaitState.DELIVERED and reply_to in (
        wait.reply_to,
        *(one.reply_to for one in wait.listeners),
    )
    return None if has_it else answered(anew, now)
