"""Mode queue: who is told, when it is sent, and what came of that.

The registration is the truth, a message only wakes the listener: whoever registers a wait whose completion is decided
is answered with it, however often it was sent before. So nothing is lost with a listener that dies.

Airflow may run a trigger on two triggerers for a moment, and which of them keeps it nobody tells the bridge. So a
completion is sent to each listener that has registered the wait within a lease; the one without the trigger drops it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from bridge import policy
from bridge.decide.delivery import Settle, observed, refused
from bridge.decide.readings import once_closed
from bridge.errors import WaitConflict
from bridge.model import Completion, Listener, Mode, Wait, WaitState
from bridge.policy import Rules
from bridge.ports import Accepted, Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class ToQueue:
    """Put this into the target's queue, once for each of the wait's listeners."""

    wait: Wait
    completion: Completion


def to_queue(wait: Wait, now: datetime, rules: Rules) -> ToQueue | Settle:
    """Decide on a wait that this instance has taken up: there is nothing to look at, the token is the fence."""
    assert wait.completion is not None  # noqa: S101 - a due wait has its completion
    if rules.targets[wait.task.target].observe:
        return Settle(observed(wait, now))
    return ToQueue(replace(wait, earlier=_others(wait, wait.reply_to, now)), wait.completion)


def on_queued(wait: Wait, reply: Accepted | Refusal, now: datetime, jitter: float) -> Settle:
    """Decide by the broker's answer. What it has accepted is delivered: a listener that is gone registers anew.

    `reply` is the first refusal, where there was one. Then all is sent again, also to those for whom a message was
    accepted: any of them may be the one with the trigger, and the token tells a second message from a first.
    """
    if isinstance(reply, Accepted):
        names = ", ".join(one.reply_to for one in wait.listeners)
        noun = "listeners" if wait.earlier else "listener"
        told = wait.told(now, WaitState.DELIVERED, f"sent to the {noun} {names}")
        return Settle(replace(told, state=WaitState.DELIVERED, due_at=once_closed(wait, now)))
    if reply.kind in (RefusalKind.NOT_FOUND, RefusalKind.CONFLICT):
        # No answer about this one task: the queue is what is wrong.
        reply = replace(reply, kind=RefusalKind.UNREACHABLE)
    return refused(wait, reply, now, jitter)


def listened_to(wait: Wait, reply_to: str, now: datetime) -> Wait:
    """Return a wait as a listener has just registered it; those that did so before may serve its task still."""
    if wait.mode is not Mode.QUEUE:
        msg = f"It names a wait in mode {wait.mode}. Start the task's try anew: a new token."
        raise WaitConflict(msg)
    is_known = any(one.reply_to == reply_to for one in wait.listeners)
    anew = wait if is_known else wait.told(now, "listening", f"{reply_to} listens for it")
    return replace(anew, reply_to=reply_to, listened_at=now, earlier=_others(wait, reply_to, now))


def _others(wait: Wait, reply_to: str | None, now: datetime) -> tuple[Listener, ...]:
    """Return the listeners but one that have registered the wait within a lease, as many as are kept."""
    fresh = (one for one in wait.listeners if one.reply_to != reply_to and now - one.at <= policy.LISTENER_LEASE)
    return tuple(fresh)[: policy.LISTENERS - 1]


def answered(wait: Wait, now: datetime) -> Wait:
    """Return a decided wait as told by the answer to its registration, to a listener or to the task itself.

    Should the answer be lost, its listener registers again and is answered again. What is due to others as well stays
    so until it was sent: the one that is answered may be the one that loses the trigger.
    """
    if wait.reply_to is None:
        told = wait.told(now, "answered", "the run has ended: the answer is the completion")
        return replace(told, state=WaitState.INLINE, due_at=once_closed(wait, now))
    told = wait.told(now, "answered", f"the answer to {wait.reply_to} is the completion")
    if wait.state is WaitState.DUE and wait.earlier:
        return told
    return replace(told, state=WaitState.DELIVERED, due_at=once_closed(wait, now))


def registered_again(wait: Wait, reply_to: str | None, now: datetime) -> Wait | None:
    """Return a wait in mode queue that is registered once more; None when that changes nothing.

    What was decided is answered, to whoever asks, also when it was sent to others before. To one of those to whom it
    was sent, or that was answered, the same is answered once more, and that is no news.
    """
    anew = listened_to(wait, reply_to, now) if reply_to is not None else wait
    if wait.completion is None:
        return anew if reply_to is not None else None
    if reply_to is None:
        # The task itself asks once more. What has a listener is the listener's.
        return answered(wait, now) if wait.state is WaitState.DUE and wait.reply_to is None else None
    has_it = wait.state is WaitState.DELIVERED and any(one.reply_to == reply_to for one in wait.listeners)
    return None if has_it else answered(anew, now)
