"""The wrapper pipeline in the local Data Factory: it runs a pipeline and tells Event Grid's topic how that ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.process import LocalProcess
from tests.component.adf_stage import control, expression, held
from tests.component.stand_ins import (
    FACTORY,
    FACTORY_ID,
    GROUP,
    TOPIC_KEY,
    Adf,
    Control,
    activity,
    eventually,
    running_adf,
    running_event_grid,
    write_pipeline,
)

AUDIENCE, TOKEN = "https://eventgrid.azure.net", "token-for-the-topic"
WRAPPER = "load__notified"

_CHILD = "activity('Run')?.output?.pipelineRunId"
_ABOUT = f"coalesce({_CHILD}, pipeline().RunId)"


@dataclass(frozen=True)
class Stage:
    """A Data Factory that is silent by itself, and the Event Grid that its wrapper tells."""

    adf: Adf
    event_grid: Control

    def start(self, *child: Any) -> tuple[str, str]:
        """Start the wrapper around a pipeline of these activities. Returns both runs' ids."""
        write_pipeline(self.adf.pipelines, "load", {"activities": [*child], "parameters": {"day": {"type": "string"}}})
        run_id = self.adf.create_run(WRAPPER, {"day": "it's monday", "bridge_key": "key-1"})
        return run_id, str(eventually(lambda: self._child(run_id)))

    def activity(self, run_id: str, name: str) -> Any:
        """The last execution of an activity, or None."""
        return next((one for one in reversed(self.adf.activity_runs(run_id)) if one.activity_name == name), None)

    def events(self, *runs: str) -> list[Any]:
        """The events about these runs that the topic took."""
        taken = [one["event"] for one in self.event_grid.get("events")["events"]]
        return [event for event in taken if event["id"].partition("/")[0] in runs]

    def _child(self, run_id: str) -> str | None:
        run = self.activity(run_id, "Run")
        return run.output.get("pipelineRunId") if run else None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A factory with the wrapper, and its topic, for all tests of this module."""
    folder = tmp_path_factory.mktemp("wrapper")
    with running_event_grid(folder, "--topic-token", TOKEN) as event_grid:
        topic = _endpoint(event_grid)
        args = (
            *("--identity-token", f"{AUDIENCE}={TOKEN}", "--retry-factor", "0.001"),
            *("--topic-endpoint", topic, "--topic-key", TOPIC_KEY, "--no-run-events"),
        )
        with running_adf(folder, {WRAPPER: wrapper(topic)}, *args) as adf:
            yield Stage(adf, Control(event_grid.url))


def _endpoint(event_grid: LocalProcess) -> str:
    return str(event_grid.ready["topics"]["runs"]["endpoint"])


def wrapper(topic: str) -> dict[str, Any]:
    """The wrapper of the pipeline `load`, as `bridge wrap` would generate it."""
    reference = {"referenceName": "load", "type": "PipelineReference"}
    passed = {"day": expression("@pipeline().parameters.day")}
    error = "activity('Run')?.error?"
    return {
        "activities": [
            control("Run", "ExecutePipeline", pipeline=reference, waitOnCompletion=True, parameters=passed),
            notice("Notify succeeded", "Succeeded", topic),
            control("Note a lost notice", "Wait", {"Notify succeeded": "Failed"}, waitTimeInSeconds=0.1),
            notice("Notify failed", "Failed", topic),
            control(
                "Fail",
                "Fail",
                {"Notify failed": "Completed"},
                message=expression(f"@{{coalesce({error}.message, 'The pipeline failed.')}}"),
                errorCode=expression(f"@{{coalesce({error}.errorCode, 'PipelineFailed')}}"),
            ),
        ],
        "parameters": {"day": {"type": "string"}, "bridge_key": {"type": "string", "defaultValue": ""}},
        "annotations": ["adf-bridge"],
    }


def notice(name: str, status: str, topic: str) -> dict[str, Any]:
    """The Web activity that tells of one status."""
    event = (
        "@json(concat("
        f"""'{{"specversion":"1.0","id":"',{_ABOUT},'/{status}","type":"AdfBridge.PipelineRun.{status}",',"""
        f"""'"source":"{FACTORY_ID}","subject":"pipelines/load/runs/',{_ABOUT},'","time":"',utcnow(),'",',"""
        """'"datacontenttype":"application/json","data":{"runId":',"""
        f"""if(empty({_CHILD}),'null',concat('"',{_CHILD},'"')),',"parentRunId":"',pipeline().RunId,'",',"""
        f"""'"pipelineName":"load","status":"{status}"}}}}'))"""
    )
    made = control(
        name,
        "WebActivity",
        {"Run": status},
        method="POST",
        url=f"{topic}?api-version=2018-01-01",
        headers={"Content-Type": "application/cloudevents+json; charset=utf-8"},
        authentication={"type": "MSI", "resource": AUDIENCE},
        turnOffAsync=True,
        body=expression(event),
    )
    policy = {"timeout": "0.00:10:00", "retry": 3, "retryIntervalInSeconds": 30}
    return {**made, "policy": {**policy, "secureInput": False, "secureOutput": False}}


def facts(event: Any) -> tuple[str, str, str, Any]:
    """What an event says: its id, its type, its subject and its data."""
    return event["id"], event["type"], event["subject"], event["data"]


def told(run: str, parent: str, status: str, *, about: str | None = None) -> tuple[str, str, str, Any]:
    """What the one event about a run must say. Without a child, it is about the wrapper."""
    subject = about or run
    data = {"runId": None if about else run, "parentRunId": parent, "pipelineName": "load", "status": status}
    return f"{subject}/{status}", f"AdfBridge.PipelineRun.{status}", f"pipelines/load/runs/{subject}", data


def test_a_success_is_told_and_the_wrapper_succeeds(stage: Stage) -> None:
    """One CloudEvent about the child arrives at the topic, by the managed identity; nobody else sends any."""
    parent, child = stage.start(activity("Load"))

    assert ["Succeeded", "Succeeded"] == [stage.adf.wait_for(run).status for run in (parent, child)]
    (event,) = stage.events(parent, child)
    assert told(child, parent, "Succeeded") == facts(event)
    assert ("1.0", FACTORY_ID, "application/json") == (event["specversion"], event["source"], event["datacontenttype"])
    assert {"day": "it's monday"} == stage.adf.get(child).parameters


def test_a_failure_is_told_and_not_hidden(stage: Stage) -> None:
    """The wrapper fails with its child's message, after one event that says Failed."""
    parent, child = stage.start(activity("Load", localErrorCode="2200", localErrorMessage='It said "no".'))
    run = stage.adf.wait_for(parent)

    assert ["Failed", "Failed"] == [run.status, stage.adf.get(child).status]
    assert [told(child, parent, "Failed")] == [facts(event) for event in stage.events(parent, child)]
    fail = stage.activity(parent, "Fail")
    assert 'Operation on target Load failed: It said "no".' == fail.error["message"]
    assert f"Operation on target Fail failed: {fail.error['message']}" in str(run.message)


