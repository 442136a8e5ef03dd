"""Where a try stands among the tries of its task: why there is one, and whether Airflow may make another by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Tries:
    """What a running task instance knows of its tries."""

    number: int
    """Airflow's try_number: counts on over clears, from 1."""
    most: int
    """Airflow's max_tries: a try that fails is retried unless its number is above this."""
    retries: int
    """The task's own `retries`."""

    @classmethod
    def of(cls, ti: Any, retries: int | None) -> Tries:  # noqa: ANN401
        """Read them from a task instance that runs."""
        return cls(ti.try_number, ti.max_tries, retries or 0)

    @property
    def after(self) -> Literal["retry", "clear"] | None:
        """Why there is this try; None for the first one.

        Nothing tells a task that it was cleared, but its counters do: Airflow sets max_tries to the task's retries at
        first, and to try_number + retries at each clear (`clear_task_instances`, whoever cleared what; the scheduler
        does the same for a task that was cleared while it ran). So the first try after a clear is number
        max_tries - retries + 1, and no retry ever is. A number beyond max_tries + 1 is none that a retry can have.
        """
        if self.number <= 1:
            return None
        return "clear" if self.number == self.first or self.number > self.most + 1 else "retry"

    @property
    def first(self) -> int:
        """The first try since the task was cleared last; 1 if it never was."""
        return max(self.most - self.retries + 1, 1)

    @property
    def another_may_follow(self) -> bool:
        """Whether Airflow retries the task should this try fail; it decides so by the same two numbers."""
        return self.number <= self.most
