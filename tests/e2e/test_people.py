"""People do things to tasks that wait."""

import pytest

from tests.e2e.dag_run import DagRun


@pytest.mark.starts("held_load")
def test_cleared(load: DagRun) -> None:
    """S14: a task that is cleared while it waits gets a new run, and the old run's end is not taken for its own."""
    load.clear()
    load.until("awaiting_input", try_number=2)
    load.wait(try_number=2)

    load.end_run("Failed", number=1)
    load.until_wait("stale")
    assert ("awaiting_input", 2) == (load.task()["state"], load.task()["try_number"])
    assert not load.answered()["response_received"]

    second = load.end_run("Succeeded", number=2)
    load.until("success", try_number=2)
    assert "delivered" == load.until_wait("delivered", try_number=2)["state"]
    assert second == load.xcom()["watched_run_id"]


@pytest.mark.starts("held_load")
@pytest.mark.parametrize(("state", "status"), [("success", "Failed"), ("failed", "Succeeded")])
def test_marked(load: DagRun, state: str, status: str) -> None:
    """S16: a task that a person marks while it waits stays as it was marked, and its wait is overridden."""
    load.mark(state)
    load.until(state)
    load.end_run(status)
    load.until_wait("overridden")
    assert state == load.task()["state"]
    assert not load.answered()["response_received"]


@pytest.mark.starts("held_load")
def test_answered_by_a_person(load: DagRun) -> None:
    """S16: a person's answer in Required Actions completes the task, under the person's name."""
    load.answer("Succeeded")
    load.until("success")
    assert "admin answered Succeeded in Required Actions" in load.log()

    load.end_run("Failed")
    wait = load.until_wait("overridden")
    assert "admin answered Succeeded" in wait["timeline"][-1]["detail"]
    assert "success" == load.task()["state"]
    assert "admin" == load.answered()["responded_by_user"]["name"]
