"""Service Bus queue triggers: each message to its function, at least once.

A message whose function succeeds is completed; one whose function fails is abandoned, comes again at once, and is
dead-lettered by Service Bus after the queue's max delivery count.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from local.functions_host.bindings import BindingError, Function
from local.functions_host.host_json import ServiceBusSettings
from local.functions_host.invocations import Invocations
from local.functions_host.service_bus_input import message_input
from local.functions_host.worker import InvocationFailedError

if TYPE_CHECKING:  # the SDK takes a second to import: only where a function has this trigger
    from azure.servicebus import ServiceBusReceivedMessage

    from local.functions_host.service_bus_connection import BusConnection
    from local.functions_host.service_bus_listener import Listener

TYPE = "serviceBusTrigger"

_log = logging.getLogger("host.service_bus")


@dataclass(frozen=True)
class _Reader:
    """A function and its queue."""

    function: Function
    queue: str
    connection: "BusConnection"


class ServiceBusTriggers:
    """Runs functions for the messages of their queues."""

    def __init__(self, functions: Sequence[Function], invocations: Invocations, settings: ServiceBusSettings) -> None:
        """Pick the functions out. Raises BindingError for a declaration that cannot be served."""
        self._invocations = invocations
        self._settings = settings
        self._readers = [_reader(function) for function in functions if function.trigger_type == TYPE]
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen to every queue."""
        self._listeners = [self._listener(reader) for reader in self._readers]
        self._tasks = {asyncio.create_task(listener.run()) for listener in self._listeners}

    async def stop(self, grace: timedelta) -> None:
        """Receive nothing more, and let what runs finish and be settled, `grace` at most; the rest comes again."""
        for listener in self._listeners:
            listener.stop()
        if self._tasks and (await asyncio.wait(self._tasks, timeout=grace.total_seconds()))[1]:
            _log.warning("Stopping while messages are not settled: they come again")

    def _listener(self, reader: _Reader) -> "Listener":
        from local.functions_host.service_bus_listener import Listener  # noqa: PLC0415 - as above

        async def take(message: "ServiceBusReceivedMessage") -> bool:
            try:
                given = message_input(reader.function.trigger, message)
                await self._invocations.invoke(reader.function, given, reason="Service Bus")
            except InvocationFailedError:  # it is in the log
                return False
            return True

        return Listener(
            reader.connection,
            reader.queue,
            take,
            at_once=self._settings.max_concurrent_calls,
            longest_renewal=self._settings.max_auto_lock_renewal,
        )


def _reader(function: Function) -> _Reader:
    """The queue that a function listens to. Raises BindingError for what this host does not serve."""
    from local.functions_host.service_bus_connection import bus_connection  # noqa: PLC0415 - as above

    trigger, name = function.trigger, function.name
    if trigger.get("topicName"):
        raise BindingError(f"the function {name} listens to a topic; this host serves queues")
    if trigger.get("isSessionsEnabled"):
        raise BindingError(f"the function {name} listens to sessions; this host serves queues without")
    if str(trigger.get("cardinality") or "one").lower() != "one":
        raise BindingError(f"the function {name} takes messages in batches; this host hands them over one by one")
    if trigger.get("autoCompleteMessages") is False:
        raise BindingError(f"the function {name} settles its messages itself; this host does it for the function")
    queue = str(trigger.get("queueName") or "")
    if not queue:
        raise BindingError(f"the function {name} names no queue")
    return _Reader(function, queue, bus_connection(name, str(trigger.get("connection") or "")))
