"""`python -m bridge replay` against the local broker, Event Grid and bridge, by the unmodified SDKs."""

import json
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue

from bridge import cli
from bridge.cli.dead_letter_queue import DeadLetterQueue
from bridge.config import BusAccess, Secret
from tests.component.hosted_bridge import FINAL, FUNCTION_KEY, run_event
from tests.component.queued_bridge import DELIVERIES, EVENTS, REQUESTS, Queued, send
from tests.component.stand_ins import TOPIC_KEY, Control, eventually
from tests.contract.service_bus import LocalBroker

DEAD = "$DeadLetterQueue"


class Letters:
    """A broker with queues that nobody listens to, and a client that stays: the SDK opens and closes slowly."""

    def __init__(self, broker: LocalBroker, client: ServiceBusClient) -> None:
        self.broker = broker
        self.environment = {
            "BRIDGE_SERVICEBUS": broker.connection_string,
            "BRIDGE_REQUESTS_QUEUE": REQUESTS,
            "BRIDGE_EVENTS_QUEUE": EVENTS,
        }
        self._client = client
        self._receivers = {queue: client.get_queue_receiver(queue) for queue in (REQUESTS, EVENTS)}

    def __call__(self, *arguments: str, **environment: str) -> int:
        """Call the command line."""
        return cli.main(["replay", *arguments], {**self.environment, **environment})

    def bury(self, queue: str, *messages: ServiceBusMessage) -> None:
        """Have messages become dead letters."""
        send(self.broker, queue, list(messages))
        self.bury_all(queue, len(messages))

    def bury_all(self, queue: str, count: int) -> None:
        """Have as many messages of a queue become dead letters."""
        for message in self.taken(queue, count):
            self._receivers[queue].dead_letter_message(message, reason="Tried", error_description="and tried")

    def taken(self, queue: str, count: int) -> list[Any]:
        """The next messages of a queue, as many as that, locked."""
        taken: list[Any] = []
        while len(taken) < count:
            more = self._receivers[queue].receive_messages(max_message_count=count - len(taken), max_wait_time=5)
            assert more, f"{len(taken)} of {count} came"
            taken += more
        return taken

    @contextmanager
    def held(self, queue: str, count: int) -> Iterator[None]:
        """The oldest dead letters of a queue are held by somebody else, until their locks end."""
        with self._client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            held = receiver.receive_messages(max_message_count=count, max_wait_time=5)
            assert count == len(held)
            yield

    def standing(self, queue: str) -> list[tuple[str, int, bool]]:
        """The messages of a queue: id, deliveries, whether it is locked."""
        shown = self.broker.control("GET", f"messages?queue={queue}")["messages"]
        return [(one["message_id"], one["delivery_count"], one["locked"]) for one in shown]

    def ids(self, queue: str) -> list[str]:
        """The ids of a queue's messages."""
        return [name for name, _, _ in self.standing(queue)]

    def close(self) -> None:
        """Close the links, at once."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda receiver: receiver.close(), self._receivers.values()))

    def clear(self) -> None:
        """Empty everything."""
        for queue in (REQUESTS, EVENTS):
            for name in (queue, f"{queue}/{DEAD}"):
                self.broker.control("DELETE", f"messages?queue={name}")


@pytest.fixture(scope="module")
def all_letters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Letters]:
    """A broker and a client."""
    queues = [f"{REQUESTS},lock_duration_s=1", f"{EVENTS},lock_duration_s=3"]
    with (
        LocalBroker(tmp_path_factory.mktemp("letters"), queues=queues) as broker,
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        closing(Letters(broker, client)) as letters,
    ):
        yield letters


@pytest.fixture
def letters(all_letters: Letters) -> Iterator[Letters]:
    """A broker's queues, empty."""
    yield all_letters
    all_letters.clear()


# --- queues -----------------------------------------------------------------------------------------------------------


def test_the_same_message_again(letters: Letters) -> None:
    """S40: a dead letter is sent to its queue as it was: body, id, application properties, and what else was set."""
    properties: Any = {"x-adf-bridge-caller-secret": "café", "number": 3, "yes": True}
    letters.bury(
        REQUESTS,
        ServiceBusMessage(
            b'{"a": "\xc3\xa9"}',
            message_id="key-1",
            application_properties=properties,
            content_type="application/json",
            subject="some",
            correlation_id="other",
        ),
    )
    assert 0 == letters("--queue", "requests")
    (message,) = letters.taken(REQUESTS, 1)
    told = {
        name.decode(): value.decode() if isinstance(value, bytes) else value
        for name, value in message.application_properties.items()
    }
    assert (b'{"a": "\xc3\xa9"}', "key-1", properties, "application/json", "some", "other", []) == (
        b"".join(message.body),
        message.message_id,
        told,
        message.content_type,
        message.subject,
        message.correlation_id,
        letters.ids(f"{REQUESTS}/{DEAD}"),
    )


