"""Reading a run from ADF: by itself, or, where a wrapper was started, by the run of the pipeline that it wraps.

The outcome of a wrapped run is its child's, and the wrapper's own only when no child ever started.
"""

from __future__ import annotations

from dataclasses import replace

from bridge import decide, policy
from bridge.commands import FindChild, Point, UseCase, do
from bridge.model import Match, Run, RunKey, RunReading
from bridge.ports import FoundRun, Refusal, RefusalKind
from bridge.service.asking import Asked, ask, explain_failure, find


def read(key: RunKey, known: Run | None, claimed: str | None, asked: Asked) -> UseCase[RunReading | Refusal]:
    """Ask ADF about a run, once. `claimed` is the run that an event named: the child, or one that a match may mean.

    ADF has to confirm that it is.
    """
    if known is not None and known.match is not None:
        return (yield from _read_match(known, known.match, claimed, asked))
    watched = known.watched_run_id if known is not None else None
    child = watched or claimed
    if child is None:
        reading = yield from ask(key, asked, known)
        return (yield from explain(key, reading, asked)) if isinstance(reading, RunReading) else reading
    reading = yield from ask(RunKey(key.factory, child), asked, known)
    if isinstance(reading, Refusal):
        return reading
    if watched is None and not _is_child(reading, key):
        return Refusal(RefusalKind.NOT_FOUND, f"run {child} is not the one that this run wraps")
    return (yield from explain_other(key, child, reading, asked))


def _read_match(known: Run, match: Match, claimed: str | None, asked: Asked) -> UseCase[RunReading | Refusal]:
    """Read the run that a match found earlier, if it is still one, or find one. Once found, it stays that one.

    There is no need to look for one when an event has named a run that the match does not take.
    """
    factory = known.key.factory
    named = known.watched_run_id or claimed
    one: FoundRun | None = None
    if named is not None:
        reading = yield from ask(RunKey(factory, named), asked, known)
        if isinstance(reading, Refusal):
            return reading
        one = FoundRun(named, reading) if match.takes(reading) else None
        if one is None and known.watched_run_id is None:
            return Refusal(RefusalKind.NOT_FOUND, f"run {named} is not one that is waited for")
    if one is None or known.watched_run_id is None:
        found = yield from find(factory, match, asked, known)
        if isinstance(found, Refusal):
            return found
        one = decide.earlier(found, one)
    if one is None:
        return RunReading(None, "no run yet", pipeline=match.pipeline)
    return (yield from explain_other(known.key, one.run_id, one.reading, asked))


def explain(key: RunKey, reading: RunReading, asked: Asked) -> UseCase[RunReading | Refusal]:
    """Add to the reading of a run that has ended what it leaves out: a wrapper's child, why a run failed."""
    if reading.status is None or not reading.status.is_terminal:
        return reading
    if policy.is_wrapper(reading.pipeline):
        child = yield from do(FindChild(key, reading, point=Point.CHILD_FOUND))
        if isinstance(child, Refusal):
            return child
        if child is not None:
            childs = yield from ask(RunKey(key.factory, child), asked)
            if isinstance(childs, Refusal):
                return childs
            # A pipeline that only has the name of a wrapper may run what it likes: then its own end is what counts.
            if _is_child(childs, key):
                return (yield from explain_other(key, child, childs, asked))
    return (yield from explain_failure(key, reading, asked))


def explain_other(key: RunKey, run_id: str, reading: RunReading, asked: Asked) -> UseCase[RunReading]:
    """Add to the reading of the run whose end counts for this one which run that is, and why it failed."""
    explained = yield from explain_failure(RunKey(key.factory, run_id), reading, asked)
    return replace(explained, watched_run_id=run_id)


def _is_child(reading: RunReading, key: RunKey) -> bool:
    """Whether ADF says that a run was started by that one, and that that one is its wrapper."""
    return decide.is_child(reading) and reading.parent_run_id == key.run_id
