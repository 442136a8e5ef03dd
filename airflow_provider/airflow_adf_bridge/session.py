"""One session of the completions queue, held by this process: azure-servicebus. Needs the extra `queue`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from importlib import import_module
from typing import Any

from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeListenerError

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Messages that are taken, and settled, at one time."""
CLOSE_TIMEOUT = 10.0
"""Seconds that a part of a connection which may be dead has for a good end."""
RENEWED_AT = 0.5
"""The part of a session's lock after which it is renewed."""
RENEWED_EVERY = 30.0
"""Seconds after which it is renewed in any case: by a clock that is behind, a lock of a minute lasts much longer."""


class SessionTakenError(Exception):
    """Somebody holds the session: a connection of this process that the broker has not given up yet."""


class CompletionsSession:
    """The completions that are sent to one session id, over one connection."""

    def __init__(self, client: Any, receiver: Any, credential: Any) -> None:  # noqa: ANN401 (azure-servicebus)
        """Take what `open_session` has opened."""
        self._client = client
        self._receiver = receiver
        self._credential = credential
        self._renewing: asyncio.Task[None] | None = None

    async def completions(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield completions as they come, until the connection or the session is lost: that is raised.

        A message is settled as soon as it was received and handed on: what it tells, the registration of a wait tells
        as well.
        """
        self._renewing = asyncio.ensure_future(self._renew())
        while True:
            received = asyncio.ensure_future(self._receiver.receive_messages(max_message_count=AT_ONCE))
            try:
                await asyncio.wait({received, self._renewing}, return_when=asyncio.FIRST_COMPLETED)
                if self._renewing.done():
                    self._renewing.result()
                messages = await received
            finally:
                received.cancel()
            for message in messages:
                if (completion := _completion(message)) is not None:
                    yield completion
            await asyncio.gather(*(self._receiver.complete_message(message) for message in messages))

    async def close(self) -> None:
        """Give the session back and close the connection, as far as that goes."""
        if self._renewing is not None:
            self._renewing.cancel()
        for part in (self._receiver, self._client, self._credential):
            if part is not None:
                try:
                    await asyncio.wait_for(part.close(), CLOSE_TIMEOUT)
                except Exception as error:  # noqa: BLE001 (it is closed because something is wrong)
                    log.debug("Closing: %s", error)

    async def _renew(self) -> None:
        """Hold the session's lock. Raises when that fails."""
        session = self._receiver.session
        while True:
            left = (session.locked_until_utc - datetime.now(timezone.utc)).total_seconds()
            await asyncio.sleep(min(max(left * RENEWED_AT, 1.0), RENEWED_EVERY))
            await session.renew_lock(timeout=30)


async def open_session(queue: CompletionsQueue, session_id: str) -> CompletionsSession:
    """Attach to a session. Raises SessionTakenError, AdfBridgeError, or what azure-servicebus does."""
    try:
        # This takes a good part of a second, in which all triggers of the process would stand still.
        servicebus = await asyncio.to_thread(import_module, "azure.servicebus.aio")
        exceptions = await asyncio.to_thread(import_module, "azure.servicebus.exceptions")
    except ImportError:
        raise AdfBridgeConfigurationError(
            "Mode queue needs the package azure-servicebus in the triggerer, where it is not installed: "
            'pip install "airflow-provider-adf-bridge[queue]"'
        ) from None
    credential = None if queue.connection_string else await asyncio.to_thread(_default_credential)
    options = {"retry_total": 0}  # who listens tries again by itself
    try:
        if credential is None:
            client = servicebus.ServiceBusClient.from_connection_string(queue.connection_string, **options)
        else:
            client = servicebus.ServiceBusClient(queue.namespace, credential, **options)
    except ValueError:  # its message might repeat the key
        raise AdfBridgeConfigurationError(
            "servicebus_connection_string in the connection's extra is none that azure-servicebus can read."
        ) from None
    receiver = client.get_queue_receiver(queue.name, session_id=session_id)
    session = CompletionsSession(client, receiver, credential)
    try:
        await receiver.__aenter__()
    except BaseException as error:
        await session.close()
        if isinstance(error, exceptions.SessionCannotBeLockedError):
            raise SessionTakenError(session_id) from error
        raise
    ahead = (datetime.now(timezone.utc) - receiver.session.locked_until_utc).total_seconds()
    if ahead >= 0:
        await session.close()
        raise AdfBridgeListenerError(
            "The triggerer's clock is ahead of Service Bus's by more than a session's lock lasts (it ended "
            f"{ahead:.0f} s ago by that clock): azure-servicebus receives nothing then. Set the clock."
        )
    return session


def _default_credential() -> Any:  # noqa: ANN401
    try:
        identity = import_module("azure.identity.aio")
    except ImportError:
        raise AdfBridgeConfigurationError(
            "servicebus_namespace in the connection's extra needs the package azure-identity in the triggerer, where "
            'it is not installed: pip install "airflow-provider-adf-bridge[queue]"'
        ) from None
    return identity.DefaultAzureCredential()


def _completion(message: Any) -> Mapping[str, Any] | None:  # noqa: ANN401
    """Return what a message tells; None, and a line in the log, when that is no completion."""
    try:
        body = json.loads(b"".join(message.body))
    except (TypeError, ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and isinstance(body.get("token"), str):
        return body
    log.warning("Message %s in the completions queue is no completion, and was dropped.", message.message_id)
    return None
