"""What a trigger request comes to: at most one createRun for a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge import policy
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
    StartRequest,
    StartState,
    TriggerRequest,
    Wrapped,
)
from bridge.ports import WrapperPipeline


@dataclass(frozen=True, slots=True)
class Admission:
    """What a trigger request comes to: a record to reserve, a run to go on with, or an answer to give again."""

    reserve: StartRequest | None = None
    started: StartRequest | None = None
    unknown: StartRequest | None = None
    replay: str | None = None


def admit(request: TriggerRequest, record: StartRequest | None, now: datetime) -> Admission:
    """Decide on a trigger request by the record under its key. createRun is sent for a reserved record only, once."""
    if record is None:
        return Admission(
            reserve=StartRequest(
                idempotency_key=request.idempotency_key,
                body_hash=request.body_hash,
                state=StartState.STARTING,
                factory=request.factory,
                pipeline=request.pipeline,
                received_at=now,
                lease_until=now + policy.START_LEASE,
            )
        )
    if record.body_hash != request.body_hash:
        msg = "The key was used before with another body. Use a new key for a new request."
        raise IdempotencyMismatch(msg)
    match record.state:
        case StartState.STARTED if record.answer is not None:
            return Admission(replay=record.answer)
        case StartState.STARTED:
            return Admission(started=record)
        case StartState.STARTING if now < record.lease_until:
            msg = "The first request with this key is still being handled. Send it again a little later."
            raise RequestInFlight(msg, retry_after=timedelta(seconds=2))
        case StartState.STARTING:
            return Admission(unknown=replace(record, state=StartState.UNKNOWN))
        case StartState.UNKNOWN:
            raise unknown_outcome(record)


def pipeline_to_start(request: TriggerRequest, wrapper: WrapperPipeline | None) -> str:
    """Return which pipeline a request starts: the wrapper, if there is one that takes the request's parameters."""
    if wrapper is None:
        if request.wrapped is Wrapped.ALWAYS:
            msg = (
                f"The factory has no pipeline {policy.wrapper_of(request.pipeline)!r}. Make it with "
                "`python -m bridge wrap`, or leave out `wrapped`. Nothing was started."
            )
            raise PipelineNotFound(msg)
        return request.pipeline
    declared = {name.lower() for name in wrapper.parameters}
    unknown = sorted(name for name in request.parameters if name.lower() not in declared)
    if unknown:
        # ADF would drop them without a word, and the pipeline would run with its defaults.
        msg = f"The wrapper {wrapper.name!r} does not declare {', '.join(unknown)}. Make it anew with `bridge wrap`."
        raise InvalidFields([FieldError("parameters", msg)])
    return wrapper.name


def as_started(request: TriggerRequest, record: StartRequest) -> tuple[str, JsonObject]:
    """Return the pipeline and the parameters of createRun; a wrapper is given the key by which its run is found."""
    pipeline = record.started_pipeline or request.pipeline
    if pipeline == request.pipeline:
        return pipeline, request.parameters
    return pipeline, {**request.parameters, policy.CORRELATION: request.idempotency_key}


def unknown_outcome(record: StartRequest) -> UnknownOutcome:
    """Return the error for a request whose createRun was sent and never answered for sure."""
    return UnknownOutcome(
        f"ADF was asked to start {record.pipeline!r} at {record.received_at:%Y-%m-%d %H:%M:%SZ} and did not say "
        "whether it did. The bridge does not start it again under this key: look in ADF's monitor, then use a new key."
    )
