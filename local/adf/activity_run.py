"""Executions of activities, and how ARM writes them.

See https://learn.microsoft.com/rest/api/datafactory/activity-runs/query-by-pipeline-run
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from local.adf.graph import Activity
from local.adf.status import Status, iso, milliseconds, now, shown_text
from local.json_value import JsonObject


@dataclass(frozen=True, slots=True)
class ActivityError:
    """Why an activity failed. `failure_type` is Data Factory's: the user's fault, or the system's."""

    code: str
    message: str
    failure_type: str = "UserError"

    def to_arm(self, target: str) -> JsonObject:
        """This error as ARM writes it, and as expressions see it."""
        return {
            "errorCode": self.code,
            "message": self.message,
            "failureType": self.failure_type,
            "target": target,
            "details": "",
        }


_NO_ERROR = ActivityError("", "", "")


@dataclass(slots=True)
class ActivityRun:
    """One execution of one activity; a retry is another one."""

    activity: Activity
    status: Status
    start: datetime
    end: datetime | None = None
    error: ActivityError | None = None
    attempt: int = 0
    input: JsonObject = field(default_factory=dict)
    output: JsonObject = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def finish(self, status: Status, error: ActivityError | None = None) -> None:
        """End this execution."""
        self.status, self.error, self.end = status, error, now()

    def to_arm(self, *, pipeline: str, run_id: str) -> JsonObject:
        """This execution as ARM writes it. What its policy declares to be secure is not shown."""
        policy = self.activity.policy
        return {
            "activityName": self.activity.name,
            "activityType": self.activity.type,
            "activityRunId": self.id,
            "activityRunStart": iso(self.start),
            "activityRunEnd": iso(self.end),
            "durationInMs": milliseconds(self.start, self.end),
            "status": self.status,
            "retryAttempt": self.attempt or None,
            "pipelineName": pipeline,
            "pipelineRunId": run_id,
            "linkedServiceName": "",
            "input": {} if policy.secure_input else self.input,
            "output": {} if policy.secure_output else self.output,
            "userProperties": {name: shown_text(value) for name, value in self.activity.user_properties.items()},
            "error": (self.error or _NO_ERROR).to_arm(self.activity.name),
        }
