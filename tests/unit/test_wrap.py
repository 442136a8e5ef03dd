"""The wrapper pipelines that `python -m bridge wrap` generates: what is in them, and what they do."""

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from azure.mgmt.datafactory import models
from azure.mgmt.datafactory.models import _models

from bridge import events
from bridge.cli import limits, pipelines
from bridge.cli.pipelines import Pipeline, UnreadableError
from bridge.cli.wrapper import generate, is_ours, text_of
from bridge.model import RunEvent
from bridge.policy import CORRELATION
from local.adf.expressions.scope import Scope
from local.adf.expressions.template import evaluate
from local.adf.parameters import bind
from local.adf.pipeline import parse_pipeline
from tests.fakes.json_schema import problems
from tests.fakes.samples import ARM_ID, FACTORY

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/pipelines"
FILES = {path.stem: path.read_bytes() for path in sorted((FOLDER / "pipeline").glob("*.json"))}
EXPORT = (FOLDER / "ARMTemplateForFactory.json").read_bytes()
SCHEMA = json.loads((ROOT / "docs/schema/run-event.schema.json").read_text(encoding="utf-8"))
NOTICE = json.loads((ROOT / "infra/adf/notice-activity.json").read_text(encoding="utf-8"))
TOPIC = "https://runs.westeurope-1.eventgrid.azure.net/api/events"
WAIT = {"name": "Work", "type": "Wait", "typeProperties": {"waitTimeInSeconds": 1}}
GIVEN: dict[str, Any] = {
    "text_needed": "a text with 'quotes', \"double ones\", @{braces} and 日本語",
    "password": "canary-password",
    "api_key": "canary-key",
    "day": "2026-03-01",
    "region": ["eu", {"deep": [None]}],
    "Von Tag": "1. März",
    "it's": "it's",
}

Json = dict[str, Any]


def one(content: bytes) -> Pipeline:
    """The only pipeline of a file."""
    (found,) = pipelines.read(content)
    assert isinstance(found, Pipeline), found
    return found


def a_pipeline(name: str = "orders", parameters: Any = None, **properties: Any) -> Pipeline:
    """A pipeline of one activity."""
    return one(
        json.dumps(
            {"name": name, "properties": {"activities": [WAIT], "parameters": parameters or {}, **properties}}
        ).encode()
    )


def wrap(pipeline: Pipeline, factory: str | None = ARM_ID) -> Json:
    """The wrapper of a pipeline."""
    return generate(pipeline, topic=TOPIC, factory=factory)


def activities(wrapper: Json) -> dict[str, Json]:
    """A wrapper's activities, by name."""
    return {activity["name"]: activity for activity in wrapper["properties"]["activities"]}


def scope(parameters: Json, run: Any = None) -> Scope:
    """What expressions of a wrapper see; `run` is what the activity `Run` left."""
    facts: Json = {
        "RunId": "wrapper-1",
        "DataFactory": "adf-demo",
        "Pipeline": "orders__notified",
        "parameters": parameters,
    }
    return Scope(facts, {}, {"Run": run})


def exact(value: Any) -> str:
    """A value with its types, which Python's == would overlook: 1, 1.0 and true."""
    return json.dumps(value, ensure_ascii=False)


def event(wrapper: Json, status: str, run: Any) -> Json:
    """The event that a wrapper's notice sends."""
    notice = activities(wrapper)[f"Notify {status.lower()}"]
    body = evaluate(notice["typeProperties"]["body"], scope({}, run))
    assert isinstance(body, dict)
    return body


# --- parameters -------------------------------------------------------------------------------------------------------


