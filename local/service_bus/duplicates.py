"""Duplicate detection: a message whose id came within the window before is accepted, and dropped.

https://learn.microsoft.com/azure/service-bus-messaging/duplicate-detection
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta

from local.service_bus.journal import Journal


class Duplicates:
    """The message ids of the last `window`, each with the time until which it counts."""

    def __init__(self, queue: str, window: timedelta | None, journal: Journal) -> None:
        """Without a window nothing is a duplicate."""
        self._queue = queue
        self._window = window
        self._journal = journal
        self._known: OrderedDict[str, datetime] = OrderedDict()

    def restore(self, known: Mapping[str, datetime]) -> None:
        """Take up what was written down."""
        self._known.update(sorted(known.items(), key=lambda one: one[1]))

    def is_one(self, message_id: str | None, now: datetime) -> bool:
        """Whether such a message came already. If not, it has now."""
        if self._window is None or not message_id:
            return False
        self._forget_old(now)
        if message_id in self._known:
            return True
        self._known[message_id] = now + self._window
        self._journal.remember(self._queue, message_id, self._known[message_id])
        return False

    def _forget_old(self, now: datetime) -> None:
        while self._known and next(iter(self._known.values())) <= now:
            message_id, _ = self._known.popitem(last=False)
            self._journal.forget(self._queue, message_id)
