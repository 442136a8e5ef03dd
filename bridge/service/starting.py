"""Starting runs, at most one for a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from bridge import decide, masking, policy
from bridge.commands import (
    CreateRun,
    DropRequest,
    FindPipeline,
    FindWait,
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
    NotFound,
    PipelineNotFound,
    Problem,
    StoreConflict,
    TryAgain,
)
from bridge.model import (
    StartedHow,
    StartRequest,
    StartState,
    TriggerRequest,
    WaitState,
    Wrapped,
)
from bridge.policy import Rules
from bridge.ports import PipelineDeclaration, Refusal, RefusalKind, Started
from bridge.service.answering import StartAnswer, answer
from bridge.service.asking import unanswered
from bridge.service.contention import DECISION_TRIES, contended
from bridge.service.continuing import check_other_tries, go_on, to_recover
from bridge.service.searching import settle_start


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
            if admission.unsettled is not None:
                found = yield from settle_start(admission.unsettled, request.parameters, rules)
                return (yield from _answer_settled(request, found, rules))
            if admission.reserve is not None:
                if request.wait is not None:
                    decide.check_deadline(request.wait.deadline, now, field="wait.deadline")
                    decide.check_free((yield from do(FindWait(request.wait.task.token))))
                return (yield from _start(request, admission.reserve, rules))
            if admission.started is not None:
                return (yield from answer(request.wait, admission.started, rules))
        except StoreConflict:
            continue
    raise contended()


def _refuse_withdrawn(request: TriggerRequest) -> UseCase[None]:
    """Refuse to repeat an answer whose wait was withdrawn since: the task would park for nothing."""
    wait = (yield from do(FindWait(request.wait.task.token))) if request.wait is not None else None
    if wait is not None and wait.state is WaitState.WITHDRAWN:
        decide.check_free(wait)


def _start(request: TriggerRequest, reserve: StartRequest, rules: Rules) -> UseCase[StartAnswer]:
    """Go on with the previous try's run, or reserve the key and send createRun."""
    plan = yield from go_on(request, reserve, rules)
    planned = plan.record
    if planned.how is StartedHow.REATTACHED:
        attached = yield from do(SaveRequest(planned, point=Point.KEY_RESERVED))
        return (yield from answer(request.wait, attached, rules))
    if request.recover_from is not None and planned.recovers is None:
        recovering = yield from to_recover(request, planned, request.recover_from.run_id)
        if isinstance(recovering, str):
            msg = f"{recovering} Nothing was started."
            raise NotFound(msg)
        planned = recovering
    if planned.recovers is None:
        planned = yield from _with_pipeline(request, planned, rules)
    # What came before may have taken long: the lease is createRun's own.
    leased = decide.leased(planned, (yield from do(Now())))
    reserved = yield from do(SaveRequest(leased, point=Point.KEY_RESERVED))
    yield from check_other_tries(request, reserved, plan.decided_by, rules)
    started = yield from _create_run(request, reserved, rules)
    return (yield from _answer_settled(request, started, rules, just_started=True))


def _with_pipeline(request: TriggerRequest, reserve: StartRequest, rules: Rules) -> UseCase[StartRequest]:
    """Return a record with the pipeline to start, the wrapper if there is one, and how its run is found again."""
    wrapper = None
    if request.wrapped is not Wrapped.NEVER:
        wrapper = yield from _find_wrapper(request)
        if decide.may_be_outdated(request, wrapper):
            wrapper = yield from _find_wrapper(request, fresh=True)
    if isinstance(wrapper, Refusal):
        raise _unreadable(wrapper)
    name = decide.pipeline_to_start(request, wrapper)
    pipeline = wrapper if wrapper is not None else (yield from _find(request, name))
    if pipeline is None:
        msg = f"{request.pipeline!r}: the factory has no pipeline of that name. Nothing was started."
        raise PipelineNotFound(msg)
    if isinstance(pipeline, Refusal):
        if pipeline.kind is not RefusalKind.FORBIDDEN:
            raise _unreadable(pipeline)
        # Without the permission to read pipelines a run is found by its parameters.
        return replace(reserve, started_pipeline=name)
    return replace(reserve, started_pipeline=name, correlation=decide.key_parameter(request, pipeline, rules))


def _find_wrapper(request: TriggerRequest, *, fresh: bool = False) -> UseCase[PipelineDeclaration | Refusal | None]:
    """Find the pipeline's wrapper. One that only has a wrapper's name is none."""
    found = yield from _find(request, policy.wrapper_of(request.pipeline), fresh=fresh)
    return found if isinstance(found, Refusal) or (found is not None and found.is_wrapper) else None


def _find(request: TriggerRequest, name: str, *, fresh: bool = False) -> UseCase[PipelineDeclaration | Refusal | None]:
    return (yield from do(FindPipeline(request.factory, name, fresh, point=Point.PIPELINE_FOUND)))


