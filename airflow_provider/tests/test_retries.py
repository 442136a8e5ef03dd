"""What a try does about the run of the try before: what it asks the bridge for, and what it tells of the answer."""

from collections.abc import Callable
from typing import Any

import pytest
from bridge_stand_in import MONITOR, BridgeStandIn
from conftest import Supervisor, TaskInstance
from worker import Task

from airflow_adf_bridge.errors import AdfBridgeRunFailed
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

RETRIES = 2


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, mode: str) -> Task:
    """A task with two retries, before its first try."""
    ti.max_tries = RETRIES
    return Task(
        AdfBridgeRunPipelineOperator, connect(), ti, {"pipeline_name": "ingest", "retries": RETRIES, "mode": mode}
    )


def again(task: Task, after: str) -> None:
    """Let the task's next try come, after it was retried or cleared."""
    task.ti = getattr(task.ti, {"retry": "retried", "clear": "cleared"}[after])(RETRIES)


# ---- what is asked for


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(
    ("arguments", "after", "previous"),
    [
        ({}, "retry", {"do": "reattach", "after": "retry", "since_try": 1}),
        ({}, "clear", None),
        ({"on_retry": "recover"}, "retry", {"do": "recover", "after": "retry", "since_try": 1}),
        ({"on_retry": "recover"}, "clear", None),
        ({"on_retry": "rerun"}, "retry", None),
        ({"on_clear": "reattach"}, "clear", {"do": "reattach", "after": "clear", "since_try": 2}),
        ({"on_clear": "recover", "on_retry": "rerun"}, "clear", {"do": "recover", "after": "clear", "since_try": 2}),
        ({"on_clear": "recover", "on_retry": "rerun"}, "retry", None),
    ],
)
def test_a_later_try_says_what_it_does_about_the_one_before(
    bridge: BridgeStandIn, task: Task, arguments: dict[str, Any], after: str, previous: dict[str, str] | None
) -> None:
    """S14: the try after a retry follows on_retry, the one after a clear on_clear; a rerun asks for nothing."""
    task.park(**arguments)
    again(task, after)
    task.park(**arguments)
    assert [None, previous] == [call.body.get("previous") for call in bridge.calls]


def test_a_task_that_does_not_wait_goes_on_with_nothing(bridge: BridgeStandIn, task: Task) -> None:
    """Without a wait there is nothing by which the bridge could know the task's other tries: nothing is asked for."""
    again(task, "retry")
    task.run(wait_for_termination=False, on_retry="recover")
    assert "previous" not in bridge.calls[0].body


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(
    ("arguments", "tries", "kept"),
    [
        ({"on_abandon": "cancel"}, ["retry"], True),
        ({"on_abandon": "leave"}, ["retry"], False),
        ({"on_abandon": "cancel", "on_retry": "rerun"}, ["retry"], False),
        ({"on_abandon": "cancel", "on_retry": "recover"}, [], True),
        ({"on_abandon": "cancel"}, ["retry", "retry"], False),
        ({"on_abandon": "cancel"}, ["retry", "retry", "clear"], True),
        ({"on_abandon": "cancel", "on_clear": "reattach"}, ["retry", "retry"], True),
        ({"on_abandon": "cancel", "on_clear": "reattach", "on_retry": "rerun"}, [], True),
    ],
)
def test_a_run_is_kept_where_a_next_try_may_take_it(
    bridge: BridgeStandIn, task: Task, arguments: dict[str, Any], tries: list[str], *, kept: bool
) -> None:
    """S14: a wait says that its run is kept for a next try exactly if one may come and may take it."""
    for after in tries:
        again(task, after)
    task.park(**arguments)
    assert kept == bridge.calls[0].body["wait"].get("keep_for_next_try", False)


# ---- what comes of it


