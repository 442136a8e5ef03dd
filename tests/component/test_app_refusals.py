"""What `POST /runs` and `POST /waits` refuse, in words that tell what to do, and what a repeated request comes to."""

import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from tests.component.conftest import CALLER_SECRET
from tests.component.hosted_bridge import CALLER_HEADER, SALES, Bridge, run_event, token_of, wait_of
from tests.fakes_http.airflow import FakeAirflow
from tests.fakes_http.airflow_task import AirflowTask

KEY = {"Idempotency-Key": "a-key-that-nobody-else-uses"}


def refusal(answer: requests.Response) -> tuple[int, str]:
    """Status and code of a refusal, which is a problem document that says what to do."""
    problem = answer.json()
    assert "application/problem+json" == answer.headers["Content-Type"].partition(";")[0]
    assert (answer.status_code, True) == (problem["status"], bool(problem["detail"]))
    return answer.status_code, problem.get("code", "")


def wrong_fields(answer: requests.Response) -> dict[str, str]:
    """The fields that a refusal names, with what is wrong with each."""
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


def test_wrong_types(bridge: Bridge) -> None:
    """Every field of a wrong type is named at once, with what it has to be, and nothing is started."""
    before = bridge.count("createRun")
    body = {
        "factory": 7,
        "pipeline": ["held"],
        "parameters": "none",
        "wiat": {},
        "wait": {
            "target": None,
            "mode": "magic",
            "task": {"dag_id": 1, "run_id": "r", "task_id": "a/b", "map_index": "0", "try_number": True, "nonce": ""},
            "deadline": "tomorrow",
        },
    }
    answer = bridge.call("POST", "/runs", json=body, headers=KEY)
    assert (422, "invalid-fields") == refusal(answer)
    wrong = wrong_fields(answer)
    assert {
        *("factory", "pipeline", "parameters", "wiat", "wait.target", "wait.mode", "wait.deadline"),
        *("wait.task.dag_id", "wait.task.task_id", "wait.task.map_index", "wait.task.try_number", "wait.task.nonce"),
    } == set(wrong)
    assert ("has to be a text, not a number", "has to be 'resume' or 'queue'") == (
        wrong["factory"],
        wrong["wait.mode"],
    )
    assert before == bridge.count("createRun")


def test_unknown_factory(bridge: Bridge) -> None:
    """A factory that is not on the allow-list is refused with the names of those that are."""
    answer = bridge.start(factory=SALES + "-2")
    assert (403, "factory-not-allowed") == refusal(answer)
    assert "sales, stock" in answer.json()["detail"]


