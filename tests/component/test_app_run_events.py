"""What run events cannot do: whatever arrives at the webhook is taken, recorded, and trusted only as a hint."""

import json
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from bridge.model import RunStatus
from tests.component.hosted_bridge import REPOSITORY, SALES, Bridge, Json, grid_event, run_event
from tests.fakes.json_schema import problems
from tests.fakes_http.airflow import FakeAirflow

ELSEWHERE = SALES.replace("adf-sales", "adf-elsewhere")
SCHEMA = json.loads((REPOSITORY / "docs/schema/run-event.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("status", list(RunStatus))
def test_what_is_delivered_here_fits_the_schema(status: RunStatus) -> None:
    """The events that these tests deliver are events as the schema has them."""
    assert [] == problems(run_event("run-1", status), SCHEMA)


def test_forged_event(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S05, S35: an event about a run that has not ended costs one read of ADF, and the true end counts later."""
    _, token, run_id = bridge.parked(airflow)
    assert 202 == bridge.deliver(run_event(run_id)).status_code
    assert ({"createRun": 1, "getRun": 1, "total": 2}, ["unconfirmed"]) == (
        bridge.calls(run_id),
        bridge.verdicts(run_id),
    )
    assert ("open", []) == (bridge.wait(token)["state"], airflow.looks)
    bridge.end_run(run_id, "Failed")
    bridge.deliver(run_event(run_id, "Failed"))
    bridge.until(token, "delivered")
    assert [["Failed"]] == [patch.body["chosen_options"] for patch in airflow.patches]


def test_many_forged_events(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S35: fifty forged events about one run within a second cost at most one read of ADF per second."""
    _, token, run_id = bridge.parked(airflow)
    begun = time.monotonic()
    assert 202 == bridge.deliver(*(run_event(run_id, id=f"forged/{number}") for number in range(50))).status_code
    seconds = timedelta(seconds=time.monotonic() - begun) // timedelta(seconds=1)
    assert bridge.calls(run_id)["getRun"] <= 1 + seconds
    assert ({"unconfirmed"}, "open", []) == (
        set(bridge.verdicts(run_id)),
        bridge.wait(token)["state"],
        airflow.patches,
    )


def test_unknown_run(bridge: Bridge) -> None:
    """S35: an event about a run that nobody knows asks ADF nothing; it is kept for a wait that may come."""
    run_id = str(uuid.uuid4())
    assert 202 == bridge.deliver(run_event(run_id)).status_code
    assert (["parked"], {"total": 0}) == (bridge.verdicts(run_id), bridge.calls(run_id))


@pytest.mark.parametrize("event", [run_event, grid_event], ids=["cloud-event", "event-grid-schema"])
def test_factory_that_is_not_allowed(bridge: Bridge, airflow: FakeAirflow, event: Any) -> None:
    """S35: an event about another factory is rejected, even under the id of a run that somebody waits for."""
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    assert 202 == bridge.deliver(event(run_id, factory=ELSEWHERE)).status_code
    assert (["rejected"], "open") == (bridge.verdicts(run_id), bridge.wait(token)["state"])
    assert {"createRun": 1, "total": 1} == bridge.calls(run_id)


def test_status_that_is_no_end(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S04: InProgress and Queued are noted and ask ADF nothing."""
    _, token, run_id = bridge.parked(airflow)
    bridge.deliver(run_event(run_id, "InProgress"))
    bridge.deliver(run_event(run_id, "Queued"))
    assert (["noted", "noted"], "open") == (bridge.verdicts(run_id), bridge.wait(token)["state"])
    assert {"createRun": 1, "total": 1} == bridge.calls(run_id)


@pytest.mark.parametrize(
    "change",
    [{"type": "AdfBridge.PipelineRun.Exploded"}, {"specversion": "2.0"}],
    ids=["status", "schema-version"],
)
def test_unknown_words(bridge: Bridge, airflow: FakeAirflow, change: dict[str, Any]) -> None:
    """S06: a status or a schema version that is not known completes nothing and stands in the list."""
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    assert 202 == bridge.deliver(run_event(run_id, **change)).status_code
    assert (["unknown-status"], "open", []) == (
        bridge.verdicts(run_id),
        bridge.wait(token)["state"],
        airflow.looks,
    )


_MALFORMED: dict[str, Any] = {
    "nothing-in-it": {},
    "no-data": {"specversion": "1.0", "id": "bad", "source": SALES, "type": "AdfBridge.PipelineRun.Succeeded"},
    "no-run-id": run_event("x", id="bad", data={"status": "Succeeded"}),
    "run-id-is-a-number": run_event("x", id="bad", data={"runId": 7}),
    "run-id-is-a-path": run_event("x", id="bad", data={"runId": "../../factories"}),
    "statuses-differ": run_event("x", id="bad", data={"runId": "x", "status": "Failed"}),
    "source-is-an-address": run_event("x", id="bad", source="http://169.254.169.254/metadata"),
    "half-a-surrogate-pair": run_event("x", id="bad", data={"runId": "\ud83d"}),
    "nested": run_event("x", id="bad", data={"runId": {"a": [[[[[[[[1]]]]]]]]}}),
}


@pytest.mark.parametrize("event", _MALFORMED.values(), ids=_MALFORMED)
def test_malformed_event(bridge: Bridge, event: Any) -> None:
    """S26: an event that cannot be read is taken, asks ADF of no run, and stands in the list with the reason."""
    before = set(bridge.adf.get("calls")["by_run"])
    assert 202 == bridge.deliver(event).status_code
    newest = bridge.call("GET", "/events", params={"limit": 1}).json()["events"][0]
    assert ("malformed", True, before) == (
        newest["verdict"],
        bool(newest["reason"]),
        set(bridge.adf.get("calls")["by_run"]),
    )


def test_bad_event_among_good_ones(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S26: one bad event in a delivery of ten does not keep the other nine from being handled."""
    tokens: list[str] = []
    events: list[Json] = []
    for _ in range(9):
        _, token, run_id = bridge.parked(airflow, task_id=f"copy_{len(tokens)}")
        bridge.end_run(run_id)
        tokens.append(token)
        events.append(run_event(run_id))
    assert 202 == bridge.deliver(*events[:4], {"specversion": "1.0"}, *events[4:]).status_code
    for token in tokens:
        bridge.until(token, "delivered")
    assert 9 == len(airflow.patches)


def test_events_are_filtered(bridge: Bridge) -> None:
    """`GET /events` shows the newest first, by verdict and by run, and refuses words that it does not know."""
    run_id = str(uuid.uuid4())
    bridge.deliver(run_event(run_id))
    bridge.deliver(run_event(run_id, "Exploded"))
    found = bridge.call("GET", "/events", params={"verdict": "parked", "run_id": run_id}).json()["events"]
    expected = {"id": f"{run_id}/Succeeded", "type": "AdfBridge.PipelineRun.Succeeded", "source": SALES}
    assert [expected] == [{name: event[name] for name in expected} for event in found]
    refused = bridge.call("GET", "/events", params={"verdict": "nonsense", "limit": "0"})
    assert (422, "invalid-fields") == (refused.status_code, refused.json()["code"])


def test_five_thousand_events(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S38: 5,000 events in one request are taken, and the one that matters among them is not lost."""
    _, token, run_id = bridge.parked(airflow)
    bridge.end_run(run_id)
    junk = [{"specversion": "1.0", "id": f"junk/{number}"} for number in range(4_999)]
    assert 202 == bridge.deliver(*junk[:2_500], run_event(run_id), *junk[2_500:]).status_code
    bridge.until(token, "delivered")
    assert 500 == len(bridge.call("GET", "/events", params={"verdict": "malformed", "limit": 500}).json()["events"])


def test_oversized_event(bridge: Bridge) -> None:
    """S38: an event over Event Grid's own limit is set aside unread."""
    assert 202 == bridge.deliver(run_event("x", padding="x" * 1_100_000)).status_code
    newest = bridge.call("GET", "/events", params={"limit": 1}).json()["events"][0]
    assert ("malformed", True) == (newest["verdict"], "1048576" in newest["reason"])
