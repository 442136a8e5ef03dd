"""Events that come twice, or early."""

import uuid

import pytest

from tests.e2e.dag_run import DagRun
from tests.e2e.stack import Stack


@pytest.mark.starts("held_load")
def test_duplicate_events(load: DagRun, stack: Stack) -> None:
    """S03: the same event three times, and the same fact under another id, resume a task once."""
    run_id = load.end_run("Succeeded")
    load.until("success")
    first = load.answered()

    event_id, other_id = f"{run_id}/Succeeded", f"other-source/{uuid.uuid4()}"
    for _ in range(2):
        stack.redeliver(event_id)
    stack.publish({**stack.published(event_id), "id": other_id})
    stack.until(lambda: len(load.verdicts(event_id)) == 3 and load.verdicts(other_id), "four verdicts")

    assert ["duplicate"] == load.verdicts(other_id)
    assert 1 == sum(line == "delivered" for line in load.story())
    assert 1 == load.log().count(f"Run {run_id} succeeded")
    assert first == {**load.answered(), "task_instance": first["task_instance"]}


def test_event_before_the_task_parks(stack: Stack) -> None:
    """S02: an event that comes while the task still runs completes it after it has parked, and was held."""
    load = stack.start("gated_load")
    load.wait()
    load.end_run("Succeeded")
    load.until_told("not-parked")
    assert "running" == load.task()["state"]

    stack.open_gate(load)
    load.until("success")
    story = load.until_wait("delivered") and load.story()
    assert [word for word in story if word in {"not-parked", "held", "delivered"}][-2:] == ["held", "delivered"]
    assert 1 == load.log().count("succeeded (")


def test_run_ends_before_it_is_waited_for(stack: Stack) -> None:
    """S01: a run that ends before Data Factory's answer is there completes its task at once, without parking."""
    slow_answer = {"op": "createRun", "pipeline": "brief__notified", "effect": "after", "delay_s": 2}
    stack.adf("POST", "faults", slow_answer)
    load = stack.start("brief_load")
    load.until("success")
    wait = load.wait()
    assert "inline" == wait["state"]
    run_id = load.adf_run()["runId"]
    assert ["parked"] == load.verdicts(f"{run_id}/Succeeded")
    assert load.never_parked()
    assert (wait["run_id"], run_id) == (load.xcom()["run_id"], load.xcom()["watched_run_id"])


def test_brief_run(stack: Stack) -> None:
    """A run that is over in a moment completes its task, whichever of them was faster."""
    load = stack.start("brief_load")
    load.until("success")
    assert load.wait()["run_id"] == load.xcom()["run_id"]
