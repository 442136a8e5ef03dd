"""Service Bus queues of this machine: each event is a message.

See https://learn.microsoft.com/azure/event-grid/handler-service-bus
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from local.event_grid.delivery import Delivery
from local.event_grid.schema import METADATA_VERSION, Schema, data_version
from local.event_grid.subscription import Subscription

_SENT = 200
_STATUSES: tuple[tuple[type[ServiceBusError], int], ...] = (
    (MessagingEntityNotFoundError, 404),
    (MessageSizeExceededError, 413),
    (ServiceBusAuthenticationError, 401),
    (ServiceBusAuthorizationError, 401),
    (ServiceBusQuotaExceededError, 503),
    (ServiceBusServerBusyError, 503),
)


class QueueEndpoint:
    """Sends to one queue, by one link that is opened when it is needed. `response` is how long a message may take."""

    def __init__(self, subscription: Subscription, response: timedelta) -> None:
        """Connect to nothing yet."""
        self._subscription = subscription
        self._response = response
        self._sender: ServiceBusSender | None = None
        self._open = AsyncExitStack()
        self._alone = asyncio.Lock()  # a sender serves one task at a time

    async def send(self, batch: Sequence[Delivery]) -> int | None:
        """Send the events; 200, the status that Service Bus's refusal stands for, or None when it could not be
        reached. A link that was idle may be gone: that is no failure.
        """
        messages = [self._message(delivery) for delivery in batch]
        async with self._alone:
            used_before = self._sender is not None
            status = await self._attempt(messages)
            return await self._attempt(messages) if status is None and used_before else status

    async def close(self) -> None:
        """Close the link. What the other side makes of it does not matter."""
        self._sender, was_open, self._open = None, self._open, AsyncExitStack()
        try:
            async with asyncio.timeout(self._response.total_seconds()):
                await was_open.aclose()
        except (ServiceBusError, OSError, ValueError):  # TimeoutError is an OSError
            return

    async def _attempt(self, messages: list[ServiceBusMessage]) -> int | None:
        try:
            async with asyncio.timeout(self._response.total_seconds()):
                sender = self._sender or await self._connect()
                await sender.send_messages(messages)
        except (ServiceBusError, OSError, ValueError) as error:
            await self.close()
            return next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
        return _SENT

    async def _connect(self) -> ServiceBusSender:
        """Open a link. Azure's Event Grid signs in with an identity; the local broker takes any key."""
        address = urlsplit(self._subscription.endpoint_url)
        client = ServiceBusClient.from_connection_string(
            f"Endpoint=sb://{address.netloc};SharedAccessKeyName=EventGrid;SharedAccessKey=bG9jYWw=;"
            "UseDevelopmentEmulator=true;",
            retry_total=0,
        )
        await self._open.enter_async_context(client)
        sender = client.get_queue_sender(address.path.strip("/"))
        self._sender = await self._open.enter_async_context(sender)
        return sender

    def _message(self, delivery: Delivery) -> ServiceBusMessage:
        """An event as a message. Its id is the service's own, the same each time that it is tried."""
        cloud_event = delivery.schema is Schema.CLOUD_EVENTS
        return ServiceBusMessage(
            json.dumps(delivery.event),
            message_id=delivery.output_id,
            content_type=f"application/{'cloudevents+json' if cloud_event else 'json'}; charset=utf-8",
            application_properties={
                "aeg-event-type": "Notification",
                "aeg-subscription-name": self._subscription.name.upper(),
                "aeg-delivery-count": str(delivery.attempts),
                "aeg-data-version": data_version(delivery.event, delivery.schema),
                "aeg-metadata-version": METADATA_VERSION,
                "aeg-output-event-id": delivery.output_id,
            },
        )