def test_a_dry_run_settles_nothing(letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    """S40: a dry run shows what is there, in both queues, and nothing is sent, locked, or counted as delivered."""
    letters.bury(REQUESTS, ServiceBusMessage(b"{", message_id="bad"))
    letters.bury(EVENTS, ServiceBusMessage(json.dumps(run_event("run-1")).encode(), message_id="grid-id"))
    before = {queue: letters.standing(f"{queue}/{DEAD}") for queue in (REQUESTS, EVENTS)}
    assert 0 == letters("--dry-run")
    assert before == {queue: letters.standing(f"{queue}/{DEAD}") for queue in (REQUESTS, EVENTS)}
    assert ([], []) == (letters.ids(REQUESTS), letters.ids(EVENTS))
    shown = [[cell.strip() for cell in row.split("  ") if cell] for row in capsys.readouterr().out.splitlines()]
    assert [
        ["requests", "bad", "Tried: and tried", "refused: bad-json"],
        ["events", "run-1/Succeeded", "Tried: and tried"],
    ] == [shown[1], shown[2][:3]]


def test_a_limit(letters: Letters) -> None:
    """The oldest come first, and not more than the limit, of both queues together."""
    letters.bury(REQUESTS, *(ServiceBusMessage(b"{}", message_id=str(number)) for number in range(3)))
    letters.bury(EVENTS, *(ServiceBusMessage(b"{}", message_id=str(number)) for number in range(3)))
    assert 0 == letters("--limit", "4")
    assert (["0", "1", "2"], ["0"], ["1", "2"]) == (
        letters.ids(REQUESTS),
        letters.ids(EVENTS),
        letters.ids(f"{EVENTS}/{DEAD}"),
    )


def test_what_comes_back_is_left(letters: Letters) -> None:
    """S40: what becomes a dead letter again during a replay is not sent a second time, not even while others are not to
    be had: a replay has an end.
    """
    names = [str(number) for number in range(25)]  # more than are received at once
    letters.bury(EVENTS, *(ServiceBusMessage(b"{}", message_id=name) for name in names))
    access = BusAccess(Secret(letters.broker.connection_string))
    sent = []
    with letters.held(EVENTS, 3):
        for letter, trouble in DeadLetterQueue(access, EVENTS, place=EVENTS, holds_events=False).send_again(None):
            sent.append((letter.id, trouble))
            if len(sent) % 12 == 0:
                letters.bury_all(EVENTS, 12)
    assert [(name, None) for name in [*names[3:], *names[:3]]] == sent
    assert (["2"], 24) == (letters.ids(EVENTS), len(letters.ids(f"{EVENTS}/{DEAD}")))


def test_a_crash_after_the_sending(letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    """S40: a dead letter that was sent and could not be taken out stays, is told, and is sent again: none is lost."""
    letters.bury(REQUESTS, ServiceBusMessage(b"{}", message_id="key-1"))
    letters.broker.control("POST", "faults", json={"op": "complete", "code": "com.microsoft:message-lock-lost"})
    assert 1 == letters("--queue", "requests")
    assert "still among the dead letters" in capsys.readouterr().err
    assert (["key-1"], ["key-1"]) == (letters.ids(REQUESTS), letters.ids(f"{REQUESTS}/{DEAD}"))
    eventually(lambda: not any(locked for _, _, locked in letters.standing(f"{REQUESTS}/{DEAD}")))
    assert 0 == letters("--queue", "requests")
    assert (["key-1", "key-1"], []) == (letters.ids(REQUESTS), letters.ids(f"{REQUESTS}/{DEAD}"))


def test_a_sending_that_is_refused(letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    """A queue that takes nothing loses no dead letter, and the exit code says so."""
    letters.bury(REQUESTS, ServiceBusMessage(b"{}", message_id="key-1"))
    fault = {"op": "send", "code": "amqp:unauthorized-access", "times": 9}
    letters.broker.control("POST", "faults", json=fault)
    assert 1 == letters("--queue", "requests")
    letters.broker.control("DELETE", "faults")
    assert ([], ["key-1"]) == (letters.ids(REQUESTS), letters.ids(f"{REQUESTS}/{DEAD}"))
    assert "the queue requests needs the roles" in capsys.readouterr().err


def test_a_queue_that_is_not_there(letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    """A queue that does not exist is named, and the exit code is 1."""
    assert 1 == letters("--queue", "requests", BRIDGE_REQUESTS_QUEUE="nowhere")
    assert "the queue nowhere is not there, or disabled" in capsys.readouterr().err


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(queued: Queued) -> Queued:
    """The bridge, and no dead letters."""
    queued.forget_dead_letters()
    return queued


def replay(stage: Queued, *arguments: str, environment: Mapping[str, str] | None = None) -> int:
    """Call the command line with the app's settings."""
    own = {name: value for name, value in stage.process.env.items() if name.startswith("BRIDGE_")}
    return cli.main(["replay", *arguments], {**own, "KEY": FUNCTION_KEY, **(environment or {})})


def verdicts(stage: Queued, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[str, str]]:
    """What a dry run shows: the reason and the verdict, by id."""
    capsys.readouterr()
    assert 0 == replay(stage, "--dry-run", "--url", stage.process.url, "--key-env", "KEY", *arguments)
    rows = [[cell.strip() for cell in row.split("  ") if cell] for row in capsys.readouterr().out.splitlines()[1:]]
    return {row[1]: (row[2], row[3]) for row in rows}


def test_requests_again(stage: Queued, capsys: pytest.CaptureFixture[str]) -> None:
    """S36, S40: a request whose deliveries were used up during an outage starts its run when it is replayed, once; a
    bad one is shown with the reason that it was refused for.
    """
    _, wait, token = stage.new_wait()
    bad = str(uuid.uuid4())
    stage.adf.post("faults", {"op": "createRun", "status": 429, "times": DELIVERIES, "retry_after": 1})
    before = stage.count("createRun")
    stage.request(key=token, wait=wait)
    stage.request(key=bad, factory="nobody")
    eventually(lambda: {token, bad} == {name for name, _ in stage.dead_letters(REQUESTS)})
    stage.adf.delete("faults")
    shown = verdicts(stage, capsys, "--queue", "requests")
    assert "no record: handled as a new request, for a run and a wait" == shown[token][1]
    assert "MaxDeliveryCountExceeded" in shown[bad][0]
    assert "factory-not-allowed: " in shown[bad][0]
    failed = stage.count("createRun") - before
    assert 0 == replay(stage, "--queue", "requests")
    assert "open" == stage.waiting(token)["state"]
    assert failed + 1 == stage.count("createRun") - before
    eventually(lambda: [(bad, "MaxDeliveryCountExceeded")] == stage.dead_letters(REQUESTS))  # it is no better now
    stage.request(key=token, wait=wait)  # as after a crash of the replay
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    assert failed + 1 == stage.count("createRun") - before


def test_events_again(stage: Queued) -> None:
    """S40: a dead letter of the events queue completes its task when it is replayed."""
    token, run_id = stage.parked_by_queue()
    stage.drained(REQUESTS)
    stage.process.kill()
    stage.end_run(run_id)
    stage.send(EVENTS, json.dumps(run_event(run_id)).encode(), message_id="grid")
    with (
        ServiceBusClient.from_connection_string(stage.bus.connection_string) as client,
        client.get_queue_receiver(EVENTS) as receiver,
    ):
        (message,) = receiver.receive_messages(max_wait_time=5)
        receiver.dead_letter_message(message, reason="Tried", error_description="and tried")
    stage.process.start()
    assert 0 == replay(stage, "--queue", "events")
    assert "delivered" == stage.until(token, *FINAL)["state"]
    assert (["matched"], []) == (stage.verdicts(run_id), stage.dead_letters(EVENTS))


def lost(stage: Queued, run_id: str) -> Path:
    """The folder with the blob of a run's event that Event Grid gave up: its one queue was not there."""
    assert stage.event_grid is not None
    grid, name = Control(stage.event_grid.url), f"lost-{uuid.uuid4().hex[:8]}"
    there = {"topic": "runs", "endpoint_type": "ServiceBusQueue"}
    root = stage.bus.ready["endpoint"]
    grid.delete("subscriptions/runs/to-queue")
    grid.post("subscriptions", {**there, "name": name, "endpoint_url": f"{root}/nowhere", "max_delivery_attempts": 1})
    stage.publish(run_id)
    folder = stage.folder / "state" / "deadletter" / "runs" / name
    eventually(lambda: list(folder.glob("*.json")))
    grid.delete(f"subscriptions/runs/{name}")
    grid.post("subscriptions", {**there, "name": "to-queue", "endpoint_url": f"{root}/{EVENTS}"})
    return folder


@pytest.mark.parametrize("way", ["queue", "topic"])
def test_blobs_again(stage: Queued, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """S40: an event that Event Grid gave up completes its task when its blob is replayed, by the events queue or by the
    topic; and sent a second time it is a duplicate.
    """
    token, run_id = stage.parked_by_queue()
    stage.end_run(run_id)
    folder, named = str(lost(stage, run_id)), f"{run_id}/Succeeded"
    expected = {named: ("MaxDeliveryAttemptsExceeded after 1 attempts NotFound", "matched: 1 waiting")}
    assert expected == {
        name: (why, verdict.partition(",")[0]) for name, (why, verdict) in verdicts(stage, capsys, folder).items()
    }
    assert stage.event_grid is not None
    topic = ("--topic", stage.event_grid.ready["topics"]["runs"]["endpoint"]) if way == "topic" else ()
    assert 0 == replay(stage, folder, *topic, environment={"BRIDGE_TOPIC_KEY": TOPIC_KEY})
    assert "delivered" == stage.until(token, *FINAL)["state"]
    assert 0 == replay(stage, folder, *topic, environment={"BRIDGE_TOPIC_KEY": TOPIC_KEY})
    eventually(lambda: len(stage.verdicts(run_id)) == 2)
    assert ["matched", "duplicate"] == stage.verdicts(run_id)
    assert "duplicate: " == verdicts(stage, capsys, folder)[named][1][:11]
