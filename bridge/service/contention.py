"""Deciding anew when somebody else changed a row first."""

from __future__ import annotations

from typing import Final

from bridge import policy
from bridge.errors import StoreUnavailable

# How often a decision is made anew because somebody else changed a row first.
DECISION_TRIES: Final = 6


def contended() -> StoreUnavailable:
    """Return the error for a decision that was overtaken every time."""
    msg = "Many instances change the same rows. Nothing is lost: try again."
    return StoreUnavailable(msg, retry_after=policy.BACKOFF_FIRST)
