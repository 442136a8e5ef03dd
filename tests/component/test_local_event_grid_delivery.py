"""Subscriptions of the local Event Grid: handshakes, filters, deliveries, retries and dead letters."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient

from local.process import LocalProcess
from tests.component.stand_ins import TOPIC_KEY, Control, eventually, running_event_grid
from tests.component.webhook import Webhook, running_webhook

# 10 s become 10 ms; ten minutes for a consent by hand become 0.6 s.
CLOCK_FACTOR = "0.001"


@dataclass(frozen=True)
class Grid:
    """An Event Grid, its control calls and its folder."""

    process: LocalProcess
    control: Control
    state: Path

    def publish(self, *events: CloudEvent[Any] | EventGridEvent, topic: str = "runs") -> None:
        """Send events with Microsoft's publisher."""
        client = EventGridPublisherClient(
            self.process.ready["topics"][topic]["endpoint"], AzureKeyCredential(TOPIC_KEY)
        )
        with client:
            client.send([*events])

    def subscribe(self, webhook: Webhook, **options: Any) -> requests.Response:
        """Ask for a subscription of the webhook to the topic `runs`."""
        body = {"name": "to-hook", "topic": "runs", "endpoint_type": "WebHook", "endpoint_url": webhook.url} | options
        return requests.post(f"{self.process.url}/_local/subscriptions", json=body, timeout=10)

    def attempts(self, event_id: str) -> list[Any]:
        """The attempts to deliver an event."""
        return [one for one in self.control.get("deliveries")["deliveries"] if one["event_id"] == event_id]

    def dead_letters(self, topic: str = "runs", subscription: str = "to-hook") -> list[Any]:
        """The dead-lettered events of a subscription."""
        files = (self.state / "deadletter" / topic / subscription).glob("*.json")
        return [json.loads(path.read_text(encoding="utf-8"))[0] for path in files]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """An Event Grid whose clock runs a thousand times as fast, for all tests of this module."""
    folder = tmp_path_factory.mktemp("event_grid")
    args = ("--topic", "legacy=EventGridSchema", "--clock-factor", CLOCK_FACTOR, "--response-timeout", "0.5")
    with running_event_grid(folder, *args) as running:
        yield Grid(running, Control(running.url), folder / "state")


@pytest.fixture
def grid(process: Grid) -> Grid:
    """An Event Grid without subscriptions."""
    for one in process.control.get("subscriptions")["subscriptions"]:
        process.control.delete(f"subscriptions/{one['topic']}/{one['name']}")
    return process


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """An endpoint that consents and takes everything."""
    with running_webhook() as running:
        yield running


def event(
    identifier: str, kind: str = "AdfBridge.PipelineRun.Failed", subject: str = "pipelines/a/runs/1"
) -> CloudEvent[Any]:
    """A run event."""
    return CloudEvent("/factory", kind, id=identifier, subject=subject, data={"x": 1})


def test_a_cloud_event_is_delivered_as_one_object(grid: Grid, webhook: Webhook) -> None:
    """A subscriber of CloudEvents gets each as an object, with the headers that the service sends."""
    assert 201 == grid.subscribe(webhook).status_code
    grid.publish(event("e1/Failed"))
    delivery = eventually(lambda: webhook.deliveries)[0]

    assert ("e1/Failed", {"x": 1}) == (delivery.body["id"], delivery.body["data"])
    assert {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "TO-HOOK",
        "aeg-delivery-count": "0",
        "aeg-data-version": "",
        "aeg-metadata-version": "1",
    } == {name: value for name, value in delivery.headers.items() if name.startswith("aeg-") or name == "content-type"}


def test_a_webhook_for_cloud_events_is_asked_with_options(grid: Grid, webhook: Webhook) -> None:
    """S39: the CloudEvents handshake asks for an origin, and its permission opens the subscription."""
    grid.subscribe(webhook)

    request = webhook.received[0]
    assert ("OPTIONS", "eventgrid.azure.net") == (request.method, request.headers["webhook-request-origin"])


