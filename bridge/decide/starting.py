"""What a trigger request comes to: at most one createRun for a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge import policy
from bridge.decide.breakers import ABOUT_ONE_THING
from bridge.errors import (
    FieldError,
    IdempotencyMismatch,
    InvalidFields,
    PipelineNotFound,
    RequestInFlight,
    UnknownOutcome,
)
from bridge.model import (
    JsonObject,
    RunReading,
    StartedHow,
    StartRequest,
    StartState,
    TriggerRequest,
    Wrapped,
    same_pipeline,
)
from bridge.policy import Rules
from bridge.ports import PipelineDeclaration, Refusal


@dataclass(frozen=True, slots=True)
class Admission:
    """What a trigger request comes to: a record to reserve, to go on with or to settle, or an answer to give again."""

    reserve: StartRequest | None = None
    started: StartRequest | None = None
    unsettled: StartRequest | None = None
    replay: str | None = None


def admit(request: TriggerRequest, record: StartRequest | None, now: datetime) -> Admission:
    """Decide on a trigger request by the record under its key. createRun is sent for a reserved record only."""
    if record is None:
        return Admission(reserve=_reserve(request, now))
    if record.body_hash != request.body_hash:
        msg = "The key was used before with another body. Use a new key for a new request."
        raise IdempotencyMismatch(msg)
    if record.state is not StartState.STARTED:
        return Admission(unsettled=record)
    if record.answer is not None:
        return Admission(replay=record.answer)
    return Admission(started=record)


def _reserve(request: TriggerRequest, now: datetime) -> StartRequest:
    task = request.wait.task if request.wait is not None else None
    record = StartRequest(
        idempotency_key=request.idempotency_key,
        body_hash=request.body_hash,
        state=StartState.STARTING,
        factory=request.factory,
        pipeline=request.pipeline,
        received_at=now,
        lease_until=now,
        wait=request.wait,
        place=task.place if task is not None else None,
        try_number=task.try_number if task is not None else 0,
        parameters_hash=request.parameters_hash,
    )
    return leased(record, now)


def leased(record: StartRequest, now: datetime) -> StartRequest:
    """Return a record that is about to be reserved: its createRun is over a lease from now, whatever becomes of it."""
    lease_until = now + policy.START_LEASE
    return replace(record, lease_until=lease_until, finish_at=lease_until + policy.FINISH_AFTER)


def pipeline_to_start(request: TriggerRequest, wrapper: PipelineDeclaration | None) -> str:
    """Return which pipeline a request starts: the wrapper, if there is one that takes the request's parameters."""
    if wrapper is None:
        if request.wrapped is Wrapped.ALWAYS:
            msg = (
                f"The factory has no wrapper {policy.wrapper_of(request.pipeline)!r}. Make it with "
                "`python -m bridge wrap`, or leave out `wrapped`. Nothing was started."
            )
            raise PipelineNotFound(msg)
        return request.pipeline
    if unknown := undeclared(request, wrapper):
        # ADF would drop them without a word, and the pipeline would run with its defaults.
        msg = f"The wrapper {wrapper.name!r} does not declare {', '.join(unknown)}. Make it anew with `bridge wrap`."
        raise InvalidFields([FieldError("parameters", msg)])
    return wrapper.name


def may_be_outdated(request: TriggerRequest, wrapper: PipelineDeclaration | Refusal | None) -> bool:
    """Whether a request would be refused for what was known of the wrapper, which may have been made since."""
    if isinstance(wrapper, PipelineDeclaration):
        return bool(undeclared(request, wrapper))
    return wrapper is None and request.wrapped is Wrapped.ALWAYS


def undeclared(request: TriggerRequest, pipeline: PipelineDeclaration) -> list[str]:
    """Return the request's parameters that a pipeline does not declare."""
    declared = {name.lower() for name in pipeline.parameters}
    return sorted(name for name in request.parameters if name.lower() not in declared)


