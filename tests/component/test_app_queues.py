"""Trigger requests and run events by queue: the app in Microsoft's worker library, the queues in the local broker."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    CALLER_HEADER,
    FINAL,
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
QUEUES = (f"{REQUESTS},max_delivery_count={DELIVERIES},lock_duration_s=2", EVENTS)
CALLER_SECRET, PARAMETER = "canary-caller-secret-by-queue", "canary-parameter-by-queue"
IN_FLIGHT_SECONDS = 1.5  # how long Data Factory takes to answer where a test needs the time


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
        with (
            ServiceBusClient.from_connection_string(self.bus.connection_string) as client,
            client.get_queue_sender(queue) as sender,
        ):
            sent: Any = dict(properties or {})
            sender.send_messages([ServiceBusMessage(body, application_properties=sent, **options) for body in bodies])

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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queued]:
    """A bridge for all tests here, with what it works with."""
    folder = tmp_path_factory.mktemp("queued")
    with (
        running_airflows(["guarded"]) as airflows,
        LocalBroker(folder / "bus", queues=QUEUES) as broker,
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
            yield Queued(
                hosted.process,
                airflows=airflows,
                adf=Control(adf.url),
                folder=folder,
                event_grid=event_grid,
                broker=broker,
            )
            hosted.process.kill()  # the SDK takes a second to close
        event_grid.kill()


def test_the_functions_of_the_queues(stage: Queued) -> None:
    """The worker finds a function for each queue that is named, bound to it."""
    triggers = stage.functions()
    assert [
        ("serviceBusTrigger", "%BRIDGE_REQUESTS_QUEUE%"),
        ("serviceBusTrigger", "%BRIDGE_EVENTS_QUEUE%"),
    ] == [(triggers[name]["type"], triggers[name]["queueName"]) for name in ("run_request", "run_event_queued")]


def test_a_request_by_queue(stage: Queued) -> None:
    """S36: a request by queue starts one run and registers its wait under the message's id; the same message sent
    again, and the same request by call, start nothing.
    """
    task, wait, token = stage.new_wait()
    before = stage.count("createRun")
    stage.request(key=token, wait=wait)
    run_id = stage.waiting(token)["run_id"]
    stage.request(key=token, wait=wait)
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    answer = stage.start(wait, headers={CALLER_HEADER: CALLER_SECRET})
    assert (202, "true", run_id) == (
        answer.status_code,
        answer.headers["Idempotent-Replay"],
        answer.json()["run"]["run_id"],
    )
    assert before + 1 == stage.count("createRun")
    assert [False, True] == [line["replay"] for line in stage.told("request.taken", token)]
    task.park()
    assert "delivered" == stage.complete(token, run_id)["state"]


def in_flight(stage: Queued) -> tuple[Json, str]:
    """A request whose run was started and whose Function still runs: the wait, its token."""
    _, wait, token = stage.new_wait()
    stage.adf.post("faults", {"op": "createRun", "effect": "after", "delay_s": IN_FLIGHT_SECONDS})
    before = len(stage.adf.get("runs")["runs"])
    stage.request(key=token, wait=wait)
    eventually(lambda: len(stage.adf.get("runs")["runs"]) > before)
    return wait, token


def test_a_lost_lock(stage: Queued) -> None:
    """S25: a request whose lock is lost while its run is started comes again, and is answered from its record."""
    before = stage.count("createRun")
    _, token = in_flight(stage)
    stage.bus.control("DELETE", "connections?abort=1")
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    stage.drained(REQUESTS)
    assert before + 1 == stage.count("createRun")
    assert [(1, False), (2, True)] == [
        (line["deliveries"], line["replay"]) for line in stage.told("request.taken", token)
    ]


def test_a_host_that_is_killed_after_the_start(stage: Queued) -> None:
    """S24, S25: what was started and not settled when the host died starts nothing again; the wait stands."""
    before = stage.count("createRun")
    _, token = in_flight(stage)
    stage.bus.control("PUT", "mode", json={"stalled": True})  # so that nothing can be settled
    eventually(lambda: stage.told("request.taken", token))
    stage.process.kill()
    stage.bus.control("PUT", "mode", json={"stalled": False})
    stage.process.start()
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    stage.drained(REQUESTS)
    assert (before + 1, "open") == (stage.count("createRun"), stage.waiting(token)["state"])
    assert [1, 2] == [line["deliveries"] for line in stage.told("request.taken", token)]


def test_a_bad_request(stage: Queued) -> None:
    """S26: a request that will never pass is a dead letter when its deliveries are used up, and stands once among the
    events with its reason; a good one behind it is taken.
    """
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    stage.request(key=bad, factory="nobody", parameters={"secret": PARAMETER})
    stage.request(key=good, parameters={"secret": PARAMETER})
    eventually(lambda: stage.dead_letters(REQUESTS))
    eventually(lambda: stage.told("request.taken", good))
    assert [(bad, "MaxDeliveryCountExceeded")] == stage.dead_letters(REQUESTS)
    assert list(range(1, DELIVERIES + 1)) == [line["deliveries"] for line in stage.told("request.refused", bad)]
    (reason,) = stage.rejected(bad)
    assert reason.startswith("factory-not-allowed: ")


def test_a_caller_without_the_secret(stage: Queued) -> None:
    """S46: a request for a target that asks who calls has to say so by queue, too: without its secret, no run."""
    _, wait, token = stage.new_wait()
    before = stage.count("createRun")
    document = {"factory": "sales", "pipeline": "held", "wait": wait}
    stage.send(REQUESTS, json.dumps(document).encode(), message_id=token)
    eventually(lambda: token in [name for name, _ in stage.dead_letters(REQUESTS)])
    (reason,) = stage.rejected(token)
    assert ("caller-not-allowed", before) == (reason.partition(":")[0], stage.count("createRun"))


def test_data_factory_throttles(stage: Queued) -> None:
    """A request that Data Factory throttles comes again, after as long as it asks for, and then starts its run."""
    _, wait, token = stage.new_wait()
    stage.adf.post("faults", {"op": "createRun", "status": 429, "retry_after": 1})
    began = time.monotonic()
    stage.request(key=token, wait=wait)
    assert "open" == stage.waiting(token)["state"]
    assert time.monotonic() - began >= 1
    assert [("adf-throttled", 1)] == [
        (line["code"], line["deliveries"]) for line in stage.told("request.refused", token)
    ]
    assert ([], [2]) == (stage.rejected(token), [line["deliveries"] for line in stage.told("request.taken", token)])


def parked_by_queue(stage: Queued) -> tuple[str, str]:
    """A task that is parked and waits for a run that was asked for by queue: the token, the run's id."""
    task, wait, token = stage.new_wait()
    stage.request(key=token, wait=wait)
    run_id = stage.waiting(token)["run_id"]
    task.park()
    return token, run_id


