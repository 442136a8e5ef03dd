"""Service Bus queue triggers in the local Functions host: settlement, locks, and what crashes leave."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from local.functions_host.bindings import BindingError, parse_function
from local.functions_host.host_json import ServiceBusSettings
from local.functions_host.invocations import Invocations
from local.functions_host.triggers.service_bus import ServiceBusTriggers
from local.functions_host.worker import Worker
from local.process import ProcessFailedError
from tests.component.hosted_app import MASTER_KEY, HostedApp, describe_host
from tests.component.stand_ins import eventually
from tests.contract.service_bus import LocalBroker

QUEUES = ("work,max_delivery_count=3,lock_duration_s=2", "told", "hasty,lock_duration_s=2")
AT_ONCE = 3  # the test app's host.json
LONG = timedelta(seconds=15)


@dataclass
class Stage:
    """A broker, a host that listens to it, and a client."""

    broker: LocalBroker
    app: HostedApp
    gate: Path

    def send(self, *bodies: str, queue: str = "work", **options: Any) -> None:
        """Send messages."""
        with (
            ServiceBusClient.from_connection_string(self.broker.connection_string) as client,
            client.get_queue_sender(queue) as sender,
        ):
            for body in bodies:
                sender.send_messages(ServiceBusMessage(body, **options))

    def queue(self, name: str = "work") -> dict[str, Any]:
        """How a queue stands."""
        queues = self.broker.control("GET", "queues")["queues"]
        return dict(next(one for one in queues if one["name"] == name))

    def drained(self, name: str = "work") -> None:
        """Return when a queue is empty."""
        eventually(lambda: self.queue(name)["messages"] == 0, within=LONG)

    def hold(self) -> None:
        """Let functions hang from now on."""
        self.gate.touch()

    def let_go(self) -> None:
        """Let functions go on."""
        self.gate.unlink()

    def all(self, word: str) -> list[Any]:
        """What the functions noted under this word, in order."""
        return [one[word] for one in self.app.seen() if word in one]


@contextmanager
def staged(folder: Path, queue: str = "work") -> Iterator[Stage]:
    """A broker and a host."""
    with LocalBroker(folder / "bus", queues=QUEUES) as broker:
        process = describe_host(folder / "host.log", app="service_bus")
        process.env |= {
            "QUEUE": queue,
            "BRIDGE_SERVICEBUS": broker.connection_string,
            "Named__fullyQualifiedNamespace": broker.ready["endpoint"].removeprefix("sb://"),
            "SEEN": str(folder / "seen"),
        }
        process.start()
        try:
            yield Stage(broker, HostedApp(process), folder / "hold")
        finally:
            process.kill()  # the SDK takes a second to close; one test asks for a good end


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage for the tests that leave nothing behind."""
    with staged(tmp_path_factory.mktemp("bus")) as stage:
        yield stage


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Stage]:
    """A stage that a test has for itself; the function's queue locks messages for two seconds."""
    with staged(tmp_path, "hasty") as stage:
        yield stage


def test_what_a_function_is_given(calm: Stage) -> None:
    """A message arrives as it was sent, with its metadata as Microsoft's worker library reads it."""
    properties: Any = {"token": "café", "tries": 3, "last": True}
    calm.send(
        "hello",
        queue="told",
        message_id="one",
        application_properties=properties,
        content_type="application/json",
        subject="completion/v1",
        correlation_id="other",
        time_to_live=timedelta(hours=1, seconds=2),
    )
    calm.drained("told")
    expected = {
        "body": "hello",
        "id": "one",
        "delivery": 1,
        "properties": properties,
        "user_properties": properties,
        "content_type": "application/json",
        "subject": "completion/v1",
        "correlation_id": "other",
        "sequence_number": 1,
        "time_to_live": 3602,
        "expires": True,
        "locked": True,
    }
    assert [expected] == [one for one in calm.app.seen() if "body" in one]


def test_a_success_completes(calm: Stage) -> None:
    """A message whose function succeeds is gone, and comes once."""
    calm.send("good")
    calm.drained()
    assert (1, 0) == (calm.all("done").count("good"), calm.queue("work/$DeadLetterQueue")["messages"])


def test_a_failure_abandons(calm: Stage) -> None:
    """A message whose function fails comes again, at once, until Service Bus makes a dead letter of it."""
    calm.send("fail", message_id="bad")
    calm.drained()
    (letter,) = calm.broker.control("GET", "messages?queue=work/$DeadLetterQueue")["messages"]
    calm.broker.control("DELETE", "messages?queue=work/$DeadLetterQueue")
    deliveries = [one["delivery"] for one in calm.app.seen() if one.get("begun") == "fail"]
    assert ([1, 2, 3], "bad", "MaxDeliveryCountExceeded") == (
        deliveries,
        letter["message_id"],
        letter["dead_letter_reason"],
    )