@pytest.mark.parametrize(
    ("endpoint_type", "options"),
    [
        pytest.param("AzureFunction", {}, id="a function for CloudEvents"),
        pytest.param("AzureFunction", {"topic": "legacy"}, id="a function for the Event Grid schema"),
        pytest.param("WebHook", {"topic": "legacy"}, id="a webhook for the Event Grid schema"),
    ],
)
def test_the_other_endpoints_are_asked_for_a_code(
    grid: Grid, webhook: Webhook, endpoint_type: str, options: dict[str, str]
) -> None:
    """S39: a validation event is sent, and its code in the answer opens the subscription."""
    answer = grid.subscribe(webhook, endpoint_type=endpoint_type, **options)

    assert (201, "Succeeded") == (answer.status_code, answer.json()["provisioning_state"])
    assert ["SubscriptionValidation"] == [one.headers["aeg-event-type"] for one in webhook.received]


def test_an_endpoint_that_refuses_gets_no_subscription(grid: Grid, webhook: Webhook) -> None:
    """S39: another origin, a function's missing or other code, or no endpoint at all is 400 with the reason."""
    webhook.allowed_origin = "example.org"
    webhook.answers_validation = False
    answers = {
        "WebHook-Allowed-Origin is 'example.org'": grid.subscribe(webhook),
        "does not hold the validation code": grid.subscribe(webhook, endpoint_type="AzureFunction"),
        "there was no answer": grid.subscribe(webhook, endpoint_url="http://127.0.0.1:9/hook?code=secret"),
    }

    webhook.answers_validation = True
    webhook.other_code = "FORGED"
    answers["another validation code"] = grid.subscribe(webhook, topic="legacy")

    for reason, answer in answers.items():
        assert (400, "Url validation") == (answer.status_code, answer.json()["error"]["code"])
        assert reason in answer.json()["error"]["message"]
        assert "secret" not in answer.text
    assert [] == grid.control.get("subscriptions")["subscriptions"]


def test_a_webhook_may_consent_by_hand(grid: Grid, webhook: Webhook) -> None:
    """S39: a webhook that does not consent in its answer does so by fetching the validation address, once."""
    webhook.answers_validation = False
    answer = grid.subscribe(webhook, topic="legacy")
    assert (202, "AwaitingManualAction") == (answer.status_code, answer.json()["provisioning_state"])
    address = webhook.received[0].body[0]["data"]["validationUrl"]

    assert [200, 400] == [requests.get(address, timeout=10).status_code for _ in range(2)]
    grid.publish(EventGridEvent("a/b", "Tested", {}, "1.0", id="by hand"), topic="legacy")
    eventually(lambda: webhook.deliveries)