def test_unknown_target(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A target that is not configured is refused with the name of the setting that would add it."""
    wait = {**wait_of(airflow, airflow.task()), "target": "nobody"}
    answer = bridge.start(wait)
    assert (403, "target-unknown") == refusal(answer)
    assert "BRIDGE_AIRFLOW__<TARGET>__URL" in answer.json()["detail"]


def test_oversized_body(bridge: Bridge) -> None:
    """S38: a body over the limit is refused before it is parsed: it is not even JSON."""
    answer = bridge.call("POST", "/runs", data=b"{" * 1_048_577, headers=KEY)
    assert (413, "body-too-large") == refusal(answer)
    assert "1048576 are allowed (BRIDGE_MAX_BODY_BYTES)" in answer.json()["detail"]
    answer = bridge.call("POST", "/waits", data=b"{" * 1_048_577)
    assert (413, "body-too-large") == refusal(answer)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}], ids=["missing", "empty"])
def test_no_idempotency_key(bridge: Bridge, headers: Mapping[str, str]) -> None:
    """A request that could not be repeated safely is refused, and told about the header."""
    answer = bridge.call("POST", "/runs", json={"factory": "sales", "pipeline": "held"}, headers=headers)
    assert (400, "missing-idempotency-key") == refusal(answer)
    assert "Send the header Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/runs"),
        ("GET", "/runs/some-run"),
        ("POST", "/waits"),
        ("GET", "/waits"),
        ("GET", "/waits/some-token"),
        ("DELETE", "/waits/some-token"),
        ("GET", "/events"),
        ("GET", "/health"),
    ],
)
@pytest.mark.parametrize("key", [None, "", "wrong"])
def test_no_function_key(bridge: Bridge, method: str, path: str, key: str | None) -> None:
    """No call is answered without the function key, and the answer says where it goes."""
    answer = bridge.call(method, path, key=key)
    assert (401, "unauthorized") == refusal(answer)
    assert "x-functions-key" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"factory": NaN}', b"[" * 100_000],
    ids=["empty", "cut", "list", "text", "not-utf-8", "not-a-number", "deep"],
)
def test_bad_json(bridge: Bridge, body: bytes) -> None:
    """S26: a body that is no JSON object is refused as such, however broken it is."""
    answer = bridge.call("POST", "/runs", data=body, headers=KEY)
    assert (400, "bad-json") == refusal(answer)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pipeline": "../../pipelines/held"}, (422, "invalid-fields")),
        ({"pipeline": "http://169.254.169.254/metadata"}, (422, "invalid-fields")),
        ({"factory": "http://169.254.169.254/metadata"}, (403, "factory-not-allowed")),
        ({"factory": f"{SALES}/../adf-stock"}, (403, "factory-not-allowed")),
    ],
)
def test_addresses_in_names(bridge: Bridge, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    """S37: an address or a path in the place of a name is refused, and nobody is called."""
    before = bridge.adf.get("calls")["by_operation"]
    assert expected == refusal(bridge.start(**changes))
    assert before == bridge.adf.get("calls")["by_operation"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run_id": "../../factories"}, (422, "invalid-fields")),
        ({"run_id": "http://169.254.169.254/metadata"}, (422, "invalid-fields")),
        ({"target": "http://169.254.169.254/"}, (403, "target-unknown")),
        ({"target": "team_00__URL"}, (403, "target-unknown")),
    ],
)
def test_addresses_in_waits(
    bridge: Bridge, airflow: FakeAirflow, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    """S37: a wait names a run and a target; an address in their place is refused, and nobody is called."""
    before = bridge.adf.get("calls")["by_operation"]
    body = {"factory": "sales", "run_id": str(uuid.uuid4()), **wait_of(airflow, airflow.task()), **changes}
    assert expected == refusal(bridge.call("POST", "/waits", json=body))
    assert (before, []) == (bridge.adf.get("calls")["by_operation"], airflow.looks)


def test_pipeline_that_does_not_exist(bridge: Bridge) -> None:
    """ADF's own refusal is told with its words, and the key may be used again: nothing was started."""
    answer = bridge.start(key="twice", pipeline="no_such_pipeline")
    assert (404, "pipeline-not-found") == refusal(answer)
    assert "Nothing was started" in answer.json()["detail"]
    assert 202 == bridge.start(key="twice").status_code


def test_run_that_does_not_exist(bridge: Bridge, airflow: FakeAirflow) -> None:
    """A wait for a run that ADF does not know is refused, and leaves nothing behind."""
    wait = wait_of(airflow, airflow.task())
    answer = bridge.call("POST", "/waits", json={"factory": "sales", "run_id": str(uuid.uuid4()), **wait})
    assert (404, "not-found") == refusal(answer)
    assert (404, "not-found") == refusal(bridge.call("GET", f"/waits/{token_of(wait)}"))


def test_unknown_names(bridge: Bridge) -> None:
    """A token or a run that the bridge has never heard of is 404, and says so."""
    for method, path in (("GET", "/waits/nothing"), ("DELETE", "/waits/nothing"), ("GET", "/runs/nothing")):
        assert (404, "not-found") == refusal(bridge.call(method, path))


@pytest.mark.parametrize(("days", "word"), [(-1, "has passed already"), (46, "is over 45 days away")])
def test_deadlines(bridge: Bridge, airflow: FakeAirflow, days: int, word: str) -> None:
    """A deadline that has passed, or that ADF's memory does not reach, is refused before anything is started."""
    before = bridge.count("createRun")
    deadline = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    answer = bridge.start(wait_of(airflow, airflow.task(), deadline=deadline))
    assert (422, "invalid-fields", before) == (*refusal(answer), bridge.count("createRun"))
    assert word in wrong_fields(answer)["wait.deadline"]


def test_key_that_is_not_the_token(bridge: Bridge, airflow: FakeAirflow) -> None:
    """With a wait, the key has to be its token: else a repetition could start a second run."""
    wait = wait_of(airflow, airflow.task())
    answer = bridge.start(wait, key="something-else")
    assert (422, "token-mismatch") == refusal(answer)
    assert token_of(wait) in answer.json()["detail"]


# --- whose target it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, "", "wrong", CALLER_SECRET + "x", "ünïcode"])
@pytest.mark.parametrize("path", ["/runs", "/waits"])
def test_caller_without_the_secret(bridge: Bridge, path: str, secret: str | None) -> None:
    """S46: a target with a secret takes waits from nobody without it; no run is started, no wait is kept."""
    airflow, before = bridge.airflows["guarded"], bridge.count("createRun")
    wait = wait_of(airflow, AirflowTask())
    body = {"pipeline": "held", "wait": wait} if path == "/runs" else {"run_id": str(uuid.uuid4()), **wait}
    headers = {"Idempotency-Key": token_of(wait), **({CALLER_HEADER: secret.encode()} if secret is not None else {})}
    answer = bridge.call("POST", path, json={"factory": "sales", **body}, headers=headers)
    assert (403, "caller-not-allowed") == refusal(answer)
    assert CALLER_HEADER in answer.json()["detail"]
    assert (404, before) == (
        bridge.call("GET", f"/waits/{token_of(wait)}").status_code,
        bridge.count("createRun"),
    )


def test_caller_with_the_secret(bridge: Bridge) -> None:
    """A caller that sends a target's secret is served, and its task completed."""
    airflow = bridge.airflows["guarded"]
    _, token, run_id = bridge.parked(airflow, headers={CALLER_HEADER: CALLER_SECRET})
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    assert ("delivered", 1) == (bridge.wait(token)["state"], len(airflow.patches))


# --- the same request again -------------------------------------------------------------------------------------------


def test_repeated_request(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S21, S36: the same key with the same body gets the first answer again, to the letter, and starts nothing."""
    before = bridge.count("createRun")
    wait = wait_of(airflow, airflow.task())
    first, again = bridge.start(wait), bridge.start(wait)
    assert (202, None) == (first.status_code, first.headers.get("Idempotent-Replay"))
    assert (202, "true") == (again.status_code, again.headers.get("Idempotent-Replay"))
    assert (first.text, before + 1) == (again.text, bridge.count("createRun"))


def test_order_of_fields_does_not_matter(bridge: Bridge) -> None:
    """S21: the same request with its fields in another order is the same request."""
    answers = [
        bridge.call("POST", "/runs", data=body, headers={"Idempotency-Key": "in-any-order"})
        for body in (b'{"factory": "sales", "pipeline": "held"}', b'{ "pipeline":"held","factory":"sales" }')
    ]
    assert answers[0].json() == answers[1].json()


def test_same_key_for_another_request(bridge: Bridge) -> None:
    """S21: a key that was used for another body is refused."""
    key = str(uuid.uuid4())
    bridge.started(key=key)
    answer = bridge.start(key=key, parameters={"secret": "other"})
    assert (422, "idempotency-mismatch") == refusal(answer)
    assert "Use a new key" in answer.json()["detail"]


def test_fifty_at_once(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S21: fifty concurrent requests with one key start one run; each is answered with it or told to wait."""
    before = bridge.count("createRun")
    wait = wait_of(airflow, airflow.task())
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: bridge.start(wait), range(50)))
    early = [answer for answer in answers if answer.status_code != 202]
    assert {(409, "request-in-flight")} >= {refusal(answer) for answer in early}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in early)
    run_ids = {answer.json()["run"]["run_id"] for answer in answers if answer.status_code == 202}
    assert (1, before + 1) == (len(run_ids), bridge.count("createRun"))
    assert run_ids == {bridge.start(wait).json()["run"]["run_id"]}


