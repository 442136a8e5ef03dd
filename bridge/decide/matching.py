"""Which run a wait by match means, and whom else an answer of ADF's serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bridge import policy
from bridge.model import Match, Run, RunEvent, RunReading, same_pipeline
from bridge.ports import FoundRun, Refusal


@dataclass(frozen=True, slots=True)
class Searched:
    """A search for the earliest run that a match takes, and what came of it."""

    match: Match
    found: FoundRun | Refusal | None
    at: datetime

    def answers(self, match: Match) -> bool:
        """Whether another match would find the same: nothing begins between its moment and the run, or nothing at all.

        So the waits for a pipeline's next run, each from its own moment on, need one search, the earliest of them.
        """
        if match == self.match:
            return True
        same = same_pipeline(match.pipeline, self.match.pipeline) and set(match.statuses) == set(self.match.statuses)
        if not same or match.since < self.match.since or isinstance(self.found, Refusal):
            return False
        began = self.found.reading.run_start if self.found is not None else None
        return self.found is None or (began is not None and match.since <= began)


def is_news(at: datetime, known: Run | None, now: datetime) -> bool:
    """Whether what ADF said lately is news for a row: it was not asked about it since, and no event has come since."""
    if known is None or now - at > policy.ANSWER_STANDS:
        return False
    return (known.read_at is None or at > known.read_at) and (known.hint_at is None or at >= known.hint_at)


def is_meant(event: RunEvent, known: Run | None) -> bool:
    """Whether an event may be about what is waited for: once a match has found a run, other runs are not."""
    if known is None or known.match is None:
        return True
    return known.watched_run_id in (None, event.run_id)


def may_end(readings: Mapping[str, RunReading], known: Run | None) -> bool:
    """Whether a page brings a wait by match forward: the run that it found has ended, or there is one to find."""
    if known is None or known.match is None or known.has_ended:
        return False
    if known.watched_run_id is None:
        return any(known.match.takes(reading) for reading in readings.values())
    found = readings.get(known.watched_run_id)
    return found is not None and found.status is not None and found.status.is_terminal


def earlier(one: FoundRun | None, other: FoundRun | None) -> FoundRun | None:
    """Return which of two runs began first; ADF may know a run by its id a moment before it finds it."""
    if one is None or other is None:
        return one or other
    began, other_began = one.reading.run_start, other.reading.run_start
    return other if began is None or (other_began is not None and other_began < began) else one


def since_of(known: Run | None) -> float:
    """Return the order in which waits by match are searched for, so that one search serves as many as it can."""
    return known.match.since.timestamp() if known is not None and known.match is not None else 0.0
