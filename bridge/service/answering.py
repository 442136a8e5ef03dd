"""Answering a trigger request that has its run: the wait for it is registered, and what is answered is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from bridge import decide, policy, views
from bridge.commands import DropRequest, Now, Point, SaveRequest, UseCase, do
from bridge.errors import RequestInFlight, RunTaken, StoreConflict
from bridge.model import StartedHow, StartRequest, WaitRequest
from bridge.policy import Rules
from bridge.service.registering import register


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """The answer to a trigger request, as JSON; `replay` when it was given before."""

    document: str
    replay: bool


def answer(
    wait: WaitRequest | None, started: StartRequest, rules: Rules, *, just_started: bool = False
) -> UseCase[StartAnswer]:
    """Register the wait, and answer; what was answered first is answered again."""
    if started.answer is not None:
        return StartAnswer(started.answer, replay=True)
    assert started.key is not None  # noqa: S101 - a started record has its run
    try:
        registered = yield from register(
            started.key, wait, rules, pipeline=started.pipeline, start=started, just_started=just_started
        )
    except RunTaken:
        if started.how is StartedHow.REATTACHED:
            yield from do(DropRequest(started, point=Point.START_REFUSED))
            msg = "The previous try's run is being cancelled. Send the request again a little later."
            raise RequestInFlight(msg, retry_after=policy.SEARCH_AGAIN) from None
        # Another request, whose answer was lost, has taken it for its own: they asked for the same.
        lost = yield from do(SaveRequest(decide.searching(started), point=Point.START_RECORDED))
        raise decide.in_flight(lost, (yield from do(Now()))) from None
    document = json.dumps(views.start_document(registered.run, registered.wait, started, rules))
    try:
        yield from do(SaveRequest(replace(started, answer=document), point=Point.START_ANSWERED))
    except StoreConflict:
        # A concurrent repetition has answered already; the wait is the same.
        return StartAnswer(document, replay=True)
    return StartAnswer(document, replay=False)
