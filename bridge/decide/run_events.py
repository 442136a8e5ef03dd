"""What a run event means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bridge import policy
from bridge.decide.readings import sooner
from bridge.model import (
    Run,
    RunEvent,
    Verdict,
    Wait,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run event means: the verdict so far, the rows to write before it is acknowledged, whether to ask ADF."""

    verdict: Verdict
    reason: str
    run: Run | None = None
    waits: tuple[Wait, ...] = ()
    ask_adf: bool = False

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.run is not None or bool(self.waits)


def judge_event(event: RunEvent, run: Run | None, waits: Sequence[Wait], now: datetime, rules: Rules) -> Judgement:
    """Judge an event by what is known of its run. Order never comes from event times; a known end absorbs all."""
    open_waits = tuple(wait for wait in waits if wait.state is WaitState.OPEN)
    if run is not None and run.has_ended:
        return Judgement(Verdict.DUPLICATE, f"ADF had said {run.status} before")
    if not event.status.is_terminal:
        if not open_waits:
            return Judgement(Verdict.PARKED, "nobody waits for this run yet, and it has not ended")
        told = tuple(wait.told(now, "event", f"says {event.status}: no end") for wait in open_waits)
        return Judgement(Verdict.NOTED, f"{event.status} is no end", waits=told)

    known = run or Run(key=event.key, created_at=now)
    # `hint_at` is when the last event that asked ADF did: of many at once, the one that writes it first asks.
    spacing = policy.read_spacing(known.reads)
    ask_adf = all(at is None or now - at >= spacing for at in (known.read_at, known.hint_at))
    hint_at = now if ask_adf else known.hint_at
    hinted = replace(known, hint=event.status, hint_at=hint_at, pipeline=known.pipeline or event.pipeline)
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
    )


def verdict_of(run: Run | None, refusal: Refusal | None) -> tuple[Verdict, str]:
    """Return the final verdict of an event for whose run ADF was asked."""
    if refusal is not None:
        return Verdict.UNVERIFIED, f"ADF could not be asked ({refusal.kind}); it is asked again later"
    if run is not None and run.has_ended:
        return Verdict.MATCHED, f"ADF confirms {run.status}"
    status = run.status if run is not None else None
    return Verdict.UNCONFIRMED, f"ADF says {status or 'a status unknown here'}: nothing is completed"
