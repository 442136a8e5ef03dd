"""Reading diagnostic records: what becomes a notice, what is passed over and why, and what never gets out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import diagnostics, events
from bridge.diagnostics import Reason, Skipped
from bridge.model import FactoryId, RunEvent, RunStatus
from bridge.topic import RunNotice
from tests.fakes.diagnostics import (
    MESSAGE_CANARY,
    NEVER,
    PARAMETER_CANARY,
    executed_by,
    message,
    properties,
    record,
)
from tests.fakes.json_schema import problems
from tests.fakes.samples import ARM_ID, FACTORY, KEY

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/schema/run-event.schema.json").read_text("utf-8"))
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
PARENT = "c2a4e1b8-0d3f-4f6a-8e77-91b2c3d4e5f6"


def read(*records: Any) -> list[RunNotice | Skipped]:
    """Read one message with these records."""
    return diagnostics.read(message(*records), [FACTORY], now=NOW)


def notice(one: Any) -> RunNotice:
    """The notice that becomes of a record."""
    (found,) = read(one)
    assert isinstance(found, RunNotice), found
    return found


def reason(one: Any) -> Skipped:
    """Why nothing becomes of a record."""
    (found,) = read(one)
    assert isinstance(found, Skipped), found
    return found


def wire(one: RunNotice) -> dict[str, Any]:
    """A notice as the CloudEvent that is published."""
    return {
        "specversion": "1.0",
        "id": one.id,
        "source": one.source,
        "type": one.type,
        "subject": one.subject,
        "time": one.time.isoformat(),
        "datacontenttype": "application/json",
        "data": dict(one.data),
    }


def test_a_run_that_ended() -> None:
    """A record becomes the contract's event, whose source is the factory as the allow-list spells it."""
    expected = {
        "specversion": "1.0",
        "id": f"{KEY.run_id}/Succeeded",
        "source": ARM_ID,
        "type": "AdfBridge.PipelineRun.Succeeded",
        "subject": f"pipelines/copy_orders/runs/{KEY.run_id}",
        "time": "2026-03-01T12:03:01.123456+00:00",
        "datacontenttype": "application/json",
        "data": {
            "runId": KEY.run_id,
            "pipelineName": "copy_orders",
            "status": "Succeeded",
            "runGroupId": KEY.run_id,
            "runStart": "2026-03-01T12:00:00.123456Z",
            "runEnd": "2026-03-01T12:03:00.765432Z",
            "invokedBy": {"name": "Manual", "id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "invokedByType": "Manual"},
        },
    }
    assert expected == wire(notice(record()))


@pytest.mark.parametrize("status", RunStatus)
def test_every_status(status: RunStatus) -> None:
    """Every status that Data Factory has is told, in a form that fits the schema and that the bridge itself reads."""
    found = wire(notice(record(status.value)))
    (event,) = events.parse(json.dumps(found))
    assert isinstance(event, RunEvent)
    assert ([], status, KEY.run_id) == (problems(found, SCHEMA), event.status, event.run_id)


@pytest.mark.parametrize("end", [NEVER, "0001-01-01T00:00:00Z", "", None, "soon", "2026-03-01T12:00:00", 7])
def test_a_run_that_has_not_ended(end: Any) -> None:
    """The year 1601, and whatever is no time, is no end."""
    assert notice(record("InProgress", end=end)).data["runEnd"] is None


@pytest.mark.parametrize(
    "given",
    [
        properties(),
        json.dumps(properties()),
        properties(Predecessors=json.dumps(properties()["Predecessors"])),
        {name.lower(): value for name, value in properties().items()},
    ],
    ids=["object", "text", "text-inside", "lower-case"],
)
def test_properties(given: Any) -> None:
    """Properties are read as an object and as a JSON text, in whatever case their names come."""
    invoked_by = {"name": "Manual", "id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "invokedByType": "Manual"}
    assert invoked_by == notice(record(properties=given)).data["invokedBy"]


@pytest.mark.parametrize(
    "given", [None, "", "{", "[]", 7, [], {}, {"Predecessors": {}}, {"Predecessors": []}, {"Predecessors": [7]}]
)
def test_properties_that_cannot_be_read(given: Any) -> None:
    """Properties that cannot be read cost who started the run, nothing else."""
    found = notice(record(properties=given))
    assert (f"{KEY.run_id}/Succeeded", False) == (found.id, "invokedBy" in found.data)


def test_a_wrappers_child() -> None:
    """A run that its wrapper started names it as its parent."""
    found = notice(record(properties=executed_by("copy_orders__notified", PARENT)))
    assert ([], PARENT, "PipelineActivity") == (
        problems(wire(found), SCHEMA),
        found.data["parentRunId"],
        found.data["invokedBy"]["invokedByType"],
    )


@pytest.mark.parametrize(
    ("pipeline", "run_id"), [("nightly", PARENT), ("copy_orders__notified", "../x"), ("copy_orders__notified", "")]
)
def test_another_pipelines_child(pipeline: str, run_id: str) -> None:
    """A run that another pipeline started has no parent in the contract's sense: nobody waits for that by this one."""
    assert "parentRunId" not in notice(record(properties=executed_by(pipeline, run_id))).data


@pytest.mark.parametrize("kind", ["ScheduleTrigger", "Manual", "", None])
def test_started_by_no_pipeline(kind: str | None) -> None:
    """What was not started by a pipeline has no parent, whatever else its record says of who started it."""
    given = executed_by("copy_orders__notified", PARENT)
    (invoker,) = given["Predecessors"]
    assert "parentRunId" not in notice(record(properties={"Predecessors": [{**invoker, "InvokedByType": kind}]})).data


def test_no_secret_gets_out() -> None:
    """S34: parameters, annotations, user properties and messages stay where they are, also where a record is odd."""
    odd = record("Exploded", properties=json.dumps(properties()))
    found = read(record(), record("Failed"), odd, record(runId=None), record(resourceId=PARAMETER_CANARY), "canary")
    assert not any(canary in str(found) for canary in (PARAMETER_CANARY, MESSAGE_CANARY, "canary"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"category": "ActivityRuns"}, Skipped(Reason.OTHER_CATEGORY, "ActivityRuns")),
        ({"category": "SandboxPipelineRuns"}, Skipped(Reason.OTHER_CATEGORY, "SandboxPipelineRuns")),
        ({"category": "TriggerRuns"}, Skipped(Reason.OTHER_CATEGORY, "TriggerRuns")),
        ({"resourceId": ARM_ID.upper() + "-OLD"}, Skipped(Reason.FACTORY_NOT_ALLOWED, f"{FACTORY.name}-old")),
        ({"status": "Exploded"}, Skipped(Reason.UNKNOWN_STATUS, "Exploded")),
        ({"status": "x" * 100}, Skipped(Reason.UNKNOWN_STATUS, "x" * 60)),
    ],
)
def test_what_is_not_told(changes: dict[str, Any], expected: Skipped) -> None:
    """Other categories, debug runs, other factories and unknown statuses are passed over, each for its reason."""
    assert expected == reason(record(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"category": None},
        {"category": ["PipelineRuns"]},
        {"resourceId": None},
        {"resourceId": "/SUBSCRIPTIONS/S"},
        {"resourceId": ARM_ID.upper() + "/PIPELINES/X"},
        {"runId": None},
        {"runId": 7},
        {"runId": "../../factories"},
        {"runId": "x" * 129},
        {"pipelineName": None},
        {"pipelineName": ""},
        {"pipelineName": "a/b"},
        {"pipelineName": "\ud83d"},
        {"pipelineName": "x" * 1_025},
        {"status": None},
        {"status": 4},
    ],
)
def test_malformed_record(changes: dict[str, Any]) -> None:
    """S26: a record that lacks what is needed is passed over, and the ones before and after it are told."""
    found = read(record("Queued"), record(**changes), record("Failed"))
    assert [RunNotice, Skipped, RunNotice] == [type(one) for one in found]
    assert isinstance(found[1], Skipped)
    assert Reason.MALFORMED is found[1].reason


