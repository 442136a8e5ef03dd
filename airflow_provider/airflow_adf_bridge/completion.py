"""How a run ended (`completion/v1`), and what that means for the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_adf_bridge.errors import (
    AdfBridgeRunCancelled,
    AdfBridgeRunError,
    AdfBridgeRunExpired,
    AdfBridgeRunFailed,
    AdfBridgeRunUnknown,
)

SUCCEEDED = "Succeeded"
FAILED = "Failed"
CANCELLED = "Cancelled"
EXPIRED = "Expired"

MESSAGE_LIMIT = 8_000
"""Characters of Data Factory's own message that an exception repeats. The monitor has the rest."""


@dataclass(frozen=True)
class FailedActivity:
    """The activity for which a run failed."""

    name: str
    type: str
    error_code: str
    message: str


@dataclass(frozen=True)
class Completion:
    """How one run ended. Times are ISO-8601 texts, as the bridge gave them.

    `run_id` is empty where no run was found. `watched_run_id` is the run that a wrapper ran; all else is about it.
    """

    status: str
    run_id: str
    watched_run_id: str | None
    pipeline: str
    run_start: str | None
    run_end: str | None
    message: str
    failed_activity: FailedActivity | None
    monitor_url: str

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Completion:
        """Read a completion leniently: only a field that is missing or of another type is left empty."""
        failed = body.get("failed_activity")
        return cls(
            status=_text(body, "status") or "Unknown",
            run_id=_text(body, "run_id"),
            watched_run_id=_text(body, "watched_run_id") or None,
            pipeline=_text(body, "pipeline"),
            run_start=_text(body, "run_start") or None,
            run_end=_text(body, "run_end") or None,
            message=_text(body, "message"),
            failed_activity=_failed_activity(failed) if isinstance(failed, Mapping) else None,
            monitor_url=_text(body, "monitor_url"),
        )

    def as_xcom(self) -> dict[str, Any]:
        """Return what the task leaves in XCom as its return value."""
        return {
            "run_id": self.run_id,
            "watched_run_id": self.watched_run_id,
            "status": self.status,
            "pipeline": self.pipeline,
            "run_start": self.run_start,
            "run_end": self.run_end,
            "monitor_url": self.monitor_url,
        }

    def error(self) -> AdfBridgeRunError:
        """Return the exception for a run that did not succeed, with Data Factory's reason and the monitor's link."""
        kind, happened = _ENDINGS.get(self.status, _ENDINGS["Unknown"])
        if self.status == EXPIRED and not self.run_id:
            happened = "had no such run before the deadline"
        name = f"Pipeline '{self.pipeline}'" if self.pipeline else "The pipeline"
        lines = [f"{name} {happened}"]
        if self.failed_activity:
            failed = self.failed_activity
            code = f" with error {failed.error_code}" if failed.error_code else ""
            kind_of_activity = f" ({failed.type})" if failed.type else ""
            lines[0] += f": activity '{failed.name}'{kind_of_activity} failed{code}"
            lines.append(_cut(failed.message or self.message))
        else:
            lines.append(_cut(self.message))
        if run_id := self.watched_run_id or self.run_id:
            lines.append(f"Run {run_id}: {self.monitor_url}" if self.monitor_url else f"Run {run_id}")
        return kind("\n".join(line for line in lines if line))


_ENDINGS: Mapping[str, tuple[type[AdfBridgeRunError], str]] = {
    FAILED: (AdfBridgeRunFailed, "failed"),
    CANCELLED: (AdfBridgeRunCancelled, "was cancelled"),
    EXPIRED: (AdfBridgeRunExpired, "did not end before the deadline"),
    "Unknown": (AdfBridgeRunUnknown, "ended in a way that the bridge could not find out"),
}


def _failed_activity(body: Mapping[str, Any]) -> FailedActivity:
    return FailedActivity(_text(body, "name"), _text(body, "type"), _text(body, "error_code"), _text(body, "message"))


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else f"{message[:MESSAGE_LIMIT]}… (the monitor has the rest)"
