"""What a task does that is ended while it starts its run: Airflow calls its on_kill in a signal handler."""

import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bridge_stand_in import BridgeStandIn
from conftest import Supervisor, TaskInstance
from worker import Task

from airflow_adf_bridge.errors import AdfBridgeRunCancelled
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.killing import LIMIT, cancel_in_time
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

try:
    from airflow.sdk.exceptions import AirflowTaskTimeout
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowTaskTimeout

AIRFLOW_S_PATIENCE = timedelta(seconds=5)
"""Between its SIGTERM and its SIGKILL."""


@pytest.fixture
def task(connect: Callable[..., AdfBridgeHook], ti: TaskInstance, mode: str) -> Iterator[Task]:
    """A task without retries whose on_kill is the handler of SIGTERM, as Airflow has it."""
    task = Task(
        AdfBridgeRunPipelineOperator, connect(), ti, {"pipeline_name": "ingest", "on_abandon": "cancel", "mode": mode}
    )
    before = signal.signal(signal.SIGTERM, lambda *_: task.operator.on_kill())
    yield task
    signal.signal(signal.SIGTERM, before)


def sigterm() -> None:
    """Tell this process to end."""
    signal.raise_signal(signal.SIGTERM)


def sigterm_from_another_thread(task: Task) -> Callable[[], None]:
    """Tell this process to end from the stand-in's thread, and come back when the main thread has taken note of it."""
    main = threading.main_thread().ident
    assert main is not None

    def kill() -> None:
        noted = threading.Event()
        on_kill = task.operator.on_kill
        task.operator.__dict__["on_kill"] = lambda: (on_kill(), noted.set())
        signal.pthread_kill(main, signal.SIGTERM)
        assert noted.wait(10)

    return kill


