"""What a sweep of a factory looks at: one window of changed runs for all waits, never a call per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge import policy
from bridge.model import RunReading, Sweep
from bridge.policy import Rules
from bridge.ports import OpenWait, RunsPage


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The runs that somebody waits for, and the window to look in, by ADF's clock; or reading each by itself."""

    runs: frozenset[str]
    matches: Mapping[str, str]  # run ids that stand for a run of that pipeline
    since: datetime
    until: datetime
    one_by_one: bool

    @property
    def ended(self) -> bool:
        """Whether only what has ended is news. A wait by match is told which run it waits for when that begins."""
        return not self.matches


def is_sweep_due(sweep: Sweep, now: datetime) -> bool:
    """Whether it is time for a factory's next sweep."""
    return sweep.next_at is None or now >= sweep.next_at


def take_sweep(sweep: Sweep, now: datetime, rules: Rules) -> Sweep:
    """Return the sweep as taken by this instance: the next one is an interval away, whatever becomes of this one."""
    return replace(sweep, next_at=now + rules.sweep)


def forget_coverage(sweep: Sweep) -> Sweep:
    """Return the sweep of a factory that nobody waits for: it is not looked at, so nothing is covered any more."""
    return replace(sweep, covered_until=None)


def plan_sweep(sweep: Sweep, waits: Sequence[OpenWait], now: datetime) -> SweepPlan:
    """Plan a sweep that misses no change since the last one, or, where nothing is covered, since a wait registered.

    When it registers a wait is up to date: its run was just started, or was read then.
    """
    since = _since(sweep, waits)
    adf_now = now + sweep.ahead
    runs = frozenset(wait.run_id for wait in waits)
    window = adf_now - since
    few = len(runs) <= window / timedelta(hours=1) * policy.SINGLE_READS_PER_HOUR
    return SweepPlan(
        runs=runs,
        matches={wait.run_id: wait.pipeline for wait in waits if wait.pipeline is not None},
        since=since,
        until=adf_now + policy.CLOCK_DOUBT,
        one_by_one=window > policy.SINGLE_READS_FROM and few,
    )


def _since(sweep: Sweep, waits: Sequence[OpenWait]) -> datetime:
    """Return since when changes are looked for. What is covered is by ADF's clock: no instance's own comes into it."""
    if sweep.covered_until is not None:
        return sweep.covered_until - policy.SWEEP_OVERLAP
    return min(wait.registered_at for wait in waits) + sweep.ahead - policy.CLOCK_DOUBT


def completed_sweep(sweep: Sweep, started: datetime, told_at: datetime | None, heard_at: datetime) -> Sweep:
    """Return the sweep after everything up to its start was looked at, for the waits that there were then.

    `told_at` is ADF's clock in its first answer, which was heard at `heard_at`.
    """
    ahead = told_at - heard_at if told_at is not None else sweep.ahead
    return replace(sweep, covered_until=started + ahead, ahead=ahead)


def news(page: RunsPage, runs: frozenset[str]) -> Sequence[tuple[str, RunReading]]:
    """Return what a page says of runs that somebody waits for and that have ended."""
    return [
        (run_id, reading)
        for run_id, reading in page.readings.items()
        if run_id in runs and reading.status is not None and reading.status.is_terminal
    ]


def is_child(reading: RunReading) -> bool:
    """Whether ADF says that a run was started by its own wrapper."""
    if reading.pipeline is None or reading.parent_pipeline is None:
        return False
    return policy.wrapper_of(reading.pipeline).lower() == reading.parent_pipeline.lower()


def childrens_news(page: RunsPage, runs: frozenset[str]) -> Sequence[tuple[str, str, RunReading]]:
    """Return what a page says of ended runs whose wrappers somebody waits for: the wrapper, the run, the reading."""
    children = frozenset(run_id for run_id, reading in page.readings.items() if is_child(reading))
    ended = [(reading.parent_run_id or "", run_id, reading) for run_id, reading in news(page, children)]
    return [one for one in ended if one[0] in runs]


def to_look_at(page: RunsPage, matches: Mapping[str, str]) -> Sequence[str]:
    """Return which of the waits by match a page may have brought something new for: their pipelines have changed."""
    changed = {(reading.pipeline or "").lower() for reading in page.readings.values()}
    return [run_id for run_id, pipeline in matches.items() if pipeline in changed]
