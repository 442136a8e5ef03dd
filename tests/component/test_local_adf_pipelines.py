"""Pipelines that are put into the local Data Factory and taken out of it, with Microsoft's client."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.mgmt.datafactory.models import (
    ExecutePipelineActivity,
    ExecutePipelineActivityTypeProperties,
    ParameterSpecification,
    Pipeline,
    PipelineReference,
    PipelineResource,
    WaitActivity,
    WaitActivityTypeProperties,
)

from tests.component.stand_ins import FACTORY, GROUP, Adf, activity, running_adf


@pytest.fixture(scope="module")
def adf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adf]:
    """A factory with one pipeline in its folder, for all tests of this module."""
    with running_adf(tmp_path_factory.mktemp("adf"), {"of the folder": [activity("Load")]}) as running:
        yield running


def put(adf: Adf, name: str, pipeline: Any, **options: Any) -> PipelineResource:
    """Create a pipeline or change it: the client's model, or the properties."""
    given = pipeline if isinstance(pipeline, PipelineResource) else cast("PipelineResource", {"properties": pipeline})
    return adf.client.pipelines.create_or_update(GROUP, FACTORY, name, given, **options)


def waiting(*after: str, description: str = "") -> dict[str, Any]:
    """The properties of a pipeline that waits for no time at all."""
    wait = {**activity("Pause", "Wait", dict.fromkeys(after, "Succeeded")), "userProperties": []}
    return {"activities": [{**wait, "typeProperties": {"waitTimeInSeconds": 0}}], "description": description}


def executing(name: str) -> dict[str, Any]:
    """The properties of a pipeline that runs another one."""
    reference = {"referenceName": name, "type": "PipelineReference"}
    return {"activities": [{"name": "Run", "type": "ExecutePipeline", "typeProperties": {"pipeline": reference}}]}


def names(adf: Adf) -> list[str | None]:
    """Every pipeline's name."""
    return [one.name for one in adf.client.pipelines.list_by_factory(GROUP, FACTORY)]


def test_a_pipeline_of_the_clients_models_can_be_put_and_run(adf: Adf) -> None:
    """What was put is answered, listed, read and run, at once."""
    pause = WaitActivity(
        name="Pause",
        type_properties=WaitActivityTypeProperties(
            wait_time_in_seconds={"value": "@pipeline().parameters.seconds", "type": "Expression"}
        ),
    )
    run = ExecutePipelineActivity(
        name="Run",
        type_properties=ExecutePipelineActivityTypeProperties(
            pipeline=PipelineReference(type="PipelineReference", reference_name="of the folder"),
            wait_on_completion=True,
        ),
    )
    parameters = {"seconds": ParameterSpecification(type="int", default_value=0)}
    made = put(adf, "made", PipelineResource(properties=Pipeline(activities=[pause, run], parameters=parameters)))
    found = adf.client.pipelines.get(GROUP, FACTORY, "MADE")
    ended = adf.wait_for(adf.create_run("made"))

    assert found is not None
    assert ("made", made.etag) == (found.name, found.etag)
    assert {"made", "of the folder"} <= set(names(adf))
    assert ("Succeeded", {"seconds": "0"}) == (ended.status, ended.parameters)


def test_a_pipeline_that_is_put_stands_over_the_folders_until_it_is_deleted(adf: Adf) -> None:
    """The file itself stays as it is; the deleted pipeline is gone, and a new one can take its name."""
    put(adf, "of the folder", waiting(description="deployed"))
    deployed = adf.client.pipelines.get(GROUP, FACTORY, "of the folder")
    adf.client.pipelines.delete(GROUP, FACTORY, "made")
    adf.client.pipelines.delete(GROUP, FACTORY, "of the folder")

    assert deployed is not None
    assert "deployed" == deployed.properties.description
    assert "of the folder" not in names(adf)
    with pytest.raises(ResourceNotFoundError):
        adf.create_run("of the folder")
    put(adf, "of the folder", waiting())
    assert "of the folder" in names(adf)


def test_deleting_what_is_not_there_is_no_error(adf: Adf) -> None:
    """Deleting twice is the same as deleting once."""
    adf.client.pipelines.delete(GROUP, FACTORY, "nothing")


def test_an_etag_guards_against_writing_over_others_work(adf: Adf) -> None:
    """If-Match takes the standing version only; If-None-Match takes none."""
    old = put(adf, "guarded", waiting(description="first"))
    new = put(
        adf, "guarded", waiting(description="second"), etag=old.etag, match_condition=MatchConditions.IfNotModified
    )

    with pytest.raises(ResourceModifiedError):
        put(adf, "guarded", waiting(), etag=old.etag, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceExistsError):
        put(adf, "guarded", waiting(), match_condition=MatchConditions.IfMissing)
    with pytest.raises(ResourceNotFoundError):
        put(adf, "not there", waiting(), match_condition=MatchConditions.IfPresent)
    unchanged = adf.client.pipelines.get(
        GROUP, FACTORY, "guarded", etag=new.etag, match_condition=MatchConditions.IfModified
    )
    assert unchanged is None


@pytest.mark.parametrize(
    ("name", "properties", "words"),
    [
        pytest.param("x", waiting("Nothing"), "depends on Nothing, which does not exist", id="an arrow from nowhere"),
        pytest.param("x", {}, "activities must be a list", id="no activities"),
        pytest.param("x", None, "properties must be an object", id="no properties"),
        pytest.param("x", executing("nothing"), "references nothing, which does not exist", id="an unknown pipeline"),
        pytest.param("a.b", waiting(), "The pipeline name 'a.b' is not valid.", id="a name with a dot"),
        pytest.param(
            "x", {**waiting(), "parameters": {"day": {"type": "date"}}}, "has the type 'date'", id="an unknown type"
        ),
        pytest.param(
            "x",
            {**waiting(), "parameters": {f"p{number}": {"type": "int"} for number in range(51)}},
            "can have 50 parameters, not 51",
            id="too many parameters",
        ),
        pytest.param("x", {**waiting(), "concurrency": 0}, "concurrency must be", id="no concurrency at all"),
    ],
)
def test_a_pipeline_that_cannot_run_is_not_taken(adf: Adf, name: str, properties: Any, words: str) -> None:
    """It is 400 in ARM's shape, and says what is wrong."""
    with pytest.raises(HttpResponseError, match=words) as refusal:
        put(adf, name, properties)

    assert refusal.value.error is not None
    assert (400, "BadRequest") == (refusal.value.status_code, refusal.value.error.code)


def test_a_pipeline_that_another_one_runs_cannot_be_deleted(adf: Adf) -> None:
    """First the one that runs it, then itself."""
    put(adf, "inner", waiting())
    put(adf, "outer", executing("inner"))

    with pytest.raises(HttpResponseError, match="cannot be deleted since it is referenced by outer"):
        adf.client.pipelines.delete(GROUP, FACTORY, "inner")
    adf.client.pipelines.delete(GROUP, FACTORY, "outer")
    adf.client.pipelines.delete(GROUP, FACTORY, "inner")


def test_putting_and_deleting_are_counted_and_can_fail(adf: Adf) -> None:
    """The log of calls and the planned faults know both operations."""
    adf.control.post("faults", {"op": "putPipeline", "status": 429, "retry_after": 0})
    put(adf, "counted", waiting())
    adf.client.pipelines.delete(GROUP, FACTORY, "counted")
    counts = adf.control.get("calls")["by_operation"]

    assert counts["putPipeline"] >= 2
    assert counts["deletePipeline"] >= 1
