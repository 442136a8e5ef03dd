"""The dead letters of a Service Bus queue, through azure-servicebus: looked at, or sent again to their queue.

A letter is sent first and taken out then. Whoever dies in between leaves it, and it is sent a second time by the next
replay: requests are answered from their records, and events are duplicates.
https://learn.microsoft.com/azure/service-bus-messaging/service-bus-dead-letter-queues
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from bridge.cli.dead_letter import DeadLetter, event_id
from bridge.config import BusAccess

if TYPE_CHECKING:
    from azure.servicebus import (
        ServiceBusClient,
        ServiceBusMessage,
        ServiceBusReceivedMessage,
        ServiceBusReceiver,
        ServiceBusSender,
    )

_PAGE: Final = 100
_AT_ONCE: Final = 20  # their locks last a minute
_PATIENCE_SECONDS: Final = 5
_ID_CHARS: Final = 128
_LOCAL: Final[dict[str, Any]] = {"retry_total": 1}
_REASON, _DESCRIPTION = "DeadLetterReason", "DeadLetterErrorDescription"


class NotReachedError(Exception):
    """A queue, or a topic, cannot be worked with; the message says why."""


class NotSentError(Exception):
    """One dead letter was not sent again, or not taken out then; the message says why."""


class DeadLetterQueue:
    """A queue with its dead letters. `holds_events`: their ids stand in their bodies."""

    def __init__(self, access: BusAccess, queue: str, *, place: str, holds_events: bool) -> None:
        """Connect to nothing yet."""
        self._access = access
        self._queue = queue
        self._place = place
        self._holds_events = holds_events

    def look(self, limit: int | None) -> Iterator[DeadLetter]:
        """Show the dead letters, the oldest first; none is locked, or counted as delivered. Raises NotReachedError."""
        with self._open() as client, self._dead_letters(client) as receiver:
            for message in islice(_peeked(receiver), limit):
                yield self._letter(message)

    def send_again(self, limit: int | None) -> Iterator[tuple[DeadLetter, NotSentError | None]]:
        """Send those that are there now again, the oldest first, and take them out; tell of each what became of it.

        What becomes a dead letter again meanwhile is left. Raises NotReachedError.
        """
        with self._open() as client, self._dead_letters(client) as receiver, client.get_queue_sender(self._queue) as to:
            left = {message.sequence_number for message in islice(_peeked(receiver), limit)}
            while left and (messages := _next(receiver, len(left))):
                for message in messages:
                    if message.sequence_number in left:  # what has come back since is free when its lock ends
                        left.discard(message.sequence_number)
                        yield self._letter(message), _resend(receiver, to, message)
        if left:
            raise NotReachedError(
                f"the queue {self._queue}: {len(left)} dead letters are held by another receiver: try again"
            )

    def put(self, events: Sequence[DeadLetter]) -> Iterator[tuple[DeadLetter, NotSentError | None]]:
        """Put events into the queue, as Event Grid does; tell of each what became of it. Raises NotReachedError."""
        with self._open() as client, client.get_queue_sender(self._queue) as to:
            for event in events:
                yield event, _send(to, _event_message(event))

    @contextmanager
    def _open(self) -> Iterator[ServiceBusClient]:
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - slow to import
        from azure.servicebus import ServiceBusClient  # noqa: PLC0415 - slow to import

        from bridge.adapters.credentials import azure_credential  # noqa: PLC0415 - slow to import

        connection = self._access.connection
        try:
            with (
                ServiceBusClient.from_connection_string(connection.reveal(), **_LOCAL)
                if connection
                else ServiceBusClient(self._access.namespace, azure_credential(), **_LOCAL)
            ) as client:
                yield client
        except (AzureError, OSError, ValueError) as error:
            raise NotReachedError(f"the queue {self._queue} {_words(error)} ({type(error).__name__})") from None

    def _dead_letters(self, client: ServiceBusClient) -> ServiceBusReceiver:
        from azure.servicebus import ServiceBusSubQueue  # noqa: PLC0415 - slow to import

        return client.get_queue_receiver(self._queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)

    def _letter(self, message: ServiceBusReceivedMessage) -> DeadLetter:
        body = _body(message) or b""
        own = message.message_id or ""
        reasons = [message.dead_letter_reason, message.dead_letter_error_description]
        why = ": ".join(filter(None, reasons)) or "not said"
        return DeadLetter(self._place, event_id(body, own) if self._holds_events else own, body, why)


def _peeked(receiver: ServiceBusReceiver) -> Iterator[ServiceBusReceivedMessage]:
    after = 1
    while page := receiver.peek_messages(max_message_count=_PAGE, sequence_number=after):
        yield from page
        after = max(message.sequence_number or after for message in page) + 1


def _next(receiver: ServiceBusReceiver, most: int) -> list[ServiceBusReceivedMessage]:
    return receiver.receive_messages(max_message_count=min(most, _AT_ONCE), max_wait_time=_PATIENCE_SECONDS)


def _resend(
    receiver: ServiceBusReceiver, sender: ServiceBusSender, message: ServiceBusReceivedMessage
) -> NotSentError | None:
    from azure.servicebus.exceptions import ServiceBusError  # noqa: PLC0415 - slow to import

    body = _body(message)
    trouble = _send(sender, _copy(message, body)) if body is not None else NotSentError("its body is no data: left")
    if trouble is not None:
        with suppress(Exception):  # else it is free when its lock ends
            receiver.abandon_message(message)
        return trouble
    try:
        receiver.complete_message(message)
    except (ServiceBusError, ValueError) as error:
        return NotSentError(f"sent again, and still among the dead letters ({type(error).__name__}): it does no harm")
    return None


def _send(sender: ServiceBusSender, message: ServiceBusMessage) -> NotSentError | None:
    """Send one; what is wrong with this one alone is returned."""
    from azure.servicebus.exceptions import MessageSizeExceededError  # noqa: PLC0415 - slow to import

    try:
        sender.send_messages(message)
    except MessageSizeExceededError:
        return NotSentError("is larger than the queue takes: left")
    return None


def _copy(message: ServiceBusReceivedMessage, body: bytes) -> ServiceBusMessage:
    """Make the same message anew: body, id, and what its sender had set, but for its time to live, which is over."""
    from azure.servicebus import ServiceBusMessage  # noqa: PLC0415 - slow to import

    given = {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}
    properties: Any = {name: value for name, value in given.items() if name not in (_REASON, _DESCRIPTION)}
    return ServiceBusMessage(
        body,
        application_properties=properties,
        message_id=message.message_id,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        subject=message.subject,
        reply_to=message.reply_to,
        to=message.to,
    )


def _event_message(event: DeadLetter) -> ServiceBusMessage:
    """Make an event's message. https://learn.microsoft.com/azure/event-grid/handler-service-bus."""
    from azure.servicebus import ServiceBusMessage  # noqa: PLC0415 - slow to import

    fits = 0 < len(event.id) <= _ID_CHARS
    return ServiceBusMessage(
        event.body,
        message_id=event.id if fits else hashlib.sha256(event.body).hexdigest(),
        content_type="application/json",
    )


