"""From HTTP bodies to requests: checked as a whole, refused with every bad field."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import http_requests
from bridge.errors import (
    BadJson,
    BodyTooLarge,
    FactoryNotAllowed,
    InvalidFields,
    MissingIdempotencyKey,
    Problem,
    TargetUnknown,
    TokenMismatch,
)
from bridge.http_requests import RunWait
from bridge.model import Continuation, NewTry, OnAbandon, PreviousTry, Recovery, RecoveryMode
from tests.fakes.samples import (
    ARM_ID,
    DEADLINE,
    FACTORY,
    KEY,
    RULES,
    STRANGE_ARM_ID,
    TASK,
    a_request,
    a_task,
    run_body,
    wait_body,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def wrong(document: dict[str, Any], key: str = TASK.token) -> dict[str, str]:
    """Read a body that is wrong; return what is said about each field."""
    with pytest.raises(InvalidFields) as caught:
        http_requests.trigger_request(document, key, RULES)
    return {error.field: error.message for error in caught.value.errors}


def with_task(**changes: Any) -> dict[str, Any]:
    """Return a body whose task is changed."""
    return run_body(wait={**wait_body(), "task": {**wait_body()["task"], **changes}})


def recovery(**changes: Any) -> dict[str, Any]:
    """Return a body that asks for a run to be run again."""
    return run_body(parameters={}, recover_from={"run_id": "run-1", **changes})


def test_a_recovery() -> None:
    """Which run is to be run again, and from where on, is read, and so is what becomes of the previous try's run."""
    document = {**recovery(mode="from_activity", activity="Load"), "previous": {"do": "recover", "after": "clear"}}
    read = http_requests.trigger_request(document, TASK.token, RULES)
    assert (
        Recovery("run-1", RecoveryMode.FROM_ACTIVITY, "Load"),
        Continuation(PreviousTry.RECOVER, NewTry.CLEAR),
    ) == (read.recover_from, read.previous)


def test_a_run_kept_for_the_next_try() -> None:
    """Whether a run is kept for the next try is read with the wait."""
    read = http_requests.trigger_request(run_body(wait=wait_body(keep_for_next_try=True)), TASK.token, RULES)
    assert a_request(keep_for_next_try=True) == read.wait


def test_a_trigger_request() -> None:
    """A good body is read as a whole."""
    read = http_requests.trigger_request(run_body(), TASK.token, RULES)
    assert (FACTORY, "copy_orders", {"day": "2026-03-01"}, a_request(), TASK.token) == (
        read.factory,
        read.pipeline,
        read.parameters,
        read.wait,
        read.idempotency_key,
    )


def test_a_request_without_a_wait() -> None:
    """A run without a wait may have any key, and needs no parameters."""
    read = http_requests.trigger_request({"factory": ARM_ID, "pipeline": "p"}, "any key", RULES)
    assert (None, {}, "any key") == (read.wait, read.parameters, read.idempotency_key)


def test_a_wait_for_a_run() -> None:
    """A wait for an existing run names the run next to the wait's own fields."""
    body = {"factory": "demo", "run_id": KEY.run_id, **wait_body(), "on_abandon": "cancel"}
    assert RunWait(KEY, a_request(on_abandon=OnAbandon.CANCEL)) == http_requests.run_wait(body, RULES)


@pytest.mark.parametrize("key", [None, ""])
def test_no_key(key: str | None) -> None:
    """A request without its Idempotency-Key is refused before anything else is looked at."""
    with pytest.raises(MissingIdempotencyKey):
        http_requests.trigger_request({}, key, RULES)


@pytest.mark.parametrize("body", [b"{" + b" " * 100, b"x" * 101, b'{"a": "' + b"x" * 100 + b'"}'])
def test_a_body_that_is_too_large(body: bytes) -> None:
    """S38: a body over the limit is refused before it is parsed: whether it is JSON does not matter."""
    with pytest.raises(BodyTooLarge, match=f"It has {len(body)} bytes; 100 are allowed"):
        http_requests.load_object(body, most=100)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": 1e999}', id="infinite"),
        pytest.param(b'{"a": "\xff"}', id="no-utf-8"),
        pytest.param(b'{"a":' * 5_000, id="deep"),
        pytest.param(b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", id="deeper-than-allowed"),
        pytest.param(b'{"a": ' + b"9" * 5_000 + b"}", id="huge-number"),
    ],
)
def test_bodies_that_are_no_object(body: bytes) -> None:
    """A body that is no JSON object is refused, without a word of what it holds."""
    with pytest.raises(BadJson):
        http_requests.load_object(body, most=100_000)


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """S26: whatever bytes arrive, they are an object or a problem."""
    with contextlib.suppress(BadJson, BodyTooLarge):
        assert isinstance(http_requests.load_object(body, most=150), dict)


