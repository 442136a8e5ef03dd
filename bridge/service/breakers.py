"""Entering and leaving a call of a peer that may be paused."""

from __future__ import annotations

from datetime import timedelta

from bridge import decide
from bridge.commands import (
    Jitter,
    LoadBreaker,
    Now,
    Point,
    SaveBreaker,
    UseCase,
    do,
)
from bridge.errors import (
    StoreConflict,
)
from bridge.model import (
    Breaker,
    FactoryId,
)
from bridge.ports import Refusal, RefusalKind


def target_breaker(target: str) -> str:
    """Return the name of a target's breaker."""
    return f"target:{target}"


def factory_breaker(factory: FactoryId) -> str:
    """Return the name of a factory's breaker."""
    return f"factory:{factory.key}"


def enter(name: str) -> UseCase[Breaker | Refusal]:
    """Return the breaker of a peer that may be called, having taken the probe if it is paused; else a refusal."""
    breaker = yield from do(LoadBreaker(name))
    now = yield from do(Now())
    if decide.may_call(breaker, now):
        probe = decide.claim_probe(breaker, now)
        if probe is None:
            return breaker
        try:
            return (yield from do(SaveBreaker(probe, point=Point.BREAKER_SAVED)))
        except StoreConflict:
            breaker = yield from do(LoadBreaker(name))
    paused_for = max((breaker.probe_at or now) - now, timedelta(0))
    # Who is told that a peer is busy is more patient than who is told that it is away.
    kind = RefusalKind.THROTTLED if breaker.reason == RefusalKind.THROTTLED.value else RefusalKind.UNREACHABLE
    return Refusal(kind, f"paused: {breaker.detail}", retry_after=paused_for)


def leave(breaker: Breaker, trouble: Refusal | None) -> UseCase[None]:
    """Tell the breaker how a call went. Losing a race here is harmless: the other call told it as much."""
    jitter = yield from do(Jitter())
    after = decide.breaker_after(breaker, trouble, (yield from do(Now())), jitter)
    if after is None:
        return
    try:
        yield from do(SaveBreaker(after, point=Point.BREAKER_SAVED))
    except StoreConflict:
        return
