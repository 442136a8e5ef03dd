"""The events on the topic, as third parties see them: docs/contract.md and its schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge import events
from bridge.model import FactoryId, RunEvent, RunStatus
from tests.fakes.json_schema import problems
from tests.fakes.samples import KEY, cloud_event

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "docs/schema/run-event.schema.json").read_text(encoding="utf-8"))
EXAMPLES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/schema/examples").glob("*.json"))
}
ON_THE_PAGE = [block for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) if '"specversion"' in block]
EVENT: dict[str, Any] = json.loads(EXAMPLES["succeeded"])


def with_data(**changes: Any) -> dict[str, Any]:
    """The example with other data."""
    return {**EVENT, "data": {**EVENT["data"], **changes}}


@pytest.mark.parametrize("text", [*EXAMPLES.values(), *ON_THE_PAGE])
def test_the_examples_fit_the_schema(text: str) -> None:
    """Every documented example is an event as the schema has it."""
    assert [] == problems(json.loads(text), SCHEMA)


@pytest.mark.parametrize("text", [*EXAMPLES.values(), *ON_THE_PAGE])
def test_the_bridge_reads_the_examples(text: str) -> None:
    """Every documented example is a run event to the bridge."""
    factory = FactoryId.parse(EVENT["source"])
    (parsed,) = events.parse(text, [factory])
    assert isinstance(parsed, RunEvent)
    assert (factory, json.loads(text)["data"]["status"]) == (parsed.factory, parsed.status)


def test_the_page_shows_an_event() -> None:
    """The page has at least one whole event on it."""
    assert ON_THE_PAGE


@pytest.mark.parametrize("status", list(RunStatus))
def test_the_events_of_the_tests_fit(status: RunStatus) -> None:
    """The events that other tests deliver are events as the schema has them."""
    assert [] == problems(cloud_event(KEY, status), SCHEMA)


def test_extension_attributes_are_allowed() -> None:
    """A publisher may add attributes of its own, as CloudEvents names and types them."""
    assert [] == problems({**EVENT, "traceparent": "00-1-1-01", "attempt": 2, "replayed": True}, SCHEMA)
    assert [] == problems(with_data(region="westeurope"), SCHEMA)


@pytest.mark.parametrize(
    "event",
    [
        *[{name: value for name, value in EVENT.items() if name != gone} for gone in SCHEMA["required"]],
        {**EVENT, "specversion": "0.3"},
        {**EVENT, "type": "AdfBridge.PipelineRun.Paused"},
        {**EVENT, "type": "AdfBridge.PipelineRun.Failed"},
        {**EVENT, "id": EVENT["id"].replace("Succeeded", "Failed")},
        {**EVENT, "id": "../x/Succeeded"},
        {**EVENT, "source": "adf-sales"},
        {**EVENT, "source": f"{EVENT['source']}/pipelines/x"},
        {**EVENT, "subject": EVENT["data"]["pipelineName"]},
        {**EVENT, "time": "yesterday"},
        {**EVENT, "time": None},
        {**EVENT, "data": "text"},
        {**EVENT, "data_base64": "e30="},
        {**EVENT, "Extension": "x"},
        {**EVENT, "extension": {"a": 1}},
        {**EVENT, "extension": 1.5},
        with_data(status="Failed"),
        with_data(runId=None, parentRunId=None),
        with_data(runId="a/b"),
        with_data(runStart="yesterday"),
        with_data(pipelineName=""),
        with_data(parameters={"password": "canary"}),
        with_data(message="canary"),
        {**EVENT, "data": {"runId": "r-1", "status": "Succeeded"}},
        [],
    ],
)
def test_what_is_no_event(event: Any) -> None:
    """S26: what lacks something, contradicts itself, or could carry a secret does not fit the schema."""
    assert problems(event, SCHEMA)


def test_the_schema_knows_every_status() -> None:
    """The statuses of the schema are Data Factory's, in the spelling that the bridge knows."""
    assert sorted(RunStatus) == sorted(SCHEMA["properties"]["data"]["properties"]["status"]["enum"])
    assert sorted(f"{events.TYPE_PREFIX}{status}" for status in RunStatus) == sorted(
        SCHEMA["properties"]["type"]["enum"]
    )


def test_the_page_names_every_field() -> None:
    """The page explains each attribute and each field of the data that may stand in an event."""
    data = SCHEMA["properties"]["data"]["properties"]
    named = [*SCHEMA["properties"], *[name for name, rule in data.items() if rule is not False]]
    assert [] == [name for name in named if f"`{name}`" not in PAGE]


@pytest.mark.parametrize("name", ["contract.md", "events.md", "wrap.md"])
def test_the_pages_link_what_exists(name: str) -> None:
    """Every relative link of the pages leads to a file."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page)
    assert links
    assert [] == [link for link in links if not (ROOT / "docs" / link).exists()]
