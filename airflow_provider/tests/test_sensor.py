"""The sensor, every way through it that is not the operator's: which run it waits for, and what its end does."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from bridge_stand_in import MONITOR, BridgeStandIn
from conftest import Supervisor, TaskInstance
from worker import NOW, Task, answer

from airflow_adf_bridge import waiting
from airflow_adf_bridge.airflow_api import DUE, AirflowSkipException
from airflow_adf_bridge.errors import (
    AdfBridgeConfigurationError,
    AdfBridgeRefusedError,
    AdfBridgeRunCancelled,
    AdfBridgeRunExpired,
    AdfBridgeRunFailed,
    AdfBridgeRunUnknown,
)
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.sensors import AdfBridgeRunSensor
from airflow_adf_bridge.token import TaskTry

BEFORE = NOW - timedelta(hours=8)
BEGAN = "2026-01-01T00:10:00+00:00"
XCOM = {
    "run_id": "theirs",
    "watched_run_id": None,
    "status": "Succeeded",
    "pipeline": "publish",
    "run_start": "2026-01-01T00:00:00+00:00",
    "run_end": "2026-01-01T00:00:16+00:00",
    "monitor_url": MONITOR + "theirs",
}
NEXT: dict[str, Any] = {"pipeline_name": "publish"}


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, mode: str) -> Task:
    """A sensor on the first second of 2026."""
    monkeypatch.setattr(waiting, "_now", lambda: NOW)
    return Task(AdfBridgeRunSensor, connect(), ti, {"mode": mode})


# ---- asking


def test_a_run_by_its_id(bridge: BridgeStandIn, supervisor: Supervisor, task: Task, mode: str) -> None:
    """A sensor with a run id asks for a wait for it under its own token, and leaves the run to those who started it."""
    bridge.begin("theirs", "publish", BEGAN)
    task.park(run_id="theirs", timeout=3600)
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
    expected = {
        "factory": "sales",
        "run_id": "theirs",
        "target": "demo",
        "mode": mode,
        "task": named,
        "deadline": "2026-01-01T01:00:00+00:00",
        "on_abandon": "leave",
    }
    assert ("POST", "/api/waits", expected) == (call.method, call.path, call.body)
    assert [TaskTry(target="demo", **named).token()] == list(bridge.waits) == [task.token]


def test_the_next_run_of_a_pipeline(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """A sensor with a pipeline asks for its next run since then, whose end is one of those that count."""
    task.park(**NEXT, since="2026-01-01T02:00:00+02:00", statuses=["Succeeded"], factory_name="theirs", timeout=3600)
    body = bridge.calls[0].body
    match = {"factory": "theirs", "pipeline": "publish", "since": NOW.isoformat(), "statuses": ["Succeeded"]}
    assert (match, "leave", False, False) == (
        body["match"],
        body["on_abandon"],
        "factory" in body,
        "run_id" in body,
    )


def test_by_default_all_runs_count_that_began_since_the_dag_run_was_due(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """However late the task starts, and in every try, the run is one since the DAG run was due, with any end."""
    task.run_after = NOW - timedelta(hours=2)
    for task.ti.try_number in (1, 2):
        task.park(**NEXT)
    match = {"factory": "sales", "pipeline": "publish", "since": "2025-12-31T22:00:00+00:00"}
    assert [match, match] == [call.body["match"] for call in bridge.calls]


@pytest.mark.parametrize(
    "since",
    [
        NOW,
        NOW.astimezone(timezone(timedelta(hours=9))),
        "2026-01-01T00:00:00+00:00",
        "2026-01-01 00:00:00+00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T05:30:00+05:30",
        " {{ dag_run.run_after }} ",
        "{{ dag_run.run_after.isoformat() }}",
    ],
)
def test_a_time_may_be_said_in_many_ways(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, since: str | datetime
) -> None:
    """A datetime and a text with an offset, from a template or not, mean the same moment."""
    task.park(**NEXT, since=since)
    assert NOW.isoformat() == bridge.calls[0].body["match"]["since"]


@pytest.mark.parametrize("since", ["{{ dag_run.run_after.date() }}", "{{ 'yesterday' }}", "{{ none }}", "{{ '' }}"])
def test_a_rendered_time_that_is_unclear_waits_for_nothing(bridge: BridgeStandIn, task: Task, since: str) -> None:
    """A template that turns out to be no time, or one of an unknown zone, fails the task before anything is sent."""
    with pytest.raises(AdfBridgeConfigurationError, match="since"):
        task.run(**NEXT, since=since)
    assert [] == bridge.calls


@pytest.mark.parametrize("which", [{"run_id": "{{ '' }}"}, {"pipeline_name": "{{ '' }}"}])
def test_a_name_that_is_rendered_to_nothing_waits_for_nothing(
    bridge: BridgeStandIn, task: Task, which: dict[str, str]
) -> None:
    """A template that turns out to be empty fails the task before anything is sent."""
    with pytest.raises(AdfBridgeConfigurationError, match="no run to wait for"):
        task.run(**which)
    assert [] == bridge.calls


def test_a_refused_wait_fails_the_task(bridge: BridgeStandIn, task: Task) -> None:
    """A run that Data Factory does not know fails the task with the bridge's words."""
    bridge.refuse(404, {"code": "not-found", "detail": "ADF does not know run theirs in this factory."})
    with pytest.raises(AdfBridgeRefusedError, match=r"refused to wait for run theirs: .*does not know run theirs"):
        task.run(run_id="theirs")


