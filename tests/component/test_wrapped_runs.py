"""Wrappers as `python -m bridge wrap` deploys them, running in the local Data Factory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge import cli
from tests.component.stand_ins import (
    FACTORY,
    FACTORY_ID,
    GROUP,
    TOKEN,
    Adf,
    activity,
    eventually,
    running_adf,
    write_pipeline,
)
from tests.component.web_endpoint import Answer, Request, WebEndpoint, running_web_endpoint
from tests.fakes.json_schema import problems

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/schema/run-event.schema.json").read_text(encoding="utf-8"))
FILES = sorted((ROOT / "tests/pipelines/pipeline").glob("*.json"))
PIPELINES: dict[str, dict[str, Any]] = {
    document["name"]: document["properties"]
    for document in (json.loads(path.read_text(encoding="utf-8")) for path in FILES)
}
RESOURCE, IDENTITY_TOKEN = "https://eventgrid.azure.net", "token-of-the-factory"
GIVEN: dict[str, Any] = {
    "text_needed": "a text with 'quotes', \"double ones\", @{braces} and 日本語",
    "password": "canary-password",
    "api_key": "canary-key",
    "day": "2026-03-01",
    "region": ["eu", {"deep": [None, 1, 1.5, True]}],
    "options": {"a": None, "b": [{}]},
    "Von Tag": "1. März",
    "it's": "it's",
    "truth": True,
    "decimal": 1.0,
}
HELD = {"activities": [activity("Hold", localSeconds="held")], "parameters": {"day": {"type": "string"}}}


@dataclass(frozen=True)
class Stage:
    """A Data Factory with wrappers in it, and the topic to which they send."""

    adf: Adf
    topic: WebEndpoint

    def deploy(self) -> int:
        """Wrap all that is in the factory's folder."""
        topic = f"{self.topic.url}/runs/api/events"
        settings = {"BRIDGE_ADF_ENDPOINT": self.adf.process.url, "BRIDGE_ADF_TOKEN": TOKEN}
        source = str(self.adf.pipelines)
        return cli.main(["wrap", source, "--topic", topic, "--factory", FACTORY_ID, "--deploy"], settings)

    def answer(self, *answers: Answer) -> None:
        """Say what the topic answers."""
        self.topic.answer("/runs/api/events", *answers)

    def held(self) -> tuple[str, str]:
        """A wrapper's run, and its child's, which goes on until it is told to end."""
        parent = self.adf.create_run("held__notified", {"day": "2026-03-01", "bridge_key": "key-1"})
        child = eventually(lambda: self.child_of(parent))
        self.adf.wait_for(child, "InProgress")
        return parent, child

    def child_of(self, run_id: str) -> str:
        """The run that a wrapper started, or nothing yet."""
        return next((one.output.get("pipelineRunId", "") for one in self.runs(run_id, "Run")), "")

    def runs(self, run_id: str, name: str) -> list[Any]:
        """The executions of an activity."""
        return [one for one in self.adf.activity_runs(run_id) if one.activity_name == name]

    def notices(self, run_id: str) -> list[Request]:
        """The notices that a wrapper's run sent."""
        return [one for one in self.topic.requests if one.json["data"]["parentRunId"] == run_id]

    def seen(self, run_id: str) -> str:
        """The parameters that a run had, as JSON."""
        return str(self.runs(run_id, "Show")[-1].output["value"])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One Data Factory with the pipelines of the fixtures, each of which shows its parameters, and their wrappers."""
    args = ("--identity-token", f"{RESOURCE}={IDENTITY_TOKEN}", "--retry-factor", "0.001")
    shown = {name: showing(properties) for name, properties in PIPELINES.items()}
    with (
        running_web_endpoint() as topic,
        running_adf(tmp_path_factory.mktemp("adf"), {"held": HELD}, *args) as adf,
    ):
        for number, (name, properties) in enumerate(shown.items()):
            document = {"name": name, "properties": properties}
            (adf.pipelines / f"p{number}.json").write_text(json.dumps(document), encoding="utf-8")
        stage = Stage(adf, topic)
        assert 0 == stage.deploy()
        yield stage


@pytest.fixture(autouse=True)
def _a_topic_that_is_up(stage: Stage) -> None:
    stage.answer(Answer())


def showing(properties: dict[str, Any]) -> dict[str, Any]:
    """A pipeline that, besides what it does (without delay), shows the parameters that it got."""
    show = {
        "name": "Show",
        "type": "SetVariable",
        "typeProperties": {"variableName": "seen", "value": "@string(pipeline().parameters)"},
    }
    hasty = [
        {**one, "typeProperties": {"waitTimeInSeconds": 0}} if one["type"] == "Wait" else one
        for one in properties["activities"]
    ]
    variables = {**properties.get("variables", {}), "seen": {"type": "String"}}
    return {**properties, "activities": [show, *hasty], "variables": variables}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_run_through_the_wrapper_is_a_run_of_the_pipeline(stage: Stage, name: str) -> None:
    """The child has the parameters, in value and type, and the end that the pipeline itself would have; one event."""
    given = {key: value for key, value in GIVEN.items() if key in PIPELINES[name].get("parameters", {})}
    alone = stage.adf.create_run(name, given)
    parent = stage.adf.create_run(f"{name}__notified", {**given, "bridge_key": "key-1"})
    runs = [stage.adf.wait_for(run_id) for run_id in (alone, parent)]
    child = stage.child_of(parent)
    assert stage.seen(alone) == stage.seen(child)
    assert runs[0].status == runs[1].status
    (notice,) = stage.notices(parent)
    assert [] == problems(notice.json, SCHEMA)
    assert (f"{child}/{runs[0].status}", FACTORY_ID, name) == (
        notice.json["id"],
        notice.json["source"],
        notice.json["data"]["pipelineName"],
    )
    assert ("/runs/api/events?api-version=2018-01-01", f"Bearer {IDENTITY_TOKEN}") == (
        notice.path,
        notice.headers["authorization"],
    )
    assert "application/cloudevents+json; charset=utf-8" == notice.headers["content-type"]


@pytest.mark.parametrize(("status", "words"), [("Failed", 'It\'s "broken" 💥'), ("Cancelled", "cancelled")])
def test_a_child_that_does_not_succeed_fails_the_wrapper(stage: Stage, status: str, words: str) -> None:
    """The wrapper fails with the child's message and code, after one notice of failure that holds neither."""
    parent, child = stage.held()
    if status == "Cancelled":
        stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, child)
    else:
        stage.adf.control.post(f"runs/{child}/finish", {"status": status, "message": words})
    assert ("Failed", status) == (stage.adf.wait_for(parent).status, stage.adf.get(child).status)
    (run,), (fail,) = stage.runs(parent, "Run"), stage.runs(parent, "Fail")
    assert (run.error["message"], run.error["errorCode"]) == (fail.error["message"], fail.error["errorCode"])
    assert words in fail.error["message"]
    (notice,) = stage.notices(parent)
    assert (f"{child}/Failed", [], False) == (notice.json["id"], problems(notice.json, SCHEMA), "broken" in notice.body)


