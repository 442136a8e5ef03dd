"""Wait, Fail, Set Variable and If Condition in the local Data Factory, and what holds for every activity."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.component.adf_stage import Stage, choose, control, expression, held, running_stage, set_variable, web
from tests.component.stand_ins import activity
from tests.component.web_endpoint import Answer


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One Data Factory for all tests of this module."""
    with running_stage(tmp_path_factory.mktemp("adf")) as running:
        yield running


def test_a_wait_may_be_an_expression(stage: Stage) -> None:
    """The seconds to wait may be reckoned from a parameter."""
    wait = control("Pause", "Wait", waitTimeInSeconds=expression("@div(pipeline().parameters.tenths, 10.0)"))
    run_id = stage.play("waiting", wait, given={"tenths": 3}, parameters={"tenths": {"type": "int"}})
    pause = stage.last(run_id, "Pause")

    assert ("Succeeded", {"waitTimeInSeconds": 0.3}) == (pause.status, pause.input)
    assert 300 <= pause.duration_in_ms < 1500


@pytest.mark.parametrize(
    ("properties", "code", "message"),
    [
        ({"message": "No @{pipeline().Pipeline}.", "errorCode": "404"}, "404", "No failing."),
        ({"message": " ", "errorCode": "404"}, "404", "Failed to interpret Stop fail message or error code"),
        ({"message": "Boom."}, "ErrorCodeNotString", "Boom."),
        ({"message": "@gone()", "errorCode": "1"}, "1", "Failed to interpret Stop fail message or error code"),
    ],
)
def test_a_fail_activity_ends_with_its_error(stage: Stage, properties: dict[str, Any], code: str, message: str) -> None:
    """Activity and run fail with message and code, and with Data Factory's own where one is missing."""
    run_id = stage.play("failing", control("Stop", "Fail", **properties))

    assert f"Operation on target Stop failed: {message}" == stage.adf.get(run_id).message
    assert {
        "errorCode": code,
        "message": message,
        "failureType": "UserError",
        "target": "Stop",
        "details": "",
    } == stage.last(run_id, "Stop").error


def test_variables_begin_with_their_default_and_can_be_set(stage: Stage) -> None:
    """Later activities see a variable's new value; a variable that was not set keeps its default."""
    variables = {
        "state": {"type": "String", "defaultValue": "idle"},
        "items": {"type": "Array", "defaultValue": ["a"]},
        "ready": {"type": "Boolean"},
    }
    run_id = stage.play(
        "remembering",
        set_variable("Set state", "state", expression("@concat(variables('state'), '!')")),
        set_variable(
            "Set ready", "ready", expression("@contains(variables('items'), 'a')"), {"Set state": "Succeeded"}
        ),
        set_variable(
            "Set all",
            "state",
            "@{variables('state')} @{variables('ready')} @{variables('items')}",
            {"Set ready": "Succeeded"},
        ),
        variables=variables,
    )

    assert {"name": "state", "value": 'idle! True ["a"]'} == stage.last(run_id, "Set all").output


def test_a_variable_keeps_its_type(stage: Stage) -> None:
    """A value of another type fails the activity."""
    run_id = stage.play("typed", set_variable("Set", "state", 1), variables={"state": {"type": "String"}})

    assert "The variable 'state' only supports values of types 'String'." in str(stage.adf.get(run_id).message)


def test_an_expression_that_cannot_be_evaluated_fails_its_activity(stage: Stage) -> None:
    """The activity's error holds the reason, and the code InvalidTemplate."""
    run_id = stage.play(
        "wrong", set_variable("Set", "state", "@activity('Set').output.x"), variables={"state": {"type": "String"}}
    )
    error = stage.last(run_id, "Set").error

    assert ("InvalidTemplate", True) == (error["errorCode"], "property 'x' doesn't exist" in error["message"])


