"""Waiting for a run that somebody else starts: its wrapper's notice completes the task, and no other run's does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.component.adf_stage import held
from tests.component.stand_ins import eventually
from tests.stage import Json, Stage, Waiting, running_stage, until

PATIENCE = timedelta(seconds=15)
# Data Factory is asked once in this time about a wait; what is told sooner, the timer looks into.
SPACING = timedelta(seconds=1)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The local Azure, with a wrapped pipeline for each test. The first sweep is over, the next an hour away."""
    pipelines = {name: [held()] for name in ("next", "earlier", "shuffled", "choosy", "never")}
    settings = {"BRIDGE_SWEEP_SECONDS": "3600"}
    with running_stage(Stage, tmp_path_factory.mktemp("others"), pipelines, settings=settings) as started:
        started.wait_for_match("never", task_id="never", since=now())
        started.tick()
        eventually(lambda: "factory.swept" in started.logs(), within=PATIENCE)
        yield started


def now() -> str:
    """The time."""
    return datetime.now(UTC).isoformat()


def begin(stage: Stage, pipeline: str) -> str:
    """Start the wrapper as a trigger does; return the run of the pipeline, once it goes on."""
    run_id = stage.create_run(f"{pipeline}__notified")
    child = eventually(lambda: stage.child_of(run_id), within=PATIENCE)
    eventually(lambda: stage.runs()[child]["activities"], within=PATIENCE)
    return child


def verdicts(stage: Stage, run_id: str, count: int = 1) -> list[str]:
    """What became of a run's events, once there are so many."""
    found = eventually(lambda: known if len(known := stage.events(run_id)) >= count else None, within=PATIENCE)
    return [event["verdict"] for event in found]


def told(waiting: Waiting) -> tuple[str, str]:
    """What the task was told, and of which run."""
    question = waiting.task.question
    assert question is not None
    completion: Json = question.params_input
    return completion["status"], completion["run_id"]


def test_the_next_run(stage: Stage) -> None:
    """A wait for the next run of a pipeline that Airflow did not start completes from its event, without the timer."""
    waiting = stage.wait_for_match("next", task_id="next", since=now())
    registered_at = datetime.now(UTC)
    run_id = begin(stage, "next")
    eventually(lambda: datetime.now(UTC) - registered_at > SPACING)
    stage.end(run_id, "Succeeded")
    eventually(lambda: waiting.told, within=PATIENCE)
    assert (("Succeeded", run_id), ["matched"]) == (told(waiting), verdicts(stage, run_id))
    assert run_id == stage.call("GET", f"/waits/{waiting.token}").json()["run"]["run_id"]


def test_an_earlier_run(stage: Stage) -> None:
    """S04: the event of a run that began before the wait's time completes nothing; the next run's does."""
    earlier = begin(stage, "earlier")
    waiting = stage.wait_for_match("earlier", task_id="earlier", since=now())
    stage.end(earlier, "Succeeded")
    assert (["unconfirmed"], None) == (verdicts(stage, earlier), waiting.told)
    run_id = begin(stage, "earlier")
    stage.end(run_id, "Failed", "why")
    until(stage, waiting, within=PATIENCE)
    assert ("Failed", run_id) == told(waiting)


def test_events_in_another_order(stage: Stage) -> None:
    """S03, S04: the later run's event comes first, and again afterwards; the earlier run stays the one waited for."""
    waiting = stage.wait_for_match("shuffled", task_id="shuffled", since=now())
    first, second = begin(stage, "shuffled"), begin(stage, "shuffled")
    stage.end(second, "Succeeded")
    assert (["unconfirmed"], None) == (verdicts(stage, second), waiting.told)
    stage.end(first, "Failed", "why")
    until(stage, waiting, within=PATIENCE)
    stage.event_grid.post("redeliver", {"event_id": f"{second}/Succeeded"})
    assert "matched" not in verdicts(stage, second, 2)
    answers = [one for one in stage.airflow.patches if "/shuffled/" in one.path]
    assert (("Failed", first), 1) == (told(waiting), len(answers))


def test_only_a_success_counts(stage: Stage) -> None:
    """With `statuses` a run that ends otherwise is passed over, and the next one is waited for."""
    waiting = stage.wait_for_match("choosy", task_id="choosy", since=now(), statuses=["Succeeded"])
    failed = begin(stage, "choosy")
    stage.end(failed, "Failed")
    assert (["unconfirmed"], None) == (verdicts(stage, failed), waiting.told)
    run_id = begin(stage, "choosy")
    stage.end(run_id, "Succeeded")
    until(stage, waiting, within=PATIENCE)
    assert ("Succeeded", run_id) == told(waiting)
