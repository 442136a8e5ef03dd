"""The sweep: what no event told is found by asking ADF for the runs that changed, once an interval and factory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from bridge import decide, policy
from bridge.commands import ListOpen, LoadRun, LoadSweep, Now, Point, QueryRuns, SaveSweep, SleepUntil, UseCase, do
from bridge.errors import StoreConflict
from bridge.model import FactoryId, Run, RunKey
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


# What a sweep did, the first page that ADF showed, and when.
_Told = tuple[Swept, RunsPage | None, datetime | None]


def sweep(factory: FactoryId, rules: Rules) -> UseCase[Swept]:
    """Sweep a factory if its interval has passed and somebody waits for one of its runs."""
    mark = yield from do(LoadSweep(factory))
    now = yield from do(Now())
    if not decide.is_sweep_due(mark, now):
        return Swept()
    waits = yield from do(ListOpen(factory, policy.OPEN_WAITS))
    try:
        if not waits:
            if mark.covered_until is not None:
                yield from do(SaveSweep(decide.forget_coverage(mark), point=Point.SWEEP_SAVED))
            return Swept()
        mark = yield from do(SaveSweep(decide.take_sweep(mark, now, rules), point=Point.SWEEP_TAKEN))
        plan = decide.plan_sweep(mark, waits, now)
        swept, told, heard_at = yield from (
            _one_by_one(factory, plan, rules) if plan.one_by_one else _by_pages(factory, plan, rules)
        )
        if swept.completed:
            after = decide.completed_sweep(mark, now, told.told_at if told is not None else None, heard_at or now)
            yield from do(SaveSweep(after, point=Point.SWEEP_SAVED))
    except StoreConflict:
        return Swept()  # another instance sweeps this factory
    return replace(swept, taken=True, capped=len(waits) >= policy.OPEN_WAITS)


def _by_pages(factory: FactoryId, plan: decide.SweepPlan, rules: Rules) -> UseCase[_Told]:
    """Read the window page by page; what ended is settled at once, so that a sweep cut short has still done some."""
    due: list[str] = []
    first: RunsPage | None = None
    heard_at: datetime | None = None
    continuation: str | None = None
    asked, runs = Asked(), plan.runs
    most = max(policy.SWEEP_PAGES, len(plan.runs))
    for number in range(1, most + 1):
        now = yield from do(Now())
        page = yield from _page(factory, plan, continuation)
        if isinstance(page, Refusal):
            return Swept(pages=number, due=tuple(due)), first, heard_at
        if first is None:
            first, heard_at = page, (yield from do(Now()))
        asked.shown(factory, page, now)
        settled = yield from _settle_page(factory, page, runs, rules, asked)
        due.extend(token for one in settled for token in one.due)
        runs -= _ended(settled)
        due.extend((yield from _settle_matches(factory, page, plan.matches, rules, asked)))
        continuation = page.continuation
        if continuation is not None:
            yield from do(SleepUntil((yield from do(Now())) + policy.BETWEEN_PAGES))
        else:
            return Swept(pages=number, due=tuple(due), completed=True), first, heard_at
    # More changed than a sweep reads, and more pages than runs that somebody waits for: each is read by itself.
    rest, _, _ = yield from _one_by_one(factory, plan, rules)
    return Swept(most, rest.reads, (*due, *rest.due), completed=rest.completed), first, heard_at


def _settle_page(
    factory: FactoryId, page: RunsPage, runs: frozenset[str], rules: Rules, asked: Asked
) -> UseCase[list[Checked]]:
    """Settle what a page shows the end of: first the wrappers whose child has ended, for that is what counts."""
    settled: list[Checked] = []
    for parent, child, reading in decide.childrens_news(page, runs):
        key = RunKey(factory, parent)
        explained = yield from explain_other(key, child, reading, asked)
        settled.append((yield from settle_run(key, explained, rules)))
    for run_id, reading in decide.news(page, runs - _ended(settled)):
        key = RunKey(factory, run_id)
        settled.append((yield from settle_run(key, (yield from explain(key, reading, asked)), rules)))
    return settled


def _ended(settled: Iterable[Checked]) -> frozenset[str]:
    return frozenset(one.run.key.run_id for one in settled if one.run is not None and one.run.has_ended)


def _settle_matches(
    factory: FactoryId, page: RunsPage, matches: Mapping[str, str], rules: Rules, asked: Asked
) -> UseCase[list[str]]:
    """Settle the waits by match that a page brings forward: from the page, or with one search for all of them."""
    due: list[str] = []
    found: list[Run] = []
    for run_id in decide.to_look_at(page, matches):
        known, _ = yield from do(LoadRun(RunKey(factory, run_id)))
        if known is not None and decide.may_end(page.readings, known):
            found.append(known)
    for known in sorted(found, key=decide.since_of):
        checked = yield from check_run(known.key, rules, asked=asked)
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


def _one_by_one(factory: FactoryId, plan: decide.SweepPlan, rules: Rules) -> UseCase[_Told]:
    due: list[str] = []
    asked = Asked()
    for number, run_id in enumerate(sorted(plan.runs), start=1):
        checked = yield from check_run(RunKey(factory, run_id), rules, asked=asked)
        due.extend(checked.due)
        if checked.refusal is not None and checked.refusal.kind not in decide.ABOUT_ONE_THING:
            return Swept(reads=number, due=tuple(due)), None, None
    return Swept(reads=len(plan.runs), due=tuple(due), completed=True), None, None
