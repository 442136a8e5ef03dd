"""Starting runs, at most one for a key."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta

from bridge import decide, masking, views
from bridge.commands import (
    CreateRun,
    DropRequest,
    FindWait,
    FindWrapper,
    LoadRequest,
    Now,
    Point,
    SaveRequest,
    UseCase,
    do,
)
from bridge.errors import (
    AdfRefused,
    AdfThrottled,
    AdfUnavailable,
    PipelineNotFound,
    Problem,
    StoreConflict,
)
from bridge.model import (
    RunKey,
    StartRequest,
    StartState,
    TriggerRequest,
    WaitState,
    Wrapped,
)
from bridge.policy import Rules
from bridge.ports import Refusal, RefusalKind, Started
from bridge.service.contention import DECISION_TRIES, contended
from bridge.service.registering import register


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """The answer to a trigger request, as JSON; `replay` when it was given before."""

    document: str
    replay: bool


def start_run(request: TriggerRequest, rules: Rules) -> UseCase[StartAnswer]:
    """Start at most one run for an idempotency key, and register the wait for it; the same key, the same answer."""
    for _ in range(DECISION_TRIES):
        record = yield from do(LoadRequest(request.idempotency_key))
        now = yield from do(Now())
        admission = decide.admit(request, record, now)
        try:
            if admission.replay is not None:
                yield from _refuse_withdrawn(request)
                return StartAnswer(admission.replay, replay=True)
            if admission.unknown is not None:
                saved = yield from do(SaveRequest(admission.unknown, point=Point.START_RECORDED))
                raise decide.unknown_outcome(saved)
            if admission.reserve is not None:
                if request.wait is not None:
                    decide.check_deadline(request.wait.deadline, now, field="wait.deadline")
                    decide.check_free((yield from do(FindWait(request.wait.task.token))))
                pipeline = yield from _pipeline_to_start(request)
                reserve = replace(admission.reserve, started_pipeline=pipeline)
                reserved = yield from do(SaveRequest(reserve, point=Point.KEY_RESERVED))
                started = yield from _create_run(request, reserved)
                return (yield from _answer(request, started, rules, just_started=True))
            if admission.started is not None:
                return (yield from _answer(request, admission.started, rules, just_started=False))
        except StoreConflict:
            continue
    raise contended()


def _refuse_withdrawn(request: TriggerRequest) -> UseCase[None]:
    """Refuse to repeat an answer whose wait was withdrawn since: the task would park for nothing."""
    wait = (yield from do(FindWait(request.wait.task.token))) if request.wait is not None else None
    if wait is not None and wait.state is WaitState.WITHDRAWN:
        decide.check_free(wait)


def _pipeline_to_start(request: TriggerRequest) -> UseCase[str]:
    """Return the name of the pipeline's wrapper, if that is to be started, else the pipeline's own."""
    if request.wrapped is Wrapped.NEVER:
        return request.pipeline
    wrapper = yield from do(FindWrapper(request.factory, request.pipeline, point=Point.WRAPPER_FOUND))
    if isinstance(wrapper, Refusal):
        raise _start_refused(request, wrapper)
    return decide.pipeline_to_start(request, wrapper)


def _create_run(request: TriggerRequest, reserved: StartRequest) -> UseCase[StartRequest]:
    """Send createRun, exactly once for this record, and write down what came of it."""
    pipeline, parameters = decide.as_started(request, reserved)
    answer = yield from do(CreateRun(request.factory, pipeline, parameters, point=Point.RUN_CREATED))
    if isinstance(answer, Started):
        return (yield from _record_start(reserved, answer.run_id))
    if answer.kind is RefusalKind.UNAVAILABLE:
        unknown = yield from do(SaveRequest(replace(reserved, state=StartState.UNKNOWN), point=Point.START_RECORDED))
        raise decide.unknown_outcome(unknown)
    yield from do(DropRequest(reserved, point=Point.START_REFUSED))
    raise _start_refused(request, answer)


def _record_start(reserved: StartRequest, run_id: str) -> UseCase[StartRequest]:
    """Write down which run answers to the key, also over a record that was given up as unknown meanwhile."""
    record: StartRequest | None = reserved
    while record is not None:
        started = replace(record, state=StartState.STARTED, run_id=run_id)
        try:
            return (yield from do(SaveRequest(started, point=Point.START_RECORDED)))
        except StoreConflict:
            record = yield from do(LoadRequest(reserved.idempotency_key))
    raise contended()


def _start_refused(request: TriggerRequest, refusal: Refusal) -> Problem:
    # ADF may repeat a parameter's value, which may be a secret.
    started_nothing = f"Nothing was started. {masking.masked(refusal.detail, masking.texts_in(request.parameters))}"
    match refusal.kind:
        case RefusalKind.NOT_FOUND:
            return PipelineNotFound(f"{request.pipeline!r}: {started_nothing}")
        case RefusalKind.THROTTLED:
            return AdfThrottled(started_nothing, retry_after=refusal.retry_after or timedelta(seconds=30))
        case RefusalKind.UNREACHABLE | RefusalKind.UNAUTHENTICATED:
            return AdfUnavailable(started_nothing, retry_after=refusal.retry_after or timedelta(seconds=30))
        case RefusalKind.FORBIDDEN:
            return AdfRefused(
                f"{started_nothing} Give the bridge's identity the permission to start runs in this factory.",
                status=403,
            )
        case RefusalKind.CONFLICT | RefusalKind.INVALID | RefusalKind.UNAVAILABLE:
            return AdfRefused(started_nothing)


def _answer(
    request: TriggerRequest, started: StartRequest, rules: Rules, *, just_started: bool
) -> UseCase[StartAnswer]:
    assert started.run_id is not None  # noqa: S101 - a started record has its run
    key = RunKey(request.factory, started.run_id)
    registered = yield from register(key, request.wait, rules, pipeline=request.pipeline, just_started=just_started)
    document = json.dumps(views.registration_document(registered.run, registered.wait, rules))
    try:
        yield from do(SaveRequest(replace(started, answer=document), point=Point.START_ANSWERED))
    except StoreConflict:
        # A concurrent repetition has answered already; the wait is the same.
        return StartAnswer(document, replay=True)
    return StartAnswer(document, replay=False)
