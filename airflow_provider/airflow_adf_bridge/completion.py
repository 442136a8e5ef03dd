"""How a run ended (`completion/v1`), and what that means for the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
OTHERS_LIMIT = 4
"""Other failed activities that an exception names."""
OTHER_MESSAGE_LIMIT = 200
"""Characters of the message of each of those."""


@dataclass(frozen=True)
class FailedActivity:
    """An activity that failed. `path` names the ExecutePipeline activities that lead to it, the outermost first."""

    name: str
    type: str
    error_code: str
    message: str
    path: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> FailedActivity:
        """Read it leniently; what a bridge of an earlier version does not tell is left empty."""
        path = body.get("path")
        return cls(
            name=_text(body, "name"),
            type=_text(body, "type"),
            error_code=_text(body, "error_code"),
            message=_text(body, "message"),
            path=tuple(name for name in path if isinstance(name, str)) if isinstance(path, list) else (),
        )

    def __str__(self) -> str:
        """Which activity failed, with which code."""
        kind = f" ({self.type})" if self.type else ""
        code = f" with error {self.error_code}" if self.error_code else ""
        return f"activity '{self.name}'{kind} failed{code}"

    def way(self) -> str:
        """Return which activities lead to it."""
        return " > ".join(f"'{name}'" for name in self.path)


@dataclass(frozen=True)
class Cause(FailedActivity):
    """The activity for which a run failed. `pipeline` and `run_id` are those of the run in it, where it is another."""

    pipeline: str = ""
    run_id: str = ""
    others: tuple[FailedActivity, ...] = ()

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Cause:
        """Read it leniently, as the others."""
        others = body.get("others")
        found = [one for one in others if isinstance(one, Mapping)] if isinstance(others, list) else []
        return cls(
            **vars(FailedActivity.parse(body)),
            pipeline=_text(body, "pipeline"),
            run_id=_text(body, "run_id"),
            others=tuple(FailedActivity.parse(one) for one in found[:OTHERS_LIMIT]),
        )

    def lines(self) -> Iterator[str]:
        """Tell where it failed, if that is another run than the one that was waited for, and what else failed."""
        if self.path:
            pipeline = f"pipeline '{self.pipeline}'" if self.pipeline else "a pipeline"
            run = f", run {self.run_id}" if self.run_id else ""
            yield f"It failed in {pipeline}{run}, by way of {self.way()}"
        for other in self.others:
            words = _cut(" ".join(other.message.split()), OTHER_MESSAGE_LIMIT)
            yield f"Also: {other}{self._place(other)}" + (f": {words}" if words else "")

    def _place(self, other: FailedActivity) -> str:
        """Tell where another activity failed, unless it is beside this one."""
        if other.path == self.path:
            return ""
        return f", by way of {other.way()}" if other.path else ", in the run itself"


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
    failed_activity: Cause | None
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
            failed_activity=Cause.parse(failed) if isinstance(failed, Mapping) else None,
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
            lines[0] += f": {self.failed_activity}"
            lines.append(_cut(self.failed_activity.message or self.message, MESSAGE_LIMIT))
            lines += self.failed_activity.lines()
        else:
            lines.append(_cut(self.message, MESSAGE_LIMIT))
        if run_id := self.watched_run_id or self.run_id:
            lines.append(f"Run {run_id}: {self.monitor_url}" if self.monitor_url else f"Run {run_id}")
        return kind("\n".join(line for line in lines if line))


_ENDINGS: Mapping[str, tuple[type[AdfBridgeRunError], str]] = {
    FAILED: (AdfBridgeRunFailed, "failed"),
    CANCELLED: (AdfBridgeRunCancelled, "was cancelled"),
    EXPIRED: (AdfBridgeRunExpired, "did not end before the deadline"),
    "Unknown": (AdfBridgeRunUnknown, "ended in a way that the bridge could not find out"),
}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _cut(message: str, limit: int) -> str:
    return message if len(message) <= limit else f"{message[:limit]}… (the monitor has the rest)"
