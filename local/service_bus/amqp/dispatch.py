"""Who gets what is available: receivers with credit take turns, and those who wait for a session get one."""

from collections import defaultdict
from typing import TYPE_CHECKING

from local.service_bus.amqp.waiting import Waiting
from local.service_bus.queue import Queue
from local.service_bus.sessions import Holder

if TYPE_CHECKING:
    from local.service_bus.amqp.consumer import Consumer


class Dispatch:
    """The receivers of every queue."""

    def __init__(self) -> None:
        """Begin without any."""
        self._consumers: dict[str, list[Consumer]] = defaultdict(list)
        self._waiting: dict[str, list[Waiting]] = defaultdict(list)
        self._woken: dict[str, Queue] = {}

    def add(self, consumer: "Consumer") -> None:
        """A receiver is attached."""
        self._consumers[consumer.queue.name].append(consumer)
        self.wake(consumer.queue)

    def remove(self, consumer: "Consumer") -> None:
        """A receiver is gone, or no longer waits."""
        if consumer in self._consumers[consumer.queue.name]:
            self._consumers[consumer.queue.name].remove(consumer)
        waiting = self._waiting[consumer.queue.name]
        for one in [one for one in waiting if one.consumer is consumer]:
            one.timer.cancel()
            waiting.remove(one)

    def wait(self, waiting: Waiting) -> None:
        """A receiver waits for the next available session."""
        self._waiting[waiting.consumer.queue.name].append(waiting)
        self.wake(waiting.consumer.queue)

    def wake(self, queue: Queue) -> None:
        """Something about a queue has changed: see who can get something."""
        self._woken[queue.name] = queue

    def lost(self, queue: Queue, holder: Holder) -> None:
        """A receiver's session lock has expired."""
        for consumer in [one for one in self._consumers[queue.name] if one.holder == holder]:
            consumer.lost_session()

    @property
    def idle(self) -> bool:
        """Whether nothing has changed since everything was handed out."""
        return not self._woken

    def run(self) -> None:
        """Hand out what can be handed out."""
        while self._woken:
            _, queue = self._woken.popitem()
            self._give_sessions(queue)
            self._give_messages(queue)

    def _give_sessions(self, queue: Queue) -> None:
        waiting = self._waiting[queue.name]
        while waiting and waiting[0].try_again():
            waiting.pop(0).timer.cancel()

    def _give_messages(self, queue: Queue) -> None:
        """In turns: a receiver that got something goes to the end of the line."""
        line = self._consumers[queue.name]
        served = True
        while served:
            served = False
            for consumer in list(line):
                if consumer.hand_out():
                    served = True
                    line.remove(consumer)
                    line.append(consumer)
        for consumer in list(line):
            consumer.drain()
