"""Messages that wait for a receiver, in the order of their sequence numbers."""

import heapq
from collections.abc import Mapping

from local.service_bus.message import Message


class Backlog:
    """The sequence numbers of available messages. A number whose message is no longer available counts for nothing."""

    def __init__(self, messages: Mapping[int, Message]) -> None:
        """`messages` are those of the queue, by sequence number."""
        self._messages = messages
        self._waiting: list[int] = []

    def add(self, sequence_number: int) -> None:
        """A message has become available."""
        heapq.heappush(self._waiting, sequence_number)

    def first(self) -> Message | None:
        """The available message with the lowest number."""
        while self._waiting:
            message = self._messages.get(self._waiting[0])
            if message is not None and message.available:
                return message
            heapq.heappop(self._waiting)
        return None
