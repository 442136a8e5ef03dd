"""One execution of an activity: what it is given, and where it leaves what it did."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from local.adf.activities.declaration_count import DeclarationCount
from local.adf.activity_run import ActivityError, ActivityRun
from local.adf.expressions import template
from local.adf.graph import Activity, Graph
from local.adf.managed_identity import ManagedIdentity
from local.adf.run import Invoker, PipelineRun
from local.adf.run_scope import scope_of
from local.json_value import JsonValue


class ActivityFailedError(Exception):
    """The activity fails with this error."""

    def __init__(self, code: str, message: str) -> None:
        """Describe the failure."""
        super().__init__(message)
        self.error = ActivityError(code, message)


class Runs(Protocol):
    """Other runs, for an activity that starts one."""

    def start_child(self, invoker: Invoker, pipeline: str, given: Mapping[str, JsonValue]) -> PipelineRun:
        """Start a run of a pipeline of the same factory. Raises ArmError where it cannot start."""

    async def wait_for_end(self, run: PipelineRun) -> None:
        """Return when a run has ended."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution. `record` takes its input and its output; `walk` executes the activities inside this one."""

    run: PipelineRun
    record: ActivityRun
    runs: Runs
    identity: ManagedIdentity
    declarations: DeclarationCount
    walk: Callable[[Graph], Awaitable[list[Activity]]]

    @property
    def activity(self) -> Activity:
        """The activity that is executed."""
        return self.record.activity

    def evaluate(self, value: JsonValue) -> JsonValue:
        """A value with its expressions evaluated. Raises ExpressionError."""
        return template.evaluate(value, scope_of(self.run))

    def evaluate_text(self, value: JsonValue) -> str:
        """The same, as text. Raises ExpressionError."""
        return template.evaluate_text(value, scope_of(self.run))

    def evaluate_number(self, value: JsonValue) -> float:
        """The same, as a number. Raises ExpressionError."""
        return template.evaluate_number(value, scope_of(self.run))


Perform = Callable[[Attempt], Awaitable[None]]
