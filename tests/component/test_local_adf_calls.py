"""Who may call the local Data Factory, what goes wrong on demand, and what is counted."""

from collections.abc import Iterator
from typing import cast

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceResponseError
from azure.core.rest import HttpResponse

from tests.component.stand_ins import (
    FACTORY,
    FACTORY_ID,
    GROUP,
    SUBSCRIPTION,
    TOKEN,
    Adf,
    activity,
    adf_client,
    running_adf,
)

VERSION = {"api-version": "2018-06-01"}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adf]:
    """A factory with one pipeline, for all tests of this module."""
    with running_adf(tmp_path_factory.mktemp("adf"), {"quick": [activity("Load")]}) as running:
        yield running


@pytest.fixture
def adf(process: Adf) -> Adf:
    """The factory without planned faults and with an empty log."""
    process.control.delete("faults")
    process.control.delete("calls")
    return process


def test_a_call_without_a_token_gets_arms_challenge(adf: Adf) -> None:
    """Nothing is answered to a caller without a token but 401 with ARM's body and challenge."""
    answer = requests.get(f"{adf.process.url}{FACTORY_ID}/pipelines", params=VERSION, timeout=10)

    assert (401, "AuthenticationFailed") == (answer.status_code, answer.json()["error"]["code"])
    assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")


def test_a_wrong_token_is_the_clients_authentication_error(adf: Adf) -> None:
    """Another token than the declared one is 401."""
    with adf_client(adf.process.url, token="another") as client, pytest.raises(ClientAuthenticationError) as refusal:
        client.pipelines.create_run(GROUP, FACTORY, "quick")

    assert refusal.value.error is not None
    assert "InvalidAuthenticationToken" == refusal.value.error.code


@pytest.mark.parametrize(
    ("group", "factory", "code"),
    [
        pytest.param(GROUP, "another", "ResourceNotFound", id="another factory"),
        pytest.param("another", FACTORY, "ResourceGroupNotFound", id="another resource group"),
    ],
)
def test_a_factory_that_is_not_declared_is_not_found(adf: Adf, group: str, factory: str, code: str) -> None:
    """ARM says which part of the id does not exist."""
    with pytest.raises(HttpResponseError) as refusal:
        adf.client.pipeline_runs.get(group, factory, "x")

    assert refusal.value.error is not None
    assert (404, code) == (refusal.value.status_code, refusal.value.error.code)


def test_ids_are_the_same_in_any_case(adf: Adf) -> None:
    """Resource group, factory, pipeline and run are found however their case is written."""
    run_id = str(adf.client.pipelines.create_run(GROUP.upper(), FACTORY.title(), "Quick").run_id)

    assert run_id == adf.client.pipeline_runs.get(GROUP, FACTORY.upper(), run_id.upper()).run_id


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param({}, "MissingApiVersionParameter", id="none"),
        pytest.param({"api-version": "2015-01-01"}, "NoRegisteredProviderFound", id="another"),
    ],
)
def test_the_api_version_must_be_the_one_there_is(adf: Adf, query: dict[str, str], code: str) -> None:
    """A request without a known API version is 400."""
    answer = requests.get(f"{adf.process.url}{FACTORY_ID}/pipelines", params=query, headers=AUTHORIZED, timeout=10)

    assert (400, code) == (answer.status_code, answer.json()["error"]["code"])


def test_throttling_on_demand_carries_retry_after(adf: Adf) -> None:
    """A planned 429 refuses the call, says when to come again, and starts nothing."""
    adf.control.post("faults", {"op": "createRun", "status": 429, "retry_after": 7})
    with pytest.raises(HttpResponseError) as refusal:
        adf.create_run("quick")

    response = cast("HttpResponse", refusal.value.response)
    assert (429, "7") == (response.status_code, response.headers["Retry-After"])
    assert [] == [run for run in _runs(adf) if run["runId"] in adf.control.get("calls")["by_run"]]


