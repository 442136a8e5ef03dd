"""What only mode queue does in a task: it is deferred with all that a triggerer needs, and takes what that tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from bridge_stand_in import BridgeStandIn
from conftest import TaskInstance
from worker import NOW, Task, answer

from airflow_adf_bridge import waiting
from airflow_adf_bridge.airflow_api import CAN_PARK
from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeListenerError, AdfBridgeRunExpired
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.modes import mode_of
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.sensors import AdfBridgeRunSensor
from airflow_adf_bridge.triggers import AdfBridgeTrigger

BEST = "resume" if CAN_PARK else "queue"
"""What this Airflow does unasked."""
SECRET = "Endpoint=sb://demo.example/;SharedAccessKeyName=n;SharedAccessKey=canary-key"


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task on the first second of 2026."""
    monkeypatch.setattr(waiting, "_now", lambda: NOW)
    return Task(AdfBridgeRunPipelineOperator, connect(), ti, {"pipeline_name": "ingest", "mode": "queue"})


# ---- deferring


def test_a_trigger_holds_the_wait_that_it_registers(bridge: BridgeStandIn, task: Task) -> None:
    """The trigger's wait is the one of the start, for the run that was started, under the same token."""
    deferred = task.park(timeout=3600, on_abandon="cancel", on_clear="reattach")
    (call,) = bridge.calls
    expected = {"factory": "sales", "run_id": "run-1", **call.body["wait"]}
    trigger = deferred.trigger
    assert ("adf_bridge_default", task.token, expected) == (trigger.adf_bridge_conn_id, trigger.token, trigger.wait)
    assert ("queue", True, False) == (
        expected["mode"],
        expected["keep_for_next_try"],
        "reply_to" in call.body["wait"],
    )
    assert ("execute_complete", timedelta(hours=1, minutes=10)) == (deferred.method_name, deferred.timeout)


def test_a_sensor_s_trigger_holds_what_was_registered(bridge: BridgeStandIn, task: Task) -> None:
    """A sensor registers its wait without a listener, so that the bridge may answer at once; the trigger does again."""
    sensor = Task(AdfBridgeRunSensor, task.hook, task.ti, {"mode": "queue"})
    deferred = sensor.park(pipeline_name="publish", since=NOW)
    assert (deferred.trigger.wait, sensor.token) == (bridge.calls[0].body, deferred.trigger.token)


def test_a_trigger_survives_being_stored(bridge: BridgeStandIn, task: Task) -> None:
    """What Airflow stores of a trigger is encrypted JSON, and another process makes the same trigger of it."""
    trigger = task.park().trigger
    row = Trigger.from_object(trigger)
    again = AdfBridgeTrigger(**json.loads(json.dumps(row.kwargs)))
    assert (trigger.serialize(), "airflow_adf_bridge.triggers.AdfBridgeTrigger") == (again.serialize(), row.classpath)


def test_no_secret_leaves_the_connection(connect: Callable[..., AdfBridgeHook], task: Task) -> None:
    """S34: neither the trigger nor what the task remembers has a key, a connection string or a caller's secret."""
    extra = {"servicebus_namespace": "", "servicebus_connection_string": SECRET, "caller_secret": "canary-secret"}
    task.hook = connect(extra)
    deferred = task.park()
    assert "canary" not in json.dumps([deferred.trigger.serialize(), deferred.kwargs])


def test_a_slash_in_the_run_s_id_does_no_harm(task: Task) -> None:
    """S33: nothing addresses the task over REST in mode queue, so any DAG run id will do."""
    task.ti.run_id = "a/b"
    assert "a/b" == task.park().trigger.wait["task"]["run_id"]


@pytest.mark.parametrize(
    ("arguments", "cancels"),
    [
        ({}, False),
        ({"on_abandon": "cancel"}, True),
        ({"on_abandon": "cancel", "on_retry": "rerun"}, True),
        ({"on_abandon": "cancel", "on_clear": "reattach"}, False),
        ({"on_abandon": "cancel", "on_clear": "recover"}, False),
    ],
)
def test_a_trigger_knows_whether_its_run_ends_with_the_task(
    task: Task, arguments: dict[str, Any], *, cancels: bool
) -> None:
    """S30: a person's clear or mark cancels the run if on_abandon says so and no cleared try may go on with it."""
    assert cancels == task.park(**arguments).trigger.cancel


def test_a_sensor_s_run_never_ends_with_the_task(task: Task) -> None:
    """S30: a run that somebody else started is left alone."""
    sensor = Task(AdfBridgeRunSensor, task.hook, task.ti, {"mode": "queue"})
    assert not sensor.park(pipeline_name="publish", since=NOW).trigger.cancel


# ---- being told