def arriving(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a child's run has when its wrapper's run was given these."""
    wrapper = parse_pipeline(json.loads(text_of(wrap(pipeline))))
    run = wrapper.activity("Run")
    assert run is not None
    passed = evaluate(run.type_properties["parameters"], scope(bind(wrapper, given)))
    assert isinstance(passed, dict)
    return bind(parse_pipeline({"name": pipeline.name, "properties": dict(pipeline.properties)}), passed)


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_parameters_arrive_as_they_were_given(content: bytes) -> None:
    """A run through the wrapper has the parameters that a run of the pipeline itself would have: values and types."""
    pipeline = one(content)
    given = {name: value for name, value in GIVEN.items() if name in pipeline.parameters}
    own = bind(parse_pipeline(json.loads(content)), given)
    assert exact(own) == exact(arriving(pipeline, {**given, CORRELATION: "key-1"}))


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_parameters_are_declared_alike(content: bytes) -> None:
    """The wrapper declares the pipeline's parameters in their order, as they are, and last of all bridge_key."""
    pipeline = one(content)
    expected = {**pipeline.parameters, CORRELATION: {"type": "string", "defaultValue": ""}}
    assert exact(expected) == exact(wrap(pipeline)["properties"]["parameters"])


def test_three_pipelines_deep() -> None:
    """A wrapper around a pipeline that runs one that runs a third passes on what the third is to get."""
    parameters: Json = arriving(one(FILES["orchestrate_day"]), {"day": "2026-03-01"})
    for name in ("load_region", "load_table"):
        caller = one(FILES["orchestrate_day" if name == "load_region" else "load_region"])
        passed = evaluate(caller.properties["activities"][0]["typeProperties"]["parameters"], scope(parameters))
        assert isinstance(passed, dict)
        parameters = bind(parse_pipeline(json.loads(FILES[name])), passed)
    assert {"options": {"day": "2026-03-01"}} == parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("day", "@pipeline().parameters.day"),
        ("_2", "@pipeline().parameters._2"),
        ("2nd", "@pipeline().parameters['2nd']"),
        ("a-b", "@pipeline().parameters['a-b']"),
        ("it's", "@pipeline().parameters['it''s']"),
        ("größe", "@pipeline().parameters['größe']"),
    ],
)
def test_references(name: str, expected: str) -> None:
    """A parameter is passed on by reference, in brackets unless its name is a plain identifier."""
    wrapper = wrap(a_pipeline(parameters={name: {"type": "string"}}))
    passed = activities(wrapper)["Run"]["typeProperties"]["parameters"]
    assert {name: {"value": expected, "type": "Expression"}} == passed


@pytest.mark.parametrize("type_of", ["secureString", "SecureString", "securestring"])
def test_secure_parameters(type_of: str) -> None:
    """S34: with a secureString among the parameters Data Factory's monitor does not show the values, else it does."""
    secure = wrap(a_pipeline(parameters={"a": {"type": "string"}, "b": {"type": type_of}}))
    plain = wrap(a_pipeline(parameters={"a": {"type": "string"}}))
    assert ({"secureInput": True}, None) == tuple(activities(one)["Run"].get("policy") for one in (secure, plain))


# --- the event --------------------------------------------------------------------------------------------------------

NO_CHILD: list[Any] = [None, {}, {"output": None}, {"output": {}}, {"output": {"pipelineRunId": None}}]


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
@pytest.mark.parametrize("factory", [ARM_ID, None])
def test_the_event_fits_the_contract(content: bytes, status: str, factory: str | None) -> None:
    """Each notice is a CloudEvent as the contract has it, about the child, and the bridge reads it."""
    pipeline = one(content)
    sent = event(wrap(pipeline, factory), status, {"output": {"pipelineRunId": "child-1"}})
    assert [] == problems(sent, SCHEMA)
    time = sent.pop("time")
    assert time.endswith("Z")
    assert {
        "specversion": "1.0",
        "id": f"child-1/{status}",
        "type": f"AdfBridge.PipelineRun.{status}",
        "source": factory or "factories/adf-demo",
        "subject": f"pipelines/{pipeline.name}/runs/child-1",
        "datacontenttype": "application/json",
        "data": {"runId": "child-1", "parentRunId": "wrapper-1", "pipelineName": pipeline.name, "status": status},
    } == sent
    (parsed,) = events.parse(json.dumps(sent), [FACTORY])
    assert isinstance(parsed, RunEvent)
    assert (FACTORY, "child-1", "wrapper-1", status) == (
        parsed.factory,
        parsed.run_id,
        parsed.parent_run_id,
        parsed.status,
    )


@pytest.mark.parametrize("run", NO_CHILD)
def test_the_event_without_a_child(run: Any) -> None:
    """If no child was ever started, the failure notice is about the wrapper's own run."""
    sent = event(wrap(a_pipeline()), "Failed", run)
    assert [] == problems(sent, SCHEMA)
    assert ("wrapper-1/Failed", "pipelines/orders/runs/wrapper-1", None, "wrapper-1") == (
        sent["id"],
        sent["subject"],
        sent["data"]["runId"],
        sent["data"]["parentRunId"],
    )


