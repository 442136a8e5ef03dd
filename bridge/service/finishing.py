"""Finishing the trigger requests whose callers have died: what was begun for them comes to an end all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bridge import decide, policy
from bridge.commands import FindWait, ListRequests, LoadRequest, Now, Point, SaveRequest, UseCase, do
from bridge.errors import AdfThrottled, AdfUnavailable, RequestInFlight, StoreConflict, WaitConflict
from bridge.model import StartRequest, StartState
from bridge.policy import Rules
from bridge.service.answering import answer
from bridge.service.searching import settle_start

UNKNOWN: Final = "unknown"
LEFT: Final = "left"
PUT_OFF: Final = "put-off"


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a request: how its run came to answer to it, `unknown`, `left` or `put-off`; its record."""

    record: StartRequest
    how: str

    @property
    def is_over(self) -> bool:
        """Whether it is not looked at again."""
        return self.how != PUT_OFF


def finish(idempotency_key: str, rules: Rules) -> UseCase[Finished | None]:
    """Go on with a request as its caller would by repeating it; None when somebody else does, or has done so.

    Its run is looked for, the wait for it is registered, and the answer is kept for a repetition. createRun is never
    sent.
    """
    record = yield from do(LoadRequest(idempotency_key))
    if record is None or not decide.is_to_be_finished(record, (yield from do(Now()))):
        return None
    try:
        return (yield from _go_on(record, rules))
    except (AdfThrottled, AdfUnavailable, RequestInFlight):
        return (yield from _put_off(idempotency_key))
    except StoreConflict:
        return None
    except Exception:
        yield from _put_off(idempotency_key)  # what nobody has thought of hides no other request either
        raise


def _go_on(record: StartRequest, rules: Rules) -> UseCase[Finished]:
    if (reason := decide.not_to_be_found(record)) is not None:
        return (yield from _leave(record, reason))
    if record.state is not StartState.STARTED:
        record = yield from settle_start(record, {}, rules, patient=True)
    if record.state is StartState.UNKNOWN:
        return Finished(record, UNKNOWN)
    if record.state is not StartState.STARTED:
        raise decide.in_flight(record, (yield from do(Now())))
    if (reason := (yield from _not_to_be_waited_for(record))) is not None:
        return (yield from _leave(record, reason))
    try:
        yield from answer(record.wait, record, rules)
    except WaitConflict as withdrawn:
        return (yield from _leave(record, withdrawn.detail))
    return Finished(record, record.how.value)


def _not_to_be_waited_for(record: StartRequest) -> UseCase[str | None]:
    if record.wait is None:
        return None
    taken = yield from do(FindWait(record.wait.task.token))
    requests = yield from do(ListRequests(record.wait.task.place, policy.EARLIER_TRIES))
    return decide.not_to_be_waited_for(record, taken, requests)


def _leave(record: StartRequest, reason: str) -> UseCase[Finished]:
    left = yield from do(SaveRequest(decide.leave(record, reason), point=Point.START_LEFT))
    return Finished(left, LEFT)


def _put_off(idempotency_key: str) -> UseCase[Finished | None]:
    """Have a request that cannot be finished yet looked at again later, so that it hides no other one."""
    record = yield from do(LoadRequest(idempotency_key))
    now = yield from do(Now())
    if record is None or not decide.is_to_be_finished(record, now):
        return None
    try:
        later = yield from do(SaveRequest(decide.put_off(record, now), point=Point.START_LEFT))
    except StoreConflict:
        return None
    return Finished(later, LEFT if later.left is not None else PUT_OFF)
