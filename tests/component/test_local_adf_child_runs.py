"""Runs that start other runs in the local Data Factory, and runs that wait for a place."""

import json
from collections.abc import Iterator

import pytest
from azure.core.exceptions import HttpResponseError

from tests.component.adf_stage import Stage, execute, expression, held, running_stage, set_variable
from tests.component.stand_ins import FACTORY, GROUP, activity


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One Data Factory for all tests of this module."""
    with running_stage(tmp_path_factory.mktemp("adf")) as running:
        yield running


def test_a_child_gets_its_parameters_in_their_types_and_knows_its_parent(stage: Stage) -> None:
    """Numbers, lists, objects and null arrive as what they are; the child tells who invoked it."""
    values = {"n": 7, "flag": True, "list": [1, {"a": None}], "object": {"x": [1.5]}, "nothing": None, "secret": "s"}
    kinds = {
        "n": "int",
        "flag": "bool",
        "list": "array",
        "object": "object",
        "nothing": "string",
        "secret": "secureString",
    }
    parameters = {name: {"type": kind} for name, kind in kinds.items()}
    stage.write(
        "typed child",
        set_variable("Show", "seen", "@string(pipeline().parameters)"),
        set_variable("Who", "who", "@{pipeline().TriggeredByPipelineName}/@{pipeline().TriggeredByPipelineRunId}"),
        parameters=parameters,
        variables={"seen": {"type": "String"}, "who": {"type": "String"}},
    )
    passed = {name: expression(f"@pipeline().parameters.{name}") for name in values}
    parent = stage.play("typed parent", execute("typed child", parameters=passed), given=values, parameters=parameters)
    run = stage.last(parent, "Run")
    child = stage.adf.get(run.output["pipelineRunId"])

    assert {"pipelineRunId": child.run_id, "pipelineName": "typed child"} == run.output
    assert values == json.loads(stage.last(str(child.run_id), "Show").output["value"])
    assert f"typed parent/{parent}" == stage.last(str(child.run_id), "Who").output["value"]
    assert child.invoked_by is not None
    assert {
        "id": run.activity_run_id,
        "name": "Run",
        "invokedByType": "PipelineActivity",
        "pipelineName": "typed parent",
        "pipelineRunId": parent,
    } == child.invoked_by.as_dict()
    assert child.parameters is not None
    assert "**********" == child.parameters["secret"]


def test_a_parent_need_not_wait(stage: Stage) -> None:
    """Without waitOnCompletion the parent ends while its child goes on."""
    stage.write("slow child", held())
    parent = stage.play("hasty parent", execute("slow child", waits=False))
    child = stage.child_of(parent)

    assert ("Succeeded", None) == (stage.adf.get(parent).status, stage.adf.get(child).run_end)


@pytest.mark.parametrize(
    ("end", "status", "code", "words"),
    [
        ({"status": "Succeeded"}, "Succeeded", "", ""),
        ({"status": "Failed", "message": "Boom 💥"}, "Failed", "BadRequest", "Boom 💥"),
        ({"status": "Cancelled"}, "Failed", "Cancelled", "was cancelled."),
    ],
)
def test_a_parent_waits_for_its_child_and_ends_like_it(
    stage: Stage, end: dict[str, str], status: str, code: str, words: str
) -> None:
    """A child that is told to end lets its parent go on; one that fails or is cancelled fails the activity."""
    stage.write("held child", held())
    parent = stage.start("waiting parent", execute("held child"))
    child = stage.child_of(parent)
    stage.adf.wait_for(child, "InProgress")
    stage.finish(child, **end)

    assert status == stage.adf.wait_for(parent).status
    run = stage.last(parent, "Run")
    assert (code, True) == (run.error["errorCode"], run.error["message"].endswith(words))
    assert child == run.output["pipelineRunId"]


def test_a_child_that_cannot_start_fails_the_activity(stage: Stage) -> None:
    """An unknown pipeline and a missing parameter leave no run id."""
    stage.write("needy", activity("Load"), parameters={"day": {"type": "string"}})
    runs = [stage.play("lost parent", execute(name)) for name in ("nowhere", "needy")]

    assert [({}, "PipelineNotFound"), ({}, "BadRequest")] == [
        (stage.last(run_id, "Run").output, stage.last(run_id, "Run").error["errorCode"]) for run_id in runs
    ]
    assert "parameter 'day' is not provided" in str(stage.adf.get(runs[1]).message)


def family(stage: Stage) -> list[str]:
    """A run, its child and its grandchild, which goes on until it is told to end; the youngest first."""
    stage.write("grandchild", held())
    stage.write("middle", execute("grandchild"))
    parent = stage.start("top", execute("middle"))
    child = stage.child_of(parent)
    grandchild = stage.child_of(child)
    stage.adf.wait_for(grandchild, "InProgress")
    return [grandchild, child, parent]


def test_a_recursive_cancel_reaches_children_and_their_children(stage: Stage) -> None:
    """All of them end as Cancelled, the youngest first."""
    runs = family(stage)
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, runs[-1], is_recursive=True)
    ended = [stage.adf.wait_for(run_id) for run_id in runs]

    assert ["Cancelled"] * 3 == [run.status for run in ended]
    assert runs == [run.run_id for run in sorted(ended, key=lambda run: str(run["runEnd"]))]
    assert ["Cancelled"] == [one.status for one in stage.adf.activity_runs(runs[-1])]


def test_another_cancel_leaves_the_children_alone(stage: Stage) -> None:
    """Only the run itself ends; the others go on."""
    grandchild, child, parent = family(stage)
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, parent)

    assert "Cancelled" == stage.adf.wait_for(parent).status
    assert ["InProgress", "InProgress"] == [stage.adf.get(run_id).status for run_id in (child, grandchild)]


def test_runs_beyond_a_pipelines_concurrency_wait_in_line(stage: Stage) -> None:
    """One run at a time: the second stays Queued until the first ends, and a third finds the queue full."""
    first = stage.start("narrow", held(), concurrency=1)
    second = stage.adf.create_run("narrow")
    stage.adf.wait_for(first, "InProgress")
    with pytest.raises(HttpResponseError, match="Pipeline execution throttled") as refusal:
        stage.adf.create_run("narrow")

    assert (400, "Queued") == (refusal.value.status_code, stage.adf.get(second).status)
    stage.finish(first, status="Failed")
    stage.adf.wait_for(second, "InProgress")


def test_a_child_that_finds_the_queue_full_does_not_start(stage: Stage) -> None:
    """The activity fails in Data Factory's words, without a run id."""
    for _ in range(2):
        stage.start("full", held(), concurrency=1)
    parent = stage.play("turned away", execute("full"))

    assert "Pipeline execution throttled." in str(stage.adf.get(parent).message)
    assert {} == stage.last(parent, "Run").output


def test_a_queued_run_that_is_cancelled_leaves_its_place_in_the_line(stage: Stage) -> None:
    """The next one moves up."""
    first, second = stage.start("patient", held(), concurrency=1), stage.adf.create_run("patient")
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, second)
    stage.adf.wait_for(second, "Cancelled")
    third = stage.adf.create_run("patient")
    stage.finish(first, status="Succeeded")

    stage.adf.wait_for(third, "InProgress")