@pytest.mark.parametrize("name", ['say "hi"', "it's", "'; drop", "{x} @{y}", "ends with ''", "日次 – täglich"])
def test_names_cannot_spoil_the_event(name: str) -> None:
    """S33: whatever a pipeline's name holds, the event is JSON, and holds that name."""
    sent = event(wrap(a_pipeline(name)), "Succeeded", {"output": {"pipelineRunId": "child-1"}})
    assert (name, f"pipelines/{name}/runs/child-1") == (sent["data"]["pipelineName"], sent["subject"])


def test_no_message_in_the_event() -> None:
    """S34: what a failed child says goes into the Fail activity and not into the event."""
    left = {"output": {"pipelineRunId": "child-1"}, "error": {"message": 'canary "quoted"', "errorCode": "2200"}}
    wrapper = wrap(a_pipeline())
    assert "canary" not in json.dumps(event(wrapper, "Failed", left))
    said = evaluate(activities(wrapper)["Fail"]["typeProperties"], scope({}, left))
    assert {"message": 'canary "quoted"', "errorCode": "2200"} == said


@pytest.mark.parametrize("run", [*NO_CHILD, {"error": None}, {"error": {}}])
def test_a_failure_without_words(run: Any) -> None:
    """A child that failed without saying why still fails the wrapper, with words."""
    said = evaluate(activities(wrap(a_pipeline()))["Fail"]["typeProperties"], scope({}, run))
    assert {"message": "The pipeline failed.", "errorCode": "PipelineFailed"} == said


def test_the_notice_for_pipelines_of_ones_own() -> None:
    """The single activity for people without a wrapper sends an event as the contract has it, about its own run."""
    sent = evaluate(NOTICE["typeProperties"]["body"], scope({}))
    assert isinstance(sent, dict)
    assert [] == problems(sent, SCHEMA)
    assert (
        "wrapper-1/Succeeded",
        {"runId": "wrapper-1", "pipelineName": "orders__notified", "status": "Succeeded"},
    ) == (
        sent["id"],
        sent["data"],
    )
    expected, found = (
        {name: value for name, value in activity["typeProperties"].items() if name not in ("body", "url")}
        for activity in (activities(wrap(a_pipeline()))["Notify succeeded"], NOTICE)
    )
    assert expected == found
    assert [] == unknown_fields(NOTICE, models.WebActivity)


# --- the graph --------------------------------------------------------------------------------------------------------


def test_the_graph() -> None:
    """Run, then a notice of success that may get lost, or a notice of failure and, however that goes, Fail."""
    found = {name: (one["type"], one["dependsOn"]) for name, one in activities(wrap(a_pipeline())).items()}

    def after(activity: str, condition: str) -> list[Json]:
        return [{"activity": activity, "dependencyConditions": [condition]}]

    assert {
        "Run": ("ExecutePipeline", []),
        "Notify succeeded": ("WebActivity", after("Run", "Succeeded")),
        "Note a lost notice": ("Wait", after("Notify succeeded", "Failed")),
        "Notify failed": ("WebActivity", after("Run", "Failed")),
        "Fail": ("Fail", after("Notify failed", "Completed")),
    } == found


def test_the_notices() -> None:
    """A notice is POSTed to the topic with the factory's identity, without a key, tried again, and never polled."""
    notice = activities(wrap(a_pipeline()))["Notify failed"]
    properties = {name: value for name, value in notice["typeProperties"].items() if name != "body"}
    assert {
        "method": "POST",
        "url": f"{TOPIC}?api-version=2018-01-01",
        "headers": {"Content-Type": "application/cloudevents+json; charset=utf-8"},
        "authentication": {"type": "MSI", "resource": "https://eventgrid.azure.net"},
        "turnOffAsync": True,
    } == properties
    assert ("0.00:10:00", 3, 30) == tuple(
        notice["policy"][name] for name in ("timeout", "retry", "retryIntervalInSeconds")
    )


