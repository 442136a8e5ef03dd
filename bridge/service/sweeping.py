"""The sweep: what no event told is found by asking ADF for the runs that changed, once an interval and factory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto

from bridge import decide, policy
from bridge.commands import ListOpen, LoadRun, LoadSweep, Now, Point, QueryRuns, SaveSweep, SleepUntil, UseCase, do
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import FactoryId, Run, RunKey, RunReading, Sweep
from bridge.policy import Rules
from bridge.ports import Refusal, RunsPage
from bridge.service.asking import Asked
from bridge.service.breakers import enter, factory_breaker, leave
from bridge.service.checking import Checked, check_run, settle_run
from bridge.service.reading import explain, explain_other


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: pages and single runs read, the waits that it made due, whether it covered all it should.

    `taken` when the interval was this instance's to sweep, however that went.
    """

    pages: int = 0
    reads: int = 0
    due: tuple[str, ...] = ()
    completed: bool = False
    taken: bool = False
    capped: bool = False  # there are more open waits than a sweep looks for; each is still read by itself in its turn
    errors: tuple[Exception, ...] = ()  # errors of ours about single runs; each is still read by itself in its turn


class _End(Enum):
    """How the pages of a window came to an end."""

    COVERED = auto()
    CUT_SHORT = auto()  # the sweep's time is over
    TOO_MANY = auto()
    TROUBLE = auto()  # ADF cannot be asked now


