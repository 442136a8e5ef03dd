"""From bytes to run events."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import events
from bridge.events import Unusable
from bridge.model import FactoryId, RunEvent, RunStatus, Verdict
from tests.fakes.samples import ARM_ID, FACTORY, KEY, STRANGE_ARM_ID, cloud_event, grid_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = ["specversion", "id", "source", "type", "data", "eventType", "dataVersion", "topic", "subject"]
DATA_NAMES = ["runId", "parentRunId", "status", "factory", "pipelineName"]
EVENT_SHAPED = st.fixed_dictionaries(
    {},
    optional={
        **{name: JSON | st.sampled_from(["1.0", ARM_ID, "AdfBridge.PipelineRun.Succeeded"]) for name in NAMES},
        "data": JSON | st.dictionaries(st.sampled_from(DATA_NAMES), JSON),
    },
)


def only(raw: str | bytes) -> RunEvent | Unusable:
    """Parse a delivery of one event."""
    (parsed,) = events.parse(raw)
    return parsed


def refused(event: Any) -> tuple[Verdict, str]:
    """Parse an event that cannot be used; return why."""
    parsed = only(json.dumps(event))
    assert isinstance(parsed, Unusable)
    return parsed.verdict, parsed.reason


def data(**changes: Any) -> dict[str, Any]:
    """Return a CloudEvent with other data."""
    return cloud_event(data={**cloud_event()["data"], **changes})


EXPECTED = RunEvent(
    id=f"{KEY.run_id}/Succeeded",
    source=ARM_ID,
    type="AdfBridge.PipelineRun.Succeeded",
    factory=FACTORY,
    run_id=KEY.run_id,
    status=RunStatus.SUCCEEDED,
    pipeline="copy_orders",
)


def test_a_cloud_event() -> None:
    """A CloudEvent 1.0 becomes a run event."""
    assert EXPECTED == only(json.dumps(cloud_event()))


def test_a_grid_event() -> None:
    """An event in the Event Grid schema says the same; its factory stands in the data, as its topic is not its own."""
    parsed = only(json.dumps(grid_event()))
    assert isinstance(parsed, RunEvent)
    assert (EXPECTED.key, EXPECTED.status) == (parsed.key, parsed.status)


def test_bytes_and_text_are_one() -> None:
    """An event is the same as bytes and as text."""
    text = json.dumps(cloud_event(id="💥"), ensure_ascii=False)
    assert only(text) == only(text.encode())


def test_what_may_be_missing() -> None:
    """The pipeline, the status in the data and the parent run may be missing; the parent run is read when there."""
    parsed = only(json.dumps(data(pipelineName=None, status=None, parentRunId="parent-1")))
    assert isinstance(parsed, RunEvent)
    assert (None, "parent-1", RunStatus.SUCCEEDED) == (parsed.pipeline, parsed.parent_run_id, parsed.status)


@pytest.mark.parametrize(
    ("event", "verdict", "reason"),
    [
        (cloud_event(specversion="2.0"), Verdict.UNKNOWN_STATUS, "specversion '2.0'"),
        (cloud_event(specversion=1.0), Verdict.UNKNOWN_STATUS, "specversion"),
        (grid_event(dataVersion="9"), Verdict.UNKNOWN_STATUS, "dataVersion '9'"),
        (cloud_event(status="Paused"), Verdict.UNKNOWN_STATUS, "'Paused'"),
        (grid_event(status="Paused"), Verdict.UNKNOWN_STATUS, "'Paused'"),
        (cloud_event(status=""), Verdict.UNKNOWN_STATUS, "no run status"),
    ],
)
def test_unknown_versions_and_statuses(event: Any, verdict: Verdict, reason: str) -> None:
    """S06: an unknown status or schema version becomes no run event, and says what was not understood."""
    found_verdict, found_reason = refused(event)
    assert (verdict, True) == (found_verdict, reason in found_reason)


@pytest.mark.parametrize(
    ("event", "verdict", "reason"),
    [
        pytest.param({}, Verdict.MALFORMED, "neither a CloudEvent", id="empty"),
        pytest.param("text", Verdict.MALFORMED, "not a text", id="text"),
        pytest.param(None, Verdict.MALFORMED, "not nothing", id="null"),
        pytest.param([], Verdict.MALFORMED, "an empty array", id="no-events"),
        pytest.param(cloud_event(id=None), Verdict.MALFORMED, "id has to be a text", id="no-id"),
        pytest.param(cloud_event(id="x" * 1_025), Verdict.MALFORMED, "1025 characters", id="long-id"),
        pytest.param(cloud_event(source=7), Verdict.MALFORMED, "source has to be a text", id="source-number"),
        pytest.param(cloud_event(source="adf-demo"), Verdict.MALFORMED, "not the ARM id", id="source-no-arm-id"),
        pytest.param(cloud_event(data=None), Verdict.MALFORMED, "data has to be an object", id="no-data"),
        pytest.param(cloud_event(data=[1]), Verdict.MALFORMED, "not an array", id="data-array"),
        pytest.param(data(runId=None), Verdict.MALFORMED, "data.runId", id="no-run-id"),
        pytest.param(data(runId=12), Verdict.MALFORMED, "not a number", id="run-id-number"),
        pytest.param(data(runId=True), Verdict.MALFORMED, "not a truth value", id="run-id-bool"),
        pytest.param(data(runId="../x"), Verdict.MALFORMED, "is no run id", id="run-id-path"),
        pytest.param(data(parentRunId="a/b"), Verdict.MALFORMED, "data.parentRunId", id="parent-path"),
        pytest.param(data(status="Failed"), Verdict.MALFORMED, "data.status says 'Failed'", id="two-statuses"),
        pytest.param(data(pipelineName="\ud800"), Verdict.MALFORMED, "surrogate", id="half-character"),
        pytest.param(cloud_event(type="Other.Thing"), Verdict.REJECTED, "not a run event", id="other-type"),
        pytest.param(grid_event(data={"runId": "r"}), Verdict.MALFORMED, "data.factory", id="grid-no-factory"),
    ],
)
def test_bad_events(event: Any, verdict: Verdict, reason: str) -> None:
    """S26: an event of the wrong shape becomes a value that says what is wrong with it."""
    found_verdict, found_reason = refused(event)
    assert (verdict, True) == (found_verdict, reason in found_reason), found_reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param("", "not JSON", id="empty"),
        pytest.param("{", "not JSON", id="cut-off"),
        pytest.param('{"a": NaN}', "NaN is not JSON", id="nan"),
        pytest.param(b"\xff\xfe\xff", "not", id="no-utf-8"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param('{"secret": "canary"', "not JSON", id="quoted-nowhere"),
    ],
)
def test_bad_bytes(raw: str | bytes, reason: str) -> None:
    """S26: bytes that are no JSON become one malformed event, whose reason quotes none of them."""
    parsed = only(raw)
    assert isinstance(parsed, Unusable)
    assert (Verdict.MALFORMED, True, False) == (parsed.verdict, reason in parsed.reason, "canary" in parsed.reason)


def test_an_oversized_delivery_is_not_parsed() -> None:
    """S38: a delivery over the limit is one malformed event, however many events it holds."""
    raw = json.dumps([cloud_event() for _ in range(5_000)])
    parsed = only(raw)
    assert isinstance(parsed, Unusable)
    assert f"{len(raw)} bytes; an event has at most 1048576" == parsed.reason


def test_one_bad_event_spoils_no_other() -> None:
    """S26: one bad event in a batch of ten leaves the other nine as they are."""
    batch: list[Any] = [cloud_event() for _ in range(9)]
    batch.insert(4, {"specversion": "1.0"})
    parsed = events.parse(json.dumps(batch))
    assert [4] == [place for place, one in enumerate(parsed) if isinstance(one, Unusable)]
    assert 9 == parsed.count(EXPECTED)


def test_a_bad_event_shows_what_could_be_read() -> None:
    """An event that is refused still shows its id, source, type, run and status, cut to what fits a list."""
    event = cloud_event(KEY, "Paused", id="x" * 900)
    parsed = only(json.dumps(event))
    assert isinstance(parsed, Unusable)
    assert ("x" * 200, ARM_ID, "AdfBridge.PipelineRun.Paused", ARM_ID, KEY.run_id, "Paused") == (
        parsed.id,
        parsed.source,
        parsed.type,
        parsed.factory,
        parsed.run_id,
        parsed.status,
    )


def test_a_strange_factory_is_parsed() -> None:
    """Whether a factory may speak is judged later: parsing tells what the event says."""
    parsed = only(json.dumps(cloud_event(source=STRANGE_ARM_ID)))
    assert isinstance(parsed, RunEvent)
    assert FactoryId.parse(STRANGE_ARM_ID) == parsed.factory


@given(st.binary() | st.text())
def test_parsing_never_raises_on_bytes(raw: bytes | str) -> None:
    """S26: whatever bytes arrive, parsing returns at least one value and never raises."""
    assert events.parse(raw)


@settings(max_examples=60)
@given(EVENT_SHAPED | JSON | st.lists(EVENT_SHAPED, max_size=3))
def test_parsing_never_raises_on_json(document: Any) -> None:
    """S26: whatever JSON arrives, parsing returns a value per event, and each can be stored and shown."""
    parsed = events.parse(json.dumps(document))
    assert (max(len(document), 1) if isinstance(document, list) else 1) == len(parsed)
    for one in parsed:
        f"{one.id}{one.source}{one.type}{one.factory}{one.run_id}{one.status}".encode()
