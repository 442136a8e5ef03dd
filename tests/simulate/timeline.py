"""Virtual time: what is planned happens in order, and nothing else makes time pass."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Final

from tests.fakes.clock import START

_DEEPEST: Final = 2


class Violation(Exception):  # noqa: N818 - what the simulator looks for
    """The world got into a state that the bridge promises to avoid; `token` names the wait."""

    def __init__(self, rule: str, detail: str, token: str = "") -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.token = token


class Timeline:
    """Time, chance, and the count of everything that went wrong on purpose. Seconds are counted from the start."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)  # noqa: S311 - the same seed, the same world
        self.faults: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.shown: Counter[str] = Counter()
        self.seconds = 0.0
        self.chaos = True
        self._now = START
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._depth = 0

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def sleep_until(self, when: datetime) -> None:
        """Refuse: a use case that waits is parked by its instance."""
        raise AssertionError(when)

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self.random.random()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan something."""
        self._planned += 1
        heapq.heappush(self._plans, (self.seconds + seconds, self._planned, action))

    def at(self, when: datetime, action: Callable[[], None]) -> None:
        """Plan something for a time, at the earliest now."""
        self.after(max(0.0, (when - self._now).total_seconds()), action)

    def step(self) -> None:
        """Let the next thing happen."""
        self.seconds, _, action = heapq.heappop(self._plans)
        self._now = START + timedelta(seconds=self.seconds)
        action()

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is planned until then."""
        until = self.seconds + seconds
        while self._plans and self._plans[0][0] <= until:
            self.step()
        if until > self.seconds:
            self.seconds = until
            self._now = START + timedelta(seconds=until)

    def meanwhile(self, seconds: float) -> None:
        """Let time pass inside of what happens now, as in a call that is slow. Not without end: calls are nested."""
        if self._depth < _DEEPEST:
            self._depth += 1
            try:
                self.advance(seconds)
            finally:
                self._depth -= 1

    def hits(self, fault: str, probability: float, *, later: bool = False) -> bool:
        """Whether a fault happens here; it is counted. None does once the quiet has begun, but for one of `later`."""
        if not (self.chaos or later) or self.random.random() >= probability:
            return False
        self.faults[fault] += 1
        return True

    def strikes(self, faults: Sequence[str], probability: float) -> str | None:
        """Return which of some faults happens here, if one does; it is counted."""
        if not self.chaos or self.random.random() >= probability:
            return None
        fault = self.random.choice(faults)
        self.faults[fault] += 1
        return fault