def test_at_most_so_many_at_once(calm: Stage) -> None:
    """Not more functions run at the same time than `maxConcurrentCalls`, and no message more is locked."""
    calm.hold()
    bodies = [f"crowd-{number}" for number in range(2 * AT_ONCE)]
    calm.send(*bodies)
    eventually(lambda: sum(one.startswith("crowd") for one in calm.all("begun")) == AT_ONCE)
    locked = calm.queue()["locked"]
    calm.let_go()
    calm.drained()
    running = most = 0
    for one in calm.app.seen():
        running += ("begun" in one) - ("done" in one) - (one.get("begun") == "fail")
        most = max(most, running)
    assert (AT_ONCE, AT_ONCE, sorted(bodies)) == (
        locked,
        most,
        sorted(one for one in calm.all("done") if one.startswith("crowd")),
    )


def test_run_by_hand(calm: Stage) -> None:
    """The host's own API hands a text to the function as a message."""
    headers = {"x-functions-key": MASTER_KEY}
    answer = calm.app.call("POST", "/admin/functions/take", headers=headers, json={"input": "by hand"})
    assert 202 == answer.status_code
    eventually(lambda: "by hand" in calm.all("done"))


def test_locks_are_renewed(calm: Stage) -> None:
    """A function may take longer than its message's lock lasts; the message does not come a second time."""
    calm.broker.control("DELETE", "counts")
    calm.hold()
    calm.send("long")
    eventually(lambda: calm.broker.control("GET", "counts")["operations"].get("renew-lock", 0) >= 2)
    calm.let_go()
    calm.drained()
    assert (["long"], ["long"]) == tuple([one for one in calm.all(word) if one == "long"] for word in ("begun", "done"))


def test_killed_broker(hasty: Stage) -> None:
    """The host finds a broker again that was killed; what it had not settled comes again, nothing is lost."""
    hasty.hold()
    bodies = [str(number) for number in range(6)]
    hasty.send(*bodies, queue="hasty")
    eventually(lambda: len(hasty.all("begun")) == AT_ONCE)
    hasty.broker.kill()
    hasty.broker.start()
    hasty.let_go()
    hasty.drained("hasty")
    assert (set(bodies), 6 + AT_ONCE) == (set(hasty.all("done")), len(hasty.all("done")))


def test_killed_host(hasty: Stage) -> None:
    """What a killed host had in hand comes again when its locks have ended, and counts one delivery more."""
    hasty.hold()
    bodies = [str(number) for number in range(6)]
    hasty.send(*bodies, queue="hasty")
    eventually(lambda: len(hasty.all("begun")) == AT_ONCE)
    hasty.app.process.kill()
    hasty.let_go()
    hasty.app.process.start()
    hasty.drained("hasty")
    again = {one["begun"] for one in hasty.app.seen() if one.get("delivery") == 2}
    assert (bodies, set(bodies[:AT_ONCE])) == (sorted(hasty.all("done")), again)


def test_stopped_host(hasty: Stage) -> None:
    """A host that is told to stop settles what it has in hand, and takes no more: no message comes twice."""
    process = hasty.app.process
    hasty.hold()
    bodies = [str(number) for number in range(6)]
    hasty.send(*bodies, queue="hasty")
    eventually(lambda: len(hasty.all("begun")) == AT_ONCE)
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(process.stop)
        eventually(lambda: "Stopping" in process.log_tail())
        hasty.let_go()
        assert 0 == stopping.result()
    assert (0, AT_ONCE) == (hasty.queue("hasty")["locked"], hasty.queue("hasty")["messages"])
    process.start()
    hasty.drained("hasty")
    assert sorted(bodies) == sorted(hasty.all("done"))


def test_connection_that_is_not_configured(tmp_path: Path) -> None:
    """S41: a function whose connection has no settings is named, with the settings that it needs."""
    process = describe_host(tmp_path / "host.log", app="service_bus")
    process.env |= {"QUEUE": "work", "SEEN": str(tmp_path / "seen")}
    with pytest.raises(
        ProcessFailedError, match="an app setting BRIDGE_SERVICEBUS nor BRIDGE_SERVICEBUS__fullyQualifiedNamespace"
    ):
        process.start()


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        ({"queueName": ""}, "names no queue"),
        ({"topicName": "a", "subscriptionName": "b"}, "a topic"),
        ({"queueName": "a", "cardinality": "many"}, "one by one"),
        ({"queueName": "a", "isSessionsEnabled": True}, "sessions"),
        ({"queueName": "a", "autoCompleteMessages": False}, "settles its messages itself"),
    ],
)
def test_declarations_that_are_not_served(
    trigger: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declaration that this host cannot serve is refused with the reason."""
    monkeypatch.setenv("Bus", "Endpoint=sb://demo/")
    binding = json.dumps({"type": "serviceBusTrigger", "name": "message", "connection": "Bus", **trigger})
    with pytest.raises(BindingError, match=reason):
        ServiceBusTriggers([parse_function("take", "1", [binding])], Invocations(Worker(), None), ServiceBusSettings())
