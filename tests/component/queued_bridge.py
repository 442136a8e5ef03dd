"""The bridge with the queues of trigger requests and run events, in the local broker, and an Event Grid before them."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    CALLER_HEADER,
    Bridge,
    Json,
    adf_arguments,
    adf_settings,
    hosted_bridge,
    run_event,
    settings_of,
    token_of,
    wait_of,
)
from tests.component.stand_ins import TOPIC_KEY, Control, eventually, running_event_grid
from tests.contract.service_bus import LocalBroker
from tests.fakes_http.airflow import running_airflows
from tests.fakes_http.airflow_task import AirflowTask

REQUESTS, EVENTS = "requests", "events"
DELIVERIES = 3
CALLER_SECRET = "canary-caller-secret-by-queue"
_QUEUES = (f"{REQUESTS},max_delivery_count={DELIVERIES},lock_duration_s=2", EVENTS)


@dataclass
class Queued(Bridge):
    """A bridge with both queues, and an Event Grid that puts events into one of them."""

    broker: LocalBroker | None = None

    @property
    def bus(self) -> LocalBroker:
        """The broker."""
        assert self.broker is not None
        return self.broker

    def send(self, queue: str, *bodies: bytes, properties: Mapping[str, str] | None = None, **options: Any) -> None:
        """Put messages into a queue."""
        sent: Any = dict(properties or {})
        messages = [ServiceBusMessage(body, application_properties=sent, **options) for body in bodies]
        send(self.bus, queue, messages)

    def request(self, *, key: str, wait: Json | None = None, **body: Any) -> None:
        """Put a trigger request into its queue, with the caller's secret."""
        document = {"factory": "sales", "pipeline": "held", **({"wait": wait} if wait else {}), **body}
        self.send(REQUESTS, json.dumps(document).encode(), properties={CALLER_HEADER: CALLER_SECRET}, message_id=key)

    def messages(self, queue: str) -> list[Json]:
        """What is in a queue."""
        return list(self.bus.control("GET", f"messages?queue={queue}")["messages"])

    def dead_letters(self, queue: str) -> list[tuple[str, str]]:
        """The dead letters of a queue: each one's id and reason."""
        return [(one["message_id"], one["dead_letter_reason"]) for one in self.messages(f"{queue}/$DeadLetterQueue")]

    def forget_dead_letters(self) -> None:
        """Empty both queues of dead letters."""
        for queue in (REQUESTS, EVENTS):
            self.bus.control("DELETE", f"messages?queue={queue}/$DeadLetterQueue")

    def drained(self, queue: str) -> None:
        """Return when a queue is empty."""
        eventually(lambda: not self.messages(queue))

    def waiting(self, token: str) -> Json:
        """The wait, once it is there."""

        def look() -> Json | None:
            answer = self.call("GET", f"/waits/{token}")
            return dict(answer.json()["wait"]) if answer.ok else None

        return eventually(look)

    def new_wait(self) -> tuple[AirflowTask, Json, str]:
        """A task's wait, for a request: the task, the wait, its token."""
        airflow = self.airflows["guarded"]
        task = airflow.task(dag_id=f"queued-{uuid.uuid4().hex[:8]}")
        wait = wait_of(airflow, task)
        return task, wait, token_of(wait)

    def parked_by_queue(self) -> tuple[str, str]:
        """A task that is parked and waits for a run that was asked for by queue: the token, the run's id."""
        task, wait, token = self.new_wait()
        self.request(key=token, wait=wait)
        run_id = self.waiting(token)["run_id"]
        task.park()
        return token, run_id

    def publish(self, run_id: str, status: str = "Succeeded") -> None:
        """Publish the event of a run's end with Microsoft's publisher."""
        assert self.event_grid is not None
        event = run_event(run_id, status)
        with EventGridPublisherClient(
            self.event_grid.ready["topics"]["runs"]["endpoint"], AzureKeyCredential(TOPIC_KEY)
        ) as client:
            client.send([CloudEvent.from_dict(event)])

    def told(self, event: str, key: str) -> list[Json]:
        """The lines of the bridge's log about a request."""
        text = self.process.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        own = [json.loads(line["message"]) for line in lines if line["logger"] == "bridge"]
        return [line for line in own if line["event"] == event and line.get("id") == key]

    def rejected(self, key: str) -> list[str]:
        """Why a request was refused, as `GET /events` shows it."""
        events = self.call("GET", "/events?verdict=rejected&limit=500").json()["events"]
        return [event["reason"] for event in events if event["id"] == key]


@contextmanager
def queued_bridge(folder: Path) -> Iterator[Queued]:
    """A bridge with what it works with."""
    with (
        running_airflows(["guarded"]) as airflows,
        LocalBroker(folder / "bus", queues=_QUEUES) as broker,
        running_event_grid(folder, "--clock-factor", "0.01") as event_grid,
        LocalProcess("local.adf", adf_arguments(folder / "pipelines"), log=folder / "adf.log") as adf,
    ):
        settings = {
            **adf_settings(adf.url, folder),
            **settings_of(airflows["guarded"], CALLER_SECRET=CALLER_SECRET),
            "BRIDGE_SERVICEBUS": broker.connection_string,
            "BRIDGE_REQUESTS_QUEUE": REQUESTS,
            "BRIDGE_EVENTS_QUEUE": EVENTS,
        }
        endpoint = f"{broker.ready['endpoint']}/{EVENTS}"
        subscription = {
            "name": "to-queue",
            "topic": "runs",
            "endpoint_type": "ServiceBusQueue",
            "endpoint_url": endpoint,
        }
        Control(event_grid.url).post("subscriptions", subscription)
        with hosted_bridge(folder, settings) as hosted:
            stage = Queued(
                hosted.process,
                airflows=airflows,
                adf=Control(adf.url),
                folder=folder,
                event_grid=event_grid,
                broker=broker,
            )
            _sweep_once(stage)
            yield stage
            hosted.process.kill()  # the SDK takes a second to close
        event_grid.kill()


def send(broker: LocalBroker, queue: str, messages: list[ServiceBusMessage]) -> None:
    """Send messages and keep no connection: the SDK would lose the socket of one that is cut while nothing is sent.

    Its thread that keeps connections alive is left out: it takes a second to end.
    """
    with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_sender(queue, keep_alive=None) as sender,
    ):
        sender.send_messages(messages)


def _sweep_once(stage: Queued) -> None:
    """Have the one sweep that comes within the hour behind us: from now on only an event tells of a run's end."""
    task = stage.airflows["guarded"].task(dag_id="swept")
    stage.started(wait_of(stage.airflows["guarded"], task), headers={CALLER_HEADER: CALLER_SECRET})
    stage.tick()
    eventually(lambda: "factory.swept" in stage.process.log.read_text(encoding="utf-8"))