def key_parameter(request: TriggerRequest, pipeline: PipelineDeclaration, rules: Rules) -> str | None:
    """Return the parameter by which a run of a pipeline can be told from all others, if the pipeline declares one.

    One that the caller uses for something else is left to the caller, but for a wrapper's, which is for nothing else.
    """
    name = policy.CORRELATION if policy.is_wrapper(pipeline.name) else rules.correlation
    given = next((given for given in request.parameters if given.lower() == name.lower()), None)
    if given is not None and pipeline.is_wrapper:
        msg = f"is the bridge's own in the wrapper {pipeline.name!r}: it carries the request's key"
        raise InvalidFields([FieldError(f"parameters.{given}", msg)])
    if given is not None:
        return None
    return next((declared for declared in pipeline.parameters if declared.lower() == name.lower()), None)


def as_started(request: TriggerRequest, record: StartRequest) -> tuple[str, JsonObject]:
    """Return the pipeline and the parameters of createRun, with the key under which its run is found, if it takes one.

    A run that is run again has its own parameters.
    """
    pipeline = record.started_pipeline or request.pipeline
    if record.recovers is not None:
        return pipeline, {}
    if record.correlation is None:
        return pipeline, request.parameters
    return pipeline, {**request.parameters, record.correlation: request.idempotency_key}


def to_recover(reserve: StartRequest, request: TriggerRequest, run_id: str, reading: RunReading) -> StartRequest | str:
    """Return a record whose createRun runs an earlier run again, or why none does."""
    if not same_pipeline(reading.pipeline, request.pipeline):
        return f"Run {run_id} is one of {reading.pipeline!r}, not of {request.pipeline!r}."
    asked = request.recover_from
    return replace(
        reserve,
        started_pipeline=request.pipeline,
        recovers=run_id,
        group=reading.group or run_id,
        recovery_mode=asked.mode if asked is not None else reserve.recovery_mode,
        recovery_activity=asked.activity if asked is not None else None,
        how=StartedHow.RECOVERED,
    )


def is_unrecoverable(record: StartRequest, refusal: Refusal) -> bool:
    """Whether ADF will not run the earlier run again, and has started nothing."""
    return record.recovers is not None and refusal.kind in ABOUT_ONE_THING


def instead_of_recovery(record: StartRequest, refusal: Refusal) -> StartRequest:
    """Return the record of a request whose earlier run cannot be run again: all of it is run anew."""
    why = f"ADF does not run {record.recovers} again: {refusal.detail}"
    return replace(record, recovers=None, group=None, how=StartedHow.STARTED, why=policy.cut(why))


def no_wait(record: StartRequest | None) -> str:
    """Say why no wait has a token, by the trigger request of that key."""
    if record is None:
        return "No wait has this token."
    if record.left is not None:
        return f"No wait has this token. {record.left}"
    match record.state:
        case StartState.UNKNOWN:
            return f"No wait has this token. {unknown_outcome(record).detail}"
        case StartState.SEARCHING:
            return "No wait has this token yet: ADF did not say whether it had started the run, which is looked for."
        case StartState.STARTING | StartState.STARTED:
            return "No wait has this token yet: the request to start its run is being handled, or its process died."


def unknown_outcome(record: StartRequest) -> UnknownOutcome:
    """Return the error for a request whose createRun was sent and never answered for sure."""
    return UnknownOutcome(
        f"ADF was asked to start {record.pipeline!r} at {record.received_at:%Y-%m-%d %H:%M:%SZ} and did not say "
        f"whether it did; {_not_found(record)}. The bridge does not start it again under this key: look in ADF's "
        "monitor, then use a new key."
    )


def _not_found(record: StartRequest) -> str:
    if record.correlation is not None:
        return f"no run with {record.correlation} = {record.idempotency_key} was found"
    return "no run was found that can only be this one's"


def in_flight(record: StartRequest, now: datetime) -> RequestInFlight:
    """Return the error for a request that is not settled yet."""
    if record.state is StartState.STARTING and now < record.lease_until:
        msg = "The first request with this key is still being handled. Send it again a little later."
        return RequestInFlight(msg, retry_after=timedelta(seconds=2))
    msg = (
        "ADF was asked to start the run and did not say whether it did; the bridge looks for the run. "
        "Send the request again a little later."
    )
    return RequestInFlight(msg, retry_after=policy.SEARCH_AGAIN)