def _unreadable(refusal: Refusal) -> Problem:
    """Return the error for a factory that does not show its pipelines."""
    told = "Nothing was started: whether the pipeline has a wrapper could not be read."
    detail = f"{told} {refusal.detail}"
    match refusal.kind:
        case RefusalKind.FORBIDDEN:
            return AdfRefused(
                f"{detail} Give the bridge's identity the permission to read pipelines in this factory "
                "(Microsoft.DataFactory/factories/pipelines/read), or send `wrapped: never`.",
                status=403,
            )
        case RefusalKind.INVALID | RefusalKind.CONFLICT | RefusalKind.NOT_FOUND:
            return AdfRefused(detail)
        case _:
            return unanswered(refusal, told)


def _create_run(request: TriggerRequest, reserved: StartRequest, rules: Rules) -> UseCase[StartRequest]:
    """Send createRun, exactly once for this record, and write down what came of it."""
    if (yield from do(Now())) >= reserved.lease_until:
        # Whoever asks from now on takes it that createRun was sent, and looks for its run.
        msg = "The bridge came to a halt before it could ask ADF. Nothing was started: send the request again."
        yield from _take_back(reserved, TryAgain(msg, retry_after=policy.SEARCH_AGAIN))
    pipeline, parameters = decide.as_started(request, reserved)
    reply = yield from do(CreateRun(request.factory, pipeline, parameters, reserved.recovery, point=Point.RUN_CREATED))
    if isinstance(reply, Started):
        return (yield from _record_start(reserved, reply.run_id))
    if reply.kind is RefusalKind.UNAVAILABLE:
        lost = yield from do(SaveRequest(decide.searching(reserved), point=Point.START_RECORDED))
        return (yield from settle_start(lost, request.parameters, rules))
    if request.recover_from is None and decide.is_unrecoverable(reserved, reply):
        anew = decide.instead_of_recovery(reserved, _masked(request, reply))
        try:
            again = yield from _with_pipeline(request, anew, rules)
        except Problem as problem:
            # A record that stays would be one whose run is looked for.
            return (yield from _take_back(reserved, problem))
        leased = decide.leased(again, (yield from do(Now())))
        saved = yield from do(SaveRequest(leased, point=Point.START_RECORDED))
        return (yield from _create_run(request, saved, rules))
    return (yield from _take_back(reserved, _start_refused(request, reply)))


def _take_back(reserved: StartRequest, problem: Problem) -> UseCase[NoReturn]:
    """Refuse a request for which nothing was started for certain; its key may be used again."""
    yield from do(DropRequest(reserved, point=Point.START_REFUSED))
    raise problem


def _record_start(reserved: StartRequest, run_id: str) -> UseCase[StartRequest]:
    """Write down which run answers to the key, also over a record whose run was looked for or given up meanwhile."""
    record: StartRequest | None = reserved
    while record is not None:
        if record.run_id is not None:
            return (yield from _with_surplus(record, run_id))  # a search was quicker
        started = replace(record, state=StartState.STARTED, run_id=run_id, left=None)
        try:
            return (yield from do(SaveRequest(started, point=Point.START_RECORDED)))
        except StoreConflict:
            record = yield from do(LoadRequest(reserved.idempotency_key))
    raise contended()


def _with_surplus(record: StartRequest, run_id: str) -> UseCase[StartRequest]:
    """Have the answer name a run that createRun started, and that nobody waits for: a search had found another one."""
    if record.run_id == run_id:
        return record
    why = f"The bridge had found run {record.run_id} when ADF said that it had started {run_id}: nobody waits for that."
    try:
        return (yield from do(SaveRequest(replace(record, why=why), point=Point.START_RECORDED)))
    except StoreConflict:
        return record


def _masked(request: TriggerRequest, refusal: Refusal) -> Refusal:
    """Return a refusal of ADF's without the parameters' values, which it may repeat: they may be secrets."""
    return replace(refusal, detail=masking.masked(refusal.detail, masking.texts_in(request.parameters)))


def _start_refused(request: TriggerRequest, refusal: Refusal) -> Problem:
    started_nothing = f"Nothing was started. {_masked(request, refusal).detail}"
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


def _answer_settled(
    request: TriggerRequest, record: StartRequest, rules: Rules, *, just_started: bool = False
) -> UseCase[StartAnswer]:
    """Answer a request as far as it is settled: with its run, that it is not known, or that it is looked for."""
    if record.state is StartState.STARTED:
        return (yield from answer(request.wait, record, rules, just_started=just_started))
    if record.state is StartState.UNKNOWN:
        raise decide.unknown_outcome(record)
    raise decide.in_flight(record, (yield from do(Now())))
