"""Runs that are cancelled through the bridge, in the Data Factory's own words."""

from datetime import UTC, datetime, timedelta

from tests.component.hosted_bridge import Bridge, token_of, wait_of
from tests.component.stand_ins import eventually
from tests.fakes_http.airflow import FakeAirflow

BRIEFLY = timedelta(seconds=2)


def status_of(bridge: Bridge, run_id: str) -> str:
    """A run's status, as Data Factory has it."""
    return next(str(run["status"]) for run in bridge.adf.get("runs")["runs"] if run["runId"] == run_id)


def test_cancelled_by_a_caller(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S30: a run that a caller cancels is Cancelled in Data Factory, and its task is told so when the event comes."""
    _, token, run_id = bridge.parked(airflow)
    answer = bridge.call("POST", f"/runs/{run_id}/cancel")
    assert (202, "accepted") == (answer.status_code, answer.json()["cancel"])
    eventually(lambda: status_of(bridge, run_id) == "Cancelled")
    again = bridge.call("POST", f"/runs/{run_id}/cancel", json={"factory": "sales"})
    assert (202, "not-running", "Cancelled") == (
        again.status_code,
        again.json()["cancel"],
        again.json()["run"]["status"],
    )
    bridge.until(token, "delivered")
    assert [["Cancelled"]] == [patch.body["chosen_options"] for patch in airflow.patches]


def test_cancelled_at_the_deadline(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S29: when the deadline passes, the task is told, and the run is cancelled if that is wanted."""
    deadline = datetime.now(UTC) + BRIEFLY
    tasks = {wanted: airflow.task(task_id=wanted) for wanted in ("cancel", "leave")}
    waits = {
        wanted: wait_of(airflow, task, deadline=deadline.isoformat(), on_abandon=wanted)
        for wanted, task in tasks.items()
    }
    runs = {wanted: bridge.started(wait) for wanted, wait in waits.items()}
    for task in tasks.values():
        task.park()
    for wait in waits.values():
        bridge.until(token_of(wait), "delivered")
    assert [["Expired"]] * 2 == [patch.body["chosen_options"] for patch in airflow.patches]
    eventually(lambda: status_of(bridge, runs["cancel"]) == "Cancelled")
    assert "InProgress" == status_of(bridge, runs["leave"])


def test_cancelled_by_a_task_that_gives_up(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S30: a task that gives up has its run cancelled, unless another task waits for that run."""
    _, token, run_id = bridge.parked(airflow)
    sensor = wait_of(airflow, airflow.task(task_id="sensor"))
    assert 200 == bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **sensor}).status_code
    asked = {"token": token}
    kept = bridge.call("POST", f"/runs/{run_id}/cancel", json=asked)
    assert (202, "waited-for") == (kept.status_code, kept.json()["cancel"])
    assert status_of(bridge, run_id) in {"Queued", "InProgress"}
    bridge.call("DELETE", f"/waits/{token_of(sensor)}")
    assert "accepted" == bridge.call("POST", f"/runs/{run_id}/cancel", json=asked).json()["cancel"]
