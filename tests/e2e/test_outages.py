"""The bridge goes away, and comes back."""

from tests.e2e.stack import Stack


def test_unreachable_when_the_task_starts(stack: Stack) -> None:
    """S48: a task that starts while the bridge is down asks again under the same key, and gets one run."""
    stack.azure.functions.kill()
    load = stack.start("held_load")
    load.until("running")
    stack.until(lambda: "could not be asked" in load.log(), "the task to find the bridge down")
    assert [] == load.adf_runs()

    stack.azure.functions.start()
    load.until("awaiting_input")
    [run] = load.adf_runs()
    load.end_run("Succeeded")
    load.until("success")
    assert run["runId"] == load.xcom()["watched_run_id"]


def test_killed_between_event_and_delivery(stack: Stack) -> None:
    """S24: a bridge that is killed while it holds a completion back delivers it, once, after it was started again."""
    load = stack.start("held_load")
    load.until("awaiting_input")
    load.end_run("Succeeded")
    load.until_told("held")
    stack.azure.functions.kill()
    assert "awaiting_input" == load.task()["state"]

    stack.azure.functions.start()
    load.until_wait("delivered", ticking=True)
    load.until("success")
    assert 1 == load.log().count("succeeded (")
