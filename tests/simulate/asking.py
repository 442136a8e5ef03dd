"""What a task's operator asks the bridge for, try after try, as its DAG's author has set it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from bridge.model import (
    Continuation,
    FactoryId,
    NewTry,
    OnAbandon,
    PreviousTry,
    TriggerRequest,
    WaitRequest,
    Wrapped,
)
from tests.simulate.audit import SECRET
from tests.simulate.true_run import KEYED, PIPELINE

# How many waits have their run cancelled when nobody waits: most, for few of their tasks are ever abandoned.
CANCELLING: Final = 0.8
# Few days: so several tasks ask for the same.
_DAYS: Final = 6
_ON_RETRY: Final = (PreviousTry.REATTACH, *(PreviousTry.RECOVER,) * 3, PreviousTry.RERUN)
_ON_CLEAR: Final = (PreviousTry.REATTACH, *(PreviousTry.RECOVER,) * 2, *(PreviousTry.RERUN,) * 2)


@dataclass(frozen=True)
class Asked:
    """The operator's arguments. `patience` is its start_timeout, in seconds."""

    factory: FactoryId
    pipeline: str = PIPELINE
    wrapped: Wrapped = Wrapped.AUTO
    day: int = 1
    on_retry: PreviousTry = PreviousTry.REATTACH
    on_clear: PreviousTry = PreviousTry.RERUN
    on_abandon: OnAbandon = OnAbandon.CANCEL
    patience: float = 240.0

    @classmethod
    def anything(cls, chance: Random, factories: Sequence[FactoryId]) -> Asked:
        """Draw arguments."""
        pipeline, wrapped = chance.choice(
            ((PIPELINE, Wrapped.AUTO),) * 3 + ((PIPELINE, Wrapped.NEVER),) * 2 + ((KEYED, Wrapped.AUTO),)
        )
        return cls(
            factory=chance.choice(factories),
            pipeline=pipeline,
            wrapped=wrapped,
            day=chance.randint(1, _DAYS),
            on_retry=chance.choice(_ON_RETRY),
            on_clear=chance.choice(_ON_CLEAR),
            on_abandon=OnAbandon.CANCEL if chance.random() < CANCELLING else OnAbandon.LEAVE,
            patience=chance.choice((60.0, *(240.0,) * 5)),
        )

    def changed(self, chance: Random) -> Asked:
        """Return the arguments after somebody has changed the parameters."""
        return replace(self, day=self.day % _DAYS + chance.randint(1, _DAYS - 1))

    def keeps(self, *, another_may_follow: bool) -> bool:
        """Whether a next try may take the run over."""
        return self.on_clear is not PreviousTry.RERUN or (self.on_retry is not PreviousTry.RERUN and another_may_follow)

    def request(self, wait: WaitRequest, after: NewTry | None, since_try: int) -> TriggerRequest:
        """Return the request of a try. `since_try` is the first one since the task was cleared."""
        key = wait.task.token
        do = self.on_clear if after is NewTry.CLEAR else self.on_retry
        return TriggerRequest(
            idempotency_key=key,
            body_hash=f"body of {key}",
            factory=self.factory,
            pipeline=self.pipeline,
            parameters={"day": f"2026-03-{self.day:02}", "rows": 100 + self.day, "secret": SECRET},
            wait=wait,
            wrapped=self.wrapped,
            previous=Continuation(do, after, since_try) if after is not None and do is not PreviousTry.RERUN else None,
        )