def test_what_stays_with_the_pipeline() -> None:
    """The folder is the pipeline's; its variables, concurrency, policy and labels are not the wrapper's."""
    properties = wrap(one(FILES["with_everything"]))["properties"]
    assert ["description", "activities", "parameters", "folder", "annotations"] == list(properties)
    assert ({"name": "misc"}, ["adf-bridge"], True) == (
        properties["folder"],
        properties["annotations"],
        is_ours(properties),
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("runs.westeurope-1.eventgrid.azure.net", "https://eventgrid.azure.net"),
        ("runs.usgovvirginia-1.eventgrid.azure.us", "https://eventgrid.azure.us"),
        ("Runs.ChinaEast2-1.EventGrid.Azure.cn", "https://eventgrid.azure.cn"),
        ("127.0.0.1:8080/runs", "https://eventgrid.azure.net"),
    ],
)
def test_the_token_is_for_the_topics_own_cloud(host: str, expected: str) -> None:
    """The factory asks for a token for the Event Grid of the cloud that the topic is in."""
    found = activities(generate(a_pipeline(), topic=f"https://{host}/api/events", factory=None))
    authentications = [one["typeProperties"].get("authentication") for one in found.values()]
    assert [{"type": "MSI", "resource": expected}] * 2 == [one for one in authentications if one]


def test_the_same_input_gives_the_same_bytes() -> None:
    """The generated file is the same each time, in UTF-8 with four spaces, as Data Factory's Git integration writes."""
    first, second = (text_of(wrap(one(FILES["umsaetze"]))) for _ in range(2))
    assert first == second
    assert first.startswith('{\n    "name": "Umsätze laden – täglich (EU), 日次__notified",\n    "properties": {\n')
    assert first.endswith("}\n")


# --- the SDK's models -------------------------------------------------------------------------------------------------

ACTIVITIES = {
    "ExecutePipeline": models.ExecutePipelineActivity,
    "WebActivity": models.WebActivity,
    "Wait": models.WaitActivity,
    "Fail": models.FailActivity,
}


def unknown_fields(value: Json, model: Any, at: str = "$") -> list[str]:
    """Every field of a value that the SDK's model does not declare, in it and in the models inside it."""
    hints = get_type_hints(model, {**vars(_models), "_models": models})
    declared = {field._rest_name: hints[name] for name, field in model({})._attr_to_rest_field.items()}
    found = [f"{at}.{name}" for name in value if name not in declared]
    for name in value.keys() & declared.keys():
        for item, inside in models_in(value[name], declared[name]):
            found += unknown_fields(item, inside, f"{at}.{name}")
    return found


def models_in(value: Any, hint: Any) -> list[tuple[Json, Any]]:
    """The objects in a value for which the type hint names a model; activities by their own type."""
    for one_of in get_args(hint) if get_origin(hint) is Union else [hint]:
        if get_origin(one_of) is list:
            return [found for item in value for found in models_in(item, get_args(one_of)[0])]
        if get_origin(one_of) is dict:
            return [found for item in value.values() for found in models_in(item, get_args(one_of)[1])]
        if isinstance(one_of, type) and issubclass(one_of, MutableMapping):
            return [(value, ACTIVITIES[value["type"]] if one_of is models.Activity else one_of)]
    return []


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_the_sdk_knows_every_field(content: bytes) -> None:
    """Each field of a wrapper is declared by azure-mgmt-datafactory's models, which give it back unchanged."""
    wrapper = wrap(one(content))
    assert exact(wrapper) == exact(models.PipelineResource(json.loads(text_of(wrapper))).as_dict())
    assert [] == unknown_fields(wrapper, models.PipelineResource)


def test_an_unknown_field_would_be_seen() -> None:
    """The comparison with the SDK's models looks into parameters, policies, dependencies and type properties."""
    wrapper = wrap(one(FILES["secrets"]))
    run, notice = wrapper["properties"]["activities"][:2]
    for place in (
        wrapper["properties"]["parameters"]["user"],
        run["policy"],
        run["typeProperties"]["pipeline"],
        notice["dependsOn"][0],
        notice["typeProperties"]["authentication"],
    ):
        place["misspelt"] = 1
    assert 5 == len(unknown_fields(wrapper, models.PipelineResource))


# --- Data Factory's limits --------------------------------------------------------------------------------------------


def said(pipeline: Pipeline) -> list[str]:
    """What is wrong with a pipeline, or with its wrapper."""
    return limits.problems_of(pipeline) or limits.problems_in(wrap(pipeline))


