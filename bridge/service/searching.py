"""Looking for the run that a createRun started whose answer was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from bridge import decide, policy
from bridge.commands import FindPipeline, LoadRequest, LoadRun, Now, Point, Put, SaveRequest, SearchRuns, UseCase, do
from bridge.errors import StoreConflict
from bridge.model import JsonObject, Run, RunKey, RunReading, StartRequest
from bridge.policy import Rules
from bridge.ports import PipelineDeclaration, Refusal, RefusalKind, RunsPage
from bridge.service.asking import unanswered
from bridge.service.breakers import enter, factory_breaker, leave


def settle_start(
    record: StartRequest, parameters: JsonObject, rules: Rules, *, patient: bool = False
) -> UseCase[StartRequest]:
    """Look once for the run of a request that is not settled, and return its record as it then stands.

    Somebody else may settle it meanwhile. When ADF cannot be asked the record stays as it is, and AdfUnavailable or
    AdfThrottled is raised; when ADF refuses to say, and does so until the search is over, it is not known what became
    of the request. Who is `patient` gives nothing up for a permission that is missing.
    """
    now = yield from do(Now())
    sought = decide.to_search(record, now)
    if sought is None:
        return record
    if sought.state is not record.state:
        sought = yield from do(SaveRequest(sought, point=Point.START_RECORDED))
    listed = yield from _list(sought)
    if isinstance(listed, Refusal):
        given_up = decide.on_refused_search(sought, listed, (yield from do(Now())), patient=patient)
        if given_up is None:
            raise unanswered(listed, "Whether the run was started could not be found out yet.")
        return (yield from do(SaveRequest(given_up, point=Point.START_RECORDED))) if given_up is not sought else sought
    readings, ahead = listed
    pipeline = None if sought.correlation is not None else (yield from _declaration(sought))
    found = decide.alike(sought, parameters, readings, ahead, pipeline)
    unclaimed = found if sought.correlation is not None else (yield from _unclaimed(found, sought))
    starts = {run_id: _by_our_clock(readings[run_id], ahead) for run_id in unclaimed}
    after = decide.on_search(sought, unclaimed, starts, (yield from do(Now())), rules)
    if after.adopt is not None:
        return (yield from _adopt(sought, after.adopt))
    if after.record is None or after.record.state is sought.state:
        return sought
    return (yield from do(SaveRequest(after.record, point=Point.START_RECORDED)))


def _declaration(record: StartRequest) -> UseCase[PipelineDeclaration | None]:
    """Return which parameters the pipeline declares, if ADF shows it."""
    name = record.started_pipeline or record.pipeline
    pipeline = yield from do(FindPipeline(record.factory, name, point=Point.PIPELINE_FOUND))
    return pipeline if isinstance(pipeline, PipelineDeclaration) else None


def _by_our_clock(reading: RunReading, ahead: timedelta) -> datetime | None:
    return reading.run_start - ahead if reading.run_start is not None else None


def _list(record: StartRequest) -> UseCase[tuple[Mapping[str, RunReading], timedelta] | Refusal]:
    """Read the pipeline's runs of that time, and how far ADF's clock is ahead of ours."""
    readings: dict[str, RunReading] = {}
    ahead = timedelta(0)
    continuation: str | None = None
    pipeline = record.started_pipeline or record.pipeline
    # One window for all pages: a continuation is one of the same query.
    window = decide.search_window(record, (yield from do(Now())))
    for _ in range(policy.SEARCH_PAGES):
        breaker = yield from enter(factory_breaker(record.factory))
        if isinstance(breaker, Refusal):
            return breaker
        now = yield from do(Now())
        page: RunsPage | Refusal = yield from do(
            SearchRuns(record.factory, pipeline, window.since, window.until, continuation, point=Point.RUNS_SEARCHED)
        )
        yield from leave(breaker, page if isinstance(page, Refusal) else None)
        if isinstance(page, Refusal):
            return page
        if page.told_at is not None:
            ahead = page.told_at - now
        readings.update(page.readings)
        continuation = page.continuation
        is_found = record.correlation is not None and bool(decide.alike(record, {}, readings, ahead, None))
        if continuation is None or is_found:
            return readings, ahead
    return Refusal(RefusalKind.INVALID, f"{pipeline!r} has had too many runs since then to look through")


def _unclaimed(found: tuple[str, ...], record: StartRequest) -> UseCase[tuple[str, ...]]:
    """Leave out the runs that answer to another key. Among too many to look at none can be told from the others."""
    if len(found) > policy.CLAIMS_READ:
        return found
    free: list[str] = []
    for run_id in found:
        known, _ = yield from do(LoadRun(RunKey(record.factory, run_id)))
        if known is None or known.started_by in (None, record.idempotency_key):
            free.append(run_id)
    return tuple(free)


def _adopt(record: StartRequest, run_id: str) -> UseCase[StartRequest]:
    """Claim the run, then write down that it answers to the key; so no two searches adopt the same run.

    A run that carries the key needs no claim.
    """
    if record.correlation is None:
        key = RunKey(record.factory, run_id)
        known, _ = yield from do(LoadRun(key))
        run = known or Run(key=key, created_at=(yield from do(Now())))
        if run.started_by not in (None, record.idempotency_key):
            return record
        try:
            yield from do(Put(replace(run, started_by=record.idempotency_key), point=Point.RUN_CLAIMED))
        except StoreConflict:
            return record  # looked at anew, at the next request
    try:
        return (yield from do(SaveRequest(decide.adopted(record, run_id), point=Point.START_RECORDED)))
    except StoreConflict:
        current = yield from do(LoadRequest(record.idempotency_key))
        return current or record
