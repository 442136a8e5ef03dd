"""What became of the tasks of a row, and whether that is what was promised."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Seen:
    """What became of a task.

    `runs`: how many runs Data Factory has had for it; `resumed`: how often `execute_complete` ran, for each try;
    `took`: from its run's end.
    """

    name: str
    state: str
    own_outcome: bool
    runs: int
    resumed: tuple[int, ...]
    took: timedelta | None

    @property
    def is_completed(self) -> bool:
        """Whether it was told how its own run ended."""
        return self.state == "success" and self.own_outcome


@dataclass(frozen=True)
class Result:
    """A row: an outage, the tasks whose runs ended around it, and what else was seen.

    `trouble` says why the outage was not the one that was meant, if so.
    """

    name: str
    tasks: Sequence[Seen]
    meanwhile: str
    trouble: str = ""

    @property
    def completed(self) -> int:
        """How many tasks were told how their runs ended."""
        return sum(one.is_completed for one in self.tasks)

    @property
    def lost(self) -> int:
        """How many were not."""
        return len(self.tasks) - self.completed

    @property
    def resumed(self) -> str:
        """How often `execute_complete` ran in a try: "1" where it was the same in all, else "1 ×11, 2 ×1"."""
        counts = Counter(count for one in self.tasks for count in one.resumed)
        if len(counts) == 1:
            return str(next(iter(counts)))
        return ", ".join(f"{count} ×{tries}" for count, tries in sorted(counts.items()))

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Median and most, from a run's end to its task's; None where no task has ended."""
        took = [one.took.total_seconds() for one in self.tasks if one.took is not None]
        return (statistics.median(took), max(took)) if took else None

    @property
    def wrong(self) -> list[str]:
        """What is not as it was promised."""
        found = [self.trouble] if self.trouble else []
        if not self.tasks:
            found.append("there was no task")
        for one in self.tasks:
            if not one.is_completed:
                outcome = "its run's own outcome" if one.own_outcome else "nothing of its run's outcome"
                found.append(f"{one.name} is {one.state} and has {outcome}")
            if not one.resumed or set(one.resumed) != {1}:
                found.append(f"{one.name} was resumed {', '.join(map(str, one.resumed)) or 'no'} time(s), try by try")
            if one.runs != len(one.resumed):
                found.append(f"{one.name} has had {one.runs} run(s) in {len(one.resumed)} tries")
        return found


def is_well(results: Sequence[Result]) -> bool:
    """Whether there was a row, and every row was as promised."""
    return bool(results) and not any(one.wrong for one in results)
