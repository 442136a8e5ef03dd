"""What a sweep of a factory looks at: one window of changed runs for all waits, never a call per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge import policy
from bridge.model import RunReading, Sweep, same_pipeline
from bridge.policy import Rules
from bridge.ports import OpenWait, Refusal, RefusalKind, RunsPage


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

    @property
    def parts(self) -> Sequence[SweepPlan]:
        """The plan in windows of an hour, the oldest first, and what is left; the last one reaches beyond now."""
        parts: list[SweepPlan] = []
        since = self.since
        while self.until - policy.CLOCK_DOUBT - since > policy.SWEEP_PART:
            parts.append(replace(self, since=since, until=since + policy.SWEEP_PART))
            since += policy.SWEEP_PART
        return [*parts, replace(self, since=since)]


def is_sweep_due(sweep: Sweep, now: datetime) -> bool:
    """Whether it is time for a factory's next sweep."""
    return sweep.next_at is None or now >= sweep.next_at


def take_sweep(sweep: Sweep, now: datetime, rules: Rules) -> Sweep:
    """Return the sweep as taken by this instance: the next one is an interval away, whatever becomes of this one."""
    return replace(sweep, next_at=now + rules.sweep)


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
        one_by_one=sweep.begun_at is not None or (window > policy.SINGLE_READS_FROM and few),
    )


def _since(sweep: Sweep, waits: Sequence[OpenWait]) -> datetime:
    """Return since when changes are looked for. What is covered is by ADF's clock: no instance's own comes into it."""
    if sweep.covered_until is not None:
        return sweep.covered_until - policy.SWEEP_OVERLAP
    return min(wait.registered_at for wait in waits) + sweep.ahead - policy.CLOCK_DOUBT


def by_adfs_clock(sweep: Sweep, told_at: datetime | None, heard_at: datetime) -> Sweep:
    """Return the sweep with what ADF's clock was in an answer that was heard then, if it told."""
    return replace(sweep, ahead=told_at - heard_at) if told_at is not None else sweep


def covering(sweep: Sweep, part: SweepPlan, started: datetime) -> Sweep:
    """Return the sweep after all pages of a window were looked at, for the waits that there were at its start."""
    return replace(sweep, covered_until=min(started + sweep.ahead, part.until))


def to_read(sweep: Sweep, plan: SweepPlan) -> Sequence[str]:
    """Return the runs to read one by one: all, or those that the sweeps before have not come to."""
    return sorted(run_id for run_id in plan.runs if run_id > sweep.read_up_to)


def is_passed(refusal: Refusal, sweep: Sweep, *, reads: int) -> bool:
    """Whether a run that ADF would not show is left to its own next reading, that it holds up no other.

    The first of all tells nothing: it may be that ADF shows none.
    """
    return refusal.kind is RefusalKind.UNAVAILABLE and (reads > 1 or sweep.begun_at is not None)


def begun_sweep(sweep: Sweep, started: datetime, *, read_up_to: str = "") -> Sweep:
    """Return a sweep that could not come to its end: the next one goes on to read one by one what is left."""
    return replace(sweep, begun_at=sweep.begun_at or started, read_up_to=max(sweep.read_up_to, read_up_to))


def completed_sweep(sweep: Sweep, started: datetime) -> Sweep:
    """Return the sweep after every run was read that there was a wait for when that began."""
    return replace(sweep, covered_until=(sweep.begun_at or started) + sweep.ahead, begun_at=None, read_up_to="")


def news(page: RunsPage, runs: frozenset[str]) -> Sequence[tuple[str, RunReading]]:
    """Return what a page says of runs that somebody waits for and that have ended."""
    return [
        (run_id, reading)
        for run_id, reading in page.readings.items()
        if run_id in runs and reading.status is not None and reading.status.is_terminal
    ]


def is_child(reading: RunReading) -> bool:
    """Whether ADF says that a run was started by its own wrapper."""
    return reading.pipeline is not None and same_pipeline(policy.wrapper_of(reading.pipeline), reading.parent_pipeline)


def childrens_news(page: RunsPage, runs: frozenset[str]) -> Sequence[tuple[str, str, RunReading]]:
    """Return what a page says of ended runs whose wrappers somebody waits for: the wrapper, the run, the reading."""
    children = frozenset(run_id for run_id, reading in page.readings.items() if is_child(reading))
    ended = [(reading.parent_run_id or "", run_id, reading) for run_id, reading in news(page, children)]
    return [one for one in ended if one[0] in runs]


def to_look_at(page: RunsPage, matches: Mapping[str, str]) -> Sequence[str]:
    """Return which of the waits by match a page may have brought something new for: their pipelines have changed."""
    changed = {(reading.pipeline or "").lower() for reading in page.readings.values()}
    return [run_id for run_id, pipeline in matches.items() if pipeline in changed]
