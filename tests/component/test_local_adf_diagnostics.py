"""The diagnostic records that the local Data Factory writes, and the switches that make them late, doubled, or lost."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from bridge import diagnostics
from bridge.model import FactoryId
from bridge.topic import RunNotice
from tests.component.adf_stage import control
from tests.component.stand_ins import FACTORY_ID, Adf, activity, eventually, running_adf
from tests.component.web_endpoint import Answer, WebEndpoint, running_web_endpoint

HUB = "/hub/messages"
SECRET = "canary-secret"
WRAPPER = "load__notified"


@dataclass(frozen=True)
class Stage:
    """A Data Factory, and the event hub to which its records go."""

    adf: Adf
    hub: WebEndpoint

    def messages(self) -> list[list[Any]]:
        """The messages in the hub, each with its records."""
        return [request.json["records"] for request in self.hub.received(HUB)]

    def records(self, run_id: str) -> list[Any]:
        """The records about a run, as they came."""
        return [record for message in self.messages() for record in message if record["runId"] == run_id]

    def wait_for(self, run_id: str, count: int) -> list[Any]:
        """The records about a run, once there are as many."""
        eventually(lambda: len(self.records(run_id)) >= count)
        return self.records(run_id)

    def statuses(self, run_id: str, count: int) -> list[str]:
        """The statuses that were told of a run, once there are as many."""
        return [record["status"] for record in self.wait_for(run_id, count)]

    def run(self, status: str = "Succeeded", **switch: Any) -> str:
        """Let a run begin and end under a switch."""
        self.adf.control.post("diagnostics", switch)
        run_id = self.adf.create_run("held", {"password": SECRET})
        self.adf.wait_for(run_id, "InProgress")
        self.adf.control.post(f"runs/{run_id}/finish", {"status": status, "message": f"not with {SECRET}"})
        return run_id


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A factory that writes diagnostic records, for all tests of this module."""
    parameters = {"password": {"type": "string", "defaultValue": ""}}
    reference = {"referenceName": "held", "type": "PipelineReference"}
    pipelines = {
        "held": {"activities": [activity("Load", localSeconds="held")], "parameters": parameters},
        "held__notified": [control("Run", "ExecutePipeline", pipeline=reference, waitOnCompletion=True)],
    }
    with (
        running_web_endpoint() as hub,
        running_adf(tmp_path_factory.mktemp("adf"), pipelines, "--diagnostics", hub.answer(HUB, Answer(201))) as adf,
    ):
        yield Stage(adf, hub)


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Cancelled"])
def test_a_record_for_each_status(stage: Stage, status: str) -> None:
    """A run is told when it is queued, when it runs and when it has ended; only then does it have an end."""
    run_id = stage.run(status)
    assert ["Queued", "InProgress", status] == stage.statuses(run_id, 3)
    queued, running, ended = stage.records(run_id)
    run = stage.adf.get(run_id).as_dict()
    assert ["1601-01-01T00:00:00Z"] * 2 == [queued["end"], running["end"]]
    assert (run["runEnd"][:23], f"held - {status}", FACTORY_ID.upper(), "PipelineRuns") == (
        ended["end"][:23],
        ended["operationName"],
        ended["resourceId"],
        ended["category"],
    )


def test_the_properties(stage: Stage) -> None:
    """Properties are an object or a JSON text; either has the parameters and the message in clear text."""
    run_ids = [stage.run(), stage.run("Failed")]
    every = [record["properties"] for run_id in run_ids for record in stage.wait_for(run_id, 3)]
    texts = [json.loads(one) for one in every if isinstance(one, str)]
    objects = [one for one in every if isinstance(one, dict)]
    assert (3, 3) == (len(texts), len(objects))
    assert {SECRET} == {one["Parameters"]["password"] for one in (*texts, *objects)}
    assert [f"not with {SECRET}"] * 2 == [one["Message"] for one in (*texts, *objects) if one["Message"]]


def test_several_records_in_a_message(stage: Stage) -> None:
    """Records that come at the same time share messages, a few in each."""
    stage.adf.control.post("diagnostics", {"delay_s": 0.3})
    run_ids = [stage.adf.create_run("held") for _ in range(20)]
    for run_id in run_ids:
        stage.wait_for(run_id, 2)
    sizes = [len(message) for message in stage.messages() if message[0]["runId"] in run_ids]
    assert (40, True) == (sum(sizes), max(sizes) <= 5)
    assert len(sizes) < 40


def test_doubled(stage: Stage) -> None:
    """Each record can be written several times."""
    run_id = stage.run(copies=2)
    assert sorted(["Queued", "InProgress", "Succeeded"] * 2) == sorted(stage.statuses(run_id, 6))


def test_shuffled(stage: Stage) -> None:
    """Records of one run can come in another order than they were made in."""
    orders = {tuple(stage.statuses(stage.run(delay_s=0.2, shuffle=True, seed=seed), 3)) for seed in range(6)}
    assert len(orders) > 1


def test_lost(stage: Stage) -> None:
    """Records can be lost, and the stand-in says which."""
    run_id = stage.run(lose_percent=100)
    stage.wait_for(stage.run(lose_percent=0), 3)
    shown = stage.adf.control.get("diagnostics")
    assert ([], ["Queued", "InProgress", "Succeeded"]) == (
        stage.records(run_id),
        [one["status"] for one in shown["lost"] if one["run_id"] == run_id],
    )


def test_a_hub_that_is_away_for_a_moment(stage: Stage) -> None:
    """A message that the hub refuses at first is sent again."""
    stage.hub.answer(HUB, Answer(503), Answer(201))
    run_id = stage.run()
    assert {"Queued", "InProgress", "Succeeded"} <= set(stage.statuses(run_id, 4))


def test_a_wrappers_child(stage: Stage) -> None:
    """A child's record tells who started it, so that the relay names the wrapper's run as its parent."""
    stage.adf.control.post("diagnostics", {})
    parent = stage.adf.create_run("held__notified")
    request = eventually(lambda: next((one for one in stage.hub.received(HUB) if f'Id": "{parent}' in one.body), None))
    found = diagnostics.read(request.body.encode(), [FactoryId.parse(FACTORY_ID)], now=datetime.now(UTC))
    children = [one for one in found if isinstance(one, RunNotice) and one.pipeline == "held"]
    assert {parent} == {one.data["parentRunId"] for one in children}


@pytest.mark.parametrize("body", [{"lose_percent": 101}, {"delay": 1}, {"shuffle": "yes"}, {"copies": -1}])
def test_switches_that_mean_nothing(stage: Stage, body: Any) -> None:
    """A switch that cannot be set is refused with the reason."""
    answer = requests.post(f"{stage.adf.process.url}/_local/diagnostics", json=body, timeout=10)
    assert (400, True) == (answer.status_code, bool(answer.json()["error"]))
