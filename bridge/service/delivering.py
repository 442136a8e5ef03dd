"""Attending to what is due, and delivering completions."""

from __future__ import annotations

from bridge import decide
from bridge.commands import (
    Enqueue,
    FindWait,
    Jitter,
    LoadRun,
    Now,
    Point,
    Put,
    ReadTask,
    Resume,
    UseCase,
    do,
)
from bridge.errors import (
    StoreConflict,
)
from bridge.model import (
    Mode,
    Wait,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Accepted, Refusal
from bridge.service.abandoning import look
from bridge.service.asking import Asked
from bridge.service.breakers import enter, leave, target_breaker
from bridge.service.cancelling import cancel_abandoned
from bridge.service.checking import check_run


def attend(token: str, rules: Rules, asked: Asked | None = None) -> UseCase[bool]:
    """Do what is due for a wait: ask ADF again, give up at the deadline, deliver, or cancel what nobody waits for.

    False when nothing was due. `asked` is what ADF has said to others that were due with this one.
    """
    wait = yield from do(FindWait(token))
    now = yield from do(Now())
    if wait is None or not wait.is_due(now):
        return False
    trouble: Exception | None = None
    if wait.state is WaitState.OPEN:
        try:
            yield from check_run(wait.key, rules, asked=asked)
        except Exception as error:  # noqa: BLE001 - raised below: what nobody has thought of outlasts no deadline
            trouble = error
        if wait.abandoned_at is not None:
            yield from look(token, wait.task)
    yield from deliver(token, rules)
    if trouble is not None:
        raise trouble
    yield from cancel_abandoned(token, rules)
    return True


def _give_up_if_late(token: str) -> UseCase[None]:
    """Expire a wait whose deadline has passed; one that changed meanwhile is looked at again at the next tick."""
    wait = yield from do(FindWait(token))
    now = yield from do(Now())
    if wait is None or not decide.is_past_deadline(wait, now):
        return
    run, _ = yield from do(LoadRun(wait.key))
    try:
        yield from do(Put(None, (decide.expire(wait, run, now),), point=Point.WAIT_EXPIRED))
    except StoreConflict:
        return


def deliver(token: str, rules: Rules) -> UseCase[Wait | None]:
    """Make one attempt to deliver a wait's completion; return the wait as it stands then.

    None when there is nothing to do here: not due, the target is paused, or the wait is somebody else's by now.
    """
    yield from _give_up_if_late(token)
    wait = yield from do(FindWait(token))
    if wait is None:
        return None
    return (yield from _deliver_once(wait, rules))


def _deliver_once(wait: Wait, rules: Rules) -> UseCase[Wait | None]:
    """Take the wait up, attempt, and write down what came of it."""
    claimed = decide.claim(wait, (yield from do(Now())))
    if claimed is None or wait.task.target not in rules.targets:
        return None
    breaker = yield from enter(target_breaker(wait.task.target))
    if isinstance(breaker, Refusal):
        return None
    try:
        _, (row,) = yield from do(Put(None, (claimed,), point=Point.DELIVERY_CLAIMED))
        outcome = yield from (_enqueue(row, rules) if row.mode is Mode.QUEUE else _attempt(row, rules))
        _, (settled,) = yield from do(Put(None, (outcome.wait,), point=Point.DELIVERY_SETTLED))
    except StoreConflict:
        return None
    yield from leave(breaker, outcome.trouble)
    return settled


def _enqueue(wait: Wait, rules: Rules) -> UseCase[decide.Settle]:
    """Send, once to each listener: the only place where a queue is told anything. Nothing is read before or after it.

    The first refusal is the attempt's: the queue is the same for all of them. A crash in between leaves the row due.
    """
    step = decide.to_queue(wait, (yield from do(Now())), rules)
    if isinstance(step, decide.Settle):
        return step
    reply: Accepted | Refusal = Accepted()
    for listener in step.wait.listeners:
        command = Enqueue(wait.task.target, listener.reply_to, step.completion, point=Point.COMPLETION_QUEUED)
        reply = yield from do(command)
        if isinstance(reply, Refusal):
            break
    jitter = yield from do(Jitter())
    return decide.on_queued(step.wait, reply, (yield from do(Now())), jitter)


def _attempt(wait: Wait, rules: Rules) -> UseCase[decide.Settle]:
    """Fence, send, and look again: the only place where Airflow is told anything."""
    seen = yield from do(ReadTask(wait.task, point=Point.TASK_READ))
    jitter = yield from do(Jitter())
    step = decide.on_task(wait, seen, (yield from do(Now())), rules, jitter)
    if isinstance(step, decide.Settle):
        return step
    parked = step.wait
    assert parked.completion is not None  # noqa: S101 - a due wait has its completion
    reply = yield from do(Resume(parked.task, parked.completion, point=Point.COMPLETION_SENT))
    if isinstance(reply, Refusal):
        refused = decide.on_refusal(parked, reply, (yield from do(Now())), jitter)
        if refused is not None:
            return refused
    seen = yield from do(ReadTask(parked.task, point=Point.TASK_READ_AGAIN))
    return decide.after_reply(parked, reply, seen, (yield from do(Now())), jitter)
