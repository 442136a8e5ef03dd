"""The relay on its whole way: Data Factory's diagnostic records, an event hub, the relay, the topic, a waiting task."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from local.local_azure import FACTORY_ID
from tests.component.hosted_bridge import REPOSITORY
from tests.component.stand_ins import eventually
from tests.fakes.diagnostics import PARAMETER_CANARY, message, record
from tests.fakes.json_schema import problems
from tests.relay import scenario
from tests.relay.scenario import Stage, running_stage

SCHEMA = json.loads((REPOSITORY / "docs/schema/run-event.schema.json").read_text(encoding="utf-8"))
PATIENCE = timedelta(seconds=20)
_COUNT = "import function_app; print(len(function_app.app.get_functions()))"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything, started; the first sweep, which comes with the first wait, is over, and the next an hour away."""
    with running_stage(tmp_path_factory.mktemp("relay"), BRIDGE_SWEEP_SECONDS="3600") as started:
        started.start(99, "Succeeded")
        started.sweep()
        yield started


def send(stage: Stage, body: bytes) -> None:
    """Put a message into the event hub."""
    url = f"{stage.azure.functions.url}/_local/event_hubs/adf-run-logs/messages"
    answer = requests.post(url, params={"code": stage.azure.master_key}, data=body, timeout=10)
    assert 201 == answer.status_code


def events(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    """The events about a run that the topic took."""
    return [event for event in stage.published() if event["data"]["runId"] == run_id]


def told(stage: Stage, run_id: str, status: str) -> dict[str, Any]:
    """The event about a run's status, once the topic took it."""
    wanted = f"{run_id}/{status}"
    return eventually(
        lambda: next((one for one in events(stage, run_id) if one["id"] == wanted), None), within=PATIENCE
    )


@pytest.mark.parametrize("status", scenario.ENDS)
def test_the_whole_way(stage: Stage, status: str) -> None:
    """S30: each way in which a run can end completes the task that waits, told by diagnostic records alone."""
    run = stage.start(scenario.ENDS.index(status), status)
    stage.finish(run)
    eventually(lambda: run.waiting.told, within=PATIENCE)
    told(stage, run.run_id, status)
    assert (status, {"createRun": 1, "getRun": 1}) == (run.waiting.told, calls(stage, run.run_id))


def calls(stage: Stage, run_id: str) -> dict[str, int]:
    """How often ADF was asked about a run, but for its activities."""
    by_operation = stage.adf.get("calls")["by_run"][run_id]
    return {name: count for name, count in by_operation.items() if name not in {"total", "queryActivityRuns"}}


def test_the_events(stage: Stage) -> None:
    """The topic takes what the schema says, from the factory as the bridge spells it, for every status."""
    run = stage.start(10, "Succeeded")
    told(stage, run.run_id, "InProgress")
    stage.finish(run)
    told(stage, run.run_id, "Succeeded")
    found = events(stage, run.run_id)
    assert {"Queued", "InProgress", "Succeeded"} == {event["data"]["status"] for event in found}
    assert ([], {FACTORY_ID}) == (
        [problem for event in found for problem in problems(event, SCHEMA)],
        {event["source"] for event in found},
    )


def test_no_parameter_leaves_the_hub(stage: Stage) -> None:
    """S34: parameters and messages, in clear text in the hub, are in no event, no log and no answer."""
    run = stage.start(11, "Failed")
    stage.finish(run)
    told(stage, run.run_id, "Failed")
    eventually(lambda: run.waiting.told, within=PATIENCE)
    hub = b"".join(path.read_bytes() for path in (stage.azure.state / "functions").glob("event_hubs.sqlite3*"))
    assert scenario.PARAMETER_CANARY.encode() in hub
    seen = [json.dumps(stage.published()), stage.logs(), json.dumps(stage.call("GET", "/events").json())]
    assert not [text for text in seen if f"{scenario.PARAMETER_CANARY}-11" in text]


def test_junk_beside_a_record(stage: Stage) -> None:
    """S26, S35: messages and records that are none, of other factories or of other categories, keep nothing back."""
    run_id = "0a1b2c3d-0000-4000-8000-00000000000a"
    good = record(resourceId=FACTORY_ID.upper(), runId=run_id)
    junk: list[Any] = [7, None, record(), record(resourceId=FACTORY_ID.upper(), category="ActivityRuns")]
    failures = stage.hub()["failures"]
    for body in (b"", b"{", b"\xff", message(*junk, good, *junk), b"[" * 100_000):
        send(stage, body)
    told(stage, run_id, "Succeeded")
    eventually(lambda: not stage.hub()["pending"])
    assert ([run_id], failures, False) == (
        [event["data"]["runId"] for event in events(stage, run_id)],
        stage.hub()["failures"],
        PARAMETER_CANARY in stage.logs(),
    )


def test_a_topic_that_is_away_and_a_host_that_is_killed(stage: Stage) -> None:
    """S24: what could not be published, and what a killed host had in hand, is published later. Nothing is lost."""
    run_ids = [f"0a1b2c3d-0000-4000-8000-0000000001{number:02}" for number in range(30)]
    failures = stage.hub()["failures"]
    stage.event_grid.post("faults", {"op": "publish", "status": 503, "times": 1_000})
    for run_id in run_ids:
        send(stage, message(record(resourceId=FACTORY_ID.upper(), runId=run_id)))
    eventually(lambda: stage.hub()["failures"] > failures)
    assert [] == [run_id for run_id in run_ids if events(stage, run_id)]
    stage.azure.functions.kill()
    stage.event_grid.delete("faults")
    stage.azure.functions.start()
    for run_id in run_ids:
        told(stage, run_id, "Succeeded")


def test_the_trigger(stage: Stage) -> None:
    """The function takes batches of bytes from the configured hub, and is retried without end."""
    url, key = f"{stage.azure.functions.url}/admin/functions/relay", {"x-functions-key": stage.azure.master_key}
    (trigger,) = requests.get(url, headers=key, timeout=10).json()["config"]["bindings"]
    expected = {
        "type": "eventHubTrigger",
        "eventHubName": "%BRIDGE_DIAGNOSTICS_HUB%",
        "connection": "BRIDGE_DIAGNOSTICS",
        "cardinality": "MANY",
        "dataType": "BINARY",
    }
    assert expected == {name: trigger[name] for name in expected}


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, 0),
        ({"BRIDGE_DIAGNOSTICS_HUB": ""}, 0),
        ({"BRIDGE_TOPIC_ENDPOINT": "nonsense"}, 0),
        ({"BRIDGE_DIAGNOSTICS_HUB": "hub"}, 1),
        ({"BRIDGE_DIAGNOSTICS_HUB": "hub", "BRIDGE_STORE": "nonsense", "BRIDGE_NO_SUCH_SETTING": "1"}, 1),
    ],
)
def test_importing_looks_at_the_hub_only(settings: dict[str, str], more: int, tmp_path: Path) -> None:
    """S41: an app without a hub has no relay, one with a hub has it, and no wrong setting hides a function."""
    assert _functions({}, tmp_path) + more == _functions(settings, tmp_path)


def _functions(settings: dict[str, str], home: Path) -> int:
    """How many functions an app with these settings has."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT],
        cwd=REPOSITORY,
        env={**settings, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)