@pytest.mark.parametrize(
    ("run_type", "interval_ends", "logical"),
    [("scheduled", NOW, NOW - timedelta(days=1)), ("backfill", NOW, NOW - timedelta(days=1)), ("manual", BEFORE, NOW)],
)
def test_a_dag_run_was_due_at_the_same_time_in_every_airflow(
    run_type: str, interval_ends: datetime, logical: datetime
) -> None:
    """A scheduled DAG run was due at the end of its interval, a manual one when it was triggered."""
    dag_run = SimpleNamespace(run_type=run_type, run_after=NOW, data_interval_end=interval_ends, logical_date=logical)
    assert NOW.isoformat() == jinja2.Template(DUE).render(dag_run=dag_run)


# ---- waiting, and being answered


def test_a_run_that_is_found_later(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """A task parks although there is no run yet; the run that came then is in XCom and behind the link."""
    parked = task.park(**NEXT)
    before = task.ti.xcoms.get("run_id"), task.ti.xcoms["adf_bridge_monitor_url"]
    bridge.begin("earlier", "publish", "2025-12-31T23:59:59+00:00")
    bridge.begin("later", "publish", "2026-01-01T00:20:00+00:00")
    bridge.begin("theirs", "publish", BEGAN)
    completion = bridge.complete(task.token, "Succeeded")
    assert ((None, ""), XCOM, "theirs", MONITOR + "theirs") == (
        before,
        task.resume(parked, answer(completion), **NEXT),
        task.ti.xcoms["run_id"],
        task.ti.xcoms["adf_bridge_monitor_url"],
    )


def test_a_run_that_goes_on_is_known_while_the_task_waits(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """A run that has begun already has its id and its link in XCom from the moment that the task parks."""
    bridge.begin("theirs", "publish", BEGAN)
    parked = task.park(**NEXT)
    assert ("theirs", MONITOR + "theirs", timedelta(days=7, minutes=10)) == (
        task.ti.xcoms["run_id"],
        task.ti.xcoms["adf_bridge_monitor_url"],
        parked.timeout,
    )


@pytest.mark.parametrize("which", [{"run_id": "theirs"}, NEXT])
def test_a_run_that_has_ended_already(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, which: dict[str, Any]
) -> None:
    """S01: if the run has ended by the time that the bridge answers, the task never parks."""
    bridge.begin("theirs", "publish", BEGAN)
    bridge.end_at_once = "Succeeded"
    assert (XCOM, []) == (task.run(**which), supervisor.asked)


@pytest.mark.parametrize(("status", "choice"), [("Failed", "on_failed"), ("Cancelled", "on_cancelled")])
@pytest.mark.parametrize("ending", ["fail", "skip", "succeed"])
def test_a_run_without_success_does_what_the_task_chose(
    bridge: BridgeStandIn, task: Task, status: str, choice: str, ending: str
) -> None:
    """S30: a failed or cancelled run fails the task, skips it or lets it go on, each as it was told to."""
    bridge.begin("theirs", "publish", BEGAN)
    bridge.end_at_once = status
    chosen = {**NEXT, choice: ending}
    if ending == "succeed":
        assert {**XCOM, "status": status} == task.run(**chosen)
        return
    failed = AdfBridgeRunFailed if status == "Failed" else AdfBridgeRunCancelled
    with pytest.raises(AirflowSkipException if ending == "skip" else failed, match="theirs"):
        task.run(**chosen)


@pytest.mark.parametrize("status", ["Expired", "Unknown"])
def test_an_end_that_nobody_saw_is_never_a_success(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, status: str
) -> None:
    """S30: whatever a failed or a cancelled run may do, a run whose end is not known fails the task."""
    bridge.begin("theirs", "publish", BEGAN)
    told = {**NEXT, "on_failed": "succeed", "on_cancelled": "succeed"}
    parked = task.park(**told)
    with pytest.raises(AdfBridgeRunExpired if status == "Expired" else AdfBridgeRunUnknown):
        task.resume(parked, answer(bridge.complete(task.token, status)), **told)


def test_no_run_in_time(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S29: when no run came before the deadline, the task fails and says so; there is no run to name."""
    parked = task.park(**NEXT)
    completion = bridge.complete(task.token, "Expired", message="No run of 'publish' began.")
    with pytest.raises(AdfBridgeRunExpired) as raised:
        task.resume(parked, answer(completion), **NEXT)
    assert "The pipeline had no such run before the deadline\nNo run of 'publish' began." == str(raised.value)


def test_airflow_s_own_timeout_names_what_was_waited_for(supervisor: Supervisor, task: Task) -> None:
    """S29: a task that nobody answered in time fails and says which run it was to be."""
    parked = task.park(**NEXT)
    with pytest.raises(AdfBridgeRunExpired, match="a run of pipeline 'publish' since 2026-01-01T00:00:00"):
        task.resume(parked, {"error": "timed out", "error_type": "timeout"}, **NEXT)


# ---- arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"run_id": "r", **NEXT},
        {"run_id": "r", "since": NOW},
        {"run_id": "r", "statuses": ["Succeeded"]},
        {**NEXT, "since": NOW.replace(tzinfo=None)},
        {**NEXT, "since": "2026-01-01T00:00:00"},
        {**NEXT, "since": "2026-01-01"},
        {**NEXT, "since": "yesterday"},
        {**NEXT, "since": "0001-01-01T00:00:00+14:00"},
        {**NEXT, "statuses": []},
        {**NEXT, "statuses": "Succeeded"},
        {**NEXT, "statuses": ["Canceled"]},
        {**NEXT, "on_failed": "retry"},
        {**NEXT, "on_cancelled": "ignore"},
        {**NEXT, "timeout": 0},
        {**NEXT, "start_timeout": timedelta()},
        {**NEXT, "soft_fail": True},
        {**NEXT, "azure_data_factory_conn_id": "adf"},
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    """A sensor that could not wait for one certain run is refused when the DAG is parsed."""
    with pytest.raises(AdfBridgeConfigurationError):
        AdfBridgeRunSensor(task_id="t", **arguments)


def test_arguments_of_a_sensor_that_polls_do_no_harm() -> None:
    """A call written for Airflow's own sensor works, but for the connection that it names."""
    sensor = AdfBridgeRunSensor(
        task_id="t",
        run_id="r",
        factory_name="f",
        resource_group_name="g",
        poke_interval=60,
        mode="reschedule",
        deferrable=True,
        timeout=60,
        soft_fail=False,
    )
    assert timedelta(minutes=1) == sensor.timeout
