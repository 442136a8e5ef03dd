"""Webhooks and functions: events go there by HTTP.

See https://learn.microsoft.com/azure/event-grid/handler-webhooks
"""

import json
from collections.abc import Sequence
from datetime import timedelta

import aiohttp

from local.event_grid.delivery import Delivery
from local.event_grid.schema import METADATA_VERSION, Schema, data_version
from local.event_grid.subscription import Subscription
from local.json_value import JsonValue


class WebhookEndpoint:
    """Posts events. `response` is how long an answer may take."""

    def __init__(self, subscription: Subscription, http: aiohttp.ClientSession, response: timedelta) -> None:
        """Put the parts together; `http` stays the caller's."""
        self._subscription = subscription
        self._http = http
        self._timeout = aiohttp.ClientTimeout(total=response.total_seconds())

    async def send(self, batch: Sequence[Delivery]) -> int | None:
        """Post the events; the answer's status, or None when there was none in time."""
        body, content_type = self._body(batch)
        headers = {
            "aeg-event-type": "Notification",
            "aeg-subscription-name": self._subscription.name.upper(),
            "aeg-delivery-count": str(batch[0].attempts),
            "aeg-data-version": data_version(batch[0].event, batch[0].schema),
            "aeg-metadata-version": METADATA_VERSION,
            "Content-Type": content_type,
        }
        url = self._subscription.endpoint_url
        try:
            async with self._http.post(
                url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def close(self) -> None:
        """Nothing is its own."""

    def _body(self, batch: Sequence[Delivery]) -> tuple[str, str]:
        """The events and their content type. One CloudEvent is an object unless batches are on; the rest are
        arrays.
        """
        events: list[JsonValue] = [delivery.event for delivery in batch]
        if self._subscription.event_delivery_schema is Schema.EVENT_GRID:
            return json.dumps(events), "application/json; charset=utf-8"
        if self._subscription.max_events_per_batch == 1:
            return json.dumps(events[0]), "application/cloudevents+json; charset=utf-8"
        return json.dumps(events), "application/cloudevents-batch+json; charset=utf-8"
