"""Mode queue: who is told, when it is sent, and what came of that.

The registration is the truth, a message only wakes the listener: whoever registers a wait whose completion is decided
is answered with it, however often it was sent before. So nothing is lost with a listener that dies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from bridge.decide.delivery import Settle, observed, refused
from bridge.decide.readings import once_closed
from bridge.errors import WaitConflict
from bridge.model import Completion, Mode, Wait, WaitState
from bridge.policy import Rules
from bridge.ports import Accepted, Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class ToQueue:
    """Put this into the target's queue, for this listener."""

    wait: Wait
    reply_to: str
    completion: Completion


def to_queue(wait: Wait, now: datetime, rules: Rules) -> ToQueue | Settle:
    """Decide on a wait that this instance has taken up: there is nothing to look at, the token is the fence."""
    assert wait.reply_to is not None  # noqa: S101 - only what has a listener is taken up
    assert wait.completion is not None  # noqa: S101 - a due wait has its completion
    if rules.targets[wait.task.target].observe:
        return Settle(observed(wait, now))
    return ToQueue(wait, wait.reply_to, wait.completion)


def on_queued(wait: Wait, reply: Accepted | Refusal, now: datetime, jitter: float) -> Settle:
    """Decide by the broker's answer. What it has accepted is delivered: a listener that is gone registers anew."""
    if isinstance(reply, Accepted):
        told = wait.told(now, WaitState.DELIVERED, f"sent to the listener {wait.reply_to}")
        return Settle(replace(told, state=WaitState.DELIVERED, due_at=once_closed(wait, now)))
    if reply.kind in (RefusalKind.NOT_FOUND, RefusalKind.CONFLICT):
        # No answer about this one task: the queue is what is wrong.
        reply = replace(reply, kind=RefusalKind.UNREACHABLE)
    return refused(wait, reply, now, jitter)


def listened_to(wait: Wait, reply_to: str, now: datetime) -> Wait:
    """Return a wait as its listener has just registered it; the last one to do so is told."""
    if wait.mode is not Mode.QUEUE:
        msg = f"It names a wait in mode {wait.mode}. Start the task's try anew: a new token."
        raise WaitConflict(msg)
    anew = wait if wait.reply_to == reply_to else wait.told(now, "listening", f"{reply_to} listens for it")
    return replace(anew, reply_to=reply_to, listened_at=now)


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
    has_it = wait.state is WaitState.DELIVERED and wait.reply_to == reply_to
    return None if has_it else answered(anew, now)
