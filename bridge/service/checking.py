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


def check_run(key: RunKey, rules: Rules, *, asked: Asked | None = None) -> UseCase[Checked]:
    """Ask ADF about a run, and settle the waits for it accordingly.

    A run that an event had named for this one, and that ADF does not know as that, says nothing about this one.
    """
    known, _ = yield from do(LoadRun(key))
    asked, claimed = asked or Asked(), known.claimed_run_id if known is not None else None
    reading = yield from read(key, known, claimed, asked)
    denied = claimed if decide.was_denied(known, reading) else None
    if denied is not None:
        reading = yield from read(key, known, None, asked)
    return (yield from settle_run(key, reading, rules, denied=denied))


def check_claim(
    key: RunKey, rules: Rules, claimed: str, due: decide.DueBefore, asked: Asked | None = None
) -> UseCase[Checked]:
    """Ask ADF about a run of which an event speaks, once. `claimed` is the run that the event names for this one.

    If ADF does not know it as that, the waits are due as they were before.
    """
    known, _ = yield from do(LoadRun(key))
    reading = yield from read(key, known, claimed, asked or Asked())
    denied = claimed if decide.was_denied(known, reading) else None
    return (yield from settle_run(key, reading, rules, denied=denied, due=due))


def settle_run(
    key: RunKey,
    reading: RunReading | Refusal,
    rules: Rules,
    *,
    denied: str | None = None,
    due: decide.DueBefore | None = None,
) -> UseCase[Checked]:
    """Write down what ADF said of a run, and what that means for the waits.

    `denied` is a run that an event named for this one, and that ADF does not know as that: it is forgotten, and the
    waits are due as they were before the event.
    """
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        if isinstance(reading, Refusal):
            known = decide.count_refusal(run, reading, now)
            settled = decide.postpone(waits, reading, now, rules, due if denied is not None else None)
        else:
            known = decide.apply_reading(run, key, reading, now)
            settled = decide.settle(known, waits, now)
        known = decide.without_claim(known, denied)
        try:
            written, settled = yield from do(Put(known, settled, point=Point.RUN_SETTLED))
        except StoreConflict:
            continue
        made_due = tuple(wait.token for wait in settled if wait.state is WaitState.DUE)
        return Checked(written, reading if isinstance(reading, Refusal) else None, made_due)
    raise contended()