@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
def test_a_topic_that_is_down_changes_no_outcome(stage: Stage, status: str) -> None:
    """A notice is tried four times; if it is lost for good, the wrapper still ends like its child."""
    stage.answer(Answer(503))
    parent, child = stage.held()
    stage.adf.control.post(f"runs/{child}/finish", {"status": status})
    assert status == stage.adf.wait_for(parent).status
    assert [f"{child}/{status}"] * 4 == [notice.json["id"] for notice in stage.notices(parent)]
    tries = stage.runs(parent, f"Notify {status.lower()}")
    assert [("Failed", "2108")] * 4 == [(one.status, one.error["errorCode"]) for one in tries]


def test_a_topic_that_comes_back_gets_the_notice(stage: Stage) -> None:
    """A notice that the topic did not take at first is sent again under the same id, and the run succeeds."""
    stage.answer(Answer(503), Answer(500), Answer())
    parent, child = stage.held()
    stage.adf.control.post(f"runs/{child}/finish", {"status": "Succeeded"})
    assert "Succeeded" == stage.adf.wait_for(parent).status
    assert [f"{child}/Succeeded"] * 3 == [notice.json["id"] for notice in stage.notices(parent)]
    assert [] == stage.runs(parent, "Note a lost notice")


def test_a_child_that_cannot_start(stage: Stage) -> None:
    """A pipeline that is gone fails its wrapper, and the notice is about the wrapper's own run."""
    write_pipeline(stage.adf.pipelines, "gone", HELD)
    assert 0 == stage.deploy()
    (stage.adf.pipelines / "gone.json").unlink()
    parent = stage.adf.create_run("gone__notified", {"day": "2026-03-01"})
    assert "Failed" == stage.adf.wait_for(parent).status
    assert ["PipelineNotFound"] == [one.error["errorCode"] for one in stage.runs(parent, "Fail")]
    (notice,) = stage.notices(parent)
    assert (f"{parent}/Failed", None, []) == (
        notice.json["id"],
        notice.json["data"]["runId"],
        problems(notice.json, SCHEMA),
    )


def test_a_cancelled_wrapper_tells_nothing(stage: Stage) -> None:
    """Cancelling the wrapper cancels the child, and nothing is sent: that is the sweep's."""
    parent, child = stage.held()
    stage.adf.client.pipeline_runs.cancel(GROUP, FACTORY, parent, is_recursive=True)
    assert ["Cancelled", "Cancelled"] == [stage.adf.wait_for(run_id).status for run_id in (parent, child)]
    assert [] == stage.notices(parent)


def test_secrets_do_not_show(stage: Stage) -> None:
    """S34: a secureString passes through the wrapper, and shows in none of its runs or activities, nor in the event."""
    given = {"api_key": "canary-key", "user": "u", "bridge_key": "key-1"}
    parent = stage.adf.create_run("secrets__notified", given)
    stage.adf.wait_for(parent)
    shown = [str(stage.adf.get(parent).as_dict()), *[str(one.as_dict()) for one in stage.adf.activity_runs(parent)]]
    shown += [notice.body for notice in stage.notices(parent)]
    assert [] == [text for text in shown if "canary-key" in text]
    assert "canary-key" in stage.seen(stage.child_of(parent))


def test_deploying_again_changes_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrappers that stand in the factory as they have to be are only read."""
    assert 0 == stage.deploy()
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"unchanged"} == words
