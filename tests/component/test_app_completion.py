"""The main job over real HTTP: a task starts a run, parks, the run ends, and the task is answered. Once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient

from tests.component.hosted_bridge import (
    FINAL,
    PATIENCE,
    SALES,
    STOCK,
    Bridge,
    grid_event,
    run_event,
    token_of,
    wait_of,
)
from tests.component.stand_ins import TOPIC_KEY, eventually
from tests.fakes_http.airflow import FakeAirflow

MONITOR = "https://adf.azure.com/en-us/monitoring/pipelineruns"


def test_success(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A run that succeeds completes its task with one PATCH of `completion/v1`, for at most three calls of ADF."""
    _, token, run_id = bridge.parked(airflow)
    bridge.complete(token, run_id)
    [patch] = airflow.patches
    completion = patch.body["params_input"]
    assert ["Succeeded"] == patch.body["chosen_options"]
    assert {
        "schema": "completion/v1",
        "token": token,
        "status": "Succeeded",
        "factory": SALES,
        "run_id": run_id,
        "watched_run_id": None,
        "pipeline": "held",
        "message": None,
        "failed_activity": None,
        "monitor_url": f"{MONITOR}/{run_id}?factory={SALES}",
    } == {name: value for name, value in completion.items() if name not in ("run_start", "run_end")}
    assert completion["run_start"] < completion["run_end"]
    assert {"createRun": 1, "getRun": 1, "total": 2} == bridge.calls(run_id)
    assert ("delivered", 1) == (bridge.wait(token)["state"], bridge.wait(token)["attempts"])
    assert ["registered", "event", "decided", "delivered"] == bridge.story(token)


