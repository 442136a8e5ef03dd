"""Why a run failed, told by a Data Factory that executes the pipelines."""

from typing import Any

import pytest

from tests.component.adf_stage import choose, execute, held
from tests.component.hosted_bridge import FINAL, PATIENCE, Bridge, run_event
from tests.component.stand_ins import TERMINAL, activity, eventually, write_pipeline
from tests.fakes_http.airflow import FakeAirflow

MESSAGE = "Login failed for user 'loader'."
CODE = "SqlFailedToConnect"


@pytest.fixture(scope="module", autouse=True)
def _pipelines(bridge: Bridge) -> None:
    """Four pipelines: the outermost runs the middle one inside an If Condition, and that one the innermost.

    Of the innermost the first activity fails when the test ends it; the other outermost pipeline's child stays out.
    """
    middle = {**execute("innermost"), "name": "Run innermost"}
    inside = choose("@equals(1, 1)", [{**execute("middle"), "name": "Run middle"}], [])
    shown = {
        "innermost": [held("Copy orders"), activity("Tidy up", after={"Copy orders": "Succeeded"})],
        "middle": [middle],
        "outermost": [inside],
        "lost": [{**execute("nowhere"), "name": "Run nowhere"}],
    }
    for name, activities in shown.items():
        write_pipeline(bridge.folder / "pipelines", name, activities)


def runs_of(bridge: Bridge, pipeline: str) -> list[dict[str, Any]]:
    """The runs of a pipeline, as the Data Factory has them."""
    return [run for run in bridge.adf.get("runs")["runs"] if run["pipelineName"] == pipeline]


def test_three_levels_deep(bridge: Bridge, airflow: FakeAirflow) -> None:
    """The task is told the innermost activity with its own code and message, and the way to it, for a query a level."""
    _, token, run_id = bridge.parked(airflow, pipeline="outermost")
    [innermost] = eventually(
        lambda: [run for run in runs_of(bridge, "innermost") if run["activities"]], within=PATIENCE
    )
    bridge.end_run(innermost["runId"], "Failed", message=MESSAGE, error_code=CODE)
    eventually(lambda: all(one["status"] in TERMINAL for one in runs_of(bridge, "outermost")), within=PATIENCE)
    bridge.deliver(run_event(run_id, "Failed"))
    bridge.until(token, *FINAL)

    [patch] = airflow.patches
    completion = patch.body["params_input"]
    assert {
        "name": "Copy orders",
        "type": "Copy",
        "error_code": CODE,
        "message": MESSAGE,
        "path": ["Run middle", "Run innermost"],
        "pipeline": "innermost",
        "run_id": innermost["runId"],
        "others": [],
    } == completion["failed_activity"]
    assert "Operation on target Choose failed: " in completion["message"]
    shown = bridge.call("GET", f"/runs/{run_id}").json()["run"]
    assert completion["failed_activity"] == shown["failed_activity"]
    decided = next(line["detail"] for line in bridge.wait(token)["timeline"] if line["what"] == "decided")
    way = "by way of 'Run middle' > 'Run innermost'"
    assert f"Failed, activity 'Copy orders' (Copy) failed with error {CODE}, {way}: to be delivered" == decided
    [middle] = runs_of(bridge, "middle")
    queries = [bridge.calls(one).get("queryActivityRuns", 0) for one in (run_id, middle["runId"], innermost["runId"])]
    assert [1, 1, 1] == queries


def test_a_child_that_never_started(bridge: Bridge, airflow: FakeAirflow) -> None:
    """Where there is no run to follow, the activity that could not start it is told."""
    _, token, run_id = bridge.parked(airflow, pipeline="lost")
    eventually(lambda: all(one["status"] in TERMINAL for one in runs_of(bridge, "lost")), within=PATIENCE)
    bridge.deliver(run_event(run_id, "Failed"))
    bridge.until(token, *FINAL)
    [patch] = airflow.patches
    told = patch.body["params_input"]["failed_activity"]
    assert ("Run nowhere", "ExecutePipeline", "PipelineNotFound", []) == (
        *(told[name] for name in ("name", "type", "error_code")),
        told["path"],
    )
