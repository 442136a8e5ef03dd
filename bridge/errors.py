"""What can go wrong, with a stable code each. A problem says what happened and what the reader can do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: its path as the caller wrote it (`wait.task.dag_id`), and what is wrong with it."""

    field: str
    message: str


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """A call is refused. Answered as `application/problem+json` (RFC 9457) with a code that never changes."""

    status = 500
    code = "internal-error"
    title = "The bridge failed"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: timedelta | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        if status is not None:
            self.status = status


class MissingIdempotencyKey(Problem):
    """A trigger request came without the header that makes it safe to repeat."""

    status, code, title = 400, "missing-idempotency-key", "Idempotency-Key is missing"


class BadJson(Problem):
    """The body is not a JSON object."""

    status, code, title = 400, "bad-json", "The body is not a JSON object"


class InvalidFields(Problem):
    """One or more fields are missing or wrong; all of them are listed."""

    status, code, title = 422, "invalid-fields", "Some fields are not right"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        listed = "; ".join(f"{error.field}: {error.message}" for error in errors)
        super().__init__(f"Correct these and send the request again. {listed}", errors=errors)


class IdempotencyMismatch(Problem):
    """The same key came with another body."""

    status, code, title = 422, "idempotency-mismatch", "This key was used for another request"


class TokenMismatch(Problem):
    """The idempotency key is not the token of the wait in the body."""

    status, code, title = 422, "token-mismatch", "The key is not the wait's token"


class FactoryNotAllowed(Problem):
    """The factory is not on the allow-list."""

    status, code, title = 403, "factory-not-allowed", "The factory is not on the allow-list"


class TargetUnknown(Problem):
    """The bridge has no such target."""

    status, code, title = 403, "target-unknown", "The bridge has no such target"


class CallerNotAllowed(Problem):
    """The caller may not speak for this target."""

    status, code, title = 403, "caller-not-allowed", "The caller may not speak for this target"


class EntraUnavailable(Problem):
    """Whether a token is genuine cannot be told: Entra's keys cannot be had."""

    status, code, title = 503, "entra-unavailable", "Entra's keys cannot be had right now"


class BodyTooLarge(Problem):
    """The body is over the limit; it was not parsed."""

    status, code, title = 413, "body-too-large", "The body is too large"


class NotFound(Problem):
    """The bridge does not know that run or wait."""

    status, code, title = 404, "not-found", "Not known here"


class PipelineNotFound(Problem):
    """ADF does not know the pipeline."""

    status, code, title = 404, "pipeline-not-found", "ADF does not know the pipeline"


class RequestInFlight(Problem):
    """The same request is being handled right now."""

    status, code, title = 409, "request-in-flight", "The same request is being handled"


class TryOver(Problem):
    """The request comes from a try of the task that is over: a later one has asked already."""

    status, code, title = 409, "try-over", "This try of the task is over"


class AirflowUnavailable(Problem):
    """Airflow has to be asked about the task first, and cannot be; nothing was started."""

    status, code, title = 503, "airflow-unavailable", "Airflow could not be asked"


class UnknownOutcome(Problem):
    """createRun may or may not have started a run; it is never sent again."""

    status, code, title = 409, "unknown-outcome", "It is not known whether a run was started"


class WaitConflict(Problem):
    """The token names another wait, or one that was withdrawn."""

    status, code, title = 409, "wait-conflict", "This token is taken"


class AdfRefused(Problem):
    """ADF refused the request; nothing was started."""

    status, code, title = 422, "adf-refused", "ADF refused the request"


class AdfThrottled(Problem):
    """ADF asks to wait; nothing was started."""

    status, code, title = 503, "adf-throttled", "ADF asks to wait"


class AdfUnavailable(Problem):
    """ADF could not be reached; nothing was started."""

    status, code, title = 503, "adf-unavailable", "ADF could not be reached"


class TryAgain(Problem):
    """The time of the call was not enough for this part of it; nothing was done."""

    status, code, title = 503, "try-again", "There was no time for this one"


class ConfigInvalid(Problem):
    """The app's settings are wrong; every error is listed."""

    status, code, title = 503, "config-invalid", "The bridge's configuration is not right"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        listed = "; ".join(f"{error.field}: {error.message}" for error in errors)
        super().__init__(f"An operator has to correct the app's settings. {listed}", errors=errors)


class StoreUnavailable(Problem):
    """The store could not be read or written; nothing was promised."""

    status, code, title = 503, "store-unavailable", "The bridge's store cannot be used right now"


class StoreConflict(Exception):  # noqa: N818 - no error: the other instance won
    """Somebody else changed a row first (compare-and-set failed): read again and decide again."""


class RunTaken(Exception):  # noqa: N818 - no error: the other request found it first
    """The run answers to another trigger request, which asked for the same."""