@pytest.mark.parametrize("status", [500, 503, 504])
def test_create_run_that_fails(bridge: Bridge, status: int) -> None:
    """S20: a createRun that ADF answers with a server error is sent once, ever; meanwhile its run is looked for."""
    before, key = bridge.count("createRun"), str(uuid.uuid4())
    bridge.adf.post("faults", {"op": "createRun", "status": status, "effect": "after"})
    answers = [bridge.start(key=key), bridge.start(key=key)]
    assert [(409, "request-in-flight")] * 2 == [refusal(answer) for answer in answers]
    assert (["5", "5"], before + 1) == (
        [answer.headers.get("Retry-After") for answer in answers],
        bridge.count("createRun"),
    )


def test_create_run_that_is_throttled(bridge: Bridge) -> None:
    """A throttled createRun started nothing: the caller is told when to come back, and the key is still good."""
    key = str(uuid.uuid4())
    bridge.adf.post("faults", {"op": "createRun", "status": 429, "retry_after": 7})
    answer = bridge.start(key=key)
    assert (503, "adf-throttled", "7") == (*refusal(answer), answer.headers["Retry-After"])
    assert 202 == bridge.start(key=key).status_code


def test_repeated_wait(bridge: Bridge, airflow: FakeAirflow) -> None:
    """Registering a wait again changes nothing, and a token that waits for another run is refused."""
    run_id, other = bridge.started(), bridge.started()
    wait = wait_of(airflow, airflow.task())
    answers = [bridge.call("POST", "/waits", json={"factory": "sales", "run_id": run_id, **wait}) for _ in range(2)]
    assert answers[0].json()["wait"] == answers[1].json()["wait"]
    refused = bridge.call("POST", "/waits", json={"factory": "sales", "run_id": other, **wait})
    assert (409, "wait-conflict") == refusal(refused)


def test_documents_are_json(bridge: Bridge) -> None:
    """Every answer is JSON in UTF-8 and says so."""
    answer = bridge.call("GET", "/health")
    assert "application/json" == answer.headers["Content-Type"].partition(";")[0]
    assert "ok" == json.loads(answer.content.decode())["status"]
