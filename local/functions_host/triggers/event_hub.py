"""Event Hubs triggers: each partition in order, in batches, and a checkpoint after each of them.

The checkpoint is set after a success, and after a failure, too, once the function's retry policy has come to its end;
without a policy, at once. When the host stops, none is set. As in Microsoft.Azure.WebJobs.Extensions.EventHubs:
https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/eventhub/Microsoft.Azure.WebJobs.Extensions.EventHubs
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import unquote

from aiohttp import web

from local.functions_host.bindings import BindingError, Function
from local.functions_host.event_hub_input import batch_input
from local.functions_host.event_hub_log import PARTITIONS, EventHubLog, HubMessage
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys, key_of
from local.functions_host.messages import RetryContext
from local.functions_host.responses import json_answer, not_found, unauthorized
from local.functions_host.worker import InvocationFailedError

TYPE = "eventHubTrigger"
PREFIX = "/_local/event_hubs/"

_log = logging.getLogger("host.event_hubs")


@dataclass
class _Reader:
    """A function, its hub and consumer group, and what tells its partitions of new messages."""

    function: Function
    hub: str
    group: str
    namespace: str
    arrived: list[asyncio.Event] = field(default_factory=lambda: [asyncio.Event() for _ in range(PARTITIONS)])
    failures: int = 0


class EventHubTriggers:
    """Runs functions for the messages of this machine's event hubs. `pause_factor` multiplies pauses before retries."""

    def __init__(
        self,
        functions: Sequence[Function],
        invocations: Invocations,
        keys: Keys,
        log: EventHubLog,
        *,
        batch_size: int,
        pause_factor: float,
    ) -> None:
        """Pick the functions out. Raises BindingError for a declaration that cannot be served."""
        self._invocations = invocations
        self._keys = keys
        self._messages = log
        self._batch_size = batch_size
        self._pause_factor = pause_factor
        self._readers = [_reader(function) for function in functions if function.trigger_type == TYPE]
        self._tasks: set[asyncio.Task[None]] = set()
        if len({(reader.hub, reader.group) for reader in self._readers}) < len(self._readers):
            raise BindingError("two functions read the same event hub in one consumer group: each would miss messages")

    def start(self) -> None:
        """Go on where the checkpoints are."""
        self._tasks = {
            asyncio.create_task(self._read(reader, partition))
            for reader in self._readers
            for partition in range(PARTITIONS)
        }

    async def stop(self, grace: timedelta) -> None:
        """Read no further. An invocation that is under way goes on, at most for `grace`; its messages come again."""
        for task in self._tasks:
            task.cancel()
        await self._invocations.finish(grace)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._messages.close()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a control call: `POST {hub}/messages` takes the body as one message, `GET {hub}` shows the hub.

        201 means that the message is on disk. `?partition_key=` chooses the partition.
        """
        if not self._keys.opens_admin(key_of(request.headers, request.query)):
            return unauthorized("Send the master key in the header x-functions-key, or in the query as code=KEY.")
        hub, *rest = request.path.removeprefix(PREFIX).split("/")
        readers = [reader for reader in self._readers if reader.hub == unquote(hub).lower()]
        match request.method, rest, readers:
            case "POST", ["messages"], [reader, *_]:
                message = self._messages.append(
                    reader.hub, await request.read(), request.query.get("partition_key") or None
                )
                for one in readers:
                    one.arrived[message.partition].set()
                return json_answer({"partition": message.partition, "sequence_number": message.sequence}, status=201)
            case "GET", [], [_, *_]:
                return json_answer({"functions": {one.function.name: self._show(one) for one in readers}})
            case _:
                return not_found()

    def _show(self, reader: _Reader) -> dict[str, object]:
        ends = [self._messages.end(reader.hub, partition) for partition in range(PARTITIONS)]
        done = [self._messages.position(reader.hub, reader.group, partition) for partition in range(PARTITIONS)]
        return {"messages": sum(ends), "pending": sum(ends) - sum(done), "failures": reader.failures}

    async def _read(self, reader: _Reader, partition: int) -> None:
        """Hand over a partition's messages, one batch after the other."""
        while True:
            reader.arrived[partition].clear()
            batch = self._messages.following(reader.hub, reader.group, partition, limit=self._batch_size)
            if not batch:
                await reader.arrived[partition].wait()
                continue
            await self._run(reader, batch)
            self._messages.checkpoint(reader.hub, reader.group, batch[-1])

    async def _run(self, reader: _Reader, batch: Sequence[HubMessage]) -> None:
        """Run the function, and again as its retry policy says; the real host gives up without a word as well."""
        policy, retries = reader.function.retry, 0
        while not await self._succeeds(reader, batch, retries):
            reader.failures += 1
            pause = policy.pause(retries) if policy else None
            if pause is None:
                _log.warning("%s failed for good: %d messages are passed over", reader.function.name, len(batch))
                return
            await asyncio.sleep(pause.total_seconds() * self._pause_factor)
            retries += 1

    async def _succeeds(self, reader: _Reader, batch: Sequence[HubMessage], retries: int) -> bool:
        """Run the function once. It is shielded: stopping the host does not stop the run."""
        most = reader.function.retry.max_retries if reader.function.retry else 0
        given = batch_input(reader.function.trigger, reader.namespace, batch, RetryContext(retries, most))
        running = asyncio.create_task(self._invocations.invoke(reader.function, given, reason="Event Hub"))
        running.add_done_callback(_retrieve)
        try:
            await asyncio.shield(running)
        except InvocationFailedError:
            return False
        return True


def _retrieve(running: asyncio.Task[object]) -> None:
    """Take a failure as noticed, also when nobody waits any more: it is in the log."""
    if not running.cancelled():
        running.exception()


def _reader(function: Function) -> _Reader:
    trigger, name = function.trigger, function.name
    if str(trigger.get("cardinality", "")).lower() != "many":
        raise BindingError(f"the function {name} takes event hub messages one by one; this host hands over batches")
    hub = str(trigger.get("eventHubName") or "").lower()
    if not hub:
        raise BindingError(f"the function {name} names no event hub")
    return _Reader(function, hub, str(trigger.get("consumerGroup") or "$Default"), _namespace(name, trigger))


def _namespace(name: str, trigger: Mapping[str, object]) -> str:
    """The namespace that the connection's settings name; they have to be there, though nothing here connects.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs#identity-based-connections
    """
    connection = str(trigger.get("connection") or "")
    namespace = os.environ.get(f"{connection}__fullyQualifiedNamespace") or os.environ.get(connection)
    if not namespace:
        raise BindingError(
            f"the function {name} uses the connection {connection}, but there is neither an app setting {connection} "
            f"nor {connection}__fullyQualifiedNamespace"
        )
    return namespace