def test_the_clients_own_retries_start_a_second_run(adf: Adf) -> None:
    """A run whose answer is lost exists; the client repeats createRun unless it is told not to."""
    before = len(_runs(adf))
    adf.control.post("faults", [{"op": "createRun", "times": 2, "status": 503, "retry_after": 0, "effect": "after"}])
    with pytest.raises(HttpResponseError):
        adf.create_run("quick")
    assert 1 == len(_runs(adf)) - before

    adf.client.pipelines.create_run(GROUP, FACTORY, "quick")
    assert 3 == len(_runs(adf)) - before


def test_a_connection_can_be_cut_after_the_run_started(adf: Adf) -> None:
    """A caller whose connection is cut learns nothing, and the run exists; the log has no status for it."""
    before = len(_runs(adf))
    adf.control.post("faults", {"op": "createRun", "drop": True, "effect": "after"})
    with pytest.raises(ServiceResponseError):
        adf.create_run("quick")

    assert 1 == len(_runs(adf)) - before
    assert [("createRun", None)] == [(call["op"], call["status"]) for call in adf.control.get("calls")["log"]]


def test_a_call_can_be_late_and_a_fault_can_be_for_one_run_only(adf: Adf) -> None:
    """A fault may name a run, may only delay, and lasts as often as it says."""
    run_id, other = adf.create_run("quick"), adf.create_run("quick")
    adf.control.post("faults", {"op": "getRun", "run_id": run_id, "delay_s": 0.3})

    assert [False, True, False] == [_seconds(adf, asked) >= 0.3 for asked in (other, run_id, run_id)]


def test_a_forbidden_call_has_arms_words(adf: Adf) -> None:
    """A planned 403 looks like a missing role assignment."""
    adf.control.post("faults", {"op": "*", "status": 403})
    with pytest.raises(HttpResponseError) as refusal:
        adf.get("x")

    assert refusal.value.error is not None
    assert (403, "AuthorizationFailed") == (refusal.value.status_code, refusal.value.error.code)


def test_a_fault_that_means_nothing_is_refused(adf: Adf) -> None:
    """A misspelt field is not taken for a wish fulfilled."""
    answer = requests.post(f"{adf.process.url}/_local/faults", json={"operation": "getRun"}, timeout=10)

    assert 400 == answer.status_code
    assert "operation" in answer.json()["error"]


def test_every_call_is_counted_by_operation_and_by_run(adf: Adf) -> None:
    """The log tells operation, run and status in order; createRun counts for the run that it started."""
    run_id = adf.create_run("quick")
    adf.get(run_id)
    adf.activity_runs(run_id)
    adf.client.pipelines.get(GROUP, FACTORY, "quick")
    calls = adf.control.get("calls")

    assert {"createRun": 1, "getRun": 1, "queryActivityRuns": 1, "getPipeline": 1} == calls["by_operation"]
    assert {"createRun": 1, "getRun": 1, "queryActivityRuns": 1, "total": 3} == calls["by_run"][run_id]
    assert [
        ("createRun", run_id, 200),
        ("getRun", run_id, 200),
        ("queryActivityRuns", run_id, 200),
        ("getPipeline", None, 200),
    ] == [(call["op"], call["run_id"], call["status"]) for call in calls["log"]]


def test_the_factory_says_that_it_exists(adf: Adf) -> None:
    """A factory can be read, as a health check would."""
    factory = adf.client.factories.get(GROUP, FACTORY)

    assert factory is not None
    assert (FACTORY_ID, FACTORY) == (factory.id, factory.name)
    assert SUBSCRIPTION in FACTORY_ID


def _runs(adf: Adf) -> list[dict[str, object]]:
    return list(adf.control.get("runs")["runs"])


def _seconds(adf: Adf, run_id: str) -> float:
    path = f"{adf.process.url}{FACTORY_ID}/pipelineruns/{run_id}"
    return requests.get(path, params=VERSION, headers=AUTHORIZED, timeout=10).elapsed.total_seconds()
