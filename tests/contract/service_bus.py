"""The unmodified azure-servicebus against a Service Bus: the local one, or another.

The environment variable ADF_BRIDGE_SERVICE_BUS may name another one by its connection string: Microsoft's emulator,
or a namespace. It must have the queues that `Case.elsewhere` names, with these properties (where a lock of one second
is wanted, the shortest that it has), and nobody else may use them. Faults and clocks are the local one's own: their
tests are not collected then.

The SDK spends half a second in opening a link, asleep, and up to a second in closing one. So all cases run at once,
each with a queue of its own, and a test waits for its case.
"""

import asyncio
import gc
import inspect
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
from azure.servicebus import ServiceBusClient, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient

from local.process import LocalProcess

VARIABLE = "ADF_BRIDGE_SERVICE_BUS"
ELSEWHERE = os.environ.get(VARIABLE)

KINDS = ("sync", "async")
OWN = ("q", "q2", "s,requires_session", "once,duplicate_detection_s=60")
"""The queues of a broker that a case has for itself."""

AS_IT_IS = ("--clock-factor", "1")
HASTY = ("--clock-factor", str(1 / 300))
"""A broker whose ten minutes are two seconds."""

WAIT = 10 if ELSEWHERE is None else 20
"""Seconds until a message that is there must have come."""

NOTHING = 0.3 if ELSEWHERE is None else 3
"""Seconds to look for a message that is not there."""


@dataclass(frozen=True)
class Case:
    """A promise, as a function that is given a client, and the properties of the queue that it needs.

    With the options of a `broker` it has a local one for itself, with the queues q, s (with sessions) and once (with
    duplicate detection), whose control calls it may use.
    """

    body: Callable[["Bus"], None]
    properties: str
    kinds: tuple[str, ...]
    broker: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Its name."""
        return self.body.__name__

    @property
    def elsewhere(self) -> str:
        """The queue of a Service Bus that is not the local one."""
        return "-".join(["contract", *re.findall(r"[a-z]+", self.properties)])

    def queue(self, kind: str) -> str:
        """The queue that it has for itself."""
        return self.elsewhere if ELSEWHERE else f"{self}.{kind}"


class Cases(list[Case]):
    """The cases of a module."""

    def case(
        self, properties: str = "", *, kinds: tuple[str, ...] = KINDS, broker: tuple[str, ...] = ()
    ) -> Callable[[Callable[["Bus"], None]], Callable[["Bus"], None]]:
        """Take a function for a case."""

        def add(body: Callable[["Bus"], None]) -> Callable[["Bus"], None]:
            self.append(Case(body, properties, kinds, broker))
            return body

        return add

    def each(self) -> list[Any]:
        """Every case with every client that it is for."""
        return [pytest.param(case, kind, id=f"{case}-{kind}") for case in self for kind in case.kinds]


class LocalBroker(LocalProcess):
    """The local Service Bus as a process of its own, and its control calls."""

    def __init__(self, state: Path, *options: str, queues: Iterable[str]) -> None:
        described = [part for queue in queues for part in ("--queue", queue)]
        super().__init__("local.service_bus", ["--state", str(state), *described, *options], log=state / "log")

    @property
    def connection_string(self) -> str:
        """What the SDK takes."""
        return str(self.ready["connection_string"])

    def control(self, method: str, path: str, **options: Any) -> Any:
        """One control call."""
        answer = requests.request(method, f"{self.url}/_local/{path}", timeout=10, **options)
        answer.raise_for_status()
        return answer.json()


class Bus:
    """One of the SDK's two clients, both used in the same way: `do` waits for what the asynchronous one returns."""

    def __init__(
        self, kind: str, connection_string: str, queue: str, broker: LocalBroker | None = None, **options: Any
    ) -> None:
        self.kind = kind
        self.queue = queue
        self._broker = broker
        self._runner = asyncio.Runner() if kind == "async" else None
        self._open: list[Any] = []
        make: Any = AsyncServiceBusClient if kind == "async" else ServiceBusClient
        self.client = make.from_connection_string(connection_string, **{"retry_total": 0, **options})

    @property
    def broker(self) -> LocalBroker:
        """The case's own broker."""
        assert self._broker is not None
        return self._broker

    def another(self, queue: str = "q", **options: Any) -> "Bus":
        """Another client of the case's own broker."""
        return Bus(self.kind, self.broker.connection_string, queue, self._broker, **options)

    def do(self, result: Any) -> Any:
        """The result of a call."""
        return self._runner.run(result) if self._runner is not None and inspect.iscoroutine(result) else result

    def all(self, results: Iterator[Any]) -> list[Any]:
        """The results of several calls: at once where the client can do that."""
        if self._runner is None:
            return list(results)

        async def gather() -> list[Any]:
            return await asyncio.gather(*results)

        return self._runner.run(gather())

    def sender(self, queue: str | None = None) -> Any:
        """A sender that is closed with the bus."""
        self._open.append(self.client.get_queue_sender(queue or self.queue))
        return self._open[-1]

    def receiver(self, queue: str | None = None, **options: Any) -> Any:
        """A receiver that is closed with the bus."""
        self._open.append(self.client.get_queue_receiver(queue or self.queue, **options))
        return self._open[-1]

    def open(self, end: Any) -> None:
        """Open a sender or a receiver, which takes longer than the shorter waits."""
        self.do(end.__enter__() if self._runner is None else end.__aenter__())

    def send(self, *messages: Any) -> None:
        """Send messages, one by one."""
        sender = self.sender()
        for message in messages:
            self.do(sender.send_messages(message))

    def next(self, receiver: Any) -> Any:
        """The next message, which must come."""
        messages = self.do(receiver.receive_messages(max_message_count=1, max_wait_time=WAIT))
        assert messages, "no message came"
        return messages[0]

    def nothing(self, receiver: Any) -> bool:
        """Whether no message comes."""
        self.open(receiver)
        return not self.do(receiver.receive_messages(max_message_count=1, max_wait_time=NOTHING))

    def all_of(self, receiver: Any, count: int) -> list[Any]:
        """As many messages as that, which must come."""
        messages: list[Any] = []
        deadline = time.monotonic() + WAIT
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{len(messages)} of {count} came"
            left = count - len(messages)
            messages += self.do(receiver.receive_messages(max_message_count=left, max_wait_time=1))
        return messages

    def close(self) -> None:
        """Close everything at once: the SDK sleeps up to a second at each."""
        if self._runner is None:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda one: one.close(), self._open))
        else:
            self.all(one.close() for one in self._open)
        self.do(self.client.close())
        if self._runner is not None:
            self._runner.close()


