"""Trigger requests that come by a queue: the body of `POST /runs`, its key as the message's id.

A Function in Python can neither dead-letter a message nor put it off: the host completes it when the Function returns,
and has it delivered again, at once, when it raises. So what may pass is waited for before that, and what will never
pass is written down, once; either becomes a dead letter when its deliveries are used up.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger#peeklock-behavior
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from bridge import policy, triggering
from bridge.app import App
from bridge.errors import Problem, RequestInFlight, StoreUnavailable
from bridge.model import EventRecord, Verdict

SOURCE: Final = "trigger-request"
PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=30)
_SERVER_ERROR: Final = 500
_REASON_CHARS: Final = 1_000
_LOOKED_AT: Final = 100  # the newest of the rejected: deliveries of one message follow one another at once


@dataclass(frozen=True, slots=True)
class RequestMessage:
    """A message of the queue. `properties` are the application's, their names in lower case: they tell who calls."""

    id: str
    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)
    deliveries: int = 1


def take(app: App, message: RequestMessage) -> None:
    """Start the run; what was started by an earlier delivery is not started again. Raises to have it come again."""
    try:
        answer = triggering.start(app, message.body, message.id or None, message.properties)
    except Problem as problem:
        app.log.warning(
            "request.refused",
            id=message.id,
            code=problem.code,
            detail=problem.detail,
            deliveries=message.deliveries,
        )
        if may_pass(problem):
            app.pause(min(problem.retry_after or PAUSE, LONGEST_PAUSE))
        elif message.deliveries <= 1 or not _is_written_down(app, message):
            app.record(_record(app, message, problem))
        raise
    app.log.info("request.taken", id=message.id, replay=answer.replay, deliveries=message.deliveries)


def may_pass(problem: Problem) -> bool:
    """Whether the same request may be taken later."""
    return problem.status >= _SERVER_ERROR or isinstance(problem, RequestInFlight)


def _is_written_down(app: App, message: RequestMessage) -> bool:
    """Whether an earlier delivery was: it may have ended otherwise, in an outage or with its host."""
    try:
        known = app.store.events(verdict=Verdict.REJECTED, run_id=None, limit=_LOOKED_AT)
    except StoreUnavailable:
        return False
    return any(one.source == SOURCE and one.id == message.id for one in known)


def _record(app: App, message: RequestMessage, problem: Problem) -> EventRecord:
    reason = policy.cut(f"{problem.code}: {problem.detail}", _REASON_CHARS) or problem.code
    return EventRecord(message.id, app.now(), Verdict.REJECTED, reason, source=SOURCE, type=SOURCE)