def test_a_consent_that_comes_too_late_fails(grid: Grid, webhook: Webhook) -> None:
    """S39: after ten minutes the validation address is worth nothing."""
    webhook.allowed_origin = None
    grid.subscribe(webhook)
    eventually(lambda: grid.control.get("subscriptions")["subscriptions"][0]["provisioning_state"] == "Failed")

    assert 400 == requests.get(webhook.received[0].headers["webhook-request-callback"], timeout=10).status_code


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"event_delivery_schema": "EventGridSchema"}, "delivers CloudEvents only", id="a conversion back"),
        pytest.param({"topic": "another"}, "no such topic", id="an unknown topic"),
        pytest.param({"max_delivery_attempts": 31}, "between 1 and 30", id="too many attempts"),
        pytest.param({"event_time_to_live_in_minutes": 0}, "between 1 and 1440", id="no life"),
        pytest.param({"endpoint_type": "EventHub"}, "must be one of", id="an unknown endpoint"),
        pytest.param({"endpoint_url": "ftp://x/"}, "http or https", id="another protocol"),
        pytest.param({"name": "a b"}, "letters, digits and hyphens", id="a bad name"),
        pytest.param({"filter": {}}, "unknown: filter", id="an unknown field"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(
    grid: Grid, webhook: Webhook, options: dict[str, Any], reason: str
) -> None:
    """What the real service would refuse is 400 with the reason, and the endpoint is not asked."""
    answer = grid.subscribe(webhook, **options)

    assert 400 == answer.status_code
    assert reason in answer.json()["error"]
    assert [] == webhook.received


@pytest.mark.parametrize(
    ("filters", "delivered"),
    [
        pytest.param({}, ["1", "2", "3"], id="none"),
        pytest.param({"included_event_types": ["run.ended"]}, ["1", "3"], id="types in any case"),
        pytest.param({"subject_begins_with": "PIPELINES/a"}, ["1", "2"], id="a beginning in any case"),
        pytest.param({"subject_ends_with": "/2"}, ["2"], id="an end"),
        pytest.param({"subject_begins_with": "PIPELINES", "is_subject_case_sensitive": True}, ["3"], id="case counts"),
    ],
)
def test_filters_choose_events(grid: Grid, webhook: Webhook, filters: dict[str, Any], delivered: list[str]) -> None:
    """Only events whose type and subject fit are delivered."""
    grid.subscribe(webhook, **filters)
    grid.publish(
        event("1", "Run.Ended", "pipelines/a/runs/1"),
        event("2", "Run.Begun", "pipelines/a/runs/2"),
        event("3", "Run.Ended", "PIPELINES/b/runs/3"),
    )
    eventually(lambda: len(webhook.deliveries) >= len(delivered))

    assert delivered == sorted(one.body["id"] for one in webhook.deliveries)


def test_the_older_schema_is_delivered_as_an_array_or_as_cloud_events(grid: Grid, webhook: Webhook) -> None:
    """A topic of the Event Grid schema delivers arrays of one, or CloudEvents where a subscription asks for them."""
    grid.subscribe(webhook, topic="legacy", name="old")
    grid.subscribe(webhook, topic="legacy", name="new", event_delivery_schema="CloudEventSchemaV1_0")
    grid.publish(EventGridEvent("a/b", "Tested", {"x": 1}, "1.0", id="both"), topic="legacy")
    eventually(lambda: len(webhook.deliveries) == 2)
    bodies = {one.headers["aeg-subscription-name"]: one.body for one in webhook.deliveries}

    assert ["both"] == [one["id"] for one in bodies["OLD"]]
    assert ("1.0", "Tested", "a/b", {"x": 1}) == tuple(
        bodies["NEW"][name] for name in ("specversion", "type", "subject", "data")
    )


def test_a_batch_holds_several_events(grid: Grid, webhook: Webhook) -> None:
    """With batches on, waiting events come together, as an array, up to the limit."""
    grid.subscribe(webhook, max_events_per_batch=3)
    grid.publish(*(event(f"batch-{number}") for number in range(5)))
    eventually(lambda: len(webhook.deliveries) == 2)

    assert [2, 3] == sorted(len(one.body) for one in webhook.deliveries)
    assert "application/cloudevents-batch+json; charset=utf-8" == webhook.deliveries[0].headers["content-type"]


def test_a_failed_delivery_is_tried_again_until_it_succeeds(grid: Grid, webhook: Webhook) -> None:
    """A delivery that fails comes again with a higher count, and the log tells every attempt."""
    webhook.statuses = [500, 503]
    grid.subscribe(webhook)
    grid.publish(event("again"))
    eventually(lambda: len(grid.attempts("again")) == 3)

    assert [(1, 500, "retry"), (2, 503, "retry"), (3, 200, "delivered")] == [
        (one["attempt"], one["status"], one["verdict"]) for one in grid.attempts("again")
    ]
    assert ["0", "1", "2"] == [one.headers["aeg-delivery-count"] for one in webhook.deliveries]


def test_an_endpoint_that_does_not_answer_in_time_gets_the_event_again(grid: Grid, webhook: Webhook) -> None:
    """No answer within the response time counts as a failure, though the endpoint may have worked."""
    webhook.let_go.clear()
    grid.subscribe(webhook)
    grid.publish(event("slow"))
    eventually(lambda: grid.attempts("slow"))
    webhook.let_go.set()
    eventually(lambda: grid.attempts("slow")[-1]["verdict"] == "delivered")

    assert (None, "TimedOut") == tuple(grid.attempts("slow")[0][name] for name in ("status", "outcome"))


@pytest.mark.parametrize(
    ("statuses", "options", "letter"),
    [
        pytest.param([400], {}, ("UndeliverableDueToHttpBadRequest", 1, "BadRequest"), id="never again"),
        pytest.param(
            [500, 503], {"max_delivery_attempts": 2}, ("MaxDeliveryAttemptsExceeded", 2, "Busy"), id="too many attempts"
        ),
        pytest.param([404], {"event_time_to_live_in_minutes": 1}, ("TimeToLiveExceeded", 1, "NotFound"), id="too old"),
    ],
)
def test_an_event_that_is_given_up_is_kept_as_a_dead_letter(
    grid: Grid, webhook: Webhook, statuses: list[int], options: dict[str, int], letter: tuple[str, int, str]
) -> None:
    """A dead letter is the event with the reason, the attempts, the last outcome and its times, in lower case."""
    identifier = f"given-up-{letter[0]}"
    webhook.statuses = [*statuses]
    grid.subscribe(webhook, **options)
    grid.publish(event(identifier))
    found = eventually(lambda: next((one for one in grid.dead_letters() if one["id"] == identifier), None))

    assert letter == tuple(found[f] for f in ("deadletterreason", "deliveryattempts", "lastdeliveryoutcome"))
    assert {"x": 1} == found["data"]
    assert found["publishtime"] <= found["lastdeliveryattempttime"]
    assert "dead-lettered" == eventually(lambda: grid.attempts(identifier)[-1]["verdict"])


def test_an_endpoint_that_keeps_failing_is_left_alone_for_a_while(grid: Grid, webhook: Webhook) -> None:
    """After ten failures in a row even a new event waits (here 0.3 s, which stand for five minutes)."""
    webhook.statuses = [400] * 10
    grid.subscribe(webhook)
    grid.publish(*(event(f"poison-{number}") for number in range(10)))
    eventually(lambda: len(webhook.deliveries) == 10)
    grid.publish(event("held up"))
    eventually(lambda: grid.attempts("held up"))
    published = next(one["at"] for one in grid.control.get("events")["events"] if one["event"]["id"] == "held up")

    last = max(one["at"] for one in grid.control.get("deliveries")["deliveries"] if "poison" in one["event_id"])
    assert last <= published <= grid.attempts("held up")[0]["at"]
    assert 0.25 <= _seconds(last, grid.attempts("held up")[0]["at"])


def test_an_event_can_be_delivered_once_more(grid: Grid, webhook: Webhook) -> None:
    """A duplicate of any published event can be asked for; an unknown one is 404."""
    grid.subscribe(webhook)
    grid.publish(event("twice"))
    eventually(lambda: len(webhook.deliveries) == 1)

    assert {"queued": 1} == grid.control.post("redeliver", {"event_id": "twice"})
    eventually(lambda: len(webhook.deliveries) == 2)
    assert ["twice", "twice"] == [one.body["id"] for one in webhook.deliveries]
    unknown = requests.post(f"{grid.process.url}/_local/redeliver", json={"event_id": "x"}, timeout=10)
    assert 404 == unknown.status_code


def test_a_subscription_made_anew_replaces_the_old_one(grid: Grid, webhook: Webhook) -> None:
    """Two subscriptions of one name are one: an event is delivered once."""
    grid.subscribe(webhook)
    grid.subscribe(webhook, name="TO-HOOK")
    grid.publish(event("once"))
    eventually(lambda: grid.attempts("once"))

    assert 1 == len(grid.control.get("subscriptions")["subscriptions"])
    assert 1 == len(webhook.deliveries)


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
