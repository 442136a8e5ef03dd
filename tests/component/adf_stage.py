"""A local Data Factory with an endpoint for its Web activities, and the activities that tests build pipelines of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.component.stand_ins import Adf, activity, eventually, running_adf, write_pipeline
from tests.component.web_endpoint import WebEndpoint, running_web_endpoint

RESOURCE, IDENTITY_TOKEN = "https://eventgrid.azure.net", "token-of-the-factory"

Json = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A Data Factory, and an endpoint for its Web activities. Every test writes its own pipelines."""

    adf: Adf
    endpoint: WebEndpoint

    def write(self, name: str, *activities: Json, **properties: Any) -> None:
        """Write a pipeline of these activities."""
        write_pipeline(self.adf.pipelines, name, {"activities": [*activities], **properties})

    def start(self, name: str, *activities: Json, given: Mapping[str, object] | None = None, **properties: Any) -> str:
        """Write a pipeline, start a run of it and return the run's id."""
        self.write(name, *activities, **properties)
        return self.adf.create_run(name, given)

    def play(self, name: str, *activities: Json, given: Mapping[str, object] | None = None, **properties: Any) -> str:
        """The same, and wait for the end."""
        run_id = self.start(name, *activities, given=given, **properties)
        self.adf.wait_for(run_id)
        return run_id

    def attempts(self, run_id: str, name: str) -> list[Any]:
        """The executions of an activity."""
        return [one for one in self.adf.activity_runs(run_id) if one.activity_name == name]

    def last(self, run_id: str, name: str) -> Any:
        """The last execution of an activity."""
        return self.attempts(run_id, name)[-1]

    def child_of(self, run_id: str) -> str:
        """The run that the activity `Run` started, once it is there."""
        return str(
            eventually(lambda: next((one.output.get("pipelineRunId") for one in self.attempts(run_id, "Run")), None))
        )

    def finish(self, run_id: str, **end: str) -> None:
        """Tell a run how to end."""
        self.adf.control.post(f"runs/{run_id}/finish", end)


@contextmanager
def running_stage(folder: Path) -> Iterator[Stage]:
    """Both of them. One run may wait for a place; pauses between retries are a thousandth of what they should be."""
    args = ("--identity-token", f"{RESOURCE}={IDENTITY_TOKEN}", "--most-queued", "1", "--retry-factor", "0.001")
    with running_web_endpoint() as endpoint, running_adf(folder, {}, *args) as adf:
        yield Stage(adf, endpoint)


def control(name: str, kind: str, after: Mapping[str, str] | None = None, /, **properties: Any) -> Json:
    """An activity of a kind that is executed, with type properties."""
    return {**activity(name, kind, after), "userProperties": [], "typeProperties": properties}


def held(name: str = "Hold") -> Json:
    """An activity that goes on until it is told to end."""
    return activity(name, localSeconds="held")


def expression(value: str) -> Json:
    """An expression as Data Factory's designer writes it."""
    return {"value": value, "type": "Expression"}


def set_variable(name: str, variable: str, value: object, after: Mapping[str, str] | None = None) -> Json:
    """A Set Variable activity."""
    return control(name, "SetVariable", after, variableName=variable, value=value)


def choose(condition: str, then: list[Json], otherwise: list[Json]) -> Json:
    """An If Condition named `Choose`."""
    return control(
        "Choose",
        "IfCondition",
        expression=expression(condition),
        ifTrueActivities=then,
        ifFalseActivities=otherwise,
    )


def execute(pipeline: str, *, waits: bool = True, parameters: Json | None = None) -> Json:
    """An Execute Pipeline activity named `Run`."""
    reference = {"referenceName": pipeline, "type": "PipelineReference"}
    return control("Run", "ExecutePipeline", pipeline=reference, waitOnCompletion=waits, parameters=parameters or {})


def web(url: str, policy: Json | None = None, **properties: Any) -> Json:
    """A Web activity named `Call` that POSTs an empty object, unless other properties are given."""
    made = control("Call", "WebActivity", **{"method": "POST", "url": url, "body": {}, **properties})
    return {**made, "policy": policy or {}}
