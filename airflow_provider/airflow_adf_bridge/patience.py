"""How long a call of the bridge is repeated, and how often that is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

LONGEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE_WHILE_QUEUED = timedelta(minutes=5)
"""Asking for a run calls Data Factory, whose quota is counted by calls; so a full queue is asked less often."""
SAID_EVERY = timedelta(minutes=10)
"""How often a start that Data Factory delays is mentioned in the log."""


class Patience:
    """The time that one call has: `patience` without a usable answer, in all, or since Data Factory last put it off.

    While Data Factory has too many runs queued, the call is repeated for `queue_patience`: that the bridge says so
    shows that the bridge is there.
    """

    def __init__(
        self, clock: Callable[[], float], patience: timedelta, queue_patience: timedelta | None = None
    ) -> None:
        """Begin now."""
        self.attempts = 0
        self.queued = False
        self._clock = clock
        self.seconds = patience.total_seconds()
        now = clock()
        self._end = now + self.seconds
        self._queue_end = None if queue_patience is None else now + queue_patience.total_seconds()
        self._said_at: float | None = None

    def failed(self, wanted: timedelta | None, *, queued: bool) -> float | None:
        """Count an attempt, and return the seconds before the next one; None when there is no time for it."""
        self.attempts += 1
        self.queued = queued and self._queue_end is not None
        now = self._clock()
        if self.queued and self._queue_end is not None:
            pause = _pause_before(self.attempts, wanted, LONGEST_PAUSE_WHILE_QUEUED)
            self._end = max(self._end, min(now + pause + self.seconds, self._queue_end))
            return pause if now + pause < self._queue_end else None
        left = self._end - now
        return min(_pause_before(self.attempts, wanted, LONGEST_PAUSE), left) if left > 0 else None

    def is_to_be_said(self) -> bool:
        """Whether the log is to have a line about this attempt: always, but for a full queue now and then."""
        now = self._clock()
        if self.queued and self._said_at is not None and now - self._said_at < SAID_EVERY.total_seconds():
            return False
        self._said_at = now if self.queued else None
        return True


def _pause_before(attempt: int, wanted: timedelta | None, longest: timedelta) -> float:
    """Seconds before the next attempt: what the bridge asked for, else doubling with jitter; at most `longest`."""
    most = longest.total_seconds()
    if wanted is not None:
        return min(max(wanted.total_seconds(), 0.5), most)
    return min(2.0 ** min(attempt - 1, 10), most) * random.uniform(0.75, 1.25)  # noqa: S311 (jitter is no cryptography)
