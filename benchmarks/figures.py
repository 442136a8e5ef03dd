"""What was measured, put into figures and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.load import Delivery

RATIO_AT_MOST: Final = 2.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all do not exceed (nearest rank); of none, infinity."""
    if not values:
        return math.inf
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Phase:
    """What became of the events of one target in one phase. Times are seconds.

    `latencies` run from sending an event to its task being resumed; `answers` until the webhook has answered.
    """

    sent: int
    accepted: int
    resumed_once: int
    latencies: Sequence[float]
    answers: Sequence[float]
    lateness: Sequence[float]

    @classmethod
    def of(cls, deliveries: Sequence[Delivery], resumed: Mapping[str, Mapping[str, Any]]) -> Phase:
        """Put an Airflow's word on which tasks were resumed, by task, beside the deliveries."""
        found = [(one, resumed[one.waiting.task_id]) for one in deliveries if one.waiting.task_id in resumed]
        return cls(
            sent=len(deliveries),
            accepted=sum(one.accepted for one in deliveries),
            resumed_once=sum(task["sent"] == 1 for _, task in found),
            # The sweep may have seen the end of the run before the event said so.
            latencies=[max(0.0, task["at"] - one.sent_at) for one, task in found],
            answers=[one.answered_after for one in deliveries],
            lateness=[one.late for one in deliveries],
        )

    @property
    def p99(self) -> float:
        """The 99th percentile of the latencies."""
        return percentile(self.latencies, 99)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the verdict needs.

    `slow_kept` counts the slow target's waits that were open, due or delivered at the end of the load, while it was
    still slow; `slow_callers` are those who waited for its answers at once, at most.
    """

    alone: Phase
    together: Phase
    slow: Phase
    slow_kept: int
    slow_callers: int
    drain_seconds: float

    @property
    def ratio(self) -> float:
        """The fast target's p99 beside the slow one, over its p99 alone."""
        return self.together.p99 / self.alone.p99


def broken(found: Measured) -> list[str]:
    """Return what does not hold, in words; nothing when all does."""
    phases = (found.alone, found.together, found.slow)
    checks = {
        f"the ratio is over {RATIO_AT_MOST:g}": found.ratio > RATIO_AT_MOST,
        "an event was not acknowledged, or too late": any(phase.accepted != phase.sent for phase in phases),
        "a wait for the slow target was lost": found.slow_kept != found.slow.sent,
        "a task was not resumed in time, or not exactly once": any(
            phase.resumed_once != phase.sent for phase in phases
        ),
    }
    return [words for words, wrong in checks.items() if wrong]


def report(found: Measured) -> str:
    """Return the figures, for a person."""
    rows = [("fast, alone", found.alone), ("fast, together", found.together), ("slow, together", found.slow)]
    columns = ("events", "accepted", "resumed", "p50", "p99", "max", "max answer", "sender late")
    head = "".join(f"{name:>12}" for name in columns)
    lines = [
        f"{'':14}{head}",
        *(_row(name, phase) for name, phase in rows),
        f"p99 of the fast target: {found.ratio:.2f} x its p99 alone",
        f"slow target, while slow: {found.slow_callers} calls at once at most, {found.slow_kept} waits kept",
        f"slow target, quick again: {found.slow.resumed_once} tasks were resumed after {found.drain_seconds:.0f} s",
    ]
    return "\n".join(lines)


def _row(name: str, phase: Phase) -> str:
    counts = "".join(f"{count:>12}" for count in (phase.sent, phase.accepted, phase.resumed_once))
    marks = [percentile(phase.latencies, percent) for percent in (50, 99, 100)]
    times = (*marks, percentile(phase.answers, 100), percentile(phase.lateness, 99))
    return f"{name:14}{counts}{''.join(_time(seconds) for seconds in times)}"


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return f"{'-':>12}"
    return f"{seconds:>10.1f} s" if seconds >= 1 else f"{seconds * 1000:>9.0f} ms"
