"""A task has another try: it goes on with the run of the one before, or leaves it, as it was told to."""

from datetime import datetime, timedelta

import pytest

from tests.e2e.dag_run import DagRun, Json
from tests.e2e.stack import Stack

STEPS = ["Extract orders", "Check orders", "Transform orders", "Load orders", "Report orders"]
SWEEP = timedelta(seconds=60)
TICK = timedelta(seconds=15)
"""A sweep begins with the first tick at which it is due."""


def steps(run: Json) -> list[str]:
    """The activities of a run, in order, with how they ended."""
    return [f"{one['activityName']}: {one['status']}" for one in run["activities"]]


def ended_as(status: str, *names: str) -> list[str]:
    """These activities as `steps` shows them."""
    return [f"{name}: {status}" for name in names]


def story_s_time(wait: Json, what: str) -> datetime:
    """When a wait's story had a word first."""
    return next(datetime.fromisoformat(line["at"]) for line in wait["timeline"] if line["what"] == what)


# ---- retries


@pytest.mark.starts("killed_load")
@pytest.mark.shares_run
def test_process_killed_before_it_parked(load: DagRun) -> None:
    """S14: a task whose process is killed before it parks goes on with its run in the retry."""
    load.until("awaiting_input", try_number=2)
    load.end_run("Succeeded")
    load.until("success", try_number=2)
    assert f"Going on with run {load.started_run_id()} of pipeline held" in load.log(try_number=2)
    assert (load.adf_run()["runId"], 0) == (load.xcom()["watched_run_id"], load.calls_to_cancel())


@pytest.mark.starts("recovered_load")
def test_recovered(load: DagRun) -> None:
    """S14: with on_retry="recover" the retry of a run that failed at its fourth activity runs the last two, no more."""
    load.until("success", try_number=2)
    first, second = load.adf_runs()
    assert (first["runGroupId"], first["parameters"]) == (second["runGroupId"], second["parameters"])
    assert [*ended_as("Succeeded", *STEPS[:3]), *ended_as("Failed", STEPS[3])] == steps(first)
    assert ended_as("Succeeded", *STEPS[3:]) == steps(second)
    assert "'Load orders' (Copy) failed with error 2200" in load.log(try_number=1)
    assert f"Running an earlier run again, as run {second['runId']}" in load.log(try_number=2)
    assert second["runId"] == load.xcom()["run_id"]


@pytest.mark.starts("changed_load")
def test_not_recovered_with_other_parameters(load: DagRun) -> None:
    """S14: a retry with another parameter runs everything again, under it, and its log says why."""
    load.until("success", try_number=2)
    first, second = load.adf_runs()
    assert first["runGroupId"] != second["runGroupId"]
    assert ("1", "2") == (first["parameters"]["part"], second["parameters"]["part"])
    assert ended_as("Succeeded", *STEPS) == steps(second)
    assert "The previous try ran with other parameters." in load.log(try_number=2)


# ---- clears


def test_cleared_before_it_parked(stack: Stack) -> None:
    """S30: a task that is cleared while it still runs is told to end, and cancels its run itself, at once."""
    load = stack.start("stopped_load")
    load.wait()
    load.clear()
    load.until_run("Cancelled", number=1)
    stack.open_gate(load)
    load.until("awaiting_input", try_number=2)
    assert f"run {load.started_run_id(1)} is cancelled" in load.log(try_number=1)
    assert ("InProgress", 1) == (load.adf_run(2)["status"], load.calls_to_cancel())


@pytest.fixture(scope="class")
def guarded(stack: Stack) -> DagRun:
    """A task with `on_abandon=cancel` that was cleared while it waited; its first run has been cancelled by now."""
    guarded = stack.take("guarded_load")
    guarded.until("awaiting_input", try_number=2)
    guarded.until_told("maybe-abandoned")
    guarded.until_told("cancelled")
    guarded.until_run("Cancelled", number=1)
    return guarded


@pytest.fixture(scope="class")
def kept(stack: Stack) -> DagRun:
    """The same, cleared at the same time; but its next try goes on with its run."""
    kept = stack.take("kept_load")
    kept.until("awaiting_input", try_number=2)
    return kept


@pytest.mark.starts("guarded_load", cleared=True)
@pytest.mark.starts("kept_load", cleared=True)
class TestCleared:
    """Two waiting tasks that were cleared at the same time."""

    def test_for_good(self, stack: Stack, guarded: DagRun) -> None:
        """S14: with on_abandon="cancel" a cleared try's run is cancelled within two sweeps; the new try's goes on."""
        assert "InProgress" == guarded.adf_run(2)["status"]
        guarded.end_run("Succeeded", number=2)
        guarded.until("success", try_number=2)
        assert ("stale", ["abandoned", "cancelled"]) == (guarded.wait()["state"], guarded.story()[-2:])
        assert story_s_time(guarded.wait(), "cancelled") - stack.cleared_at <= 2 * (SWEEP + TICK)
        guarded.check_one_run_per_try()

    def test_to_go_on(self, stack: Stack, guarded: DagRun, kept: DagRun) -> None:
        """S14: with on_clear="reattach" the new try completes with the cleared one's run, and nothing is cancelled."""
        assert stack.cleared_at < story_s_time(kept.wait(try_number=2), "registered")
        assert "Cancelled" == guarded.adf_run(1)["status"]
        assert ("InProgress", 0) == (kept.adf_run()["status"], kept.calls_to_cancel())
        run_id = kept.end_run("Succeeded")
        kept.until("success", try_number=2)
        assert (run_id, 0) == (kept.xcom()["watched_run_id"], kept.calls_to_cancel())
        assert f"Going on with run {kept.started_run_id()} of pipeline held" in kept.log(try_number=2)
        kept.check_one_run()
