"""Web activities in the local Data Factory: what they send, and what they make of the answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.component.adf_stage import IDENTITY_TOKEN, RESOURCE, Stage, expression, running_stage, set_variable, web
from tests.component.web_endpoint import Answer


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One Data Factory for all tests of this module."""
    with running_stage(tmp_path_factory.mktemp("adf")) as running:
        yield running


def test_a_web_activity_really_sends_its_request(stage: Stage) -> None:
    """Method, headers and a body that an expression made arrive; the answer's fields are the output."""
    url = stage.endpoint.answer("/orders", Answer(201, '{"id": 7, "items": ["a"]}', {"X-Trace": "t"}))
    body = expression("@json(concat('{\"run\":\"', pipeline().RunId, '\"}'))")
    headers = {"Content-Type": "application/x+json", "X-Pipeline": "@pipeline().Pipeline"}
    run_id = stage.play("calling", web(f"{url}?v=1", method="PUT", headers=headers, body=body))
    call, request = stage.last(run_id, "Call"), stage.endpoint.received("/orders")[0]

    assert ("PUT", "/orders?v=1", {"run": run_id}) == (request.method, request.path, request.json)
    assert ("application/x+json", "calling") == (request.headers["content-type"], request.headers["x-pipeline"])
    assert (7, ["a"], "t") == (
        call.output["id"],
        call.output["items"],
        call.output["ADFWebActivityResponseHeaders"]["X-Trace"],
    )
    assert {"run": run_id} == call.input["body"]


def test_a_text_is_sent_as_it_is_and_an_empty_answer_is_a_success(stage: Stage) -> None:
    """An answer without a body, as Event Grid's, has an empty Response in the output."""
    url = stage.endpoint.answer("/empty", Answer())
    run_id = stage.play("terse", web(url, body="@{pipeline().Pipeline} ends"))

    assert "terse ends" == stage.endpoint.received("/empty")[0].body
    assert "" == stage.last(run_id, "Call").output["Response"]


def test_the_managed_identity_signs_in_with_the_resources_token(stage: Stage) -> None:
    """A Web activity with MSI sends the token for its resource, however that is spelt."""
    url = stage.endpoint.answer("/secured", Answer())
    stage.play("signed", web(url, authentication={"type": "MSI", "resource": f"{RESOURCE}/"}))

    assert f"Bearer {IDENTITY_TOKEN}" == stage.endpoint.received("/secured")[0].headers["authorization"]


@pytest.mark.parametrize(
    ("answer", "properties", "code", "message"),
    [
        pytest.param(Answer(401), {}, "2108", "Response status code: '401 - Unauthorized'.", id="an error"),
        pytest.param(Answer(503, '{"error": "busy"}'), {}, "2108", '{"error": "busy"}', id="an error with words"),
        pytest.param(Answer(200, "[1]"), {}, "3603", "Response Content is not a valid JObject.", id="a list"),
        pytest.param(Answer(200, "OK"), {}, "3603", "Response Content is not a valid JObject.", id="no JSON"),
        pytest.param(
            Answer(silent=True),
            {"httpRequestTimeout": "00:00:00.2"},
            "2128",
            "No response from the endpoint.",
            id="none",
        ),
        pytest.param(Answer(), {"body": None}, "2103", "for the required property 'body'.", id="no body"),
        pytest.param(Answer(), {"url": "http://127.0.0.1:9"}, "2108", "code: 'NA - Unknown'.", id="nobody there"),
        pytest.param(
            Answer(),
            {"authentication": {"type": "MSI", "resource": "https://vault"}},
            "2108",
            "got no token for the resource 'https://vault'.",
            id="no token",
        ),
        pytest.param(Answer(), {"method": "BREW"}, "2104", "property 'method' is incorrect.", id="no such method"),
    ],
)
def test_a_web_activity_that_goes_wrong_says_how(
    stage: Stage, answer: Answer, properties: dict[str, Any], code: str, message: str
) -> None:
    """Errors of the endpoint, answers that are no JSON object, and requests that cannot be sent have their codes."""
    url = stage.endpoint.answer("/wrong", answer)
    run_id = stage.play("wrong call", web(**{"url": url, **properties}))
    error = stage.last(run_id, "Call").error

    assert (code, True) == (error["errorCode"], message in error["message"]), error


def test_an_answer_that_work_goes_on_is_followed_unless_that_is_off(stage: Stage) -> None:
    """After 202 with a Location the activity asks there until the work is done; turnOffAsync ends it at once."""
    done = stage.endpoint.answer(
        "/done",
        Answer(202, headers={"Location": f"{stage.endpoint.url}/done", "Retry-After": "0"}),
        Answer(200, '{"n": 1}'),
    )
    url = stage.endpoint.answer("/long", Answer(202, headers={"Location": done, "Retry-After": "0"}))
    followed = stage.play("following", web(url))
    left = stage.play("not following", web(url, turnOffAsync=True))

    assert 1 == stage.last(followed, "Call").output["n"]
    assert ["GET", "GET"] == [request.method for request in stage.endpoint.received("/done")]
    assert "" == stage.last(left, "Call").output["Response"]


def test_a_failed_call_is_tried_again_as_its_policy_says(stage: Stage) -> None:
    """Every try is an activity run of its own, and the last one decides."""
    url = stage.endpoint.answer("/flaky", Answer(500), Answer(503), Answer())
    run_id = stage.play("persistent", web(url, {"retry": 3, "retryIntervalInSeconds": 30}))

    assert "Succeeded" == stage.adf.get(run_id).status
    assert [(None, "Failed"), (1, "Failed"), (2, "Succeeded")] == [
        (one.as_dict()["retryAttempt"], one.status) for one in stage.attempts(run_id, "Call")
    ]


def test_what_is_secure_is_not_shown(stage: Stage) -> None:
    """The policy's secureInput and secureOutput empty what queries show; expressions still see the output."""
    url = stage.endpoint.answer("/secret", Answer(200, '{"key": "hunter2"}'))
    policy = {"secureInput": True, "secureOutput": True}
    copy = set_variable("Copy", "key", "@activity('Call').output.key", {"Call": "Succeeded"})
    run_id = stage.play("discreet", web(url, policy), copy, variables={"key": {"type": "String"}})

    assert ({}, {}) == (stage.last(run_id, "Call").input, stage.last(run_id, "Call").output)
    assert "hunter2" == stage.last(run_id, "Copy").output["value"]


def test_a_web_activity_may_declare_that_it_is_not_sent(stage: Stage) -> None:
    """With localSeconds or localErrorCode a Web activity behaves as declared, like any other."""
    made = web(stage.endpoint.answer("/unsent", Answer()))
    made["userProperties"] = [{"name": "localSeconds", "value": 0}, {"name": "localErrorCode", "value": "2108"}]
    run_id = stage.play("pretending", made)

    assert "2108" == stage.last(run_id, "Call").error["errorCode"]
    assert [] == stage.endpoint.received("/unsent")