def _body(message: ServiceBusReceivedMessage) -> bytes | None:
    """Return the body, None for one that is no data, as other clients than Azure's may send."""
    from azure.servicebus.amqp import AmqpMessageBodyType  # noqa: PLC0415 - slow to import

    body: Any = message.body
    return b"".join(body) if message.body_type is AmqpMessageBodyType.DATA else None


def _text(value: Any) -> Any:  # noqa: ANN401 - whatever a sender set
    """Return a text of an application property, which the SDK leaves as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _words(error: Exception) -> str:
    """Say what an error means. Its own text is not repeated: it may hold parts of a connection string."""
    from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - slow to import
    from azure.servicebus import exceptions as bus  # noqa: PLC0415 - slow to import

    match error:
        case bus.ServiceBusAuthenticationError() | ClientAuthenticationError():
            return "does not know who asks: `az login`, or BRIDGE_SERVICEBUS"
        case bus.ServiceBusAuthorizationError():
            return "needs the roles Azure Service Bus Data Receiver and Data Sender"
        case bus.MessagingEntityNotFoundError() | bus.MessagingEntityDisabledError():
            return "is not there, or disabled"
        case bus.ServiceBusQuotaExceededError() | bus.ServiceBusServerBusyError():
            return "is full, or its namespace busy: try again"
        case _:
            return "cannot be reached"