@pytest.mark.parametrize(("size", "ran"), [(11, ["Choose", "Big"]), (9, ["Choose", "Small"])])
def test_an_if_condition_executes_one_branch(stage: Stage, size: int, ran: list[str]) -> None:
    """Only the activities of the branch that the expression chooses are executed, in their order."""
    choice = choose(
        "@greater(pipeline().parameters.size, 10)",
        [control("Big", "Wait", waitTimeInSeconds=0)],
        [control("Small", "Wait", waitTimeInSeconds=0)],
    )
    run_id = stage.play("choosing", choice, given={"size": size}, parameters={"size": {"type": "int"}})

    assert "Succeeded" == stage.adf.get(run_id).status
    assert ran == [one.activity_name for one in stage.adf.activity_runs(run_id)]


def test_an_inner_failure_fails_the_if_condition(stage: Stage) -> None:
    """An inner leaf that fails fails the whole activity, and what depends on its success is skipped."""
    inner = [control("Stop", "Fail", message="Boom.", errorCode="1"), activity("Next", after={"Stop": "Succeeded"})]
    run_id = stage.play("inner failure", choose("@true", inner, []), activity("After", after={"Choose": "Succeeded"}))
    message = "Activity failed because an inner activity failed; Inner activity name: Stop, Error: Boom."

    assert ("ActionFailed", message) == tuple(
        stage.last(run_id, "Choose").error[field] for field in ("errorCode", "message")
    )
    assert f"Operation on target Choose failed: {message}" == stage.adf.get(run_id).message
    assert ["Choose", "Stop"] == [one.activity_name for one in stage.adf.activity_runs(run_id)]


def test_a_failure_that_is_handled_inside_a_branch_is_hidden_there(stage: Stage) -> None:
    """The rule of the leaves holds inside a branch as it does in a pipeline."""
    inner = [control("Stop", "Fail", message="Boom.", errorCode="1"), activity("Clean", after={"Stop": "Failed"})]
    run_id = stage.play("inner handling", choose("@true", inner, []))

    assert "Succeeded" == stage.adf.get(run_id).status


def test_a_condition_must_be_true_or_false(stage: Stage) -> None:
    """Text that says `true` is no condition."""
    run_id = stage.play("undecided", choose("@concat('true')", [], []))

    assert "It is of type 'String'." in str(stage.adf.get(run_id).message)


def test_an_activity_that_takes_too_long_fails(stage: Stage) -> None:
    """The policy's time-out ends an activity, whatever it is, and its dependants go on."""
    slow = {**held(), "policy": {"timeout": "0.00:00:00.1"}}
    url = stage.endpoint.answer("/slow", Answer(silent=True))
    runs = [stage.play("slow", slow), stage.play("slow call", web(url, {"timeout": "0.00:00:00.1"}))]

    assert [
        (
            "Failed",
            "Operation on target Hold failed: The activity Hold did not end within its timeout of 0.00:00:00.1.",
        ),
        (
            "Failed",
            "Operation on target Call failed: The activity Call did not end within its timeout of 0.00:00:00.1.",
        ),
    ] == [(run.status, run.message) for run in map(stage.adf.get, runs)]
    assert "Timeout" == stage.last(runs[0], "Hold").error["errorCode"]


def test_control_activities_know_neither_retries_nor_time_outs(stage: Stage) -> None:
    """A policy of a Wait or of a Fail changes nothing, as in Data Factory."""
    policy = {"timeout": "0.00:00:00.05", "retry": 2, "retryIntervalInSeconds": 1}
    pause = {**control("Pause", "Wait", waitTimeInSeconds=0.15), "policy": policy}
    stop = {**control("Stop", "Fail", {"Pause": "Succeeded"}, message="Boom.", errorCode="1"), "policy": policy}
    run_id = stage.play("plain", pause, stop)

    assert [("Pause", "Succeeded"), ("Stop", "Failed")] == [
        (one.activity_name, one.status) for one in stage.adf.activity_runs(run_id)
    ]