@pytest.mark.parametrize(
    "parameters", [{str(n): n for n in range(50)}, {"a": "x" * 917_495}, {"a": "ü" * 458_747}], ids=["50", "x", "ü"]
)
def test_as_many_parameters_as_adf_takes(parameters: dict[str, Any]) -> None:
    """50 parameters are taken, and 896 KB of them, as UTF-8."""
    assert parameters == http_requests.trigger_request(run_body(parameters=parameters), TASK.token, RULES).parameters


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({**run_body(), "factory": 1}, "factory", "has to be a text"),
        ({**run_body(), "pipeline": ""}, "pipeline", "must not be empty"),
        ({**run_body(), "pipeline": "../x"}, "pipeline", "is no pipeline's name"),
        ({**run_body(), "pipeline": "x" * 261}, "pipeline", "260 are allowed"),
        ({**run_body(), "parameters": []}, "parameters", "has to be an object"),
        ({**run_body(), "parameters": {str(n): n for n in range(51)}}, "parameters", "at most 50"),
        ({**run_body(), "parameters": {"a": "\ud800"}}, "parameters", "surrogate"),
        ({**run_body(), "parameters": {"a": "x" * 917_496}}, "parameters", "has 917505 bytes as JSON"),
        ({**run_body(), "parameters": {"a": "ü" * 458_749}}, "parameters", "takes 917504"),
        ({**run_body(), "wait": 7}, "wait", "has to be an object, not a number"),
        ({**run_body(), "url": "http://169.254.169.254"}, "url", "is not a field of this request"),
        (run_body(wait=wait_body(url="http://169.254.169.254")), "wait.url", "is not a field of this request"),
        (run_body(wait=wait_body(on_abandn="cancel")), "wait.on_abandn", "is not a field of this request"),
        (run_body(wait=wait_body(mode="state")), "wait.mode", "has to be 'resume'"),
        (run_body(wait=wait_body(deadline="soon")), "wait.deadline", "has to be a time"),
        (run_body(wait=wait_body(on_abandon="explode")), "wait.on_abandon", "'leave' or 'cancel'"),
        (run_body(wait={**wait_body(), "task": None}), "wait.task", "is missing"),
        (with_task(dag_id=None), "wait.task.dag_id", "is missing"),
        (with_task(map_index="0"), "wait.task.map_index", "has to be a whole number"),
        (with_task(map_index=-2), "wait.task.map_index", "has to be from -1"),
        (with_task(try_number=True), "wait.task.try_number", "not true or false"),
        (with_task(nonce="x" * 129), "wait.task.nonce", "128 are allowed"),
        (with_task(other=1), "wait.task.other", "is not a field of this request"),
        (run_body(wait=wait_body(keep_for_next_try="yes")), "wait.keep_for_next_try", "has to be true or false"),
        (run_body(previous="reattach"), "previous", "has to be an object"),
        (run_body(previous={"do": "retry", "after": "retry"}), "previous.do", "'rerun' or 'reattach' or 'recover'"),
        (run_body(previous={"do": "rerun"}), "previous.after", "'retry' or 'clear'"),
        (run_body(previous={"do": "rerun", "after": "clear", "x": 1}), "previous.x", "is not a field"),
        (run_body(None, previous={"do": "rerun", "after": "clear"}), "previous", "needs `wait`"),
        (recovery(run_id="../x"), "recover_from.run_id", "is no run id"),
        (recovery(mode="from_start"), "recover_from.mode", "has to be 'from_failure'"),
        (recovery(mode="from_activity"), "recover_from.activity", "goes with the mode 'from_activity'"),
        (recovery(activity="Load"), "recover_from.activity", "and only with that one"),
        (recovery(x=1), "recover_from.x", "is not a field"),
        ({**recovery(), "parameters": {"a": 1}}, "parameters", "has to be left out"),
        ({**recovery(), "wrapped": "always"}, "wrapped", "the pipeline itself is run again"),
    ],
)
def test_bad_fields(document: dict[str, Any], field: str, message: str) -> None:
    """S37: a field that is wrong, or that does not belong there (a URL, say), is refused under its whole path."""
    found = wrong(document)
    assert [field] == list(found)
    assert message in found[field]


