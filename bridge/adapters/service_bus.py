"""The completions queues through azure-servicebus: one message for a completion, to the session of its listener.

A sender serves one thread at a time: without a lock, of 200 sends from 8 threads not one came through. So each queue
has one sender, which the threads take in turn. Nothing is retried in here, but for a sender that was kept from an
earlier call and turns out to be dead: Azure detaches a link that was idle for ten minutes.
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-troubleshoot#link-is-closed
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from bridge import views
from bridge.adapters.credentials import azure_credential
from bridge.config import BusAccess
from bridge.model import Completion
from bridge.ports import Accepted, Refusal, RefusalKind

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSender

_SECONDS: Final = 5.0  # to open a link, and to send; and for the others that send into the same queue
TIME_TO_LIVE: Final = timedelta(
    minutes=30
)  # twice as long as a listener that lives lets pass before it registers again
_HUNG: Final = 60.0  # a link that is not open after this long will not be: another one is opened
# https://learn.microsoft.com/azure/service-bus-messaging/service-bus-messaging-exceptions-latest#servicebusy
_BUSY: Final = timedelta(seconds=10)


class ServiceBusCompletions:
    """The port `Completions`, for all targets that have a queue."""

    def __init__(self, access: BusAccess, queues: Mapping[str, str], *, seconds: float = _SECONDS) -> None:
        """Take the name of each target's queue; targets may share one. Nothing is imported or opened yet."""
        self._access = access
        self._seconds = seconds
        self._lock = threading.Lock()
        self._client: ServiceBusClient | None = None
        by_name = {name: _Queue(name, self._open, seconds) for name in queues.values()}
        self._queues = {target: by_name[name] for target, name in queues.items()}

    def send(self, target: str, reply_to: str, completion: Completion) -> Accepted | Refusal:
        """Put one message for a listener into its target's queue."""
        queue = self._queues.get(target)
        return queue.send(lambda: _message(reply_to, completion)) if queue is not None else _no_queue(target)

    def check(self, target: str) -> Refusal | None:
        """Open a link to the target's queue, and close it."""
        queue = self._queues.get(target)
        return queue.check() if queue is not None else _no_queue(target)

    def close(self) -> None:
        """Close all links."""
        for queue in set(self._queues.values()):
            queue.close()

    def _open(self, queue: str) -> ServiceBusSender:
        """Open a link to a queue: the SDK learns from it how large a message may be."""
        sender = self._connected().get_queue_sender(queue)
        sender.create_message_batch()
        return sender

    def _connected(self) -> ServiceBusClient:
        with self._lock:
            if self._client is None:
                from azure.servicebus import ServiceBusClient

                once: dict[str, Any] = {"retry_total": 0, "try_timeout": self._seconds, "auth_timeout": self._seconds}
                connection = self._access.connection
                self._client = (
                    ServiceBusClient.from_connection_string(connection.reveal(), **once)
                    if connection
                    else ServiceBusClient(self._access.namespace, azure_credential(), **once)
                )
            return self._client


class _Opening:
    """A link that is being opened, in a thread of its own: nothing bounds the SDK where a broker does not answer."""

    def __init__(self, open_sender: Callable[[], ServiceBusSender]) -> None:
        self._open = open_sender
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._left = False
        self._error: Exception | None = None
        self._sender: ServiceBusSender | None = None
        self.began = time.monotonic()
        threading.Thread(target=self._work, name="service-bus-link", daemon=True).start()

    def _work(self) -> None:
        try:
            sender = self._open()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error
            self._done.set()
            return
        with self._lock:
            self._sender = sender
            self._done.set()
            if not self._left:
                return
        _close(sender)

    def result(self, stop_at: float) -> ServiceBusSender:
        """Return the open link; raise what opening it raised, or TimeoutError while it is under way."""
        if not self._done.wait(max(stop_at - time.monotonic(), 0.0)):
            raise TimeoutError
        if self._sender is None:
            raise self._error or TimeoutError
        return self._sender

    def leave(self) -> None:
        """Have nobody wait any more: should it be opened after all, it is closed."""
        with self._lock:
            self._left = True
            sender = self._sender
        if sender is not None:
            _close(sender)


