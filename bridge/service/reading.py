"""Reading a run from ADF: by itself, or, where a wrapper was started, by the run of the pipeline that it wraps.

The outcome of a wrapped run is its child's, and the wrapper's own only when no child ever started.
"""

from __future__ import annotations

from dataclasses import replace

from bridge import policy
from bridge.commands import FindChild, FindRun, Point, ReadFailedActivity, ReadRun, UseCase, do
from bridge.model import Match, Run, RunKey, RunReading, RunStatus
from bridge.ports import Refusal, RefusalKind
from bridge.service.breakers import enter, factory_breaker, leave


def read(key: RunKey, known: Run | None, claimed: str | None) -> UseCase[RunReading | Refusal]:
    """Ask ADF about a run, once. `claimed` is the child that an event named; ADF has to confirm that it is one."""
    if known is not None and known.match is not None:
        return (yield from _read_match(known, known.match))
    watched = known.watched_run_id if known is not None else None
    child = watched or claimed
    if child is None:
        reading = yield from _ask(key)
        return (yield from explain(key, reading)) if isinstance(reading, RunReading) else reading
    reading = yield from _ask(RunKey(key.factory, child))
    if isinstance(reading, Refusal):
        return reading
    if watched is None and not _is_child(reading, key):
        return Refusal(RefusalKind.NOT_FOUND, f"run {child} is not the one that this run wraps")
    return (yield from _explain_child(key, child, reading))


def _read_match(known: Run, match: Match) -> UseCase[RunReading | Refusal]:
    """Read the run that a match found earlier, if it is still one, or find one. Once found, it stays that one."""
    factory = known.key.factory
    if known.watched_run_id is not None:
        reading = yield from _ask(known.watched_key)
        if isinstance(reading, Refusal) or match.takes(reading):
            return reading if isinstance(reading, Refusal) else (yield from _found(known.watched_key, reading))
    breaker = yield from enter(factory_breaker(factory))
    if isinstance(breaker, Refusal):
        return breaker
    found = yield from do(FindRun(factory, match, point=Point.RUN_FOUND))
    yield from leave(breaker, found if isinstance(found, Refusal) else None)
    if found is None:
        return RunReading(None, "no run yet", pipeline=match.pipeline)
    return found if isinstance(found, Refusal) else (yield from _found(RunKey(factory, found.run_id), found.reading))


def _found(key: RunKey, reading: RunReading) -> UseCase[RunReading]:
    return (yield from _explain_child(key, key.run_id, reading))


def explain(key: RunKey, reading: RunReading) -> UseCase[RunReading | Refusal]:
    """Add to the reading of a run that has ended what it leaves out: a wrapper's child, why a run failed."""
    if reading.status is None or not reading.status.is_terminal:
        return reading
    if policy.is_wrapper(reading.pipeline):
        child = yield from do(FindChild(key, reading, point=Point.CHILD_FOUND))
        if isinstance(child, Refusal):
            return child
        if child is not None:
            childs = yield from _ask(RunKey(key.factory, child))
            return (yield from _explain_child(key, child, childs)) if isinstance(childs, RunReading) else childs
    return (yield from _why(key, reading))


def _explain_child(key: RunKey, child: str, reading: RunReading) -> UseCase[RunReading]:
    return replace((yield from _why(RunKey(key.factory, child), reading)), watched_run_id=child)


def _why(key: RunKey, reading: RunReading) -> UseCase[RunReading]:
    """Add to the reading of a failed run which activity made it fail."""
    if reading.status is not RunStatus.FAILED:
        return reading
    activity = yield from do(ReadFailedActivity(key, reading, point=Point.FAILURE_READ))
    return replace(reading, failed_activity=activity)


def _is_child(reading: RunReading, key: RunKey) -> bool:
    """Whether ADF says that a run was started by that one, and that that one is its wrapper."""
    wraps = reading.pipeline is not None and reading.parent_pipeline == policy.wrapper_of(reading.pipeline)
    return wraps and reading.parent_run_id == key.run_id


def _ask(key: RunKey) -> UseCase[RunReading | Refusal]:
    breaker = yield from enter(factory_breaker(key.factory))
    if isinstance(breaker, Refusal):
        return breaker
    reading = yield from do(ReadRun(key, point=Point.RUN_READ))
    yield from leave(breaker, reading if isinstance(reading, Refusal) else None)
    return reading
