"""Tasks that do not stand still: cleared, retried, marked or answered by a person while their run goes on."""

from collections.abc import Callable

import pytest

from tests.component.hosted_bridge import Bridge, run_event, token_of, wait_of
from tests.fakes_http.airflow import FakeAirflow
from tests.fakes_http.airflow_task import AirflowTask


@pytest.mark.parametrize("change", [AirflowTask.clear, AirflowTask.fail_for_retry], ids=["cleared", "up-for-retry"])
def test_task_of_another_try(bridge: Bridge, airflow: FakeAirflow, change: Callable[[AirflowTask], None]) -> None:
    """S14: a completion for a try that is over is dropped, although the number of the try has not changed yet."""
    task, token, run_id = bridge.parked(airflow)
    change(task)
    assert 1 == task.try_number
    bridge.complete(token, run_id)
    assert ("stale", []) == (bridge.wait(token)["state"], airflow.patches)


def test_next_try_gets_its_own_answer(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S14: the second try, which waits for a run of its own, is completed with that run's end only."""
    task, first_token, first_run = bridge.parked(airflow)
    task.clear()
    task.run_again()
    wait = wait_of(airflow, task)
    second_run = bridge.started(wait)
    task.park()
    bridge.complete(first_token, first_run, "Failed")
    assert ("stale", []) == (bridge.wait(first_token)["state"], airflow.patches)
    bridge.complete(token_of(wait), second_run)
    assert [token_of(wait)] == [patch.body["params_input"]["token"] for patch in airflow.patches]


def test_cleared_between_look_and_answer(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S15: a task that is cleared between the look and the answer makes the wait stale, although Airflow said 200."""
    task, token, run_id = bridge.parked(airflow)
    airflow.trouble("PATCH", "/hitlDetails", meanwhile=task.clear)
    bridge.complete(token, run_id)
    assert ("stale", 1) == (bridge.wait(token)["state"], len(airflow.patches))


@pytest.mark.parametrize("state", ["success", "failed", "skipped"])
def test_marked_by_a_person(bridge: Bridge, airflow: FakeAirflow, state: str) -> None:
    """S16: a task that a person marked stays as marked; nothing is sent."""
    task, token, run_id = bridge.parked(airflow)
    task.end(state)
    bridge.complete(token, run_id)
    wait = bridge.wait(token)
    assert ("overridden", []) == (wait["state"], airflow.patches)
    assert f"the task was ended as {state}" == wait["timeline"][-1]["detail"]


def test_marked_between_look_and_answer(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S16: Airflow takes an answer for a task that was marked a moment ago, and the wait still says who won."""
    task, token, run_id = bridge.parked(airflow)
    airflow.trouble("PATCH", "/hitlDetails", meanwhile=lambda: task.end("failed"))
    bridge.complete(token, run_id)
    assert ("overridden", "failed") == (bridge.wait(token)["state"], task.state)


@pytest.mark.parametrize("state", ["success", "failed"])
def test_answered_by_a_person(bridge: Bridge, airflow: FakeAirflow, state: str) -> None:
    """S16: an answer that a person gave in Required Actions counts, and the wait names the person."""
    task, token, run_id = bridge.parked(airflow)
    task.answer(["Succeeded"], by="ann")
    task.end(state)
    bridge.complete(token, run_id, "Failed")
    wait = bridge.wait(token)
    assert ("overridden", []) == (wait["state"], airflow.patches)
    assert "ann answered Succeeded in Required Actions" in wait["timeline"][-1]["detail"] or (
        f"the task was ended as {state}; ann answered Succeeded" == wait["timeline"][-1]["detail"]
    )


def test_only_the_cleared_index_is_stale(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S17: of two mapped tasks, clearing one leaves the other waiting, and it is completed."""
    parked = [bridge.parked(airflow, map_index=index) for index in (0, 1)]
    parked[1][0].clear()
    for _, _, run_id in parked:
        bridge.end_run(run_id)
    bridge.deliver(*(run_event(run_id) for _, _, run_id in parked))
    assert ["delivered", "stale"] == [bridge.until(token, "delivered", "stale")["state"] for _, token, _ in parked]
    assert ["/0/"] == [patch.path[-14:-11] for patch in airflow.patches]


_NAMES = {
    "unicode": ("käse.ü-1", "manual__2026-01-01T00:00:00+00:00", "größe.kopie"),
    "reserved": ("etl", "a%2Fb #1? x=1&y=+ ;,'", "copy"),
    "emoji": ("日本語", "run 💥", "タスク"),
    "lines-and-directions": ("etl", 'two\nlines\r\u2028and "quotes" \u202egnp.exe', "copy"),
}


@pytest.mark.parametrize(("dag_id", "run_id", "task_id"), _NAMES.values(), ids=_NAMES)
def test_names(bridge: Bridge, airflow: FakeAirflow, dag_id: str, run_id: str, task_id: str) -> None:
    """S33: whatever a DAG, a run and a task are called, exactly that task is completed, and its wait can be found."""
    airflow.task(dag_id="etl", run_id="a", task_id="copy")
    task, token, adf_run_id = bridge.parked(airflow, dag_id=dag_id, run_id=run_id, task_id=task_id)
    bridge.complete(token, adf_run_id)
    [patch] = airflow.patches
    assert f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails" == patch.path
    assert task.question is not None
    assert ["Succeeded"] == task.question.chosen_options
    assert (dag_id, run_id, task_id) == tuple(
        bridge.wait(token)["task"][name] for name in ("dag_id", "run_id", "task_id")
    )


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b"])
def test_names_that_have_no_address(bridge: Bridge, airflow: FakeAirflow, name: str) -> None:
    """S33: a name that Airflow's API cannot address is refused at once, not when the run has ended."""
    before = bridge.count("createRun")
    answer = bridge.start(wait_of(airflow, airflow.task(run_id=name)))
    assert (422, ["wait.task.run_id"]) == (
        answer.status_code,
        [error["field"] for error in answer.json()["errors"]],
    )
    assert before == bridge.count("createRun")