def test_what_the_triggerer_could_not_do_is_the_task_s_error(task: Task) -> None:
    """An error of the listener fails the task with its words and the run; Airflow may retry it."""
    deferred = task.park()
    event = {"error": "Mode queue needs azure-servicebus.", "error_type": "AdfBridgeConfigurationError"}
    with pytest.raises(AdfBridgeListenerError, match=r"needs azure-servicebus\. What was waited for: run run-1"):
        task.resume(deferred, event)


def test_a_timeout_of_airflow_is_told_as_in_every_mode(task: Task) -> None:
    """S29: a task that ran out of time says which run it waited for."""
    deferred = task.park()
    with pytest.raises(AdfBridgeRunExpired, match="run run-1"):
        task.resume(deferred, {"error": "timed out", "error_type": "timeout"})


def test_a_completion_of_another_try_is_not_taken(bridge: BridgeStandIn, task: Task) -> None:
    """S15: an event with a foreign token completes nothing: the task asks the bridge, and is deferred again."""
    deferred = task.park()
    with pytest.raises(type(deferred)) as again:
        task.resume(deferred, answer({"status": "Failed", "token": "0" * 64}))
    assert (deferred.trigger.serialize(), deferred.kwargs, "/api/waits/" + task.token) == (
        again.value.trigger.serialize(),
        again.value.kwargs,
        bridge.calls[-1].path,
    )


# ---- which mode


@pytest.mark.parametrize(
    ("asked", "extra", "expected"),
    [
        ("auto", "", BEST),
        ("auto", "auto", BEST),
        ("auto", "queue", "queue"),
        ("auto", "resume", "resume"),
        ("queue", "resume", "queue"),
        ("resume", "queue", "resume"),
    ],
)
def test_the_task_decides_before_the_connection_and_the_connection_before_airflow(
    asked: str, extra: str, expected: str
) -> None:
    """The mode is the task's own, else that of the connection's extra, else resume where Airflow has it."""
    assert expected == mode_of(asked, extra)


def test_a_mode_that_there_is_not_is_refused(connect: Callable[..., AdfBridgeHook], task: Task) -> None:
    """A mode that is misspelt, in a DAG or in a connection, starts nothing."""
    with pytest.raises(AdfBridgeConfigurationError, match="mode must be"):
        AdfBridgeRunPipelineOperator(task_id="t", pipeline_name="p", mode="push")
    with pytest.raises(AdfBridgeConfigurationError, match="mode must be"):
        AdfBridgeRunSensor(task_id="t", pipeline_name="p", mode="push")
    task.hook = connect({"mode": "push"})
    with pytest.raises(AdfBridgeConfigurationError, match="'push'"):
        task.run(mode="auto")


def test_the_connection_s_mode_is_taken(connect: Callable[..., AdfBridgeHook], task: Task) -> None:
    """A connection whose extra says queue defers the tasks that do not say otherwise."""
    task.hook = connect({"mode": "Queue"})
    assert "queue" == task.park(mode="auto").trigger.wait["mode"]


# ---- the queue


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"servicebus_namespace": "demo.servicebus.windows.net", "servicebus_connection_string": SECRET},
        {"servicebus_namespace": "https://demo.servicebus.windows.net/"},
        {"servicebus_namespace": "demo"},
        {"servicebus_connection_string": "SharedAccessKey=canary-key"},
    ],
)
def test_a_connection_that_names_no_queue_starts_nothing(
    connect: Callable[..., AdfBridgeHook], bridge: BridgeStandIn, task: Task, extra: dict[str, str]
) -> None:
    """S41: a missing, doubled or strange setting of the queue is told before a run is started, without its secret."""
    task.hook = connect({"servicebus_namespace": "", **extra})
    with pytest.raises(AdfBridgeConfigurationError, match="servicebus_") as raised:
        task.run()
    assert ([], False) == (bridge.calls, "canary" in str(raised.value))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (
            {"servicebus_namespace": "sb://demo.servicebus.windows.net/"},
            ("adf-bridge-completions", "demo.servicebus.windows.net", ""),
        ),
        ({"servicebus_connection_string": SECRET, "completions_queue": "mine"}, ("mine", "", SECRET)),
    ],
)
def test_a_connection_names_its_queue(extra: dict[str, str], expected: tuple[str, str, str]) -> None:
    """A queue is named by a namespace or a connection string, and has a name of its own or the usual one."""
    assert CompletionsQueue(*expected) == CompletionsQueue.of(extra, "c")


def test_the_key_of_a_connection_string_is_masked(
    connect: Callable[..., AdfBridgeHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S34: Airflow is told to mask the connection string and the key in it, and neither is shown."""
    masked: list[str] = []
    monkeypatch.setattr("airflow_adf_bridge.hooks.mask_secret", masked.append)
    queue = connect({"servicebus_namespace": "", "servicebus_connection_string": SECRET}).completions_queue
    assert ([SECRET, "canary-key"], False) == (masked, "canary" in repr(queue))