def test_failure(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A run that fails tells its task which activity failed, with ADF's code and message, for three calls of ADF."""
    _, token, run_id = bridge.parked(airflow)
    why = {"message": "Operation on target Load failed: no such table", "error_code": "2011"}
    bridge.complete(token, run_id, "Failed", **why)
    [patch] = airflow.patches
    completion = patch.body["params_input"]
    assert (["Failed"], "Failed") == (patch.body["chosen_options"], completion["status"])
    assert "Operation on target Load failed: no such table" == completion["message"]
    expected = {"name": "Load", "type": "Copy", "error_code": "2011"}
    assert expected == {name: completion["failed_activity"][name] for name in expected}
    assert "no such table" in completion["failed_activity"]["message"]
    assert {"createRun": 1, "getRun": 1, "queryActivityRuns": 1, "total": 3} == bridge.calls(run_id)
    assert completion == bridge.call("GET", f"/waits/{token}").json()["completed"]


def test_cancelled_run(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S30: a cancelled run is told as Cancelled, which is neither a success nor a failure."""
    _, token, run_id = bridge.parked(airflow)
    bridge.complete(token, run_id, "Cancelled")
    assert [["Cancelled"]] == [patch.body["chosen_options"] for patch in airflow.patches]


def test_event_grid_publisher(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A third party's events of a start and an end, by Microsoft's own publisher and Event Grid, complete a task."""
    assert bridge.event_grid is not None
    _, token, run_id = bridge.parked(airflow)
    endpoint = bridge.event_grid.ready["topics"]["runs"]["endpoint"]
    with closing(EventGridPublisherClient(endpoint, AzureKeyCredential(TOPIC_KEY))) as publisher:
        publisher.send(_told_by_others(run_id, "InProgress"))
        eventually(lambda: bridge.verdicts(run_id) == ["noted"])
        bridge.end_run(run_id)
        publisher.send(_told_by_others(run_id, "Succeeded"))
    eventually(lambda: bridge.wait(token)["state"] == "delivered")
    assert [["Succeeded"]] == [patch.body["chosen_options"] for patch in airflow.patches]
    assert {"createRun": 1, "getRun": 1, "total": 2} == bridge.calls(run_id)


def _told_by_others(run_id: str, status: str) -> CloudEvent[dict[str, str]]:
    """An event without anything that may be left out."""
    return CloudEvent(source=SALES, type=f"AdfBridge.PipelineRun.{status}", data={"runId": run_id, "status": status})


def test_event_grid_schema(bridge: Bridge, airflow: FakeAirflow) -> None:
    """An event in the Event Grid schema does what a CloudEvent does: both arrive as they were sent."""
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    bridge.deliver(grid_event(run_id))
    assert ("delivered", ["matched"]) == (bridge.until(token, *FINAL)["state"], bridge.verdicts(run_id))


def test_mapped_tasks(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S17: of three mapped tasks in a group, each is answered with its own run's end, whatever their order."""
    parked = [bridge.parked(airflow, dag_id="etl", task_id="group.copy", map_index=index) for index in range(3)]
    runs = [run_id for _, _, run_id in parked]
    for index, status in ((2, "Succeeded"), (0, "Failed"), (1, "Cancelled")):
        _, token, run_id = parked[index]
        bridge.complete(token, run_id, status)
    path = "/api/v2/dags/etl/dagRuns/manual__2026-01-01T00:00:00+00:00/taskInstances/group.copy"
    assert [
        (f"{path}/2/hitlDetails", ["Succeeded"], runs[2]),
        (f"{path}/0/hitlDetails", ["Failed"], runs[0]),
        (f"{path}/1/hitlDetails", ["Cancelled"], runs[1]),
    ] == [(patch.path, patch.body["chosen_options"], patch.body["params_input"]["run_id"]) for patch in airflow.patches]


def test_same_names_everywhere(bridge: Bridge) -> None:
    """S18: tasks of the same names on two targets, and pipelines of the same name in two factories, never mix."""
    one, other = bridge.fresh_airflow(), bridge.fresh_airflow()
    _, one_token, sales_run = bridge.parked(one, factory="sales")
    _, other_token, stock_run = bridge.parked(other, factory="stock")
    bridge.end_run(stock_run)
    bridge.complete(one_token, sales_run, "Failed")
    assert [[["Failed"]], []] == [[patch.body["chosen_options"] for patch in target.patches] for target in (one, other)]
    # The other run's id with the wrong factory is another run, for which nobody waits.
    before = bridge.calls(stock_run)
    bridge.deliver(run_event(stock_run, factory=SALES))
    assert ("open", ["parked"], before) == (
        bridge.wait(other_token)["state"],
        bridge.verdicts(stock_run),
        bridge.calls(stock_run),
    )
    bridge.deliver(run_event(stock_run, factory=STOCK))
    bridge.until(other_token, "delivered")
    assert [["Succeeded"]] == [patch.body["chosen_options"] for patch in other.patches]


def test_run_that_ended_before_the_wait(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A wait for a run that has ended is answered with the completion at once, and nothing is sent to Airflow."""
    run_id = bridge.started()
    bridge.end_run(run_id, "Failed", error_code="Timeout")
    wait = wait_of(airflow, airflow.task())
    answer = bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **wait})
    completed = answer.json()["completed"]
    assert (200, "Failed", "Timeout") == (
        answer.status_code,
        completed["status"],
        completed["failed_activity"]["error_code"],
    )
    assert ("inline", []) == (bridge.wait(token_of(wait))["state"], airflow.looks)


def test_event_before_the_wait(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S01: an event for a run that nobody waits for yet is kept, and registering answers with the completion."""
    run_id = bridge.started()
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    assert ["parked"] == bridge.verdicts(run_id)
    assert {"createRun": 1, "total": 1} == bridge.calls(run_id)
    wait = wait_of(airflow, airflow.task())
    answer = bridge.call("POST", "/waits", json={"factory": SALES, "run_id": run_id, **wait})
    assert ("Succeeded", "inline") == (answer.json()["completed"]["status"], answer.json()["wait"]["state"])
    bridge.deliver(run_event(run_id))
    assert (["parked", "duplicate"], []) == (bridge.verdicts(run_id), airflow.patches)


def test_event_between_two_waits(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S01: an event that came when nobody waited counts, also for a run that ADF was asked about a moment before."""
    run_id = bridge.started()
    first, second = (wait_of(airflow, airflow.task(task_id=name)) for name in ("first", "second"))
    assert bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **first}).ok
    bridge.call("DELETE", f"/waits/{token_of(first)}")
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    answer = bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **second})
    assert ("Succeeded", "inline") == (answer.json()["completed"]["status"], answer.json()["wait"]["state"])


def test_event_before_the_task_parks(bridge: Bridge) -> None:
    """S02: a task that still runs is looked at until it parks, and then held back for the target's hold."""
    airflow = bridge.airflows["held"]
    task = airflow.task(dag_id="early")
    wait = wait_of(airflow, task)
    run_id = bridge.started(wait)
    bridge.end_run(run_id)
    with ThreadPoolExecutor() as pool:
        delivery = pool.submit(bridge.deliver, run_event(run_id))
        eventually(lambda: airflow.seen("GET", "/early/"))
        assert [] == airflow.patches
        task.park()
        assert 202 == delivery.result().status_code
    bridge.until(token_of(wait), "delivered")
    [patch] = airflow.patches
    first_seen_parked = next(one for one in airflow.seen("GET", "/early/") if one.at > patch.at - 1.45 - 0.5)
    assert 1.5 <= patch.at - first_seen_parked.at + 0.01
    assert ["registered", "event", "decided", "not-parked", "held", "delivered"] == bridge.story(token_of(wait))


def test_task_without_a_state(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S02: a task that has never parked has no question, which is no reason to give it up."""
    task = airflow.task(state=None, try_number=1)
    wait = wait_of(airflow, task)
    run_id = bridge.started(wait)
    bridge.end_run(run_id)
    with ThreadPoolExecutor() as pool:
        delivery = pool.submit(bridge.deliver, run_event(run_id))
        eventually(lambda: "not-parked" in bridge.story(token_of(wait)))
        task.park()
        delivery.result()
    bridge.until(token_of(wait), "delivered")
    assert ("delivered", 1) == (bridge.wait(token_of(wait))["state"], len(airflow.patches))


def test_duplicate_events(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S03, S22: the same fact eight times at once, under two ids, completes the task once."""
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    events = [run_event(run_id), run_event(run_id, id="diagnostics/1")] * 4
    with ThreadPoolExecutor(8) as pool:
        statuses = {answer.status_code for answer in pool.map(bridge.deliver, events)}
    eventually(lambda: bridge.wait(token)["state"] == "delivered")
    assert ({202}, 1) == (statuses, len(airflow.patches))
    verdicts = bridge.verdicts(run_id)
    assert 8 == len(verdicts)
    assert {"matched", "duplicate", "unconfirmed"} >= set(verdicts)
    bridge.deliver(run_event(run_id))
    assert ("duplicate", 1) == (bridge.verdicts(run_id)[-1], len(airflow.patches))


def test_late_events_change_nothing(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S04: what comes after a run's end, in whatever order, neither completes again nor asks ADF again."""
    _, token, run_id = bridge.parked(airflow)
    bridge.complete(token, run_id)
    before = bridge.calls(run_id)
    bridge.deliver(run_event(run_id, "InProgress"), run_event(run_id, "Failed"), run_event(run_id, "Cancelled"))
    assert (["duplicate"] * 3, before) == (bridge.verdicts(run_id)[1:], bridge.calls(run_id))
    assert ("delivered", 1) == (bridge.wait(token)["state"], len(airflow.patches))


def test_two_waits_for_one_run(bridge: Bridge) -> None:
    """Two tasks of two targets that wait for one run are both answered, for one read of its end (none, if swept)."""
    one, other = bridge.fresh_airflow(), bridge.fresh_airflow()
    _, token, run_id = bridge.parked(one)
    task = other.task()
    wait = wait_of(other, task)
    assert 200 == bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **wait}).status_code
    task.park()
    bridge.end_run(run_id)
    reads = bridge.calls(run_id)["getRun"]
    read_at = datetime.fromisoformat(bridge.call("GET", f"/runs/{run_id}").json()["run"]["read_at"])
    eventually(lambda: datetime.now(UTC) - read_at > timedelta(seconds=1))
    bridge.deliver(run_event(run_id))
    for one_of_two in (token, token_of(wait)):
        bridge.until(one_of_two, "delivered")
    assert [1, 1] == [len(target.patches) for target in (one, other)]
    assert bridge.calls(run_id)["getRun"] - reads in (0, 1)


def test_withdrawn_wait(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A task that stopped waiting is told nothing."""
    _, token, run_id = bridge.parked(airflow)
    assert "withdrawn" == bridge.call("DELETE", f"/waits/{token}").json()["wait"]["state"]
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    assert (["parked"], []) == (bridge.verdicts(run_id), airflow.patches)


def test_observe_mode(bridge: Bridge) -> None:
    """A target in observe mode is decided about and looked at, and never written to."""
    airflow = bridge.airflows["observed"]
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    eventually(lambda: "observed" in bridge.story(token), within=PATIENCE)
    assert ("due", []) == (bridge.wait(token)["state"], airflow.patches)


@pytest.mark.parametrize("how", ["list", "run"])
def test_what_is_known(bridge: Bridge, airflow: FakeAirflow, how: str) -> None:
    """A wait is listed for its target, and a run shows its waits."""
    _, token, run_id = bridge.parked(airflow)
    path = f"/waits?target={airflow.name.upper()}&state=open&factory=sales" if how == "list" else f"/runs/{run_id}"
    assert token in [wait["token"] for wait in bridge.call("GET", path).json()["waits"]]
