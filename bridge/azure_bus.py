"""From a message of the Functions host to the bridge's own."""

from __future__ import annotations

import azure.functions as func

from bridge.queue_requests import RequestMessage


def request_message(message: func.ServiceBusMessage) -> RequestMessage:
    """Return a trigger request's message; of its application properties those that are texts."""
    properties = message.application_properties or {}
    return RequestMessage(
        id=message.message_id or "",
        body=message.get_body(),
        properties={str(name).lower(): value for name, value in properties.items() if isinstance(value, str)},
        deliveries=message.delivery_count or 1,
    )
