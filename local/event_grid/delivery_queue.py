"""The queue of one subscription: delivers at least once, tries again on the schedule, and gives up into a
file.

See https://learn.microsoft.com/azure/event-grid/delivery-and-retry
"""

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from local.event_grid.dead_letter import DeadLetters
from local.event_grid.delivery import Attempt, Delivery, DeliveryLog
from local.event_grid.endpoint import Endpoint
from local.event_grid.retry import SUCCESS, Probation, never_again, outcome_of, wait_before
from local.event_grid.subscription import Subscription

_log = logging.getLogger(__name__)

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Patience:
    """How time passes: every wait and time to live is multiplied by `clock_factor`; an answer may take
    `response`.
    """

    clock_factor: float
    response: timedelta

    def scaled(self, wait: timedelta) -> timedelta:
        """A time of the service's as it is here."""
        return wait * self.clock_factor


class DeliveryQueue:
    """Delivers one subscription's events, several at a time and in no promised order."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        endpoint: Endpoint,
        patience: Patience,
        log: DeliveryLog,
        dead_letters: DeadLetters,
    ) -> None:
        """Put the parts together. Deliveries begin with `start`."""
        self.subscription = subscription
        self._endpoint = endpoint
        self._patience = patience
        self._log = log
        self._dead_letters = dead_letters
        self._due: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._probation = Probation()
        self._left_alone_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    @property
    def pending(self) -> int:
        """How many events are neither delivered nor given up, without those that are being sent."""
        return len(self._due) + self._waiting

    def start(self) -> None:
        """Begin to deliver."""
        self._keep(asyncio.create_task(self._deliver_forever()))

    async def stop(self) -> None:
        """Stop, and forget what is pending."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._endpoint.close()

    def put(self, delivery: Delivery) -> None:
        """Deliver this as soon as there is a place."""
        self._due.append(delivery)
        self._wake.set()

    def _put_later(self, delivery: Delivery, wait: timedelta) -> None:
        self._waiting += 1
        asyncio.get_running_loop().call_later(wait.total_seconds(), self._put_back, delivery)

    def _put_back(self, delivery: Delivery) -> None:
        self._waiting -= 1
        self.put(delivery)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """Let a task go. One that crashed is a fault of this stand-in, and its events are lost: say so."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a delivery crashed", exc_info=error)

    async def _deliver_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._wake.wait()
            if (pause := self._left_alone_until - clock()) > 0:
                await asyncio.sleep(pause)
                continue
            await self._places.acquire()
            size = min(len(self._due), self.subscription.max_events_per_batch)
            batch = [self._due.popleft() for _ in range(size)]
            if not self._due:
                self._wake.clear()
            self._keep(asyncio.create_task(self._deliver(batch)))

    async def _deliver(self, batch: list[Delivery]) -> None:
        """Attempt one request, and judge each of its events: a batch succeeds or fails as a whole."""
        try:
            batch = [delivery for delivery in batch if not self._expired(delivery)]
            if batch:
                await self._attempt(batch)
        finally:
            self._places.release()

    async def _attempt(self, batch: list[Delivery]) -> None:
        loop, at = asyncio.get_running_loop(), datetime.now(UTC)
        begin = loop.time()
        status = await self._endpoint.send(batch)
        seconds = loop.time() - begin
        if status in SUCCESS:
            self._probation.succeeded()
        elif pause := self._probation.failed():
            self._left_alone_until = loop.time() + self._patience.scaled(pause).total_seconds()
        for delivery in batch:
            delivery.attempts += 1
            delivery.last_attempt_at = at
            verdict = self._judge(delivery, status)
            attempt = Attempt(
                event_id=delivery.event_id,
                topic=self.subscription.topic,
                subscription=self.subscription.name,
                number=delivery.attempts,
                status=status,
                outcome=outcome_of(status),
                verdict=verdict,
                at=at,
                seconds=seconds,
            )
            self._log.add(attempt)

    def _judge(self, delivery: Delivery, status: int | None) -> str:
        """Settle a delivery after an attempt: done, again later, or never again."""
        if status in SUCCESS:
            return "delivered"
        reason = never_again(self.subscription.endpoint_type, status)
        if reason is None and delivery.attempts >= self.subscription.max_delivery_attempts:
            reason = "MaxDeliveryAttemptsExceeded"
        wait = self._patience.scaled(wait_before(delivery.attempts + 1, status)) * random.uniform(1.0, 1.2)
        if reason is None and datetime.now(UTC) + wait >= self._end_of_life(delivery):
            reason = "TimeToLiveExceeded"
        if reason is None:
            self._put_later(delivery, wait)
            return "retry"
        self._give_up(delivery, reason, outcome_of(status))
        return "dead-lettered"

    def _expired(self, delivery: Delivery) -> bool:
        """Give up an event that waited for too long while the endpoint was left alone."""
        if datetime.now(UTC) < self._end_of_life(delivery):
            return False
        self._give_up(delivery, "TimeToLiveExceeded", "Probation")
        return True

    def _end_of_life(self, delivery: Delivery) -> datetime:
        life = timedelta(minutes=self.subscription.event_time_to_live_in_minutes)
        return delivery.published_at + self._patience.scaled(life)

    def _give_up(self, delivery: Delivery, reason: str, outcome: str) -> None:
        self._dead_letters.write(
            delivery,
            topic=self.subscription.topic,
            subscription=self.subscription.name,
            reason=reason,
            outcome=outcome,
        )