def test_an_event_by_queue(stage: Queued) -> None:
    """A run's end that Event Grid puts into the queue completes the task that waits for it."""
    token, run_id = parked_by_queue(stage)
    stage.end_run(run_id)
    stage.publish(run_id)
    assert "delivered" == stage.until(token, *FINAL)["state"]
    assert (["matched"], []) == (stage.verdicts(run_id), stage.dead_letters(EVENTS))


def test_an_event_while_the_host_is_down(stage: Queued) -> None:
    """S25: an event that comes while the app is down waits in its queue, and completes the task when the app is back;
    the same event again is a duplicate.
    """
    token, run_id = parked_by_queue(stage)
    stage.drained(REQUESTS)
    stage.process.kill()
    stage.end_run(run_id)
    stage.publish(run_id)
    eventually(lambda: stage.messages(EVENTS))
    stage.process.start()
    assert "delivered" == stage.until(token, *FINAL)["state"]
    stage.publish(run_id)
    eventually(lambda: len(stage.verdicts(run_id)) == 2)
    assert ["matched", "duplicate"] == stage.verdicts(run_id)
    assert 1 == stage.story(token).count("delivered")


def test_events_that_make_no_sense(stage: Queued) -> None:
    """S26: of ten events, the nine that make no sense are taken out of the queue and shown as malformed, and the good
    one among them completes its task.
    """
    token, run_id = parked_by_queue(stage)
    stage.end_run(run_id)
    names = [f"bad-{number}-{uuid.uuid4().hex[:8]}" for number in range(6)]
    shapes: list[Any] = [run_event(run_id, id=name, data={"status": number}) for number, name in enumerate(names)]
    raw = [b"{", b"\xff\xfe", b"NaN", *(json.dumps(shape).encode() for shape in shapes)]
    before = len(stage.call("GET", "/events?verdict=malformed&limit=500").json()["events"])
    stage.send(EVENTS, *raw[:5], json.dumps(run_event(run_id)).encode(), *raw[5:])
    assert "delivered" == stage.until(token, *FINAL)["state"]
    stage.drained(EVENTS)
    events = stage.call("GET", "/events?verdict=malformed&limit=500").json()["events"]
    assert (9, set(names), []) == (
        len(events) - before,
        {event["id"] for event in events} - {""},
        stage.dead_letters(EVENTS),
    )


def test_nothing_is_given_away(stage: Queued) -> None:
    """S34: after all that, neither the log nor an answer holds a secret of a message, a parameter, or a key."""
    stage.call("GET", "/events?limit=500")
    key = stage.bus.connection_string.partition("SharedAccessKey=")[2].partition(";")[0]
    shown = "\n".join([*stage.answers, *(log.read_text(encoding="utf-8") for log in stage.folder.glob("*.log"))])
    assert (True, []) == (len(key) > 3, [one for one in (CALLER_SECRET, PARAMETER, key) if one in shown])
