"""Asking ADF, and remembering for the length of one event, one sweep or one tick what it said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from bridge import decide, policy
from bridge.commands import FindRun, Now, Point, ReadFailedActivity, ReadRun, UseCase, do
from bridge.errors import AdfThrottled, AdfUnavailable
from bridge.model import FactoryId, FailedActivity, Match, Run, RunKey, RunReading, RunStatus
from bridge.ports import FoundRun, Refusal, RefusalKind, RunsPage
from bridge.service.breakers import enter, factory_breaker, leave


@dataclass(frozen=True, slots=True)
class Asked:
    """What ADF said: tasks that wait for the same run ask once. Threads may share it; at worst one asks again."""

    readings: dict[RunKey, tuple[datetime, RunReading | Refusal]] = field(default_factory=dict)
    causes: dict[RunKey, FailedActivity | None] = field(default_factory=dict)
    searches: list[tuple[FactoryId, decide.Searched]] = field(default_factory=list)

    def shown(self, factory: FactoryId, page: RunsPage, at: datetime) -> None:
        """Remember what a page says of its runs."""
        self.readings.update({RunKey(factory, run_id): (at, one) for run_id, one in page.readings.items()})

    def reading(self, key: RunKey, known: Run | None, now: datetime) -> RunReading | Refusal | None:
        """Return what was said of a run, if that is its end, or news for a row."""
        at, said = self.readings.get(key, (None, None))
        ended = isinstance(said, RunReading) and said.status is not None and said.status.is_terminal
        return said if ended or (at is not None and decide.is_news(at, known, now)) else None

    def search(self, factory: FactoryId, match: Match, known: Run, now: datetime) -> decide.Searched | None:
        """Return a search that says what a match would find, if that is news for a row."""
        return next(
            (
                one
                for whose, one in self.searches
                if whose == factory and one.answers(match) and decide.is_news(one.at, known, now)
            ),
            None,
        )


def ask(key: RunKey, asked: Asked, known: Run | None = None) -> UseCase[RunReading | Refusal]:
    """Read a run; `known` is the row that what was said before has to be news for."""
    now = yield from do(Now())
    said = asked.reading(key, known, now)
    if said is not None:
        return said
    breaker = yield from enter(factory_breaker(key.factory))
    if isinstance(breaker, Refusal):
        return breaker
    reading = yield from do(ReadRun(key, point=Point.RUN_READ))
    asked.readings[key] = (now, reading)
    yield from leave(breaker, reading if isinstance(reading, Refusal) else None)
    return reading


def find(factory: FactoryId, match: Match, asked: Asked, known: Run) -> UseCase[FoundRun | Refusal | None]:
    """Find the earliest run that a match takes."""
    now = yield from do(Now())
    said = asked.search(factory, match, known, now)
    if said is not None:
        return said.found
    breaker = yield from enter(factory_breaker(factory))
    if isinstance(breaker, Refusal):
        return breaker
    found = yield from do(FindRun(factory, match, point=Point.RUN_FOUND))
    asked.searches.append((factory, decide.Searched(match, found, now)))
    yield from leave(breaker, found if isinstance(found, Refusal) else None)
    return found


def explain_failure(key: RunKey, reading: RunReading, asked: Asked) -> UseCase[RunReading]:
    """Add to the reading of a failed run which activity made it fail."""
    if reading.status is not RunStatus.FAILED:
        return reading
    if key not in asked.causes:
        asked.causes[key] = yield from do(ReadFailedActivity(key, reading, point=Point.FAILURE_READ))
    return replace(reading, failed_activity=asked.causes[key])


def unanswered(refusal: Refusal, detail: str) -> AdfThrottled | AdfUnavailable:
    """Return the error for a caller whose question ADF cannot be asked now; one that it throttles may wait for long."""
    error = AdfThrottled if refusal.kind is RefusalKind.THROTTLED else AdfUnavailable
    again = max(refusal.retry_after or policy.SEARCH_AGAIN, policy.SEARCH_AGAIN)
    return error(f"{detail} {refusal.detail}", retry_after=again)