def test_the_run_of_a_task_that_ends_for_good_is_cancelled(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S30: a task that is ended before it parked, and has no next try, has its run cancelled, recursively."""
    supervisor.meanwhile = sigterm
    with pytest.raises(AdfBridgeRunCancelled, match="told to end, and its run run-1 was cancelled"):
        task.run()
    starts, cancel = [call for call in bridge.calls if call.path.endswith("/runs")], bridge.calls[-1]
    assert (["run-1"], {"recursive": True, "token": starts[0].headers["idempotency-key"]}, "function-key-canary") == (
        bridge.cancelled,
        cancel.body,
        cancel.headers["x-functions-key"],
    )
    assert "no try takes its run over: run run-1 is cancelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "max_tries"),
    [
        ({"on_abandon": "leave"}, 0),
        ({}, 1),
        ({"on_retry": "recover"}, 1),
        ({"on_clear": "reattach"}, 0),
        ({"on_clear": "recover", "on_retry": "rerun"}, 1),
    ],
)
def test_a_run_that_is_left_or_may_be_taken_over_is_not_cancelled(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, arguments: dict[str, Any], max_tries: int
) -> None:
    """S30: nothing is cancelled that on_abandon leaves alone, or that a next try may go on with."""
    task.ti.max_tries = max_tries
    supervisor.meanwhile = sigterm
    task.park(retries=max_tries, **arguments)
    assert [] == bridge.cancelled


def test_a_run_that_a_retry_would_not_take_is_cancelled(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S30: with on_retry="rerun" the retry has a run of its own, so the killed try's run is cancelled."""
    task.ti.max_tries = 1
    supervisor.meanwhile = sigterm
    with pytest.raises(AdfBridgeRunCancelled):
        task.run(retries=1, on_retry="rerun")
    assert ["run-1"] == bridge.cancelled


def test_the_run_of_a_task_that_is_out_of_time_is_cancelled(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task
) -> None:
    """S30: Airflow calls on_kill as well when execution_timeout ends a task that has not parked yet."""

    def out_of_time() -> None:
        raise AirflowTaskTimeout

    supervisor.meanwhile = out_of_time
    with pytest.raises(AirflowTaskTimeout):
        task.run()
    task.operator.on_kill()
    assert ["run-1"] == bridge.cancelled


def test_a_run_that_nobody_waits_for_is_not_cancelled(bridge: BridgeStandIn, task: Task) -> None:
    """S30: wait_for_termination=False starts a run and leaves it alone, whatever becomes of the task."""
    task.run(wait_for_termination=False)
    sigterm()
    assert [] == bridge.cancelled


def test_a_run_that_is_not_known_yet_is_left_to_the_bridge(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S30: a task that is ended while its start is unanswered says who cancels; if it lives on, it waits as always."""
    bridge.meanwhile = sigterm_from_another_thread(task)
    task.park()
    assert ([], True) == (
        bridge.cancelled,
        "told to end before the bridge said which run it has" in capsys.readouterr().out,
    )


def test_a_parked_task_leaves_its_run_alone(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S30: the process of a task that has parked may be ended at any time; the run is waited for and goes on."""
    task.park()
    sigterm()
    assert [] == bridge.cancelled


def test_a_resumed_task_leaves_its_run_alone(bridge: BridgeStandIn, supervisor: Supervisor, task: Task) -> None:
    """S30: a task that is ended while it takes its answer cancels nothing."""
    parked = task.park()
    task.resume(parked, {"chosen_options": ["Succeeded"], "params_input": bridge.complete(task.token, "Succeeded")})
    sigterm()
    assert [] == bridge.cancelled


def test_a_run_that_has_ended_needs_no_cancel(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S30: a run that ended before the cancel came is no trouble, and its outcome is the task's if that lives on."""

    def ended() -> None:
        bridge.complete(str(task.ti.xcoms["adf_bridge_token"]), "Succeeded")
        sigterm()

    supervisor.meanwhile = ended
    task.park()
    assert "Run run-1 has ended already" in capsys.readouterr().out


def test_a_cancel_that_fails_harms_nobody(
    bridge: BridgeStandIn, supervisor: Supervisor, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """S30: when the bridge refuses the cancel, on_kill raises nothing and the log says who cancels instead."""

    def refused() -> None:
        bridge.refuse(404, {"code": "not-found", "detail": "No such run."})
        sigterm()

    supervisor.meanwhile = refused
    task.park()
    assert "could not be cancelled: The bridge refused to cancel run run-1" in capsys.readouterr().out


def test_a_cancel_needs_nothing_that_the_task_may_be_busy_with(
    bridge: BridgeStandIn, connect: Callable[..., AdfBridgeHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S30: on_kill interrupts the task anywhere, so its call uses neither the task's session nor Airflow's answers."""
    hook = connect()
    assert hook.connection
    monkeypatch.delenv("AIRFLOW_CONN_ADF_BRIDGE_DEFAULT")
    monkeypatch.setattr(hook.get_conn(), "request", None)
    assert ("accepted", ["run-1"]) == (cancel_in_time(hook, "run-1", "token"), bridge.cancelled)


@pytest.mark.parametrize("fields", [{"port": 1}, {"host": "ftp://nowhere"}])
def test_a_bridge_that_cannot_be_called_is_told(connect: Callable[..., AdfBridgeHook], fields: dict[str, Any]) -> None:
    """Whatever keeps the bridge from being called is the answer; nothing is raised."""
    said = cancel_in_time(connect(**fields), "run-1", "token")
    assert ("AdfBridge" not in said, said not in {"accepted", "not-running", ""}) == (True, True)


def test_a_silent_bridge_is_not_waited_for(bridge: BridgeStandIn, connect: Callable[..., AdfBridgeHook]) -> None:
    """on_kill is over well before Airflow's SIGKILL, whether or not the bridge answers."""
    released = threading.Event()
    bridge.meanwhile = lambda: released.wait(10) and None
    said = cancel_in_time(connect(), "run-1", "token", timedelta(seconds=0.2))
    released.set()
    assert ("no answer in 0.2 s", True) == (said, LIMIT < AIRFLOW_S_PATIENCE)
