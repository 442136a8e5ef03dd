"""The operator, every way through it. What Airflow's worker does around it is proved end to end elsewhere."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from bridge_stand_in import MONITOR, BridgeStandIn
from conftest import Clock, Supervisor, TaskInstance
from worker import NOW, PARKED, Task, answer

from airflow_adf_bridge import waiting
from airflow_adf_bridge.airflow_api import AirflowSkipException
from airflow_adf_bridge.errors import (
    AdfBridgeConfigurationError,
    AdfBridgeRefusedError,
    AdfBridgeRunCancelled,
    AdfBridgeRunExpired,
    AdfBridgeRunFailed,
)
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.token import TaskTry

XCOM = {
    "run_id": "run-1",
    "watched_run_id": None,
    "status": "Succeeded",
    "pipeline": "ingest",
    "run_start": "2026-01-01T00:00:00+00:00",
    "run_end": "2026-01-01T00:00:16+00:00",
    "monitor_url": MONITOR + "run-1",
}


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, mode: str) -> Task:
    """A task on the first second of 2026."""
    monkeypatch.setattr(waiting, "_now", lambda: NOW)
    return Task(AdfBridgeRunPipelineOperator, connect(), ti, {"pipeline_name": "ingest", "mode": mode})


# ---- starting


def test_a_task_asks_for_its_run_under_its_token(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, mode: str
) -> None:
    """The key of a start is the token of this very try, nonce included, and the nonce is in XCom for the bridge."""
    task.park(parameters={"day": "2026-01-01"}, on_abandon="cancel")
    (call,) = bridge.calls
    named = {
        "dag_id": "nightly",
        "run_id": "manual__1",
        "task_id": "ingest",
        "map_index": -1,
        "try_number": 1,
        "task_instance_id": "01a202b4-64e9-7c79-a1d4-98e001b84b61",
        "nonce": task.ti.xcoms["adf_bridge_nonce"],
    }
    wait = {
        "target": "demo",
        "mode": mode,
        "task": named,
        "deadline": "2026-01-08T00:00:00+00:00",
        "on_abandon": "cancel",
    }
    expected = {"factory": "sales", "pipeline": "ingest", "parameters": {"day": "2026-01-01"}, "wait": wait}
    assert expected == call.body
    assert TaskTry(target="demo", **named).token() == call.headers["idempotency-key"] == task.token


def test_the_run_is_known_while_the_task_waits(supervisor: Supervisor, task: Task) -> None:
    """The run's id and its page in the monitor are in XCom from the moment the task parks."""
    task.park()
    assert ("run-1", MONITOR + "run-1") == (task.ti.xcoms["run_id"], task.ti.xcoms["adf_bridge_monitor_url"])


def test_a_shorter_execution_timeout_is_the_deadline(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S29: Airflow does not enforce execution_timeout on a parked task, so it goes into the wait's deadline."""
    task.park(execution_timeout=timedelta(minutes=5))
    assert "2026-01-01T00:05:00+00:00" == bridge.calls[0].body["wait"]["deadline"]


def test_every_execute_is_another_wait(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S47: the same try executed again under the same names asks under another key."""
    task.park()
    task.park()
    assert 2 == len({call.headers["idempotency-key"] for call in bridge.calls})


def test_a_mapped_task_names_its_index(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S17: a mapped task waits under its own index."""
    task.ti.map_index = 3
    task.park()
    assert 3 == bridge.calls[0].body["wait"]["task"]["map_index"]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({}, {}),
        ({"wrapped": "auto"}, {}),
        ({"wrapped": "always"}, {"wrapped": "always"}),
        ({"wrapped": "never", "wait_for_termination": False}, {"wrapped": "never"}),
    ],
)
def test_a_wrapper_is_asked_for_only_when_it_matters(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, arguments: dict[str, Any], sent: dict[str, str]
) -> None:
    """What the bridge does unasked is not sent, so that a bridge that knows no wrappers takes the request, too."""
    with suppress(*PARKED):
        task.run(**arguments)
    assert sent == {name: value for name, value in bridge.calls[0].body.items() if name == "wrapped"}