@dataclass(frozen=True, slots=True)
class _Work:
    """What a sweep has heard of ADF so far, and what went wrong with single runs."""

    asked: Asked = field(default_factory=Asked)
    errors: list[Exception] = field(default_factory=list)

    def apart(self, use_case: UseCase[Checked]) -> UseCase[Checked]:
        """Settle one run. What nobody has thought of hides no other run; a store that cannot be used ends the sweep."""
        try:
            return (yield from use_case)
        except (StoreConflict, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - it is told with what the sweep did
            self.errors.append(error)
            return Checked(None, None)


@dataclass(frozen=True, slots=True)
class _Pages:
    """What the pages of a window have shown; the first of them, and when."""

    read: int
    due: Sequence[str]
    end: _End
    first: RunsPage | None = None
    heard_at: datetime | None = None


def sweep(factory: FactoryId, rules: Rules) -> UseCase[Swept]:
    """Sweep a factory if its interval has passed and somebody waits for one of its runs."""
    mark = yield from do(LoadSweep(factory))
    now = yield from do(Now())
    if not decide.is_sweep_due(mark, now):
        return Swept()
    waits = yield from do(ListOpen(factory, policy.OPEN_WAITS))
    try:
        if not waits:
            if mark.uncovered != mark:  # nobody looks, so nothing is covered any more
                yield from do(SaveSweep(mark.uncovered, point=Point.SWEEP_SAVED))
            return Swept()
        mark = yield from do(SaveSweep(decide.take_sweep(mark, now, rules), point=Point.SWEEP_TAKEN))
        plan = decide.plan_sweep(mark, waits, now)
        work = _Work()
        swept = yield from (_one_by_one if plan.one_by_one else _by_pages)(mark, plan, now, rules, work)
    except StoreConflict:
        return Swept()  # another instance sweeps this factory
    return replace(swept, taken=True, capped=len(waits) >= policy.OPEN_WAITS, errors=tuple(work.errors))


def _by_pages(mark: Sweep, plan: decide.SweepPlan, started: datetime, rules: Rules, work: _Work) -> UseCase[Swept]:
    """Read the window, and write down after each part of it how far it is covered: the next sweep goes on there."""
    swept = Swept()
    begun = yield from do(Now())
    for part in plan.parts:
        is_first = not swept.pages
        if not is_first:
            yield from do(SleepUntil((yield from do(Now())) + policy.BETWEEN_PAGES, of_timer=True))
            if (yield from do(Now())) >= begun + policy.SWEEP_BUDGET:
                return swept
        pages = yield from _read_part(mark.factory, part, begun + policy.SWEEP_LIMIT, rules, work)
        swept = Swept(swept.pages + pages.read, due=(*swept.due, *pages.due))
        if pages.first is not None:
            mark = decide.by_adfs_clock(mark, pages.first.told_at, pages.heard_at or started)
        if pages.end is _End.TOO_MANY:
            # More changed than a sweep reads, and more pages than runs that somebody waits for: those are read.
            rest = yield from _one_by_one(mark, plan, started, rules, work)
            return replace(rest, pages=swept.pages, due=(*swept.due, *rest.due))
        if pages.end is _End.CUT_SHORT and is_first:
            yield from do(SaveSweep(decide.begun_sweep(mark, started), point=Point.SWEEP_SAVED))
        if pages.end is not _End.COVERED:
            return swept
        mark = yield from do(SaveSweep(decide.covering(mark, part, started), point=Point.SWEEP_SAVED))
    return replace(swept, completed=True)


def _read_part(
    factory: FactoryId, plan: decide.SweepPlan, stop_at: datetime, rules: Rules, work: _Work
) -> UseCase[_Pages]:
    """Read a window page by page; what ended is settled at once, so that a sweep cut short has still done some."""
    due: list[str] = []
    first: RunsPage | None = None
    heard_at: datetime | None = None
    continuation: str | None = None
    runs = plan.runs
    most = max(policy.SWEEP_PAGES, len(plan.runs))
    for number in range(1, most + 1):
        now = yield from do(Now())
        if now >= stop_at:
            return _Pages(number - 1, due, _End.CUT_SHORT, first, heard_at)
        page = yield from _page(factory, plan, continuation)
        if isinstance(page, Refusal):
            return _Pages(number, due, _End.TROUBLE, first, heard_at)
        if first is None:
            first, heard_at = page, (yield from do(Now()))
        work.asked.shown(factory, page, now)
        settled = yield from _settle_page(factory, page, runs, rules, work)
        due.extend(token for one in settled for token in one.due)
        runs -= _ended(settled)
        due.extend((yield from _settle_matches(factory, page, plan.matches, rules, work)))
        continuation = page.continuation
        if continuation is None:
            return _Pages(number, due, _End.COVERED, first, heard_at)
        yield from do(SleepUntil((yield from do(Now())) + policy.BETWEEN_PAGES, of_timer=True))
    return _Pages(most, due, _End.TOO_MANY, first, heard_at)


def _settle_page(
    factory: FactoryId, page: RunsPage, runs: frozenset[str], rules: Rules, work: _Work
) -> UseCase[list[Checked]]:
    """Settle what a page shows the end of: first the wrappers whose child has ended, for that is what counts."""
    settled: list[Checked] = []
    for parent, child, reading in decide.childrens_news(page, runs):
        key = RunKey(factory, parent)
        explained = explain_other(key, child, reading, work.asked)
        settled.append((yield from work.apart(_settle(key, explained, rules))))
    for run_id, reading in decide.news(page, runs - _ended(settled)):
        key = RunKey(factory, run_id)
        settled.append((yield from work.apart(_settle(key, explain(key, reading, work.asked), rules))))
    return settled


def _settle(
    key: RunKey, explained: UseCase[RunReading] | UseCase[RunReading | Refusal], rules: Rules
) -> UseCase[Checked]:
    return (yield from settle_run(key, (yield from explained), rules))


def _ended(settled: Iterable[Checked]) -> frozenset[str]:
    return frozenset(one.run.key.run_id for one in settled if one.run is not None and one.run.has_ended)


def _settle_matches(
    factory: FactoryId, page: RunsPage, matches: Mapping[str, str], rules: Rules, work: _Work
) -> UseCase[list[str]]:
    """Settle the waits by match that a page brings forward: from the page, or with one search for all of them."""
    due: list[str] = []
    found: list[Run] = []
    for run_id in decide.to_look_at(page, matches):
        known, _ = yield from do(LoadRun(RunKey(factory, run_id)))
        if known is not None and decide.may_end(page.readings, known):
            found.append(known)
    for known in sorted(found, key=decide.since_of):
        checked = yield from work.apart(check_run(known.key, rules, asked=work.asked))
        due.extend(checked.due)
    return due


def _page(factory: FactoryId, plan: decide.SweepPlan, continuation: str | None) -> UseCase[RunsPage | Refusal]:
    breaker = yield from enter(factory_breaker(factory))
    if isinstance(breaker, Refusal):
        return breaker
    query = QueryRuns(factory, plan.since, plan.until, continuation, plan.ended, point=Point.RUNS_QUERIED)
    page = yield from do(query)
    yield from leave(breaker, page if isinstance(page, Refusal) else None)
    return page


def _one_by_one(mark: Sweep, plan: decide.SweepPlan, started: datetime, rules: Rules, work: _Work) -> UseCase[Swept]:
    """Read each run by itself; those that the time does not suffice for, or ADF's patience, the next sweep reads."""
    due: list[str] = []
    reads = 0
    stop_at = (yield from do(Now())) + policy.SWEEP_BUDGET
    read_up_to = ""
    for run_id in decide.to_read(mark, plan):
        if reads and (yield from do(Now())) >= stop_at:
            break
        checked = yield from work.apart(check_run(RunKey(mark.factory, run_id), rules, asked=work.asked))
        reads += 1
        due.extend(checked.due)
        if checked.refusal is not None and checked.refusal.kind not in decide.ABOUT_ONE_THING:
            if decide.is_passed(checked.refusal, mark, reads=reads):
                read_up_to = run_id
            break
        read_up_to = run_id
    else:
        yield from do(SaveSweep(decide.completed_sweep(mark, started), point=Point.SWEEP_SAVED))
        return Swept(reads=reads, due=tuple(due), completed=True)
    if read_up_to:
        yield from do(SaveSweep(decide.begun_sweep(mark, started, read_up_to=read_up_to), point=Point.SWEEP_SAVED))
    return Swept(reads=reads, due=tuple(due))
