"""Runs in the local Data Factory, as Microsoft's client sees them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.component.stand_ins import FACTORY, GROUP, Adf, activity, eventually, running_adf, write_pipeline

PIPELINES = {
    "quick": {
        "activities": [{**activity("Pause", "Wait"), "typeProperties": {"waitTimeInSeconds": 0}}],
        "parameters": {"rows": {"type": "int", "defaultValue": 7}, "tags": {"type": "array", "defaultValue": ["a"]}},
    },
    "pausing": {
        "activities": [
            {
                "name": "Pause",
                "type": "Wait",
                "typeProperties": {
                    "waitTimeInSeconds": {"type": "Expression", "value": "@pipeline().parameters.seconds"}
                },
            }
        ],
        "parameters": {"seconds": {"type": "float"}},
    },
    "failing": {
        "activities": [
            activity("Load"),
            {
                "name": "Stop",
                "type": "Fail",
                "dependsOn": [{"activity": "Load", "dependencyConditions": ["Succeeded"]}],
                "typeProperties": {"message": "No rows in @{pipeline().parameters.table}.", "errorCode": "404"},
            },
        ],
        "parameters": {"table": {"type": "string"}},
    },
    "masking": [activity("Load", localErrorCode="2200"), activity("Clean up", after={"Load": "Failed"})],
    "flaky": {
        "activities": [
            activity(
                "Load",
                localErrorCode="2200",
                localErrorMessage="The source was away.",
                localFailTimes=1,
                localFailTimesPer="@pipeline().parameters.order",
            )
        ],
        "parameters": {"order": {"type": "string"}},
    },
    "recoverable": {
        "activities": [
            activity("Extract"),
            activity("Load", after={"Extract": "Succeeded"}, localErrorCode="1", localFailTimes=1),
            activity("Report", after={"Load": "Succeeded"}),
        ],
        "parameters": {"day": {"type": "string", "defaultValue": "monday"}},
    },
    "held": [activity("Load", localSeconds="held")],
    "edited": [activity("Load")],
}


@pytest.fixture(scope="module")
def adf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adf]:
    """A factory with the pipelines above, for all tests of this module."""
    with running_adf(tmp_path_factory.mktemp("adf"), PIPELINES) as running:
        yield running


def test_a_run_ends_with_every_field_of_the_vendors_model(adf: Adf) -> None:
    """A run that succeeds tells its times, its parameters as text, who invoked it, and an empty message."""
    run = adf.wait_for(adf.create_run("quick", {"rows": 3}))

    assert ("Succeeded", "", "quick", {"rows": "3", "tags": '["a"]'}) == (
        run.status,
        run.message,
        run.pipeline_name,
        run.parameters,
    )
    assert run.run_id == run.run_group_id
    assert run.is_latest
    assert run.invoked_by is not None
    assert "Manual" == run.invoked_by.invoked_by_type
    assert run.run_start is not None
    assert run.run_end is not None
    assert run.last_updated is not None
    assert run.run_start < run.run_end <= run.last_updated
    assert round((run.run_end - run.run_start).total_seconds() * 1000) == run.duration_in_ms


def test_a_new_run_is_queued_then_in_progress(adf: Adf) -> None:
    """A run without an end is Queued first and InProgress next, with neither an end nor a duration."""
    run_id = adf.create_run("held")

    assert "Queued" == adf.get(run_id).status
    run = adf.wait_for(run_id, "InProgress")
    assert (None, None) == (run.run_end, run.duration_in_ms)


def test_a_wait_takes_the_time_that_a_parameter_says(adf: Adf) -> None:
    """The time of a Wait activity may be an expression over the run's parameters."""
    run = adf.wait_for(adf.create_run("pausing", {"seconds": 0.3}))

    assert "Succeeded" == run.status
    assert 300 <= (run.duration_in_ms or 0) < 2000


def test_a_failed_run_names_the_target_and_its_error(adf: Adf) -> None:
    """A failed run says which target failed and why, and the activity run holds code, type and target."""
    run_id = adf.create_run("failing", {"table": "orders"})
    run = adf.wait_for(run_id)

    assert ("Failed", "Operation on target Stop failed: No rows in orders.") == (run.status, run.message)
    load, stop = adf.activity_runs(run_id)
    assert ("Load", "Copy", "Succeeded") == (load.activity_name, load.activity_type, load.status)
    assert {
        "errorCode": "404",
        "message": "No rows in orders.",
        "failureType": "UserError",
        "target": "Stop",
        "details": "",
    } == stop.error


def test_a_handled_failure_ends_as_success(adf: Adf) -> None:
    """A failure with nothing but a failure branch behind it is masked, as in Data Factory."""
    run_id = adf.create_run("masking")

    assert "Succeeded" == adf.wait_for(run_id).status
    assert [("Load", "Failed"), ("Clean up", "Succeeded")] == [
        (one.activity_name, one.status) for one in adf.activity_runs(run_id)
    ]


def test_a_declared_failure_happens_so_many_times_per_value(adf: Adf) -> None:
    """An activity that fails once per order succeeds when that order comes again, and fails for the next one."""
    orders = ["a", "a", "b"]

    assert ["Failed", "Succeeded", "Failed"] == [
        adf.wait_for(adf.create_run("flaky", {"order": order})).status for order in orders
    ]


