"""Event Grid's webhook in the local Functions host: deliveries, handshakes, forgeries."""

import json
from collections.abc import Iterator

import pytest

from tests.component.hosted_app import EVENT_GRID_KEY, FUNCTION_KEY, MASTER_KEY, HostedApp, hosted_app

CODE = {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://example.invalid/"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedApp]:
    """One running host for all tests of this file."""
    with hosted_app(tmp_path_factory.mktemp("event_grid"), tick="0 0 0 1 1 *") as app:
        yield app


@pytest.mark.parametrize("kind", ["SubscriptionValidation", "subscriptionvalidation", "SUBSCRIPTIONVALIDATION"])
@pytest.mark.parametrize(
    "body",
    [
        [{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": CODE}],
        {"specversion": "1.0", "id": "1", "data": json.dumps(CODE)},
    ],
    ids=["event-grid-schema", "cloud-events"],
)
def test_validation_handshake(host: HostedApp, kind: str, body: object) -> None:
    """S39: the code of a validation event comes back, in either schema, however the header is spelled."""
    response = host.deliver(body, kind)
    assert (200, {"validationResponse": CODE["validationCode"]}) == (response.status_code, response.json())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("eventgrid.azure.net", "eventgrid.azure.net"),
        ("eventgrid.azure.cn", "eventgrid.azure.cn"),
        ("evil.example", "eventgrid.azure.net"),
        (None, "eventgrid.azure.net"),
    ],
)
def test_options_handshake(host: HostedApp, origin: str | None, allowed: str) -> None:
    """S39: the CloudEvents handshake allows Event Grid's own origins and no other."""
    headers = {"WebHook-Request-Origin": origin} if origin else {}
    query = {"functionName": "take", "code": EVENT_GRID_KEY}
    response = host.call("OPTIONS", "/runtime/webhooks/EventGrid", params=query, headers=headers)
    assert (200, allowed) == (response.status_code, response.headers["WebHook-Allowed-Origin"])


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("code", [None, "", "wrong", FUNCTION_KEY])
def test_wrong_key_is_refused(host: HostedApp, method: str, code: str | None) -> None:
    """S39: without the webhook's own key nothing is validated or delivered, not even with a function key."""
    query = {"functionName": "take"} | ({"code": code} if code is not None else {})
    headers = {"aeg-event-type": "SubscriptionValidation"}
    response = host.call(method, "/runtime/webhooks/EventGrid", params=query, headers=headers, json=[{"data": CODE}])
    assert 401 == response.status_code
    assert CODE["validationCode"] not in response.text


def test_master_key_delivers(host: HostedApp) -> None:
    """The master key opens the webhook, too."""
    assert 202 == host.deliver([], query={"code": MASTER_KEY}).status_code


@pytest.mark.parametrize("name", ["nobody", "Take", "anyone", ""])
@pytest.mark.parametrize("kind", ["Notification", "SubscriptionValidation", "nonsense"])
def test_wrong_function_is_not_found(host: HostedApp, name: str, kind: str) -> None:
    """S39: only the exact name of a function with an Event Grid trigger is found."""
    response = host.deliver([{"data": CODE}], kind, query={"functionName": name})
    assert (404, f"cannot find function: '{name}'") == (response.status_code, response.text)


@pytest.mark.parametrize("kind", [None, "", "Notifications", "SubscriptionDeletion"])
def test_unknown_message_kind_is_refused(host: HostedApp, kind: str | None) -> None:
    """S39: a message that is neither notification, validation nor unsubscribe is 400."""
    assert 400 == host.deliver([{"data": CODE}], kind).status_code


def test_unsubscribe_is_accepted(host: HostedApp) -> None:
    """An unsubscribe notice is 202, and runs nothing."""
    before = host.seen()
    assert 202 == host.deliver([{"id": "gone"}], "Unsubscribe").status_code
    assert before == host.seen()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,", b"no json", b'"text"', b"7", b"null", b"[" * 65 + b"]" * 65, b"[" * 100_000],
)
def test_unreadable_notification(host: HostedApp, body: bytes) -> None:
    """S26: a body that is no JSON object or array, or nested too deep, is 500 as on Azure, and runs
    nothing.
    """
    before = host.seen()
    response = host.deliver(body)
    assert (500, b"") == (response.status_code, response.content)
    assert before == host.seen()


@pytest.mark.parametrize(
    "body",
    [[], {}, [{}], [{"data": {}}], {"data": "not json"}, {"data": "{}"}, {"data": None}, {"data": '"\ud800'}],
)
def test_unreadable_validation(host: HostedApp, body: object) -> None:
    """S39: a validation event without a code is 500, never an empty validation."""
    response = host.deliver(body, "SubscriptionValidation")
    assert (500, b"") == (response.status_code, response.content)


def test_single_event_arrives(host: HostedApp) -> None:
    """S33: a CloudEvent that is sent as an object reaches the function as the JSON it was."""
    event = {"specversion": "1.0", "id": "é💥", "time": "2026-01-01T00:00:00.1230000+02:00", "data": {"n": 1.5}}
    assert 202 == host.deliver(event).status_code
    assert event in [entry["event"] for entry in host.seen() if "event" in entry]


def test_batch_runs_once_per_event_at_the_same_time(host: HostedApp) -> None:
    """The events of one delivery run in parallel, one invocation each."""
    assert 202 == host.deliver([{}, {}, {}], query={"functionName": "meet"}).status_code
    assert 3 == host.seen().count("met")


def test_one_failure_fails_the_delivery(host: HostedApp) -> None:
    """S26: one failing event makes the delivery 500, though the others have run; its exception stays here."""
    response = host.deliver([{"id": "before"}, {"data": "fail"}, {"id": "after"}])
    assert (500, "Exception while executing function: Functions.take") == (response.status_code, response.text)
    assert {"before", "after"} <= {entry["event"].get("id") for entry in host.seen() if "event" in entry}


def test_lone_surrogate_does_not_break_a_delivery(host: HostedApp) -> None:
    """S33: half of a surrogate pair arrives as a replacement character."""
    assert 202 == host.deliver(rb'{"id": "half \ud83d"}').status_code
    assert {"id": "half \ufffd"} in [entry["event"] for entry in host.seen() if "event" in entry]
