"""The completions queues through the unmodified azure-servicebus, on the local Service Bus."""

import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusClient

from bridge import views
from bridge.adapters.service_bus import ServiceBusCompletions
from bridge.config import BusAccess, Secret
from bridge.ports import Accepted, Refusal, RefusalKind
from tests.contract.service_bus import LocalBroker
from tests.fakes.samples import TASK, a_completion, a_task

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the SDK, when its connection is cut

QUEUE = "completions"
TARGETS = {"prod": QUEUE, "dev": QUEUE, "plain": "plain", "gone": "missing"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A local Service Bus."""
    state: Path = tmp_path_factory.mktemp("bus")
    broker = LocalBroker(state, queues=(f"{QUEUE},requires_session", "plain"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def completions(broker: LocalBroker) -> Iterator[ServiceBusCompletions]:
    """The way to its queues."""
    with closing(ServiceBusCompletions(BusAccess(Secret(broker.connection_string)), TARGETS)) as completions:
        yield completions


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """Have every link that was being opened come to its end, and what the SDK left open collected, in its own test."""
    yield
    for thread in threading.enumerate():
        if thread.name == "service-bus-link":
            thread.join(10)
    gc.collect()


def received(broker: LocalBroker, session: str, *, most: int = 1) -> list[Any]:
    """Take the messages of a session."""
    with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_receiver(QUEUE, session_id=session) as receiver,
    ):
        found: list[Any] = []
        while len(found) < most and (messages := receiver.receive_messages(most, max_wait_time=5)):
            for message in messages:
                receiver.complete_message(message)
            found += messages
    return found


def silent_server() -> socket.socket:
    """A server that takes connections, and never says a word."""
    return socket.create_server(("127.0.0.1", 0))


def to(server: str) -> BusAccess:
    """The access to whatever listens at that address."""
    key = "SharedAccessKeyName=n;SharedAccessKey=canary-key"
    return BusAccess(Secret(f"Endpoint=sb://{server};{key};UseDevelopmentEmulator=true"))


def test_a_message(completions: ServiceBusCompletions, broker: LocalBroker) -> None:
    """A completion is one message for its listener's session, which names the token and ends with its lease."""
    completion = a_completion(message="Operation on target 'Copy' failed 💥")
    assert Accepted() == completions.send("prod", "listener-1", completion)
    (message,) = received(broker, "listener-1")
    assert ("listener-1", TASK.token, "application/json", "completion/v1", 1800, TASK.token.encode()) == (
        message.session_id,
        message.message_id,
        message.content_type,
        message.subject,
        message.time_to_live.total_seconds(),
        message.application_properties[b"token"],
    )
    assert views.completion_document(completion) == json.loads(str(message))


def test_the_same_completion_again(completions: ServiceBusCompletions, broker: LocalBroker) -> None:
    """S25: what is sent again, to another listener or the same, is there again: nothing takes it for a duplicate."""
    completion = a_completion()
    for session in ("listener-2", "listener-3", "listener-3"):
        assert Accepted() == completions.send("prod", session, completion)
    assert (1, 2) == (len(received(broker, "listener-2")), len(received(broker, "listener-3", most=2)))


def test_many_threads(completions: ServiceBusCompletions, broker: LocalBroker) -> None:
    """Eight threads send through one sender, each message once: they take turns."""
    tasks = [a_task(map_index=index) for index in range(80)]
    targets = ("prod", "dev")
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda task: completions.send(targets[task.map_index % 2], "busy", a_completion(task)), tasks)
        )
    assert [Accepted()] * 80 == replies
    assert {task.token for task in tasks} == {one.message_id for one in received(broker, "busy", most=80)}


def test_a_queue_that_is_missing(completions: ServiceBusCompletions) -> None:
    """A queue that is not there is told as that, by a send and by the check."""
    reply = completions.send("gone", "listener", a_completion())
    assert isinstance(reply, Refusal)
    assert reply == completions.check("gone")
    assert (RefusalKind.NOT_FOUND, True) == (reply.kind, "missing is not there" in reply.detail)


def test_a_target_without_a_queue(completions: ServiceBusCompletions) -> None:
    """A target that has no queue is refused."""
    reply = completions.send("other", "listener", a_completion())
    assert reply == completions.check("other") == Refusal(RefusalKind.UNREACHABLE, "the target other has no queue")


def test_the_check(completions: ServiceBusCompletions) -> None:
    """A queue that can be sent to passes the check, and nothing is sent for it."""
    assert None is completions.check("prod")


def test_a_broker_that_restarts(tmp_path: Path) -> None:
    """A sender whose connection broke is replaced: at most one send is refused, and none is accepted and lost."""
    broker = LocalBroker(tmp_path, queues=(f"{QUEUE},requires_session",))
    broker.start()
    try:
        with closing(ServiceBusCompletions(BusAccess(Secret(broker.connection_string)), TARGETS)) as completions:
            assert Accepted() == completions.send("prod", "one", a_completion())
            broker.kill()
            reply = completions.send("prod", "one", a_completion())
            assert isinstance(reply, Refusal)
            assert reply.kind in (RefusalKind.UNREACHABLE, RefusalKind.UNAVAILABLE)
            broker.start()
            assert Accepted() == completions.send("prod", "one", a_completion())
            assert 2 == len(received(broker, "one", most=2))
    finally:
        broker.stop()


def test_a_link_that_was_idle(tmp_path: Path) -> None:
    """A link that the broker has detached, because it was idle, is opened anew for the same send."""
    broker = LocalBroker(tmp_path, "--clock-factor", str(1 / 300), queues=(f"{QUEUE},requires_session",))
    broker.start()
    try:
        with closing(ServiceBusCompletions(BusAccess(Secret(broker.connection_string)), TARGETS)) as completions:
            assert Accepted() == completions.send("prod", "one", a_completion())
            stop_at = time.monotonic() + 30
            while not broker.control("GET", "counts")["links"]["detached_idle"]:
                assert time.monotonic() < stop_at
                threading.Event().wait(0.1)
            assert Accepted() == completions.send("prod", "one", a_completion())
    finally:
        broker.stop()


def test_nobody_listens() -> None:
    """A broker that is not there is unreachable, at once, and no part of the key is told."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with closing(ServiceBusCompletions(to(f"127.0.0.1:{port}"), TARGETS)) as completions:
        began = time.monotonic()
        reply = completions.send("prod", "one", a_completion())
    assert isinstance(reply, Refusal)
    assert (RefusalKind.UNREACHABLE, False, True) == (
        reply.kind,
        "canary" in reply.detail,
        time.monotonic() - began < 5,
    )


def test_a_broker_that_says_nothing() -> None:
    """A broker that takes the connection and never answers holds a send for no longer than it may take."""
    with silent_server() as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with closing(ServiceBusCompletions(to(address), TARGETS, seconds=1.0)) as completions:
            began = time.monotonic()
            reply = completions.send("prod", "one", a_completion())
            took = time.monotonic() - began
    assert isinstance(reply, Refusal)
    assert (RefusalKind.UNREACHABLE, True) == (reply.kind, took < 3)
