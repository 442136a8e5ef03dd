"""The run events that the local Data Factory sends to the topic."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.component.stand_ins import (
    FACTORY_ID,
    TOPIC_KEY,
    Adf,
    Control,
    activity,
    eventually,
    running_adf,
    running_event_grid,
)


@dataclass(frozen=True)
class Stage:
    """A Data Factory and the Event Grid that it tells of its runs."""

    adf: Adf
    event_grid: Control

    def events(self, run_id: str) -> list[Any]:
        """The events of a run that the topic took."""
        taken = [one["event"] for one in self.event_grid.get("events")["events"]]
        return [event for event in taken if event["data"]["runId"] == run_id]

    def event(self, run_id: str, status: str) -> Any:
        """The event of a run's status, once the topic took it."""
        return eventually(lambda: next((one for one in self.events(run_id) if one["data"]["status"] == status), None))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A factory that tells a topic of its runs, for all tests of this module."""
    folder = tmp_path_factory.mktemp("events")
    pipelines = {
        name: {
            "activities": [activity("Load", localSeconds="held")],
            "parameters": {"password": {"type": "string", "defaultValue": "hunter2"}},
        }
        for name in ("held", "silent", "twice")
    }
    with running_event_grid(folder) as event_grid:
        topic = ("--topic-endpoint", event_grid.ready["topics"]["runs"]["endpoint"], "--topic-key", TOPIC_KEY)
        with running_adf(folder, pipelines, *topic) as adf:
            yield Stage(adf, Control(event_grid.url))


def test_a_run_that_begins_and_one_that_ends_are_told_to_the_topic(stage: Stage) -> None:
    """InProgress and the terminal status are CloudEvents with a deterministic id and nothing secret in them."""
    run_id = stage.adf.create_run("held")
    begun = stage.event(run_id, "InProgress")
    stage.adf.control.post(f"runs/{run_id}/finish", {"status": "Failed", "message": "the password was hunter2"})
    ended = stage.event(run_id, "Failed")
    run = stage.adf.get(run_id)

    assert {
        "specversion": "1.0",
        "type": "AdfBridge.PipelineRun.Failed",
        "id": f"{run_id}/Failed",
        "source": FACTORY_ID,
        "subject": f"pipelines/held/runs/{run_id}",
        "datacontenttype": "application/json",
    } == {name: value for name, value in ended.items() if name not in {"data", "time"}}
    assert {"runId", "pipelineName", "status", "runGroupId", "runStart", "runEnd", "invokedBy"} == set(ended["data"])
    assert "hunter2" not in str(ended)
    assert begun["data"]["runEnd"] is None
    assert run.as_dict()["runEnd"][:23] == ended["data"]["runEnd"][:23]


def test_events_can_be_held_back_and_doubled(stage: Stage) -> None:
    """A switch for one pipeline silences its runs or sends each event twice; other runs are as before."""
    stage.adf.control.post("publish", {"pipeline": "silent", "suppress": True})
    stage.adf.control.post("publish", {"pipeline": "twice", "copies": 2})
    runs = {name: stage.adf.create_run(name) for name in ("silent", "twice", "held")}
    for run_id in runs.values():
        stage.adf.wait_for(run_id, "InProgress")
        stage.adf.control.post(f"runs/{run_id}/finish", {"status": "Succeeded"})

    counts = eventually(
        lambda: found if len(found := _statuses(stage, runs["twice"])) == 2 and found.total() == 4 else None
    )
    stage.event(runs["held"], "Succeeded")
    assert {"InProgress": 2, "Succeeded": 2} == counts
    assert [] == stage.events(runs["silent"])


def test_one_runs_events_can_be_late(stage: Stage) -> None:
    """A switch for one run delays what it says from then on."""
    run_id = stage.adf.create_run("held")
    stage.event(run_id, "InProgress")
    stage.adf.control.post("publish", {"run_id": run_id, "delay_s": 0.4})
    stage.adf.control.post(f"runs/{run_id}/finish", {"status": "Succeeded"})

    assert ["InProgress"] == [event["data"]["status"] for event in stage.events(run_id)]
    stage.event(run_id, "Succeeded")


def test_an_event_that_the_topic_refuses_at_first_is_sent_again(stage: Stage) -> None:
    """A topic that is away for a moment costs no event."""
    stage.event_grid.post("faults", {"op": "publish", "status": 503})
    run_id = stage.adf.create_run("held")

    stage.event(run_id, "InProgress")
    sent = [one["status"] for one in stage.adf.control.get("publish")["sent"] if one["event_id"].startswith(run_id)]
    assert [503, 200] == sent


def _statuses(stage: Stage, run_id: str) -> Counter[str]:
    return Counter(event["data"]["status"] for event in stage.events(run_id))
