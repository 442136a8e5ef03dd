"""What can go wrong, each with what happened and what the reader can do. All are AirflowExceptions: retries count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_adf_bridge.airflow_api import AirflowException

WHAT_TO_DO: Mapping[str, str] = {
    "unauthorized": "Set the connection's password to a function key of the bridge.",
    "adf-refused": "Data Factory turned the request down for the reason above. The run was not started.",
    "caller-not-allowed": "Set caller_secret, or entra_scope, in the connection's extra: the bridge asks for it.",
    "config-invalid": "The bridge is misconfigured: its /api/health lists every error.",
    "factory-not-allowed": "Check factory_name, or have the factory added to the bridge's BRIDGE_FACTORIES, or to the "
    "FACTORIES of this target there.",
    "idempotency-mismatch": "This try already asked for another run. Clear the task to start a new try.",
    "pipeline-not-found": "Check pipeline_name: it must be published in that factory.",
    "target-unknown": "Set target in the connection's extra to this Airflow's name on the bridge.",
    "token-mismatch": "The provider and the bridge name waits differently: bring both to the same version.",
    "unknown-outcome": "The bridge could not find out whether a run was started. Look in Data Factory's monitor "
    "before you clear this task: unless `on_clear` says otherwise, a new try starts a run of its own.",
    "wait-conflict": "Clear the task: a new try registers a wait of its own.",
}
"""Advice by the bridge's stable error codes, for those that a DAG's author or an Airflow operator can act on."""


class AdfBridgeError(AirflowException):
    """The base of everything that this provider raises."""


class AdfBridgeConfigurationError(AdfBridgeError, ValueError):
    """The connection or the operator's arguments cannot work as they are. Nothing was started."""


class AdfBridgeUnreachableError(AdfBridgeError):
    """The bridge gave no usable answer in the time it had. `retry_after` is what it asked for last, if it did."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        """Say what happened."""
        super().__init__(message)
        self.retry_after = retry_after


class AdfBridgeRefusedError(AdfBridgeError):
    """The bridge answered, and its answer is final. `status`, `code`, `detail` and `fields` hold what it said."""

    def __init__(self, what: str, status: int, problem: Mapping[str, Any]) -> None:
        """Read a problem+json body; `what` is the call it answers."""
        code = problem.get("code")
        self.status = status
        self.code = code if isinstance(code, str) and code else ("unauthorized" if status == 401 else "")  # noqa: PLR2004
        self.detail = _text(problem.get("detail") or problem.get("title"))
        self.fields = tuple(_fields(problem.get("errors")))
        lines = [f"The bridge refused {what}: {self.code or 'HTTP'} ({status}). {self.detail}".rstrip()]
        lines += [f"  {field}: {message}" for field, message in self.fields]
        if self.code in WHAT_TO_DO:
            lines.append(WHAT_TO_DO[self.code])
        super().__init__("\n".join(lines))


class AdfBridgeListenerError(AdfBridgeError):
    """The triggerer could not listen for the end of the run (mode queue). The run itself may go on."""


class AdfBridgeRunError(AdfBridgeError):
    """The run did not succeed."""


class AdfBridgeRunFailed(AdfBridgeRunError):  # noqa: N818 (named like the status)
    """The run failed. The message names the innermost failing activity, its error and the run's page in the monitor."""


class AdfBridgeRunCancelled(AdfBridgeRunError):  # noqa: N818
    """The run was cancelled, by a person or by the bridge."""


class AdfBridgeRunExpired(AdfBridgeRunError):  # noqa: N818
    """The wait's deadline passed before the run ended. What becomes of the run is told by `on_abandon`."""


class AdfBridgeRunUnknown(AdfBridgeRunError):  # noqa: N818
    """How the run ended could not be found out."""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _fields(errors: object) -> Sequence[tuple[str, str]]:
    if not isinstance(errors, list):
        return []
    return [(_text(one.get("field")), _text(one.get("message"))) for one in errors if isinstance(one, dict)]