def test_a_retry_goes_on_with_the_run_that_still_runs(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S14: a try whose process died leaves a run that the retry waits for, and the log says so. There is one run."""
    task.park()
    again(task, "retry")
    task.park()
    log = capsys.readouterr().out
    assert (["run-1", "run-1"], 2, "run-1", True) == (
        [run["run_id"] for run in bridge.runs.values()],
        len(bridge.runs),
        task.ti.xcoms["run_id"],
        "Going on with run run-1 of pipeline ingest" in log and "The previous try's run run-1 goes on." in log,
    )


def test_a_retry_takes_the_success_that_came_meanwhile(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S14: a run that succeeded before its task's retry began is the retry's, which never parks."""
    task.park()
    bridge.complete(task.token, "Succeeded")
    again(task, "retry")
    assert "run-1" == task.run()["run_id"]


def test_a_retry_recovers_a_run_that_failed(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S14: on_retry="recover" runs a failed run again, and the log names the new run and the old one."""
    task.park(on_retry="recover")
    bridge.complete(task.token, "Failed")
    again(task, "retry")
    task.park(on_retry="recover")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "run run-2" in line]
    assert ("run-2", True, False) == (
        task.ti.xcoms["run_id"],
        "Running an earlier run again, as run run-2" in line and "previous try's run run-1 failed" in line,
        "warning" in line.lower(),
    )


@pytest.mark.parametrize("policy", ["reattach", "recover"])
def test_a_retry_with_other_parameters_warns_that_it_starts_anew(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    """S14: where a try could not go on from the one before, the log says why, as a warning."""
    task.park(on_retry=policy, parameters={"try": "1"})
    again(task, "retry")
    task.park(on_retry=policy, parameters={"try": "2"})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Started run run-2" in line]
    assert (True, True) == ("with other parameters" in line, "warning" in line.lower())


def test_a_first_start_is_no_warning(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task's first run is logged with its link, as a matter of course."""
    task.park()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Started run run-1 of pipeline ingest" in line]
    assert (True, False) == (MONITOR + "run-1" in line, "warning" in line.lower())


def test_an_adopted_run_is_told(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S19: when the bridge has found the run whose start was in doubt, the log says that, too."""
    start = {"how": "adopted", "why": "Its answer was lost."}
    bridge.refuse(202, {"run": {"run_id": "r9", "monitor_url": "https://m/r9"}, "start": start})
    task.park()
    assert "Found the run that had been started for this try: run r9" in capsys.readouterr().out


def test_a_bridge_that_does_not_say_how_is_understood(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older bridge's answer has no `start`: the task takes the run as started."""
    bridge.refuse(202, {"run": {"run_id": "r9", "monitor_url": "https://m/r9"}})
    task.park()
    assert "Started run r9" in capsys.readouterr().out


def test_a_retry_needs_nothing_of_what_the_try_before_left_in_airflow(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S14: Airflow forgets the XComs of a try that is retried; the next one goes on all the same."""
    task.park()
    again(task, "retry")
    assert {} == task.ti.xcoms
    parked = task.park()
    with pytest.raises(AdfBridgeRunFailed, match="Run run-1"):
        task.resume(parked, {"chosen_options": ["Failed"], "params_input": bridge.complete(task.token, "Failed")})


# ---- recovering a run that is named


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(
    ("arguments", "recover_from"),
    [
        ({"start_from_failure": True}, {"run_id": "r0", "mode": "from_failure"}),
        ({"start_activity_name": "Copy"}, {"run_id": "r0", "mode": "from_activity", "activity": "Copy"}),
        ({}, {"run_id": "r0", "mode": "all"}),
        ({"parameters": {}}, {"run_id": "r0", "mode": "all"}),
    ],
)
def test_a_named_run_is_run_again(
    bridge: BridgeStandIn,
    task: Task,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, Any],
    recover_from: dict[str, str],
) -> None:
    """The arguments of Airflow's own operator ask for a recovery, and no parameters go with it."""
    task.park(reference_pipeline_run_id="r0", is_recovery=True, **arguments)
    (call,) = bridge.calls
    assert (recover_from, False) == (call.body["recover_from"], "parameters" in call.body)
    assert "Running an earlier run again, as run run-1" in capsys.readouterr().out


def test_a_retry_of_a_recovery_asks_for_the_same(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S14: the retry of a recovery names the same run again, and goes on with what the first try started."""
    arguments = {"reference_pipeline_run_id": "r0", "is_recovery": True, "start_from_failure": True}
    task.park(**arguments)
    again(task, "retry")
    task.park(**arguments)
    first, second = (call.body for call in bridge.calls)
    assert (first["recover_from"], {"do": "reattach", "after": "retry", "since_try": 1}, "run-1") == (
        second["recover_from"],
        second["previous"],
        task.ti.xcoms["run_id"],
    )
