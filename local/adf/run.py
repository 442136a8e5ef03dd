"""Runs of pipelines, and how ARM writes them.

See https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/get
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from local.adf.activity_run import ActivityRun
from local.adf.factory import Factory
from local.adf.graph import Outcome
from local.adf.pipeline import Pipeline
from local.adf.status import Status, iso, milliseconds, now, shown_text
from local.json_value import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class Invoker:
    """The Execute Pipeline activity that started a run, and the run to which that belongs."""

    run: "PipelineRun"
    activity_run: ActivityRun


@dataclass(slots=True, eq=False)
class PipelineRun:
    """One run. `settled` are activities that a recovery takes over from the run before instead of running
    them again, `taken_over` their executions there.
    """

    factory: Factory
    pipeline: Pipeline
    parameters: dict[str, JsonValue]
    invoker: Invoker | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    group_id: str = ""
    is_latest: bool = True
    settled: dict[str, Outcome] = field(default_factory=dict)
    taken_over: dict[str, ActivityRun] = field(default_factory=dict)
    variables: dict[str, JsonValue] = field(default_factory=dict)
    status: Status = Status.QUEUED
    start: datetime = field(default_factory=now)
    end: datetime | None = None
    last_updated: datetime = field(default_factory=now)
    message: str = ""
    activity_runs: list[ActivityRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A run that recovers no other one is the first of its group; its variables have their defaults."""
        self.group_id = self.group_id or self.id
        self.variables = {one.name: one.default for one in self.pipeline.variables} | self.variables

    def change(self, status: Status, message: str = "") -> None:
        """Go over to another status."""
        self.status, self.message, self.last_updated = status, message, now()
        if status.ended:
            self.end = self.last_updated

    def begin(self, execution: ActivityRun) -> None:
        """Take an activity's execution into the run."""
        self.activity_runs.append(execution)
        self.last_updated = now()

    def last_executions(self) -> dict[str, ActivityRun]:
        """Every activity's last execution, by the activity's name."""
        return {execution.activity.name: execution for execution in self.activity_runs}

    def seen_executions(self) -> dict[str, ActivityRun]:
        """The same, with those of the run before that are taken over."""
        return self.taken_over | self.last_executions()

    def outcomes(self) -> dict[str, Outcome]:
        """How the activities that ran have ended: a later attempt counts, an earlier one does not."""
        ended = {Status.SUCCEEDED: Outcome.SUCCEEDED, Status.FAILED: Outcome.FAILED}
        last = {name: execution.status for name, execution in self.last_executions().items()}
        return self.settled | {name: ended[status] for name, status in last.items() if status in ended}

    def activity_to_arm(self, execution: ActivityRun) -> JsonObject:
        """One of this run's executions as ARM writes it."""
        return execution.to_arm(pipeline=self.pipeline.name, run_id=self.id)

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
                name: "**********" if name in secret else shown_text(value) for name, value in self.parameters.items()
            },
            "runDimensions": {},
            "annotations": self.pipeline.properties.get("annotations", []),
            "invokedBy": self.invoked_by(),
            "runStart": iso(self.start),
            "runEnd": iso(self.end),
            "durationInMs": milliseconds(self.start, self.end),
            "lastUpdated": iso(self.last_updated),
            "status": self.status,
            "message": self.message,
        }

    def invoked_by(self) -> JsonObject:
        """Who started the run: another run, or createRun, which always counts as by hand."""
        if self.invoker is None:
            return {"id": self.id.replace("-", ""), "name": "Manual", "invokedByType": "Manual"}
        return {
            "id": self.invoker.activity_run.id,
            "name": self.invoker.activity_run.activity.name,
            "invokedByType": "PipelineActivity",
            "pipelineName": self.invoker.run.pipeline.name,
            "pipelineRunId": self.invoker.run.id,
        }
