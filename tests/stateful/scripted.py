"""The simulator's world with chance taken out: a fault happens where it was armed, a run ends when it is told to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from bridge.model import RunKey, RunStatus
from tests.fakes.samples import cloud_event
from tests.simulate.adf import SimAdf
from tests.simulate.audit import Audit
from tests.simulate.event_grid import EventGrid
from tests.simulate.instance import Instance, Setting
from tests.simulate.timeline import Timeline
from tests.simulate.true_run import TrueRun
from tests.simulate.world import Trouble, World

# A run that nobody ends goes on for longer than any example.
_ENDLESS: Final = timedelta(days=3)
_SHORT: Final = timedelta(seconds=1)


class ScriptedTimeline(Timeline):
    """Time and faults in a test's hands; small delays are left to a seed."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.armed: Counter[str] = Counter()

    def hits(self, fault: str, probability: float, *, later: bool = False) -> bool:
        """Whether a fault was armed; it happens once."""
        return self.strikes((fault,), probability) is not None

    def strikes(self, faults: Sequence[str], probability: float) -> str | None:
        """Return the first of some faults that was armed."""
        fault = next((one for one in faults if self.armed[one]), None)
        if fault is None or not self.chaos:
            return None
        self.armed[fault] -= 1
        self.faults[fault] += 1
        return fault


class ScriptedAdf(SimAdf):
    """Runs that go on until they are ended."""

    def fate(self) -> tuple[timedelta, RunStatus]:
        """Decide nothing yet, unless all has to come to its end."""
        return (_ENDLESS if self._timeline.chaos else _SHORT), RunStatus.SUCCEEDED

    def going_on(self) -> Sequence[TrueRun]:
        """Return the runs that have not ended."""
        return [run for run in self.runs.values() if run.ends - run.started == _ENDLESS]

    def end(self, run: TrueRun, status: RunStatus) -> None:
        """End a run."""
        self.runs[run.key] = replace(run, ends=self._timeline.now(), outcome=status)


@dataclass(frozen=True)
class Letter:
    """An event that was published and not delivered yet."""

    raw: str
    key: RunKey
    is_end: bool


class ScriptedGrid(EventGrid):
    """An Event Grid that keeps what it is given until it is told what becomes of it."""

    def __init__(self, timeline: Timeline, audit: Audit, bridges: Sequence[Instance]) -> None:
        super().__init__(timeline, audit, bridges, self._itself)
        self.letters: list[Letter] = []

    @staticmethod
    def _itself(key: RunKey) -> TrueRun:
        """Refuse: no run here is wrapped."""
        raise AssertionError(key)

    def tell_of(self, run: TrueRun) -> None:
        """Publish that a run began."""
        self.publish(run.key, RunStatus.IN_PROGRESS)

    def publish(self, key: RunKey, status: RunStatus) -> None:
        """Take in an event."""
        raw = json.dumps(cloud_event(key, status.value))
        self.letters.append(Letter(raw, key, is_end=status.is_terminal))

    def deliver(self, letter: Letter) -> None:
        """Deliver an event now, and again while nobody acknowledges it."""
        self._deliver(letter.raw, letter.key, is_end=letter.is_end)


class ScriptedInstance(Instance):
    """An instance that dies where it is doomed to, and comes back when it is called."""

    doom: str | None = None

    def dies_at(self, point: str) -> bool:
        """Whether the process was doomed to die at that point."""
        if not self._timeline.chaos or str(point) != self.doom:
            return False
        self.doom = None
        self._timeline.points[str(point)] += 1
        return True

    def _come_back_later(self) -> None:
        """Stay away until it is called."""

    def die(self) -> None:
        """Die now."""
        self._die(self.life)


class ScriptedWorld(World):
    """The world, made of the scripted parts. Pipelines have no wrappers in it."""

    wrapping = None

    def __init__(self, seed: int) -> None:
        self.script = ScriptedTimeline(str(seed))
        self.actors: list[ScriptedInstance] = []
        super().__init__(self.script, Trouble())

    def make_adf(self, trouble: float) -> SimAdf:
        """Make the ADF that ends runs when it is told to."""
        self.factory = ScriptedAdf(self.timeline, trouble, self.tell_of)
        return self.factory

    def make_bridge(self, setting: Setting) -> Instance:
        """Make an instance that dies when it is told to."""
        self.actors.append(ScriptedInstance(setting))
        return self.actors[-1]

    def make_grid(self, drops: float) -> EventGrid:
        """Make the Event Grid that delivers when it is told to."""
        self.post = ScriptedGrid(self.timeline, self.audit, self.bridges)
        return self.post