@pytest.mark.parametrize("name", ["dag_id", "run_id", "task_id"])
@pytest.mark.parametrize("value", ["a/b", "..", ".", "a\\b", "/"])
def test_names_that_airflow_cannot_address(name: str, value: str) -> None:
    """S33: a name with a slash in it, which Airflow's API cannot address, is refused when the wait is registered."""
    assert "Airflow's API cannot address it" in wrong(with_task(**{name: value}))[f"wait.task.{name}"]


@pytest.mark.parametrize("value", ["%2F", "a b", "käse.ü-1", "💥", "שלום", "a#b?c&d=e", "+:;,'\"\n"])
def test_names_that_it_can(value: str) -> None:
    """S33: any other name is taken as it is, whatever characters it has."""
    task = a_task(run_id=value)
    read = http_requests.trigger_request(run_body(task), task.token, RULES)
    assert read.wait is not None
    assert value == read.wait.task.run_id


def test_all_errors_at_once() -> None:
    """Every bad field is listed in one answer."""
    document = {"pipeline": 1, "typo": 1, "wait": {"mode": "x", "task": {"map_index": "0"}}}
    found = wrong(document)
    assert {"factory", "pipeline", "typo", "wait.mode", "wait.target", "wait.deadline", "wait.task.map_index"} <= set(
        found
    )


@pytest.mark.parametrize("factory", [STRANGE_ARM_ID, "unknown", "https://adf.example.com", "../demo"])
def test_factories_that_are_not_allowed(factory: str) -> None:
    """S37: only a factory on the allow-list is touched; the answer names those that are."""
    with pytest.raises(FactoryNotAllowed, match="demo, other"):
        http_requests.trigger_request(run_body(factory=factory), TASK.token, RULES)


@pytest.mark.parametrize("target", ["staging", "https://airflow.example.com", "169.254.169.254", "prod/../dev"])
def test_targets_that_are_not_configured(target: str) -> None:
    """S37: a caller names a target that an operator configured; it never passes a URL."""
    task = a_task(target=target)
    with pytest.raises(TargetUnknown):
        http_requests.trigger_request(run_body(task), task.token, RULES)


def test_a_key_that_is_not_the_token() -> None:
    """With a wait, the key is the wait's token; the answer says what it should be."""
    with pytest.raises(TokenMismatch, match=TASK.token):
        http_requests.trigger_request(run_body(), "another key", RULES)


def test_the_target_may_be_shouted() -> None:
    """A target is the same in any case, and so is its token."""
    read = http_requests.trigger_request(run_body(wait=wait_body(target="PROD")), TASK.token, RULES)
    assert a_request() == read.wait


@pytest.mark.parametrize("run_id", ["../x", "a/b", "", "x" * 129, "a?b"])
def test_run_ids_that_are_none(run_id: str) -> None:
    """S37: what is no run id never gets near a URL."""
    body = {"factory": "demo", "run_id": run_id, **wait_body()}
    with pytest.raises(InvalidFields, match="run_id"):
        http_requests.run_wait(body, RULES)


def test_a_misspelt_field_of_a_wait() -> None:
    """A misspelt option of a wait for a run is refused, not silently left off."""
    body = {"factory": "demo", "run_id": KEY.run_id, **wait_body(), "dead_line": DEADLINE.isoformat()}
    with pytest.raises(InvalidFields, match="dead_line: is not a field"):
        http_requests.run_wait(body, RULES)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_order_of_keys_does_not_matter(document: dict[str, Any]) -> None:
    """S21: a body is the same request in whatever order its keys are written."""
    turned = dict(reversed(document.items()))
    assert http_requests.body_hash(document) == http_requests.body_hash(turned)


def test_another_body_is_another_hash() -> None:
    """S21: a body that differs anywhere is another request."""
    bodies = [run_body(), run_body(None), run_body(pipeline="p"), run_body(parameters={"day": "2026-03-02"})]
    assert 4 == len({http_requests.body_hash(body) for body in bodies})


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["factory", "pipeline", "parameters", "wait", "x"]), JSON), st.text(min_size=1))
def test_any_json(document: dict[str, Any], key: str) -> None:
    """S26: whatever JSON object arrives, it is a request or a problem that can be written down."""
    try:
        http_requests.trigger_request(json.loads(json.dumps(document)), key, RULES)
    except Problem as problem:
        problem.detail.encode()