@pytest.mark.parametrize("one", [None, 7, "text", [], [[[]]], True])
def test_a_record_that_is_no_object(one: Any) -> None:
    """S26: what is no object is no record."""
    assert Skipped(Reason.MALFORMED, "a record is no JSON object") == reason(one)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"7", b'"records"', b"{}", b'{"records": {}}', b"\xff\xfe", b"[" * 200_000, b"9" * 10_000],
)
def test_a_message_that_is_none(body: bytes) -> None:
    """S26: a message that is no JSON object with records is one thing to look at, and no error."""
    (found,) = diagnostics.read(body, [FACTORY], now=NOW)
    assert isinstance(found, Skipped)
    assert Reason.MALFORMED is found.reason


@pytest.mark.parametrize(
    "body",
    [json.dumps([record()]).encode(), b"\xef\xbb\xbf" + message(record())],
    ids=["bare-array", "byte-order-mark"],
)
def test_other_envelopes(body: bytes) -> None:
    """A bare array of records is read, and so is a message that begins with a byte order mark."""
    assert [RunNotice] == [type(one) for one in diagnostics.read(body, [FACTORY], now=NOW)]


def test_spellings() -> None:
    """Names and words in another case, and the vendor's other spelling of a status, mean the same."""
    found = notice({name.upper(): value for name, value in record("CANCELED", category="pipelineruns").items()})
    assert (f"{KEY.run_id}/Cancelled", ARM_ID) == (found.id, found.source)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"time": None}, datetime(2026, 3, 1, 12, 3, 1, 123456, tzinfo=UTC)),
        ({"time": "2026-03-01T14:00:00+02:00"}, datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ({"time": None, "timestamp": None}, NOW),
        ({"time": "0001-01-01T00:00:00+14:00", "timestamp": "9999-12-31T23:59:59-14:00"}, NOW),
    ],
)
def test_the_time_of_a_record(changes: dict[str, Any], expected: datetime) -> None:
    """A record that tells no time has that of its reading."""
    assert expected == notice(record(**changes)).time


def test_names_with_signs() -> None:
    """S33: a pipeline's name is told as it is."""
    found = notice(record(pipelineName="Lade Käufe 💥 100%"))
    assert ([], f"pipelines/Lade Käufe 💥 100%/runs/{KEY.run_id}") == (problems(wire(found), SCHEMA), found.subject)


def test_several_factories() -> None:
    """S18: two factories whose runs have the same id are told apart."""
    other = FactoryId.parse(ARM_ID + "-two")
    records = message(record(), record(resourceId=other.arm_id.upper()))
    found = diagnostics.read(records, [FACTORY, other], now=NOW)
    assert [ARM_ID, other.arm_id] == [one.source for one in found if isinstance(one, RunNotice)]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(record())), _JSON))
def test_reading_never_raises(changes: dict[str, Any]) -> None:
    """S26: whatever stands in the fields of a record, it becomes an event that fits the schema, or a reason."""
    (found,) = read({**record(), **changes})
    assert isinstance(found, Skipped) or [] == problems(wire(found), SCHEMA)


@given(st.binary())
def test_reading_bytes_never_raises(body: bytes) -> None:
    """S26: whatever bytes come, they are a message or a reason."""
    assert all(isinstance(one, Skipped) for one in diagnostics.read(body, [FACTORY], now=NOW))
