"""Tasks wait on a triggerer, and their completions reach it through one session of a Service Bus queue."""

import statistics
from collections.abc import Sequence
from datetime import datetime

import pytest

from tests.e2e.dag_run import DagRun, Json
from tests.e2e.queue_mode.queue_stack import CROWD, QueueStack, sessions
from tests.e2e.stack import TARGET


def resumed(load: DagRun, *, try_number: int = 1, map_index: int = -1) -> int:
    """How often Airflow has run `execute_complete` in one try, by the task's own log."""
    return load.log(try_number, map_index).count(f"RESUMED in try {try_number}")


def left(load: DagRun, run_id: str, *, map_index: int = -1) -> bool:
    """Whether a task has left this run's id in XCom, which Airflow 2 shows as text."""
    return f"'watched_run_id': '{run_id}'" in str(load.xcom(map_index=map_index))


def words(wait: Json) -> list[str]:
    """The words of a wait's story, in order."""
    return [line["what"] for line in wait["timeline"]]


def test_no_way_to_airflow(queued: QueueStack) -> None:
    """A bridge that has a queue for a target, and no address, is well and completes tasks by the queue alone."""
    health = queued.health()
    assert ("ok", {"queue"}) == (health["status"], set(health["targets"][TARGET]["modes"]))


# ---- many at once


@pytest.fixture(scope="module")
def crowd(queued: QueueStack) -> DagRun:
    """Many tasks that wait, each known to the bridge by its triggerer."""
    crowd = queued.take("crowd")
    queued.until(
        lambda: CROWD == sum("listening" in words(wait) for wait in queued.full(crowd)), "the crowd to be heard"
    )
    return crowd


@pytest.fixture(scope="module")
def over(queued: QueueStack, crowd: DagRun) -> Sequence[Json]:
    """The tasks of the crowd by their index, after all their runs have ended at once."""
    for run in crowd.adf_runs():
        queued.end_run(run, "Succeeded")
    queued.until(crowd.has_ended, "the crowd to end")
    return sorted(crowd.tasks(), key=lambda ti: int(ti["map_index"]))


class TestCrowd:
    """Many tasks that wait at once."""

    def test_one_connection(self, queued: QueueStack, crowd: DagRun) -> None:
        """However many tasks wait, their triggerer has one connection to Service Bus, with one session."""
        waiting = [wait["state"] for wait in crowd.waits()]
        connections = queued.triggerer_s_connections()
        queued.tell(f"{waiting.count('open')} tasks wait on {len(connections)} connection to Service Bus")
        assert (["open"] * CROWD, 1, 1) == (waiting, len(connections), len(sessions(connections)))

    def test_resumed_once(self, queued: QueueStack, crowd: DagRun, over: Sequence[Json]) -> None:
        """S44: in Airflow 3 and 2, when all runs end at once, each task succeeds in one try, which was resumed once."""
        ended = {int(run["parameters"]["part"]): datetime.fromisoformat(run["runEnd"]) for run in crowd.adf_runs()}
        took = [(datetime.fromisoformat(ti["end_date"]) - ended[ti["map_index"]]).total_seconds() for ti in over]
        queued.tell(
            f"{len(over)} runs end at once: tasks done after {statistics.median(took):.1f} s (median), "
            f"{max(took):.1f} s at most"
        )
        assert [("success", 1)] * CROWD == [(ti["state"], ti["try_number"]) for ti in over]
        assert [1] * CROWD == [resumed(crowd, map_index=index) for index in range(CROWD)]

    @pytest.mark.usefixtures("over")
    def test_own_runs(self, crowd: DagRun) -> None:
        """S17: each of these instances of one mapped task leaves its own run's outcome in XCom."""
        runs = {int(run["parameters"]["part"]): run["runId"] for run in crowd.adf_runs()}
        assert [] == [index for index, run_id in runs.items() if not left(crowd, run_id, map_index=index)]

    @pytest.mark.usefixtures("over")
    def test_sent_once(self, queued: QueueStack, crowd: DagRun) -> None:
        """Each completion was one message, to the one session of the one connection that there still is."""
        [session] = sessions(queued.triggerer_s_connections())
        sent = [
            line["detail"] for wait in queued.full(crowd) for line in wait["timeline"] if line["what"] == "delivered"
        ]
        assert [f"sent to the listener {session}"] * CROWD == sent
        assert 0 == queued.completions_in_queue()


# ---- one by one


def test_ended_before_its_trigger_ran(queued: QueueStack) -> None:
    """S02: the completion of a run that ends before its task is deferred is kept until the task has a listener."""
    early = queued.take("early")
    early.until("success")
    assert ["listening", "answered"] == [
        word for word in early.story() if word in {"listening", "answered", "delivered"}
    ]
    assert (1, True) == (resumed(early), left(early, early.adf_run()["runId"]))


def test_cleared_while_it_waited(queued: QueueStack) -> None:
    """S15: the end of the run of a try that was cleared resumes nobody, and the new try waits on for its own."""
    cleared = queued.take("cleared")
    cleared.end_run("Failed", number=1)
    cleared.until_wait("delivered")
    queued.until(lambda: not queued.completions_in_queue(), "the old try's completion to be dropped")
    assert ("deferred", 2) == (cleared.task()["state"], cleared.task()["try_number"])

    own = cleared.end_run("Succeeded", number=2)
    cleared.until("success", try_number=2)
    assert (0, 1) == (resumed(cleared, try_number=1), resumed(cleared, try_number=2))
    assert left(cleared, own)