def test_a_recovery_keeps_group_and_parameters_and_runs_only_what_failed(adf: Adf) -> None:
    """A recovery run takes the old parameters, joins the old group as its latest, and skips what succeeded."""
    first = adf.wait_for(adf.create_run("recoverable", {"day": "friday"}))
    second = adf.wait_for(
        adf.create_run(
            "recoverable",
            {"day": "sunday"},
            reference_pipeline_run_id=first.run_id,
            is_recovery=True,
            start_from_failure=True,
        )
    )

    assert ("Failed", "Succeeded") == (first.status, second.status)
    assert (first.run_group_id, {"day": "friday"}) == (second.run_group_id, second.parameters)
    assert (False, True) == (adf.get(str(first.run_id)).is_latest, second.is_latest)
    assert ["Load", "Report"] == [one.activity_name for one in adf.activity_runs(str(second.run_id))]


def test_a_recovery_of_an_unknown_run_is_refused(adf: Adf) -> None:
    """A run to recover that does not exist is refused in Data Factory's words."""
    with pytest.raises(HttpResponseError) as refusal:
        adf.create_run("quick", reference_pipeline_run_id="nothing")

    assert (400, "ReferencedPipelineRunNotValid") == (refusal.value.status_code, _code(refusal.value))


def test_cancelling_goes_through_canceling(adf: Adf) -> None:
    """A cancelled run is Canceling first, and ends Cancelled with its activities."""
    run_id = adf.create_run("held")
    adf.wait_for(run_id, "InProgress")
    adf.client.pipeline_runs.cancel(GROUP, FACTORY, run_id, is_recursive=True)

    assert "Canceling" == adf.get(run_id).status
    assert "Cancelled" == adf.wait_for(run_id).status
    assert ["Cancelled"] == [one.status for one in adf.activity_runs(run_id)]


def test_a_run_that_has_ended_cannot_be_cancelled(adf: Adf) -> None:
    """Cancelling an ended run is the error PipelineRunNotRunning, in the service's words."""
    run_id = adf.create_run("quick")
    adf.wait_for(run_id)

    with pytest.raises(HttpResponseError) as refusal:
        adf.client.pipeline_runs.cancel(GROUP, FACTORY, run_id)

    assert (400, "PipelineRunNotRunning") == (refusal.value.status_code, _code(refusal.value))
    assert "Pipeline run has already completed with status 'Succeeded'." in refusal.value.message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"status": "Succeeded"}, ("Succeeded", ""), id="succeeded"),
        pytest.param(
            {"status": "Failed"}, ("Failed", "Operation on target Load failed: The run was told to fail."), id="failed"
        ),
        pytest.param({"status": "Failed", "message": "Boom 💥"}, ("Failed", "Boom 💥"), id="failed with a message"),
        pytest.param({"status": "Cancelled"}, ("Cancelled", ""), id="cancelled"),
    ],
)
def test_a_held_run_ends_when_it_is_told_to(adf: Adf, body: dict[str, str], expected: tuple[str, str]) -> None:
    """A held run stays InProgress until the control call, and has ended when that answers."""
    run_id = adf.create_run("held")
    adf.wait_for(run_id, "InProgress")
    adf.control.post(f"runs/{run_id}/finish", body)

    run = adf.get(run_id)
    assert expected == (run.status, run.message)


def test_pipelines_are_read_again_when_their_file_changes(adf: Adf) -> None:
    """A changed file counts for the next run; an unreadable one leaves the last good version."""
    write_pipeline(adf.pipelines, "edited", [activity("Load", localErrorCode="1")])
    assert "Failed" == adf.wait_for(adf.create_run("edited")).status

    (adf.pipelines / "edited.json").write_text("{", encoding="utf-8")
    assert "Failed" == adf.wait_for(adf.create_run("edited")).status


def test_pipelines_can_be_listed_and_read(adf: Adf) -> None:
    """The client finds each pipeline with its parameters, in any case of its name."""
    names = [one.name for one in adf.client.pipelines.list_by_factory(GROUP, FACTORY)]
    quick = adf.client.pipelines.get(GROUP, FACTORY, "QUICK")

    assert sorted(PIPELINES) == names
    assert quick is not None
    assert "quick" == quick.name


@pytest.mark.parametrize(
    ("pipeline", "parameters", "status", "code"),
    [
        pytest.param("nothing", {}, 404, "PipelineNotFound", id="unknown pipeline"),
        pytest.param("failing", {}, 400, "BadRequest", id="missing parameter"),
        pytest.param("pausing", {"seconds": "soon"}, 400, "BadRequest", id="wrong type"),
    ],
)
def test_a_run_that_cannot_start_is_refused(
    adf: Adf, pipeline: str, parameters: dict[str, object], status: int, code: str
) -> None:
    """An unknown pipeline is 404; a missing parameter and one of the wrong type are 400; nothing starts."""
    before = len(adf.control.get("runs")["runs"])
    with pytest.raises(HttpResponseError) as refusal:
        adf.create_run(pipeline, parameters)

    assert (status, code) == (refusal.value.status_code, _code(refusal.value))
    assert before == len(adf.control.get("runs")["runs"])


def test_an_unknown_run_is_not_found(adf: Adf) -> None:
    """Reading a run that does not exist is the client's ResourceNotFoundError."""
    with pytest.raises(ResourceNotFoundError):
        adf.get("00000000-0000-0000-0000-000000000000")


def test_the_process_leaves_at_once_on_sigterm_though_runs_are_under_way(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """SIGTERM ends the process with 0 within two seconds, whatever it holds."""
    with running_adf(tmp_path_factory.mktemp("adf"), {"held": [activity("Load", localSeconds="held")]}) as running:
        run_id = running.create_run("held")
        eventually(lambda: running.get(run_id).status == "InProgress")

        assert 0 == running.process.stop(timedelta(seconds=2))


def _code(error: HttpResponseError) -> str | None:
    return error.error.code if error.error else None
