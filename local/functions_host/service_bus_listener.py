"""Receives one queue's messages, as the real host's extension does: peek-lock, several at once, locks renewed.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger#peeklock-behavior
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError

from local.functions_host.service_bus_connection import BusConnection

Take = Callable[[ServiceBusReceivedMessage], Awaitable[bool]]

_LOOK_UP_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_RENEW_BEFORE_SECONDS = 10.0
_TROUBLE = (ServiceBusError, ValueError, OSError)  # ValueError: a receiver that was closed meanwhile
_log = logging.getLogger("host.service_bus")


@dataclass
class _Link:
    """A receiver, and whether its connection is lost: then nothing can be settled by it."""

    receiver: ServiceBusReceiver
    lost: bool = False


class Listener:
    """Hands every message of a queue to `take`: completes it when that says yes, and abandons it when it says no.

    A message that could not be settled is delivered again when its lock ends.
    """

    def __init__(
        self, connection: BusConnection, queue: str, take: Take, *, at_once: int, longest_renewal: timedelta
    ) -> None:
        """Describe it. Locks are renewed for `longest_renewal`, at most."""
        self._connection = connection
        self._queue = queue
        self._take = take
        self._at_once = at_once
        self._longest_renewal = longest_renewal
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Receive nothing more. `run` returns when all that was received is settled."""
        self._stopping = True

    async def run(self) -> None:
        """Receive until told to stop; where Service Bus is away, or the queue is not there, try again."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping:
            try:
                async with self._connection.client() as client, client.get_queue_receiver(self._queue) as receiver:
                    pause = _FIRST_PAUSE_SECONDS
                    await self._receive(_Link(receiver))
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue must go on being heard
                _log.warning("The queue %s cannot be received from: %s", self._queue, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _receive(self, link: _Link) -> None:
        """Receive one message after the other, while there are places. Nothing here is cancelled: a frame that was
        read by half would spoil the connection.
        """
        try:
            while not self._stopping:
                if len(self._running) >= self._at_once:
                    await asyncio.wait(self._running, timeout=_LOOK_UP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    continue
                began = time.monotonic()
                messages = await link.receiver.receive_messages(max_message_count=1, max_wait_time=_LOOK_UP_SECONDS)
                for message in messages:
                    self._start(link, message)
                if not messages and time.monotonic() - began < _LOOK_UP_SECONDS / 2:
                    await asyncio.sleep(_FIRST_PAUSE_SECONDS)  # a link that has just gone answers at once
        except BaseException:
            link.lost = True
            raise
        await asyncio.gather(*self._running)

    def _start(self, link: _Link, message: ServiceBusReceivedMessage) -> None:
        task = asyncio.create_task(self._handle(link, message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, link: _Link, message: ServiceBusReceivedMessage) -> None:
        done = asyncio.Event()
        renewing = asyncio.create_task(self._keep_lock(link, message, done))
        succeeded = False
        try:
            succeeded = await self._take(message)
        except Exception:  # noqa: BLE001 - a fault of the host's own must not end the queue
            _log.exception("The message %s could not be handed over", message.message_id)
        done.set()
        await renewing
        await self._settle(link, message, succeeded=succeeded)

    async def _settle(self, link: _Link, message: ServiceBusReceivedMessage, *, succeeded: bool) -> None:
        settle = link.receiver.complete_message if succeeded else link.receiver.abandon_message
        try:
            if link.lost:
                raise ServiceBusError("its connection is lost")
            await settle(message)
        except _TROUBLE as error:
            _log.warning("The message %s of %s comes again: %s", message.message_id, self._queue, error)

    async def _keep_lock(self, link: _Link, message: ServiceBusReceivedMessage, done: asyncio.Event) -> None:
        """Renew a message's lock until its function is done: ten seconds before its end, at half of a short one."""
        until = datetime.now(UTC) + self._longest_renewal
        while message.locked_until_utc is not None and not link.lost:
            left = (message.locked_until_utc - datetime.now(UTC)).total_seconds()
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), max(left - _RENEW_BEFORE_SECONDS, left / 2, 0))
            if done.is_set() or datetime.now(UTC) >= until:
                return
            try:
                await link.receiver.renew_message_lock(message)
            except _TROUBLE as error:
                _log.warning("The lock of %s cannot be renewed: %s", message.message_id, error)
                return
