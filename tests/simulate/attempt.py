"""One try of a task as its operator remembers it, and the parts of the world that it meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.commands import UseCase
from bridge.model import RunKey, TaskRef, TriggerRequest, WaitRequest
from bridge.policy import Rules
from tests.simulate.adf import SimAdf
from tests.simulate.airflow import SimAirflow
from tests.simulate.caller import Caller
from tests.simulate.instance import Failure, Instance, Result, expect, ignore
from tests.simulate.starts import Starts
from tests.simulate.timeline import Timeline


@dataclass(frozen=True)
class Host:
    """The parts of the world that a task meets."""

    timeline: Timeline
    airflow: SimAirflow
    adf: SimAdf
    bridges: Sequence[Instance]
    starts: Starts
    rules: Rules
    remember: Callable[[WaitRequest], None]
    meddling: float = 0  # how many of the parked tasks people do something to

    def ask(
        self, use_case: UseCase[Any], caller: Caller, on_result: Result = ignore, on_failure: Failure = expect
    ) -> None:
        """Call the bridge once, if any of it is there."""
        up = [one for one in self.bridges if one.up]
        if up:
            self.timeline.random.choice(up).spawn(use_case, on_result, on_failure, caller)


@dataclass
class Attempt:
    """One try: what it asks for, the run that it registers for unless it starts one, and the run that it was told.

    It has been asking since `began`, for as long as its `patience` lasts.
    """

    wait: WaitRequest
    request: TriggerRequest | None
    run: RunKey | None
    serial: int
    began: float
    patience: float
    is_at_stake: bool
    busy: bool = False
    sent: int = 0
    parked: bool = False
    told: RunKey | None = None

    @property
    def task(self) -> TaskRef:
        """The name of the try."""
        return self.wait.task

    @property
    def caller(self) -> Caller:
        """How the peers tell what is done for this try from all else."""
        return Caller(key=self.task.token if self.request is not None and not self.parked else "")
