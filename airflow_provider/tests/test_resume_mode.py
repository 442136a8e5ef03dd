"""What only mode resume does: Airflow's `awaiting_input`, and the answers that people may give there."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput
from bridge_stand_in import MONITOR, BridgeStandIn
from conftest import Supervisor, TaskInstance
from worker import NOW, Task, answer

from airflow_adf_bridge import parking, waiting
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRunFailed
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.sensors import AdfBridgeRunSensor

XCOM = {
    "run_id": "run-1",
    "watched_run_id": None,
    "status": "Succeeded",
    "pipeline": "ingest",
    "run_start": "2026-01-01T00:00:00+00:00",
    "run_end": "2026-01-01T00:00:16+00:00",
    "monitor_url": MONITOR + "run-1",
}
NEXT: dict[str, Any] = {"pipeline_name": "publish"}


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task on the first second of 2026."""
    monkeypatch.setattr(waiting, "_now", lambda: NOW)
    return Task(AdfBridgeRunPipelineOperator, connect(), ti, {"pipeline_name": "ingest"})


@pytest.fixture
def sensor(task: Task) -> Task:
    """A sensor at the same time."""
    return Task(AdfBridgeRunSensor, task.hook, task.ti)


def test_a_task_parks_with_the_options_that_never_change(supervisor: Supervisor, task: Task) -> None:
    """A waiting task parks with the five options, a fixed subject, and a margin over its own deadline."""
    parked = task.park(timeout=3600)
    (asked,) = supervisor.asked
    assert (
        ["Succeeded", "Failed", "Cancelled", "Expired", "Unknown"],
        waiting.SUBJECT,
        "execute_complete",
        timedelta(hours=1, minutes=10),
    ) == (asked.options, asked.subject, parked.method_name, parked.timeout)


def test_a_run_id_that_cannot_be_addressed_starts_nothing(bridge: BridgeStandIn, task: Task) -> None:
    """S33: a DAG run whose id has a slash cannot be resumed over REST, so its task refuses to start a run."""
    task.ti.run_id = "a/b"
    with pytest.raises(AdfBridgeConfigurationError, match="slash"):
        task.run()
    assert [] == bridge.calls


def test_an_airflow_that_cannot_park_starts_nothing(
    bridge: BridgeStandIn, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S44: on an Airflow before 3.3 the task says so before a run is started."""
    monkeypatch.setattr(parking, "CAN_PARK", False)
    with pytest.raises(AdfBridgeConfigurationError, match=r"needs Airflow 3\.3"):
        task.run()
    assert [] == bridge.calls


def test_an_answer_for_another_try_is_not_taken(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S15: an answer with a foreign token completes nothing; the task parks again for the time that is left."""
    parked = task.park(timeout=3600)
    foreign = {"status": "Failed", "token": "0" * 64}
    with pytest.raises(TaskAwaitingInput) as again:
        task.resume(parked, answer(foreign), timeout=3600)
    expected = ("GET", "/api/waits/" + task.token, parked.kwargs, parked.timeout, 2)
    last = bridge.calls[-1]
    assert expected == (last.method, last.path, again.value.kwargs, again.value.timeout, len(supervisor.asked))


def test_after_an_answer_for_another_try_the_bridge_s_own_word_counts(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S15: if the run of this try has ended as well, its own outcome is taken from the bridge."""
    parked = task.park()
    bridge.complete(task.token, "Succeeded")
    assert XCOM == task.resume(parked, answer({"status": "Failed", "token": "0" * 64}))


def test_a_person_s_answer_is_taken_and_logged_by_name(
    supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S16: an answer without a token is a person's; it is the outcome, and the log says whose it was."""
    parked = task.park()
    event = {"chosen_options": ["Succeeded"], "params_input": {}, "responded_by_user": {"id": "7", "name": "Ada"}}
    result = task.resume(parked, event)
    log = capsys.readouterr().out
    assert ("Succeeded", "run-1", True) == (result["status"], result["run_id"], "Ada answered Succeeded" in log)


def test_a_person_can_fail_a_task(supervisor: Supervisor, task: Task) -> None:
    """S16: a person's Failed fails the task, and the failure says that it was a person's."""
    parked = task.park()
    event = {"chosen_options": ["Failed"], "params_input": {}, "responded_by_user": {"id": "7", "name": "Ada"}}
    with pytest.raises(AdfBridgeRunFailed, match="So answered by Ada"):
        task.resume(parked, event)


def test_the_options_of_a_parked_task_never_change() -> None:
    """A task parked under an older version can still be answered: the options are what they were from the first day."""
    assert ("Succeeded", "Failed", "Cancelled", "Expired", "Unknown") == parking.OPTIONS


# ---- the sensor


def test_a_dag_run_that_cannot_be_addressed_registers_nothing(bridge: BridgeStandIn, sensor: Task) -> None:
    """S33: a DAG run whose id has a slash cannot be resumed over REST, so its sensor refuses to wait."""
    sensor.ti.run_id = "a/b"
    with pytest.raises(AdfBridgeConfigurationError, match="slash"):
        sensor.run(**NEXT)
    assert [] == bridge.calls


def test_an_airflow_that_cannot_park_registers_nothing(
    bridge: BridgeStandIn, sensor: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S44: on an Airflow before 3.3 the sensor says so before anything is sent."""
    monkeypatch.setattr(parking, "CAN_PARK", False)
    with pytest.raises(AdfBridgeConfigurationError, match=r"needs Airflow 3\.3.*sensor that polls"):
        sensor.run(**NEXT)
    assert [] == bridge.calls


def test_a_sensor_does_not_take_an_answer_for_another_try(
    bridge: BridgeStandIn, supervisor: Supervisor, sensor: Task
) -> None:
    """S15: an answer with a foreign token completes nothing; the task asks the bridge once and parks again."""
    parked = sensor.park(**NEXT)
    with pytest.raises(TaskAwaitingInput) as again:
        sensor.resume(parked, answer({"status": "Succeeded", "token": "0" * 64}), **NEXT)
    last = bridge.calls[-1]
    assert ("GET", "/api/waits/" + sensor.token, parked.kwargs, parked.timeout) == (
        last.method,
        last.path,
        again.value.kwargs,
        again.value.timeout,
    )


def test_a_person_may_answer_before_there_is_a_run(supervisor: Supervisor, sensor: Task) -> None:
    """S16: an answer without a token is a person's; it lets the task go on without a run."""
    parked = sensor.park(**NEXT)
    event = {"chosen_options": ["Succeeded"], "params_input": {}, "responded_by_user": {"id": "7", "name": "Ada"}}
    result = sensor.resume(parked, event, **NEXT)
    assert ("Succeeded", "publish", "") == (result["status"], result["pipeline"], result["run_id"])
