"""Asking ADF about a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge import decide
from bridge.commands import (
    LoadRun,
    Now,
    Point,
    Put,
    ReadFailedActivity,
    ReadRun,
    UseCase,
    do,
)
from bridge.errors import (
    StoreConflict,
)
from bridge.model import (
    Run,
    RunKey,
    RunReading,
    RunStatus,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal
from bridge.service.breakers import enter, factory_breaker, leave
from bridge.service.contention import DECISION_TRIES, contended


@dataclass(frozen=True, slots=True)
class Checked:
    """A run after ADF was asked about it: the row, why ADF could not be asked, and the waits that are due now."""

    run: Run | None
    refusal: Refusal | None
    due: tuple[str, ...] = ()


def check_run(key: RunKey, rules: Rules) -> UseCase[Checked]:
    """Ask ADF about a run, once, and settle the waits for it accordingly."""
    return (yield from settle_run(key, (yield from _read_run(key)), rules))


def settle_run(key: RunKey, reading: RunReading | Refusal, rules: Rules) -> UseCase[Checked]:
    """Write down what ADF said of a run, and what that means for the waits."""
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        if isinstance(reading, Refusal):
            known, settled = run, decide.postpone(waits, reading, now, rules)
        else:
            known = decide.apply_reading(run, key, reading, now)
            settled = decide.settle(known, waits, now)
        try:
            written, settled = yield from do(Put(known, settled, point=Point.RUN_SETTLED))
        except StoreConflict:
            continue
        due = tuple(wait.token for wait in settled if wait.state is WaitState.DUE)
        return Checked(written, reading if isinstance(reading, Refusal) else None, due)
    raise contended()


def _read_run(key: RunKey) -> UseCase[RunReading | Refusal]:
    breaker = yield from enter(factory_breaker(key.factory))
    if isinstance(breaker, Refusal):
        return breaker
    reading = yield from do(ReadRun(key, point=Point.RUN_READ))
    yield from leave(breaker, reading if isinstance(reading, Refusal) else None)
    return (yield from explain(key, reading)) if isinstance(reading, RunReading) else reading


def explain(key: RunKey, reading: RunReading) -> UseCase[RunReading]:
    """Add to the reading of a failed run which activity made it fail."""
    if reading.status is not RunStatus.FAILED:
        return reading
    activity = yield from do(ReadFailedActivity(key, reading, point=Point.FAILURE_READ))
    return replace(reading, failed_activity=activity)
