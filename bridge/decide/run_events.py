"""What a run event means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from bridge import policy
from bridge.decide.readings import DueBefore, sooner
from bridge.model import (
    Run,
    RunEvent,
    RunKey,
    Verdict,
    Wait,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run event means: the verdict so far, the rows to write before it is acknowledged, whether to ask ADF.

    `due` is when the waits were due before it, by token, and when they are due for it: an event that turns out to be
    false changes nothing in that. `untold` are the waits whose completion was due before the event: it is delivered at
    once, instead of with the timer that is bound to come for it.
    """

    verdict: Verdict
    reason: str
    run: Run | None = None
    waits: tuple[Wait, ...] = ()
    ask_adf: bool = False
    due: DueBefore = field(default_factory=dict)
    untold: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.run is not None or bool(self.waits)


def judge_event(
    event: RunEvent,
    run: Run | None,
    waits: Sequence[Wait],
    now: datetime,
    rules: Rules,
    *,
    key: RunKey | None = None,
) -> Judgement:
    """Judge an event by what is known of a run that it speaks of: its own, or the one that started it.

    Order never comes from event times; a known end absorbs all.
    """
    open_waits = tuple(wait for wait in waits if wait.state is WaitState.OPEN)
    if run is not None and run.has_ended:
        untold = tuple(wait.token for wait in waits if wait.state is WaitState.DUE and wait.is_due(now))
        return Judgement(Verdict.DUPLICATE, f"ADF had said {run.status} before", untold=untold)
    if not event.status.is_terminal:
        if not open_waits:
            return Judgement(Verdict.PARKED, "nobody waits for this run yet, and it has not ended")
        told = tuple(wait.told(now, "event", f"says {event.status}: no end") for wait in open_waits)
        return Judgement(Verdict.NOTED, f"{event.status} is no end", waits=told)

    key = key or event.key
    known = run or Run(key=key, created_at=now)
    # `hint_at` is when the last event that asked ADF did (or was denied): of many at once, the first to write it asks.
    spacing = policy.read_spacing(known.reads)
    ask_adf = all(at is None or now - at >= spacing for at in (known.read_at, known.hint_at))
    hint_at = now if ask_adf else known.hint_at
    hinted = replace(
        known,
        hint=event.status,
        hint_at=hint_at,
        pipeline=known.pipeline or event.pipeline,
        claimed_run_id=claimed_by(event, key) or known.claimed_run_id,
    )
    if not open_waits:
        over = "any more" if waits else "yet"
        return Judgement(Verdict.PARKED, f"nobody waits for this run {over}", run=hinted)
    # Should this process die before ADF was asked, the timer asks.
    told = tuple(
        replace(
            wait.told(now, "event", f"says {event.status}"),
            due_at=sooner(wait.due_at, now + (rules.sweep if ask_adf else spacing)),
        )
        for wait in open_waits
    )
    return Judgement(
        Verdict.MATCHED if ask_adf else Verdict.UNCONFIRMED,
        f"{len(told)} waiting" if ask_adf else "ADF was asked a moment ago; it is asked again shortly",
        run=hinted,
        waits=told,
        ask_adf=ask_adf,
        due={was.token: (was.due_at, now_due.due_at) for was, now_due in zip(open_waits, told, strict=True)},
    )


def claimed_by(event: RunEvent, key: RunKey) -> str | None:
    """Return the run that an event says was started by that one, None when it speaks of that one itself."""
    return event.run_id if event.run_id != key.run_id else None


# Of the verdicts on an event for several runs, the first of these stands in the list of events.
_TELLING: Final = (
    Verdict.MATCHED,
    Verdict.NOTED,
    Verdict.UNVERIFIED,
    Verdict.UNCONFIRMED,
    Verdict.DUPLICATE,
    Verdict.PARKED,
)


def most_telling(verdicts: Sequence[tuple[Verdict, str]]) -> tuple[Verdict, str]:
    """Return the verdict, with its reason, that says most about what an event did."""
    return min(verdicts, key=lambda one: _TELLING.index(one[0]))


def verdict_of(run: Run | None, refusal: Refusal | None) -> tuple[Verdict, str]:
    """Return the final verdict of an event for whose run ADF was asked."""
    if refusal is not None and refusal.kind is RefusalKind.NOT_FOUND:
        return Verdict.UNCONFIRMED, f"{refusal.detail}: nothing is completed"
    if refusal is not None:
        return Verdict.UNVERIFIED, f"ADF could not be asked ({refusal.kind}); it is asked again later"
    if run is not None and run.has_ended:
        return Verdict.MATCHED, f"ADF confirms {run.status}"
    status = run.status if run is not None else None
    return Verdict.UNCONFIRMED, f"ADF says {status or 'a status unknown here'}: nothing is completed"
