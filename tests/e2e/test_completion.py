"""A run ends, and the task that waits for it ends as it should."""

from datetime import datetime

import pytest

from tests.e2e.dag_run import DagRun
from tests.e2e.stack import TARGET, Stack

MESSAGE = "Login failed for user 'loader'."


def test_health(stack: Stack) -> None:
    """The bridge finds the live Airflow and the factory reachable, with the permissions that it needs."""
    health = stack.health()
    assert ("ok", True, True) == (
        health["status"],
        health["targets"][TARGET]["reachable"],
        health["factories"]["demo"]["reachable"],
    )


@pytest.fixture(scope="class")
def done(stack: Stack) -> DagRun:
    """A task that was completed."""
    done = stack.take("held_load")
    done.end_run("Succeeded")
    done.until("success")
    done.until_wait("delivered")
    return done


@pytest.mark.starts("held_load")
class TestSuccess:
    """One task whose run succeeded."""

    def test_xcom(self, done: DagRun) -> None:
        """The task leaves the runs' ids, the status, pipeline, times and link in XCom, as Data Factory has them."""
        run, left = done.adf_run(), done.xcom()
        assert (done.started_run_id(), run["runId"]) == (left["run_id"], left["watched_run_id"])
        assert ("Succeeded", "held") == (left["status"], left["pipeline"])
        for name, arm_name in (("run_start", "runStart"), ("run_end", "runEnd")):
            assert datetime.fromisoformat(run[arm_name]) == datetime.fromisoformat(left[name])
        assert run["runId"] in left["monitor_url"]

    def test_link(self, done: DagRun) -> None:
        """The task's button leads to its run in Data Factory's monitor."""
        assert done.xcom()["monitor_url"] == done.link()

    def test_required_action(self, done: DagRun) -> None:
        """Required Actions shows that the user `bridge` answered, with the outcome and nothing that the wait is not."""
        answered, wait = done.answered(), done.wait()
        assert ("bridge", ["Succeeded"], wait["token"]) == (
            answered["responded_by_user"]["name"],
            answered["chosen_options"],
            answered["params_input"]["token"],
        )

    def test_calls(self, done: DagRun) -> None:
        """A run that succeeds costs at most three calls of Data Factory, its start included."""
        assert done.calls_of_adf() <= 3

    def test_one_run(self, done: DagRun) -> None:
        """One try has one run."""
        done.check_one_run_per_try()


@pytest.mark.starts("retried_load")
def test_failure_is_retried(load: DagRun) -> None:
    """A failed run fails its try with activity, error code and message; the retry has a token and a run of its own."""
    load.end_run("Failed", message=MESSAGE, error_code="SqlFailedToConnect")
    load.until("up_for_retry")
    load.until("awaiting_input", try_number=2)
    load.end_run("Succeeded", number=2)
    load.until("success", try_number=2)
    first, second = load.started_run_id(1), load.started_run_id(2)

    log = load.log(try_number=1)
    told = ("AdfBridgeRunFailed", "'Copy orders' (Copy)", "SqlFailedToConnect", MESSAGE)
    assert list(told) == [words for words in told if words in log], log
    waits = load.waits()
    assert [(1, first, "delivered"), (2, second, "delivered")] == [
        (wait["task"]["try_number"], wait["run_id"], wait["state"]) for wait in waits
    ]
    assert 2 == len({first, second})
    assert 2 == len({wait["token"] for wait in waits})
    assert second == load.xcom()["run_id"]


@pytest.mark.starts("nested_load")
def test_failure_three_levels_deep(load: DagRun, stack: Stack) -> None:
    """A task whose run fails three levels deep tells the innermost activity's error code and message, and its run."""
    innermost = load.run_below(load.run_below(load.adf_run()))
    stack.end_run(innermost, "Failed", message=MESSAGE, error_code="SqlFailedToConnect")
    load.until("failed")
    load.until_wait("delivered")

    log = load.log()
    cause = "activity 'Copy orders' (Copy) failed with error SqlFailedToConnect"
    told = (
        f"AdfBridgeRunFailed: Pipeline 'nested' failed: {cause}",
        MESSAGE,
        f"It failed in pipeline 'nested_stage', run {innermost['runId']}, by way of 'Run part' > 'Run stage'",
    )
    assert list(told) == [words for words in told if words in log], log
    [decided] = [line["detail"] for line in load.wait()["timeline"] if line["what"] == "decided"]
    assert cause in decided


@pytest.mark.starts("mapped_load")
def test_mapped_tasks(load: DagRun, stack: Stack) -> None:
    """S17: three instances of a mapped task end in another order than they began, each with its own run."""
    by_index = {int(run["parameters"]["part"]): run for run in load.adf_runs()}
    order = [index for index, _ in sorted(by_index.items(), key=lambda item: item[1]["runStart"])]
    for number, index in enumerate(reversed(order), start=1):
        stack.end_run(by_index[index], "Succeeded")
        load.until("success", map_index=index)
        states = [load.task(one)["state"] for one in reversed(order)]
        assert ["success"] * number + ["awaiting_input"] * (3 - number) == states
    assert {index: run["runId"] for index, run in by_index.items()} == {
        index: load.xcom(map_index=index)["watched_run_id"] for index in by_index
    }


@pytest.mark.starts("held_load")
def test_cancelled_run_fails_the_task(load: DagRun) -> None:
    """S30: a run that was cancelled fails its task as cancelled, not as failed."""
    load.end_run("Cancelled")
    load.until("failed")
    assert "AdfBridgeRunCancelled: Pipeline 'held' was cancelled" in load.log()
    assert ["Cancelled"] == load.answered()["chosen_options"]


@pytest.mark.starts("skippable_load")
def test_cancelled_run_skips_the_task(load: DagRun) -> None:
    """S30: with on_cancelled="skip" a run that was cancelled skips its task."""
    load.end_run("Cancelled")
    load.until("skipped")
    assert "delivered" == load.until_wait("delivered")["state"]


@pytest.mark.starts("impatient_load")
def test_deadline(load: DagRun, stack: Stack) -> None:
    """S29: a task whose run does not end in time fails for that reason, and the run's later end changes nothing."""
    load.until("failed")
    load.until_wait("delivered")
    assert "AdfBridgeRunExpired: Pipeline 'held' did not end before the deadline" in load.log()
    assert "InProgress" == load.adf_run()["status"]
    answered = load.answered()
    assert ("bridge", ["Expired"]) == (answered["responded_by_user"]["name"], answered["chosen_options"])

    run_id = load.end_run("Succeeded")
    stack.until(lambda: load.verdicts(f"{run_id}/Succeeded"), "the late event to be received")
    assert ("failed", "delivered", answered["responded_at"]) == (
        load.task()["state"],
        load.wait()["state"],
        load.answered()["responded_at"],
    )
