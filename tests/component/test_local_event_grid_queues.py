"""Subscriptions of the local Event Grid whose endpoint is a Service Bus queue."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient
from azure.servicebus import ServiceBusClient, ServiceBusReceivedMessage, ServiceBusReceiveMode

from local.process import LocalProcess
from tests.component.stand_ins import TOPIC_KEY, Control, eventually, running_event_grid
from tests.contract.service_bus import LocalBroker, text


@dataclass(frozen=True)
class Stage:
    """An Event Grid whose clock runs a thousand times as fast, and a broker with the queue `events`."""

    grid: LocalProcess
    broker: LocalBroker
    state: Path

    def subscribe(self, queue: str = "events", **options: Any) -> requests.Response:
        """Subscribe a queue to the topic `runs`."""
        address = f"{self.broker.ready['endpoint']}/{queue}"
        body = {"name": "to-queue", "topic": "runs", "endpoint_type": "ServiceBusQueue", "endpoint_url": address}
        return requests.post(f"{self.grid.url}/_local/subscriptions", json=body | options, timeout=10)

    def publish(self, identifier: str) -> None:
        """Send an event with Microsoft's publisher."""
        endpoint = self.grid.ready["topics"]["runs"]["endpoint"]
        with EventGridPublisherClient(endpoint, AzureKeyCredential(TOPIC_KEY)) as client:
            client.send([CloudEvent("/factory", "Run.Ended", id=identifier, subject="a/1", data={"x": 1})])

    def attempts(self, identifier: str) -> list[Any]:
        """The attempts to deliver an event to the queue that is there."""
        deliveries = Control(self.grid.url).get("deliveries")["deliveries"]
        return [one for one in deliveries if (one["event_id"], one["subscription"]) == (identifier, "to-queue")]

    def delivered(self, identifier: str) -> list[Any]:
        """The attempts at an event, once it is delivered."""
        return eventually(lambda: found if (found := self.attempts(identifier)) and _is_over(found) else None)

    def messages(self) -> int:
        """How many messages the queue holds."""
        return len(self.broker.control("GET", "messages?queue=events")["messages"])

    def receive(self) -> ServiceBusReceivedMessage:
        """Take the next message from the queue."""
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        with (
            ServiceBusClient.from_connection_string(self.broker.connection_string) as client,
            client.get_queue_receiver("events", receive_mode=mode) as receiver,
        ):
            return receiver.receive_messages(max_wait_time=5)[0]


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def _is_over(attempts: list[Any]) -> bool:
    return bool(attempts[-1]["verdict"] == "delivered")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One of each for all tests of this module, and a subscription."""
    folder = tmp_path_factory.mktemp("queues")
    options = ("--clock-factor", "0.001", "--response-timeout", "3")
    with LocalBroker(folder / "bus", queues=["events"]) as broker, running_event_grid(folder, *options) as grid:
        stage = Stage(grid, broker, folder / "state")
        assert 201 == stage.subscribe().status_code
        yield stage
        grid.kill()  # the SDK takes a second to close


@pytest.fixture
def stage(services: Stage) -> Stage:
    """The services, and nothing in the queue."""
    services.broker.control("DELETE", "messages?queue=events")
    return services


def test_an_event_is_a_message(stage: Stage) -> None:
    """A queue gets each event as a message of its own, without a handshake, with what the service says of it."""
    (shown,) = Control(stage.grid.url).get("subscriptions")["subscriptions"]
    stage.publish("told")
    stage.delivered("told")
    message = stage.receive()
    event = json.loads(text(message))
    properties = {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}
    assert ("Succeeded", "told", {"x": 1}) == (shown["provisioning_state"], event["id"], event["data"])
    assert "application/cloudevents+json; charset=utf-8" == message.content_type
    assert {
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "TO-QUEUE",
        "aeg-delivery-count": "0",
        "aeg-data-version": "",
        "aeg-metadata-version": "1",
        "aeg-output-event-id": message.message_id,
    } == properties


def test_a_queue_that_is_away(stage: Stage) -> None:
    """An event that cannot be written is tried again until the broker is back, and then it is there once."""
    stage.publish("first")
    stage.delivered("first")
    stage.broker.kill()
    stage.publish("kept")
    eventually(lambda: stage.attempts("kept"))
    stage.broker.start()
    verdicts = [one["verdict"] for one in stage.delivered("kept")]
    assert ({"retry"}, 2) == (set(verdicts[:-1]), stage.messages())


def test_a_link_that_was_cut(stage: Stage) -> None:
    """A connection that was lost since the last event costs no attempt."""
    stage.publish("before")
    stage.delivered("before")
    stage.broker.control("DELETE", "connections")
    stage.publish("after")
    assert (1, 2) == (len(stage.delivered("after")), stage.messages())


def test_a_queue_that_is_not_there(stage: Stage) -> None:
    """An event that no queue takes is a dead letter after as many attempts as its subscription has."""
    stage.subscribe("nowhere", name="to-nowhere", max_delivery_attempts=2)
    stage.publish("lost")
    folder = stage.state / "deadletter" / "runs" / "to-nowhere"
    path = eventually(lambda: next(folder.glob("*.json"), None))
    (letter,) = json.loads(path.read_text(encoding="utf-8"))
    assert ("lost", "MaxDeliveryAttemptsExceeded", 2, "NotFound") == tuple(
        letter[name] for name in ("id", "deadletterreason", "deliveryattempts", "lastdeliveryoutcome")
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"endpoint_url": "http://127.0.0.1:1/events"}, "sb://HOST:PORT/QUEUE", id="another protocol"),
        pytest.param({"endpoint_url": "sb://127.0.0.1:1/"}, "sb://HOST:PORT/QUEUE", id="no queue"),
        pytest.param({"max_events_per_batch": 2}, "a message of its own", id="batches"),
    ],
)
def test_a_subscription_that_cannot_be(stage: Stage, options: dict[str, Any], reason: str) -> None:
    """A queue that cannot be written to is refused with the reason."""
    answer = stage.subscribe(**options)
    assert 400 == answer.status_code
    assert reason in answer.json()["error"]
