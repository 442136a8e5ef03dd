"""What lies between topics and endpoints: the subscriptions with their queues, and the events that were
published.
"""

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp

from local.event_grid.dead_letter import DeadLetters
from local.event_grid.delivery import Delivery, DeliveryLog, iso
from local.event_grid.delivery_queue import DeliveryQueue, Patience
from local.event_grid.endpoint import Endpoint
from local.event_grid.grid_error import GridError
from local.event_grid.handshake import Consent, ask
from local.event_grid.schema import Schema, to_cloud_event
from local.event_grid.subscription import EndpointType, Subscription
from local.event_grid.topic import Topic
from local.event_grid.webhook_endpoint import WebhookEndpoint
from local.json_value import JsonObject

_REMEMBERED = 20_000
_MANUAL_CONSENT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Published:
    """An event as a topic took it."""

    topic: Topic
    event: JsonObject
    at: datetime


@dataclass(slots=True)
class _Subscriber:
    """A subscription, its queue, and whether its endpoint has consented."""

    subscription: Subscription
    queue: DeliveryQueue
    state: str
    validation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Broker:
    """Hands every published event to the queues of the subscriptions that want it. All of it is in memory."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        *,
        patience: Patience,
        dead_letters: DeadLetters,
    ) -> None:
        """Begin without subscriptions. `url` is the service's own address, for validation."""
        self.log = DeliveryLog()
        self.published: deque[Published] = deque(maxlen=_REMEMBERED)
        self._url = url
        self._http = http
        self._patience = patience
        self._dead_letters = dead_letters
        self._subscribers: dict[tuple[str, str], _Subscriber] = {}

    def accept(self, topic: Topic, event: JsonObject) -> None:
        """Take a published event, and pass it on."""
        published = Published(topic, event, datetime.now(UTC))
        self.published.append(published)
        for subscriber in self._subscribers.values():
            if subscriber.state == Consent.GIVEN:
                _pass_on(published, subscriber)

    async def subscribe(self, subscription: Subscription, topic: Topic) -> JsonObject:
        """Make a subscription, or make it anew, after its endpoint consented. Raises GridError (400).

        Only events that are published from then on are delivered.
        """
        queue = DeliveryQueue(
            subscription,
            endpoint=self._endpoint(subscription),
            patience=self._patience,
            log=self.log,
            dead_letters=self._dead_letters,
        )
        subscriber = _Subscriber(subscription, queue, Consent.TO_BE_GIVEN)
        validation_url = f"{self._url}/eventsubscriptions/{subscription.name}/validate?id={subscriber.validation_id}"
        consent = await ask(self._http, subscription, topic, validation_url)
        await self.unsubscribe(topic.name, subscription.name)
        self._subscribers[_key(topic.name, subscription.name)] = subscriber
        if consent is Consent.GIVEN:
            _open(subscriber)
        return self._show(subscriber)

    async def unsubscribe(self, topic: str, name: str) -> bool:
        """End a subscription, and forget what is pending. Returns whether there was one."""
        subscriber = self._subscribers.pop(_key(topic, name), None)
        if subscriber is not None:
            await subscriber.queue.stop()
        return subscriber is not None

    def consent(self, name: str, validation_id: str) -> None:
        """Open a subscription whose endpoint consents by its validation address. Raises GridError (400)."""
        for subscriber in self._subscribers.values():
            if subscriber.subscription.name == name and subscriber.validation_id == validation_id:
                self._close_late(subscriber)
                if subscriber.state == Consent.TO_BE_GIVEN:
                    _open(subscriber)
                    return
        raise GridError(400, "This validation address is not, or no longer, valid.")

    def redeliver(self, event_id: str, subscription: str | None) -> int:
        """Deliver an event once more to those that want it, or to one of them. Returns to how many."""
        found = next((one for one in reversed(self.published) if one.event["id"] == event_id), None)
        if found is None:
            return 0
        wanted = [
            subscriber
            for subscriber in self._subscribers.values()
            if subscription in {None, subscriber.subscription.name}
        ]
        return sum(_pass_on(found, subscriber) for subscriber in wanted)

    def show_subscriptions(self) -> JsonObject:
        """Every subscription as the control calls show it."""
        return {"subscriptions": [self._show(subscriber) for subscriber in self._subscribers.values()]}

    def show_published(self) -> JsonObject:
        """Every event that a topic took, in order."""
        return {"events": [{"topic": one.topic.name, "at": iso(one.at), "event": one.event} for one in self.published]}

    async def close(self) -> None:
        """Stop every delivery."""
        await asyncio.gather(*(subscriber.queue.stop() for subscriber in self._subscribers.values()))

    def _endpoint(self, subscription: Subscription) -> Endpoint:
        """The way to a subscription's endpoint."""
        if subscription.endpoint_type is EndpointType.SERVICE_BUS_QUEUE:
            # The SDK takes a second to import: only where a queue is written to.
            from local.event_grid.queue_endpoint import QueueEndpoint  # noqa: PLC0415

            return QueueEndpoint(subscription, self._patience.response)
        return WebhookEndpoint(subscription, self._http, self._patience.response)

    def _show(self, subscriber: _Subscriber) -> JsonObject:
        self._close_late(subscriber)
        return {
            **subscriber.subscription.to_json(),
            "provisioning_state": subscriber.state,
            "pending": subscriber.queue.pending,
        }

    def _close_late(self, subscriber: _Subscriber) -> None:
        """A consent that did not come in time has failed."""
        late = datetime.now(UTC) > subscriber.asked_at + self._patience.scaled(_MANUAL_CONSENT)
        if late and subscriber.state == Consent.TO_BE_GIVEN:
            subscriber.state = "Failed"


def _key(topic: str, name: str) -> tuple[str, str]:
    """Names are the same in any case."""
    return topic.lower(), name.lower()


def _open(subscriber: _Subscriber) -> None:
    subscriber.state = Consent.GIVEN
    subscriber.queue.start()


def _pass_on(published: Published, subscriber: _Subscriber) -> bool:
    """Queue an event for a subscription that wants it, in that subscription's schema."""
    subscription, schema = subscriber.subscription, published.topic.input_schema
    if subscription.topic.lower() != published.topic.name.lower() or not subscription.wants(published.event, schema):
        return False
    converts = schema is Schema.EVENT_GRID and subscription.event_delivery_schema is Schema.CLOUD_EVENTS
    event = to_cloud_event(published.event) if converts else published.event
    subscriber.queue.put(Delivery(event, subscription.event_delivery_schema, published.at))
    return True
