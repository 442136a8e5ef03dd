"""Who may be called: the pause of a target or a factory, its probe, its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from bridge import policy
from bridge.model import (
    Breaker,
)
from bridge.ports import Due, Refusal, RefusalKind

TROUBLE_OPENS_AFTER: Final = 3
_PAUSING: Final = frozenset({RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN, RefusalKind.THROTTLED})
ABOUT_ONE_THING: Final = frozenset({RefusalKind.NOT_FOUND, RefusalKind.CONFLICT, RefusalKind.INVALID})


def breaker_after(breaker: Breaker, trouble: Refusal | None, now: datetime, jitter: float) -> Breaker | None:
    """Return the breaker after a call, or None when nothing changes.

    Refused credentials, permissions and throttling pause at once; three failures in a row do, too. One call that goes
    through closes it. An answer about one task says nothing about its target.
    """
    if trouble is None or trouble.kind in ABOUT_ONE_THING:
        return Breaker(breaker.name, version=breaker.version) if breaker.failures else None
    failures = breaker.failures + 1
    opens = breaker.is_open or trouble.kind in _PAUSING or failures >= TROUBLE_OPENS_AFTER
    return replace(
        breaker,
        failures=failures,
        reason=trouble.kind.value,
        detail=trouble.detail,
        since=breaker.since or now,
        probe_at=policy.probe(now, failures=failures, asked=trouble.retry_after, jitter=jitter) if opens else None,
    )


def may_call(breaker: Breaker, now: datetime) -> bool:
    """Whether a target or factory may be called: its breaker is closed, or a probe is due."""
    return breaker.probe_at is None or now >= breaker.probe_at


def to_attend(due: Sequence[Due], breaker: Breaker, now: datetime) -> Sequence[Due]:
    """Return which due waits of a target the timer attends to.

    While the target is paused, that is one delivery as its probe when that has come, and all that ADF is asked for.
    """
    if not breaker.is_open:
        return due
    for_adf = [one for one in due if one.is_for_adf]
    probe = next((one for one in due if not one.is_for_adf), None)
    return [*for_adf, probe] if probe is not None and may_call(breaker, now) else for_adf


def claim_probe(breaker: Breaker, now: datetime) -> Breaker | None:
    """Return an open breaker with its probe taken by this instance, or None when it is closed (no probe is needed)."""
    if breaker.probe_at is None:
        return None
    return replace(breaker, probe_at=now + policy.DELIVERY_LEASE)
