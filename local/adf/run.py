"""Runs of pipelines and of their activities, and how ARM writes them.

See https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/get and
https://learn.microsoft.com/rest/api/datafactory/activity-runs/query-by-pipeline-run
"""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from local.adf.behaviour import ActivityError
from local.adf.factory import Factory
from local.adf.pipeline import Activity, Outcome, Pipeline
from local.json_value import JsonObject, JsonValue


class Status(StrEnum):
    """The status of a run, in Data Factory's spelling (one l in Canceling, two in Cancelled)."""

    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELING = "Canceling"
    CANCELLED = "Cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this status."""
        return self in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """A time as ARM writes it: UTC, seven digits behind the point."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _milliseconds(start: datetime, end: datetime | None) -> int | None:
    return None if end is None else round((end - start) / timedelta(milliseconds=1))


@dataclass(slots=True)
class ActivityRun:
    """One execution of one activity; a retry is another one."""

    activity: Activity
    status: Status
    start: datetime
    end: datetime | None = None
    error: ActivityError | None = None
    attempt: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def finish(self, status: Status, error: ActivityError | None = None) -> None:
        """End this execution."""
        self.status, self.error, self.end = status, error, now()

    def to_arm(self, run: "PipelineRun") -> JsonObject:
        """This execution as ARM writes it."""
        error = self.error or ActivityError("", "", "")
        return {
            "activityName": self.activity.name,
            "activityType": self.activity.type,
            "activityRunId": self.id,
            "activityRunStart": iso(self.start),
            "activityRunEnd": iso(self.end),
            "durationInMs": _milliseconds(self.start, self.end),
            "status": self.status,
            "retryAttempt": self.attempt or None,
            "pipelineName": run.pipeline.name,
            "pipelineRunId": run.id,
            "linkedServiceName": "",
            "input": self.activity.type_properties,
            "output": {},
            "userProperties": {name: _parameter_text(value) for name, value in self.activity.user_properties.items()},
            "error": {
                "errorCode": error.code,
                "message": error.message,
                "failureType": error.failure_type,
                "target": self.activity.name,
                "details": "",
            },
        }


@dataclass(slots=True)
class PipelineRun:
    """One run. `settled` are activities that a recovery takes over from the run before instead of running
    them again.
    """

    factory: Factory
    pipeline: Pipeline
    parameters: dict[str, JsonValue]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    group_id: str = ""
    is_latest: bool = True
    settled: dict[str, Outcome] = field(default_factory=dict)
    status: Status = Status.QUEUED
    start: datetime = field(default_factory=now)
    end: datetime | None = None
    last_updated: datetime = field(default_factory=now)
    message: str = ""
    activity_runs: list[ActivityRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A run that recovers no other one is the first of its group."""
        self.group_id = self.group_id or self.id

    def change(self, status: Status, message: str = "") -> None:
        """Go over to another status."""
        self.status, self.message, self.last_updated = status, message, now()
        if status.ended:
            self.end = self.last_updated

    def outcomes(self) -> dict[str, Outcome]:
        """How the activities that ran have ended: a later attempt counts, an earlier one does not."""
        ended = {Status.SUCCEEDED: Outcome.SUCCEEDED, Status.FAILED: Outcome.FAILED}
        last = {execution.activity.name: execution.status for execution in self.activity_runs}
        return self.settled | {name: ended[status] for name, status in last.items() if status in ended}

    def to_arm(self) -> JsonObject:
        """The run as ARM writes it. Every parameter's value is text there."""
        secret = {parameter.name for parameter in self.pipeline.parameters if parameter.type == "securestring"}
        return {
            "id": f"{self.factory.id}/pipelineruns/{self.id}",
            "runId": self.id,
            "runGroupId": self.group_id,
            "isLatest": self.is_latest,
            "pipelineName": self.pipeline.name,
            "parameters": {
                name: "**********" if name in secret else _parameter_text(value)
                for name, value in self.parameters.items()
            },
            "runDimensions": {},
            "annotations": self.pipeline.properties.get("annotations", []),
            "invokedBy": self.invoked_by(),
            "runStart": iso(self.start),
            "runEnd": iso(self.end),
            "durationInMs": _milliseconds(self.start, self.end),
            "lastUpdated": iso(self.last_updated),
            "status": self.status,
            "message": self.message,
        }

    def invoked_by(self) -> JsonObject:
        """Who started the run: createRun always counts as by hand."""
        return {"id": self.id.replace("-", ""), "name": "Manual", "invokedByType": "Manual"}


def _parameter_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
