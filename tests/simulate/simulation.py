"""Episode after episode, until there were enough runs or a promise was broken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bridge.model import TimelineEntry
from tests.simulate.breaks import BREAKS
from tests.simulate.timeline import Violation
from tests.simulate.world import Episode


@dataclass
class Simulated:
    """What a simulation came to: counts, and the first violation with the story of its wait and its task's requests."""

    runs: int = 0
    episodes: int = 0
    seconds: float = 0.0
    most_attempts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
    story: Sequence[TimelineEntry] = ()
    records: Sequence[str] = ()


def simulate(seed: int, runs: int, *, rule: str | None = None, episode: int | None = None) -> Simulated:
    """Simulate at least so many runs, or one episode; stop at the first violation."""
    found = Simulated()
    began = time.perf_counter()
    with ExitStack() as stack:
        if rule is not None:
            stack.enter_context(BREAKS[rule]())
        number = episode if episode is not None else 0
        while found.violation is None and found.runs < runs:
            _live(found, Episode(f"{seed}/{number}"))
            found.episodes = number + 1
            number += 1
            if episode is not None:
                break
    found.seconds = time.perf_counter() - began
    return found


def _live(found: Simulated, world: Episode) -> None:
    try:
        told = world.run()
    except Violation as violation:
        wait = world.audit.wait(violation.token)
        found.violation, found.story = violation, wait.timeline if wait is not None else ()
        found.records = world.starts.records(violation.token)
        found.runs += len(world.adf.runs)
        return
    found.runs += told.runs
    found.outcomes.update(told.outcomes)
    found.most_attempts = max(found.most_attempts, told.most_attempts)
    for counts, more in (
        (found.faults, world.timeline.faults),
        (found.points, world.timeline.points),
        (found.shown, world.timeline.shown),
        (found.happened, world.timeline.happened),
    ):
        counts.update(more)