def strings(count: int) -> Json:
    """So many parameters."""
    return {f"p{number}": {"type": "string"} for number in range(count)}


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        pytest.param(a_pipeline(parameters=strings(49)), "", id="49-parameters"),
        pytest.param(a_pipeline(parameters=strings(50)), "50 parameters; 49 are allowed", id="50-parameters"),
        pytest.param(a_pipeline("n" * 250), "", id="250-characters"),
        pytest.param(a_pipeline("n" * 251), "would have 261 characters; 260 are allowed", id="251-characters"),
        pytest.param(a_pipeline("n" + "𝒏" * 125), "would have 261 characters", id="two-units-each"),
        pytest.param(a_pipeline("1st (täglich), it's _ok_ – 日次"), "", id="allowed-signs"),
        pytest.param(a_pipeline("-orders"), "has to begin with", id="first-sign"),
        pytest.param(a_pipeline("a/b"), "holds '/', which", id="slash"),
        pytest.param(a_pipeline("a.b*c"), "holds '*', '.', which", id="two-signs"),
        pytest.param(a_pipeline("a\nb"), "holds '\\n', which", id="line-break"),
        pytest.param(a_pipeline(parameters={"bridge_key": {"type": "string"}}), "'bridge_key' has the name", id="key"),
        pytest.param(a_pipeline(parameters={"Bridge_Key": {"type": "string"}}), "'Bridge_Key' has the name", id="Key"),
        pytest.param(
            a_pipeline(parameters={"day": {"type": "string"}, "Day": {"type": "string"}}), "has a twin", id="twins"
        ),
        pytest.param(a_pipeline(parameters={"a": {"type": "guid"}}), "the type 'guid', which is none", id="type"),
        pytest.param(a_pipeline(parameters={"a": {}}), "'a' has no type", id="no-type"),
        pytest.param(a_pipeline(parameters={"a": "string"}), "'a' has no type", id="no-object"),
        pytest.param(a_pipeline(parameters={"a": {"type": 3}}), "'a' has no type", id="type-number"),
        pytest.param(a_pipeline(parameters={"a" * 8_169: {"type": "int"}}), "", id="8192-characters"),
        pytest.param(
            a_pipeline(parameters={"a" * 8_170: {"type": "int"}}), "has 8193 characters", id="8193-characters"
        ),
        pytest.param(
            a_pipeline(parameters={"a": {"type": "string", "defaultValue": "ä" * 110_000}}),
            "204800 are allowed",
            id="size",
        ),
        pytest.param(
            a_pipeline(parameters={"a": {"type": "string", "defaultValue": "\ud800"}}),
            "half a surrogate",
            id="surrogate",
        ),
    ],
)
def test_limits(pipeline: Pipeline, expected: str) -> None:
    """What Data Factory would refuse is told before it is asked; what it allows is not refused."""
    found = said(pipeline)
    assert (bool(expected), True) == (bool(found), expected in "; ".join(found)), found


def test_all_is_told_at_once() -> None:
    """Everything that is wrong with a pipeline is told, not only the first."""
    parameters = {**strings(50), "P1": {"type": "guid"}, "BRIDGE_KEY": {"type": "string"}}
    assert 7 == len(said(a_pipeline("-a/b", parameters)))


def test_a_default_for_a_secret() -> None:
    """S34: a secureString with a default is warned of, without the default."""
    (warning,) = limits.warnings_of(a_pipeline(parameters={"key": {"type": "secureString", "defaultValue": "canary"}}))
    assert (True, False) == ("'key' has a default" in warning, "canary" in warning)
    assert [] == limits.warnings_of(a_pipeline(parameters={"key": {"type": "secureString"}, "a": {"type": "string"}}))


@pytest.mark.parametrize(("length", "expected"), [(130, False), (131, True), (250, True)])
def test_a_long_name(length: int, *, expected: bool) -> None:
    """A name that one page of Data Factory's allows, and another does not, is warned of."""
    found = limits.warnings_of(a_pipeline("n" * length))
    assert expected is any("is longer than 140 characters" in one for one in found)