def run(case: Case, kind: str, connection_string: str) -> None:
    """Hold a Service Bus to a promise; a broker of its own serves clients that try again."""
    if ELSEWHERE:
        drain(connection_string, case)
    with ExitStack() as stack:
        if not case.broker:
            bus = Bus(kind, connection_string, case.queue(kind))
        else:
            state = Path(stack.enter_context(TemporaryDirectory()))
            broker = stack.enter_context(LocalBroker(state, *case.broker, queues=OWN))
            bus = Bus(kind, broker.connection_string, "q", broker, retry_total=3, retry_backoff_factor=0.05)
        stack.callback(bus.close)
        case.body(bus)


def drain(connection_string: str, case: Case) -> None:
    """Remove every message of a queue that is not ours alone, sessions and dead letters included."""
    mode, queue = ServiceBusReceiveMode.RECEIVE_AND_DELETE, case.elsewhere
    with ServiceBusClient.from_connection_string(connection_string) as client:
        options: list[dict[str, Any]] = [{"sub_queue": "deadletter"}]
        sessions = "requires_session" in case.properties
        options += [{"session_id": one} for one in client.list_queue_sessions(queue)] if sessions else [{}]
        for option in options:
            with client.get_queue_receiver(queue, receive_mode=mode, **option) as receiver:
                while receiver.receive_messages(max_message_count=100, max_wait_time=1):
                    pass


def collect_leaks() -> None:
    """Free the sockets that the SDK lost when its connection was cut, here and not in a later test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def text(message: Any) -> str:
    """The body of a message."""
    return b"".join(message.body).decode()


def until(moment: Any, *, within: timedelta = timedelta(seconds=10)) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within.total_seconds()
    while not (answer := moment()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within}"
        time.sleep(0.02)
    return answer
