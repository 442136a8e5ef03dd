"""The queues of one namespace, by their addresses."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from local.service_bus.description import QueueDescription
from local.service_bus.errors import EntityNotFoundError
from local.service_bus.queue import Queue
from local.service_bus.storage import Storage


class Namespace:
    """Every queue with its dead letters, as they were left in the storage."""

    def __init__(self, descriptions: Iterable[QueueDescription], storage: Storage, now: datetime) -> None:
        """Make the queues, and fill them."""
        self.storage = storage
        self._queues: dict[str, Queue] = {}
        for description in descriptions:
            dead_letters = Queue(description.dead_letters, storage)
            storage.load(dead_letters, now)
            queue = Queue(description, storage, dead_letters)
            storage.load(queue, now)
            self._queues |= {one.name.lower(): one for one in (queue, dead_letters)}
        storage.commit()

    def __iter__(self) -> Iterator[Queue]:
        """Every queue, those of dead letters included."""
        return iter(self._queues.values())

    def find(self, address: str) -> Queue:
        """The queue of an address, in any case. Raises EntityNotFoundError."""
        queue = self._queues.get(address.strip("/").lower())
        if queue is None:
            raise EntityNotFoundError(address)
        return queue

    @property
    def next_due(self) -> datetime | None:
        """When a queue will have something to do."""
        return min((queue.next_due for queue in self if queue.next_due is not None), default=None)

    def advance(self, now: datetime) -> None:
        """Let every queue do what was due until now."""
        for queue in self:
            queue.advance(now)