def test_lists_and_objects() -> None:
    """Lists and objects, of which nobody knows for sure how they arrive, are warned of at once, with the way out."""
    parameters = {"day": {"type": "string"}, "regions": {"type": "Array"}, "options": {"type": "object"}}
    (warning,) = limits.warnings_of(a_pipeline(parameters=parameters))
    assert [True, True, False, True] == [
        one in warning for one in ("'regions'", "'options'", "'day'", "`wrapped: never`")
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_an_export_of_a_factory() -> None:
    """An ARM template export gives all its pipelines, with names and texts as they are once deployed."""
    found = {one.name: one for one in pipelines.read(EXPORT) if isinstance(one, Pipeline)}
    assert ["copy_orders", "customer's own", "run_copy"] == list(found)
    defaults = {name: one.get("defaultValue") for name, one in found["copy_orders"].parameters.items()}
    assert {
        "day": None,
        "shape": "[a bracketed text]",
        "tail": "[open",
        "options": {"keep": None, "list": ["[x]", None]},
    } == defaults


def a_template(name: str = "[concat(parameters('factoryName'), '/orders')]", **properties: Any) -> Json:
    """An ARM template with one pipeline."""
    resource = {
        "type": "Microsoft.DataFactory/factories/pipelines",
        "name": name,
        "properties": {"activities": [WAIT], **properties},
    }
    return {"$schema": "…", "resources": [resource]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[concat(parameters('factoryName'), '/orders')]", "orders"),
        ("[concat(parameters('factoryName'),'/it''s')]", "it's"),
        ("[concat(variables('factory'), '/Umsätze laden')]", "Umsätze laden"),
        ("adf-demo/orders", "orders"),
    ],
)
def test_names_in_a_template(name: str, expected: str) -> None:
    """A pipeline's name is read from the ways in which exports write it."""
    assert expected == one(json.dumps(a_template(name)).encode()).name


def test_the_same_pipeline_in_both_layouts() -> None:
    """A template and a Git file of the same pipeline give the same wrapper."""
    template = a_template(parameters={"day": {"type": "string", "defaultValue": "[[x]"}}, folder={"name": "f"})
    own = a_pipeline(parameters={"day": {"type": "string", "defaultValue": "[x]"}}, folder={"name": "f"})
    assert exact(wrap(own)) == exact(wrap(one(json.dumps(template).encode())))


def test_what_is_not_copied_is_not_evaluated() -> None:
    """A template may set by expressions what a wrapper has no copy of: the labels, the description, the activities."""
    template = a_template(annotations=["[parameters('label')]"], description="[parameters('words')]")
    assert "orders" == one(json.dumps(template).encode()).name


def test_a_templates_parameters() -> None:
    """The file of values that stands next to a template in a publish branch holds no pipeline, and is no error."""
    values = {"$schema": "…", "contentVersion": "1.0.0.0", "parameters": {"factoryName": {"value": "adf-demo"}}}
    assert [] == pipelines.read(json.dumps(values).encode())


def test_a_template_of_language_2() -> None:
    """A template whose resources are an object is read like one whose resources are a list."""
    template = a_template()
    assert "orders" == one(json.dumps({**template, "resources": {"orders": template["resources"][0]}}).encode()).name


def test_an_answer_of_the_rest_api() -> None:
    """A pipeline as Data Factory's REST API answers it is read, too, and so is a file with a mark at its beginning."""
    document = {"id": "/x", "name": "orders", "type": "…", "etag": "…", "properties": {"activities": [WAIT]}}
    assert "orders" == one(b"\xef\xbb\xbf" + json.dumps(document).encode()).name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "holds no JSON object"),
        (b'{"name": "a", "name": "b"}', "has 'name' twice"),
        (b'{"name": "a", "properties": {"activities": [], "x": NaN}}', "holds NaN"),
        (b'{"name": "a", "properties": {"activities": [], "x": 1e999}}', "the number 1e999, which is too large"),
        (b"{}", "has no name"),
        (b'{"name": 3}', "has no name"),
        (b'{"name": "lake", "properties": {"type": "AzureBlobFS"}}', "'lake' has no properties.activities"),
        (b'{"name": "a", "properties": {"activities": [], "parameters": [1]}}', "parameters has to be an object"),
        (json.dumps(a_template("[variables('name')]")).encode(), "no pipeline's name can be read"),
        (
            json.dumps(a_template(parameters={"a": {"type": "string", "defaultValue": "[parameters('x')]"}})).encode(),
            "'orders': the template sets a value by the expression [parameters('x')]",
        ),
        (json.dumps({"resources": 3}).encode(), "without resources"),
    ],
)
def test_what_cannot_be_read(content: bytes, expected: str) -> None:
    """What is no pipeline, or could mean two things, is refused with words."""
    try:
        (trouble,) = pipelines.read(content)
    except UnreadableError as whole:
        trouble = whole
    assert isinstance(trouble, UnreadableError)
    assert expected in str(trouble)
