"""What a soak consists of: the runs, the kills and the moments that these aim at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import cycle, islice
from random import Random
from typing import Literal


class Moment(StrEnum):
    """When the host is killed. The first four lie between the store's write and Airflow's answer."""

    FENCE = "before Airflow shows the task"
    PATCH_ARRIVED = "before Airflow takes the answer"
    PATCH_TAKEN = "after Airflow took the answer"
    LOOK_AGAIN = "before Airflow shows the task again"
    CREATE_RUN = "while Data Factory starts a run"
    EVENT_NOTED = "between an event and its acknowledgement"
    ANY = "at any moment"

    @property
    def is_precise(self) -> bool:
        """Whether it lies between the store's write and Airflow's answer."""
        return self in (Moment.FENCE, Moment.PATCH_ARRIVED, Moment.PATCH_TAKEN, Moment.LOOK_AGAIN)


class Pipeline(StrEnum):
    """How a run ends; one that is held goes on until somebody cancels it."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    HELD = "held"


_SHARES = (80, 12, 8)  # of a hundred runs
_TURNS = (
    Moment.FENCE,
    Moment.ANY,
    Moment.PATCH_ARRIVED,
    Moment.CREATE_RUN,
    Moment.PATCH_TAKEN,
    Moment.EVENT_NOTED,
    Moment.LOOK_AGAIN,
    Moment.ANY,
    Moment.ANY,
)


@dataclass(frozen=True)
class PlannedKill:
    """A kill that is due when so many runs have been asked for."""

    after_starts: int
    moment: Moment


@dataclass(frozen=True)
class PlannedRun:
    """A run that lasts for some time and ends in some way; a task asks for it, and parks `parks_after` its answer.

    A run that is to be cancelled goes on until somebody cancels it, after that time.
    """

    number: int
    pipeline: Pipeline
    lasts: timedelta
    parks_after: timedelta


@dataclass(frozen=True)
class Plan:
    """The numbers of a soak. A soak in a hurry shortens the bridge's leases, the runs and all pauses, and asks for a
    tick each second.
    """

    runs: int = 2_000
    kills: int = 36
    store: Literal["sqlite", "table"] = "sqlite"
    seed: int = 1
    at_once: int = 120
    starts_per_second: float = 6.0
    hurry: bool = False
    patience: timedelta = timedelta(minutes=4)
    """The soak is over when nothing has happened for so long: what is not told by then is lost."""

    @property
    def precise_kills(self) -> int:
        """How many kills are planned between the store's write and Airflow's answer."""
        return sum(kill.moment.is_precise for kill in self.schedule())

    @property
    def unknown_at_most(self) -> int:
        """How many tasks may be told that nobody knows whether a run was started, and have none: one for each kill.

        They were about to have createRun sent. A run that was started carries its key, and is always found.
        """
        return self.kills

    def schedule(self) -> Iterator[PlannedKill]:
        """Spread the kills over the runs, each somewhere in its part, and let the moments take turns."""
        chance = self._chance("kills")
        part = self.runs / max(self.kills, 1)
        for number, moment in enumerate(islice(cycle(_TURNS), self.kills)):
            yield PlannedKill(int((number + chance.uniform(0.3, 0.8)) * part), moment)

    def planned_runs(self) -> Iterator[PlannedRun]:
        """Most runs succeed, some fail, some are cancelled; they last between a moment and some seconds."""
        chance = self._chance("runs")
        for number in range(self.runs):
            (pipeline,) = chance.choices(tuple(Pipeline), _SHARES)
            lasts, parks_after = chance.uniform(0.2, 2.0 if self.hurry else 6.0), chance.uniform(0.0, 0.5)
            yield PlannedRun(number, pipeline, timedelta(seconds=lasts), timedelta(seconds=parks_after))

    def pauses(self) -> Iterator[timedelta]:
        """Draw pauses for before a kill at any moment, and for before a start."""
        chance = self._chance("pauses")
        while True:
            yield timedelta(seconds=chance.uniform(0.1, 0.5 if self.hurry else 2.0))

    def _chance(self, what: str) -> Random:
        return Random(f"{self.seed}/{what}")  # noqa: S311 - the same seed, the same plan