def test_a_run_that_has_ended_already_completes_the_task_inline(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S01: if the run has ended by the time that the bridge answers, the task never parks."""
    bridge.end_at_once = "Succeeded"
    assert (XCOM, []) == (task.run(), supervisor.asked)


def test_a_run_that_has_failed_already_fails_the_task_inline(bridge: BridgeStandIn, task: Task) -> None:
    """A run that has failed by the time that the bridge answers fails the task at once."""
    bridge.end_at_once = "Failed"
    with pytest.raises(AdfBridgeRunFailed):
        task.run()


def test_a_task_that_does_not_wait_registers_no_wait(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """wait_for_termination=False starts the run under the same kind of key, and is done."""
    result = task.run(wait_for_termination=False)
    (call,) = bridge.calls
    assert ("run-1", False, task.token, []) == (
        result["run_id"],
        "wait" in call.body,
        call.headers["idempotency-key"],
        supervisor.asked,
    )


def test_a_refused_start_fails_the_task(bridge: BridgeStandIn, task: Task) -> None:
    """What the bridge finally refuses fails the task with the bridge's words."""
    bridge.refuse(404, {"code": "pipeline-not-found", "detail": "No pipeline 'ingest'."})
    with pytest.raises(AdfBridgeRefusedError, match="No pipeline 'ingest'"):
        task.run()


def test_a_try_that_is_over_starts_nothing(bridge: BridgeStandIn, task: Task, clock: Clock) -> None:
    """S14: a try of which the bridge says that it is over fails at once with the bridge's words; it asks no more."""
    detail = "A later try of the task has asked for a run already, and this one is over. Nothing was started."
    bridge.refuse(409, {"code": "try-over", "detail": detail})
    with pytest.raises(AdfBridgeRefusedError, match="Nothing was started") as caught:
        task.run()
    assert ("try-over", 1, {}, []) == (caught.value.code, len(bridge.calls), bridge.runs, clock.pauses)


def test_a_start_while_the_bridge_cannot_ask_airflow(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, clock: Clock
) -> None:
    """S14: while the bridge cannot tell whether a try is over, its start is repeated under the same key."""
    bridge.refuse(503, {"code": "airflow-unavailable", "detail": "Airflow cannot be asked."}, Retry_After="10")
    task.park()
    assert ([10.0], 2, 1, 1) == (
        clock.pauses,
        len(bridge.calls),
        len({call.headers["idempotency-key"] for call in bridge.calls}),
        len(bridge.runs),
    )


BUSY = {"code": "adf-throttled", "detail": "Too many runs are queued."}


def test_a_start_that_data_factory_delays_is_awaited(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, clock: Clock
) -> None:
    """S48: while Data Factory has too many runs queued, the start is repeated beyond start_timeout."""
    for _ in range(30):
        bridge.refuse(429, BUSY, Retry_After="60")
    task.park(start_timeout=120, timeout=3600)
    assert (1800.0, 1) == (clock.now, len({call.headers["idempotency-key"] for call in bridge.calls}))


def test_a_start_is_not_delayed_beyond_the_task_s_time(bridge: BridgeStandIn, task: Task, clock: Clock) -> None:
    """S29: a start that is delayed until the deadline fails the task, with Data Factory's reason."""
    for _ in range(30):
        bridge.refuse(429, BUSY, Retry_After="60")
    with pytest.raises(AdfBridgeRefusedError, match="Too many runs are queued"):
        task.run(timeout=3600, execution_timeout=timedelta(seconds=200))
    assert (180.0, {}) == (clock.now, bridge.runs)


@pytest.mark.parametrize("parameters", [{"day": NOW}, {"share": float("nan")}])
def test_parameters_that_json_cannot_say_start_nothing(
    bridge: BridgeStandIn, task: Task, parameters: dict[str, Any]
) -> None:
    """Parameters that are no JSON are refused before anything is sent."""
    with pytest.raises(AdfBridgeConfigurationError, match="plain JSON"):
        task.run(parameters=parameters)
    assert [] == bridge.calls


# ---- being answered


def test_a_success_becomes_the_task_s_xcom(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """A task that is answered with success returns run id, status, pipeline, times and link."""
    parked = task.park()
    completion = bridge.complete(task.token, "Succeeded")
    assert XCOM == task.resume(parked, answer(completion))


def test_a_failure_raises_with_its_reason(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """A task that is answered with failure raises with the failing activity."""
    activity = {"name": "Copy", "type": "Copy", "error_code": "2200", "message": "No such table."}
    parked = task.park()
    completion = bridge.complete(task.token, "Failed", failed_activity=activity)
    with pytest.raises(AdfBridgeRunFailed, match=r"failed with error 2200\nNo such table"):
        task.resume(parked, answer(completion))


def test_the_run_that_a_wrapper_ran_is_named_and_linked(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """A wrapper's run stays the task's run, and the one that it wraps is in XCom and behind the link."""
    parked = task.park()
    child = {"watched_run_id": "child-1", "monitor_url": MONITOR + "child-1"}
    assert {**XCOM, **child} == task.resume(parked, answer(bridge.complete(task.token, "Succeeded", **child)))
    assert ("run-1", MONITOR + "child-1") == (task.ti.xcoms["run_id"], task.ti.xcoms["adf_bridge_monitor_url"])


def test_the_run_that_a_wrapper_ran_is_linked_when_it_failed(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """A failed child run is behind the link and in the message."""
    parked = task.park()
    child = {"watched_run_id": "child-1", "monitor_url": MONITOR + "child-1"}
    with pytest.raises(AdfBridgeRunFailed, match=f"Run child-1: {MONITOR}child-1"):
        task.resume(parked, answer(bridge.complete(task.token, "Failed", **child)))
    assert MONITOR + "child-1" == task.ti.xcoms["adf_bridge_monitor_url"]


@pytest.mark.parametrize(("choice", "raised"), [("fail", AdfBridgeRunCancelled), ("skip", AirflowSkipException)])
def test_a_cancelled_run_does_what_the_task_chose(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, choice: str, raised: type[Exception]
) -> None:
    """S30: a cancelled run fails the task or skips it, as on_cancelled says; it is never a success."""
    parked = task.park()
    completion = bridge.complete(task.token, "Cancelled")
    with pytest.raises(raised):
        task.resume(parked, answer(completion), on_cancelled=choice)


def test_airflow_s_own_timeout_raises(supervisor: Supervisor, task: Task) -> None:
    """S29: a task that nobody answered in time fails and names its run."""
    parked = task.park()
    with pytest.raises(AdfBridgeRunExpired, match="run run-1"):
        task.resume(parked, {"error": "timed out", "error_type": "timeout"})


# ---- arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"azure_data_factory_conn_id": "adf"},
        {"reference_pipeline_run_id": "r"},
        {"reference_pipeline_run_id": "r", "is_recovery": False, "start_from_failure": True},
        {"is_recovery": True},
        {"start_activity_name": "a"},
        {"start_from_failure": True},
        {"reference_pipeline_run_id": "r", "is_recovery": True, "parameters": {"day": "1"}},
        {"reference_pipeline_run_id": "r", "is_recovery": True, "start_activity_name": "a", "start_from_failure": True},
        {"on_retry": "cancel"},
        {"on_clear": "retry"},
        {"on_abandon": "kill"},
        {"on_cancelled": "ignore"},
        {"on_cancelled": "succeed"},
        {"wrapped": "sometimes"},
        {"timeout": 0},
        {"start_timeout": timedelta()},
    ],
)
def test_arguments_that_would_mean_something_else_are_refused(arguments: dict[str, Any]) -> None:
    """An argument that cannot do here what it says is refused when the DAG is parsed."""
    with pytest.raises(AdfBridgeConfigurationError):
        AdfBridgeRunPipelineOperator(task_id="t", pipeline_name="p", **arguments)


def test_arguments_of_airflow_s_own_operator_that_do_no_harm_are_taken() -> None:
    """A call written for Airflow's own operator works, but for the connection that it names."""
    operator = AdfBridgeRunPipelineOperator(
        task_id="t",
        pipeline_name="p",
        factory_name="f",
        resource_group_name="g",
        parameters={},
        wait_for_termination=True,
        timeout=60,
        check_interval=10,
        deferrable=True,
        is_recovery=None,
        start_from_failure=False,
    )
    assert timedelta(minutes=1) == operator.timeout


@pytest.mark.parametrize("rendered", ["", "  ", None])
def test_a_named_run_that_turns_out_to_be_none_starts_nothing(
    bridge: BridgeStandIn, task: Task, rendered: str | None
) -> None:
    """A recovery whose run's id is empty once its template is rendered is refused, and is not made a start."""
    task.arguments |= {"reference_pipeline_run_id": "{{ ti.nothing }}", "is_recovery": True}
    task.ti.__dict__["nothing"] = "" if rendered is None else rendered
    with pytest.raises(AdfBridgeConfigurationError, match="now that its template is rendered"):
        task.run()
    assert [] == bridge.calls
