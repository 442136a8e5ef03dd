"""Asking ADF about a run."""

from __future__ import annotations

from dataclasses import dataclass

from bridge import decide
from bridge.commands import (
    LoadRun,
    Now,
    Point,
    Put,
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
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal
from bridge.service.asking import Asked
from bridge.service.contention import DECISION_TRIES, contended
from bridge.service.reading import read


@dataclass(frozen=True, slots=True)
class Checked:
    """A run after ADF was asked about it: the row, why ADF could not be asked, and the waits that are due now."""

    run: Run | None
    refusal: Refusal | None
    due: tuple[str, ...] = ()


def check_run(key: RunKey, rules: Rules, *, claimed: str | None = None, asked: Asked | None = None) -> UseCase[Checked]:
    """Ask ADF about a run, and settle the waits for it accordingly. `claimed` is the run that an event named."""
    known, _ = yield from do(LoadRun(key))
    if claimed is None and known is not None:
        claimed = known.claimed_run_id
    reading = yield from read(key, known, claimed, asked or Asked())
    return (yield from settle_run(key, reading, rules))


def check_run_itself(key: RunKey, rules: Rules) -> UseCase[Checked]:
    """Do the same for one that may have ended long ago: whatever events have named, ADF says what became of it.

    A child that an event has named, and that ADF does not know as this run's, says nothing about this run.
    """
    known, _ = yield from do(LoadRun(key))
    asked, claimed = Asked(), known.claimed_run_id if known is not None else None
    reading = yield from read(key, known, claimed, asked)
    denied = claimed if decide.was_denied(known, reading) else None
    if denied is not None:
        reading = yield from read(key, known, None, asked)
    return (yield from settle_run(key, reading, rules, denied=denied))


def settle_run(
    key: RunKey, reading: RunReading | Refusal, rules: Rules, *, denied: str | None = None
) -> UseCase[Checked]:
    """Write down what ADF said of a run, and what that means for the waits.

    `denied` is a run that an event named as its child, and that ADF does not know as that: it is forgotten.
    """
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        if isinstance(reading, Refusal):
            known, settled = decide.count_refusal(run, reading, now), decide.postpone(waits, reading, now, rules)
        else:
            known = decide.apply_reading(run, key, reading, now)
            settled = decide.settle(known, waits, now)
        known = decide.without_child(known, denied)
        try:
            written, settled = yield from do(Put(known, settled, point=Point.RUN_SETTLED))
        except StoreConflict:
            continue
        due = tuple(wait.token for wait in settled if wait.state is WaitState.DUE)
        return Checked(written, reading if isinstance(reading, Refusal) else None, due)
    raise contended()
