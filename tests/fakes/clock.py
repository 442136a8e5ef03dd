"""Time and chance, both in the test's hands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class VirtualClock:
    """Time that only moves when somebody waits. What was planned for a moment happens when time passes it."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._plans: list[tuple[datetime, Callable[[], None]]] = []
        self._lock = threading.RLock()

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def sleep_until(self, when: datetime) -> None:
        """Let time pass until `when`, doing what was planned on the way."""
        with self._lock:
            while due := [plan for plan in self._plans if plan[0] <= when]:
                plan = min(due, key=lambda one: one[0])
                self._plans.remove(plan)
                self._now = max(self._now, plan[0])
                plan[1]()
            self._now = max(self._now, when)

    def advance(self, duration: timedelta) -> None:
        """Let this much time pass."""
        self.sleep_until(self._now + duration)

    def show(self, now: datetime) -> None:
        """Show another time, as the clock of another instance does; nothing happens by that."""
        self._now = now

    def after(self, duration: timedelta, action: Callable[[], None]) -> None:
        """Plan something."""
        self._plans.append((self._now + duration, action))


class ScriptedRandom:
    """Chance as written down; when the script ends, always the middle."""

    def __init__(self, fractions: Iterable[float] = ()) -> None:
        self._fractions = iter(fractions)

    def fraction(self) -> float:
        """Return the next number."""
        return next(self._fractions, 0.5)