class _Queue:
    """One queue: a sender that is opened when it is needed, kept, and thrown away after trouble."""

    def __init__(self, name: str, open_sender: Callable[[str], ServiceBusSender], seconds: float) -> None:
        self._name = name
        self._open = open_sender
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sender: ServiceBusSender | None = None
        self._opening: _Opening | None = None

    def send(self, message: Callable[[], ServiceBusMessage]) -> Accepted | Refusal:
        stop_at = time.monotonic() + self._seconds
        if not self._lock.acquire(timeout=self._seconds):
            return Refusal(RefusalKind.UNREACHABLE, f"the queue {self._name} is busy with other messages")
        try:
            was_kept = self._sender is not None
            reply = self._send(message, stop_at)
            if isinstance(reply, Accepted) or not was_kept or reply.kind is not RefusalKind.UNAVAILABLE:
                return reply
            return self._send(message, max(stop_at, time.monotonic() + self._seconds / 2))
        finally:
            self._lock.release()

    def _send(self, message: Callable[[], ServiceBusMessage], stop_at: float) -> Accepted | Refusal:
        try:
            sender = self._sender = self._sender or self._opened(stop_at)
        except Exception as error:  # noqa: BLE001 - the SDK, the socket and the sign-in each have errors of their own
            return self._refusal(error, RefusalKind.UNREACHABLE)
        try:
            sender.send_messages(message(), timeout=max(stop_at - time.monotonic(), 0.1))
        except Exception as error:  # noqa: BLE001 - as above
            self._sender = None
            _close(sender)
            return self._refusal(error, RefusalKind.UNAVAILABLE)
        return Accepted()

    def _opened(self, stop_at: float) -> ServiceBusSender:
        """Open a link, or go on waiting for the one that an earlier call began to open."""
        if self._opening is not None and time.monotonic() - self._opening.began >= _HUNG:
            self._opening.leave()
            self._opening = None
        opening = self._opening = self._opening or _Opening(lambda: self._open(self._name))
        try:
            sender = opening.result(stop_at)
        except TimeoutError:
            raise
        except Exception:
            self._opening = None
            raise
        self._opening = None
        return sender

    def check(self) -> Refusal | None:
        opening = _Opening(lambda: self._open(self._name))
        try:
            opening.result(time.monotonic() + self._seconds)
        except Exception as error:  # noqa: BLE001 - as above
            return self._refusal(error, RefusalKind.UNREACHABLE)
        finally:
            opening.leave()
        return None

    def close(self) -> None:
        with self._lock:
            if self._sender is not None:
                _close(self._sender)
                self._sender = None

    def _refusal(self, error: Exception, otherwise: RefusalKind) -> Refusal:
        """Sort an error of the SDK. Its text is not repeated: it may hold parts of a connection string."""
        kind = _kind(error) or otherwise
        said = _WORDS.get(kind, "could not be reached" if otherwise is RefusalKind.UNREACHABLE else "did not answer")
        detail = f"the queue {self._name} {said} ({type(error).__name__})"
        return Refusal(kind, detail, retry_after=_BUSY if kind is RefusalKind.THROTTLED else None)


_WORDS: Final = {
    RefusalKind.UNAUTHENTICATED: "does not know who the bridge is",
    RefusalKind.FORBIDDEN: "may not be sent to: the role Azure Service Bus Data Sender is missing",
    RefusalKind.NOT_FOUND: "is not there, or disabled",
    RefusalKind.INVALID: "does not take the message",
    RefusalKind.THROTTLED: "is full, or its namespace busy",
}


def _kind(error: Exception) -> RefusalKind | None:
    """Return what an error of the SDK means, if that is known.

    https://learn.microsoft.com/azure/service-bus-messaging/service-bus-messaging-exceptions-latest
    """
    from azure.core.exceptions import ClientAuthenticationError
    from azure.servicebus import exceptions as bus

    kinds: dict[RefusalKind, tuple[type[Exception], ...]] = {
        RefusalKind.UNAUTHENTICATED: (bus.ServiceBusAuthenticationError, ClientAuthenticationError),
        RefusalKind.FORBIDDEN: (bus.ServiceBusAuthorizationError,),
        RefusalKind.NOT_FOUND: (bus.MessagingEntityNotFoundError, bus.MessagingEntityDisabledError),
        RefusalKind.INVALID: (bus.MessageSizeExceededError,),
        RefusalKind.THROTTLED: (bus.ServiceBusQuotaExceededError, bus.ServiceBusServerBusyError),
    }
    return next((kind for kind, types in kinds.items() if isinstance(error, types)), None)


def _close(sender: ServiceBusSender) -> None:
    with suppress(Exception):  # it is thrown away in any case
        sender.close()


def _no_queue(target: str) -> Refusal:
    return Refusal(RefusalKind.UNREACHABLE, f"the target {target} has no queue")


def _message(reply_to: str, completion: Completion) -> ServiceBusMessage:
    from azure.servicebus import ServiceBusMessage

    return ServiceBusMessage(
        json.dumps(views.completion_document(completion)).encode(),
        session_id=reply_to,
        message_id=completion.token,
        content_type="application/json",
        subject=views.COMPLETION_SCHEMA,
        time_to_live=TIME_TO_LIVE,
        application_properties={"token": completion.token},
    )
