"""A run as it truly is, whatever ADF shows of it, and to whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.model import JsonObject, RunKey, RunReading, RunStatus
from bridge.ports import PipelineDeclaration
from tests.simulate.audit import CANARY

PIPELINE: Final = "copy_orders"  # takes no key; one of the factories has a wrapper for it, which does
KEYED: Final = "copy_items"  # takes the key itself
PARAMETERS: Final = frozenset({"day", "rows", "secret"})
DECLARED: Final = {
    PIPELINE: PipelineDeclaration(PIPELINE, PARAMETERS),
    KEYED: PipelineDeclaration(KEYED, PARAMETERS | {policy.CORRELATION}),
}
WRAPPER: Final = PipelineDeclaration(policy.wrapper_of(PIPELINE), PARAMETERS | {policy.CORRELATION}, is_wrapper=True)
QUEUED: Final = timedelta(seconds=1)
CANCELING: Final = timedelta(seconds=3)


@dataclass(frozen=True)
class TrueRun:
    """A run. `child` is the run that it wraps, `parent` the one that wraps it.

    `asked_by` is the idempotency key for which createRun started it; nobody's if a person did. `group` is the run id of
    the first run of its group. ADF's lists show it from `listed_at` on.
    """

    key: RunKey
    started: datetime
    ends: datetime
    outcome: RunStatus
    pipeline: str = PIPELINE
    child: RunKey | None = None
    parent: RunKey | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    asked_by: str = ""
    listed_at: datetime | None = None

    def status(self, at: datetime) -> RunStatus:
        """Return the run's status at a time."""
        if at >= self.ends:
            return self.outcome
        if self.outcome is RunStatus.CANCELLED and at >= self.ends - CANCELING:
            return RunStatus.CANCELING
        return RunStatus.QUEUED if at < self.started + QUEUED else RunStatus.IN_PROGRESS

    def goes_on(self, at: datetime) -> bool:
        """Whether the run has neither ended nor begun to be cancelled."""
        return self.status(at) in (RunStatus.QUEUED, RunStatus.IN_PROGRESS)

    @property
    def is_by_hand(self) -> bool:
        """Whether createRun started it, whoever called that."""
        return self.parent is None

    @property
    def is_first_of_group(self) -> bool:
        """Whether it runs no other one again."""
        return self.group == self.key.run_id

    @property
    def bridge_key(self) -> str:
        """The key that it carries."""
        return self.parameters.get(policy.CORRELATION, "")

    def reading(self, at: datetime, ahead: timedelta) -> RunReading:
        """Return what ADF, whose clock is so far ahead, says of the run as it was at a time."""
        status = self.status(at)
        return RunReading(
            status,
            status.value,
            self.pipeline,
            self.started + ahead,
            run_end=self.ends + ahead if status.is_terminal else None,
            message=f"the load of {CANARY} failed" if status is RunStatus.FAILED else None,
            parent_run_id=self.parent.run_id if self.parent is not None else None,
            parent_pipeline=WRAPPER.name if self.parent is not None else None,
            group=self.group,
            by_hand=self.is_by_hand,
            parameters=self.parameters,
        )


def as_text(parameters: JsonObject) -> Mapping[str, str]:
    """Return parameters as ADF shows them: text as it is, anything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