def test_cancelling_the_wrapper_cancels_its_child_and_tells_nothing(stage: Stage) -> None:
    """A recursive cancel ends both as Cancelled, and no notice leaves."""
    parent, child = stage.start(held())
    stage.adf.wait_for(child, "InProgress")
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, parent, is_recursive=True)

    assert ["Cancelled", "Cancelled"] == [stage.adf.wait_for(run).status for run in (parent, child)]
    assert [] == stage.events(parent, child)


def test_a_cancelled_child_is_told_as_a_failure(stage: Stage) -> None:
    """The wrapper fails; that the child was cancelled only the child itself says."""
    parent, child = stage.start(held())
    stage.adf.wait_for(child, "InProgress")
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, child)

    assert ["Failed", "Cancelled"] == [stage.adf.wait_for(run).status for run in (parent, child)]
    assert [told(child, parent, "Failed")] == [facts(event) for event in stage.events(parent, child)]


@pytest.mark.parametrize(
    ("load", "notify", "status"),
    [
        pytest.param(activity("Load"), "Notify succeeded", "Succeeded", id="after a success"),
        pytest.param(activity("Load", localErrorCode="1"), "Notify failed", "Failed", id="after a failure"),
    ],
)
def test_a_topic_that_is_down_changes_no_outcome(stage: Stage, load: Any, notify: str, status: str) -> None:
    """Four tries go wrong, no event arrives, and the wrapper ends like its child all the same."""
    stage.event_grid.post("faults", {"op": "publish", "status": 503, "times": 4})
    parent, child = stage.start(load)

    assert [status, status] == [stage.adf.wait_for(run).status for run in (parent, child)]
    assert [] == stage.events(parent, child)
    tries = [one.status for one in stage.adf.activity_runs(parent) if one.activity_name == notify]
    assert ["Failed"] * 4 == tries
    assert "2108" == stage.activity(parent, notify).error["errorCode"]


def test_a_topic_that_is_down_for_a_moment_gets_the_notice_later(stage: Stage) -> None:
    """A retry of the Web activity brings the event."""
    stage.event_grid.post("faults", {"op": "publish", "status": 503, "times": 2})
    parent, child = stage.start(activity("Load"))
    stage.adf.wait_for(parent)

    assert [told(child, parent, "Succeeded")] == [facts(event) for event in stage.events(parent, child)]


def test_a_child_that_times_out_is_a_failure(stage: Stage) -> None:
    """The child's activity fails by its time-out, so the child fails, and the wrapper."""
    parent, child = stage.start({**held("Load"), "policy": {"timeout": "0.00:00:00.1"}})

    assert ["Failed", "Failed"] == [stage.adf.wait_for(run).status for run in (parent, child)]
    assert [told(child, parent, "Failed")] == [facts(event) for event in stage.events(parent, child)]


def test_a_child_that_cannot_start_is_told_under_the_wrappers_own_id(stage: Stage) -> None:
    """Without a child there is no run id, and the event is about the wrapper."""
    (stage.adf.pipelines / "load.json").unlink(missing_ok=True)
    parent = stage.adf.create_run(WRAPPER, {"day": "monday"})

    assert "Failed" == stage.adf.wait_for(parent).status
    assert [told("", parent, "Failed", about=parent)] == [facts(event) for event in stage.events(parent)]
    assert "PipelineNotFound" == stage.activity(parent, "Fail").error["errorCode"]
