"""Who calls: what the simulated peers can tell of the use case that a call comes from, and the bridge cannot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Caller:
    """A use case: which identity of the task it last saw, and for which idempotency key it works.

    `is_operator`: it does what an operator has asked for by name, and the bridge decides nothing about that.
    """

    seen_serial: int = -1
    key: str = ""
    is_operator: bool = False
