"""What Airflow's worker does with a waiting task: it executes one until it parks, and goes on with an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TaskInstance

from airflow_adf_bridge import airflow_api
from airflow_adf_bridge.airflow_api import TaskDeferred
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.sensors import AdfBridgeRunSensor

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
PARKED: tuple[type[BaseException], ...] = (TaskDeferred,)
"""What a task raises that waits."""
if airflow_api.CAN_PARK:
    from airflow.sdk.exceptions import TaskAwaitingInput

    PARKED = (TaskDeferred, TaskAwaitingInput)


@dataclass
class Task:
    """A task of some kind with its task instance, in a DAG run that was due at `run_after`."""

    kind: type[AdfBridgeRunPipelineOperator | AdfBridgeRunSensor]
    hook: AdfBridgeHook
    ti: TaskInstance
    arguments: dict[str, Any] = field(default_factory=dict)
    run_after: datetime = NOW
    operator: Any = None
    """The operator that was executed last."""

    def run(self, **arguments: Any) -> Any:
        """Execute it from the start."""
        self.operator, context = self._made(arguments)
        return self.operator.execute(context)

    def park(self, **arguments: Any) -> Any:
        """Execute it until it parks, or is deferred."""
        with pytest.raises(PARKED) as parked:
            self.run(**arguments)
        return parked.value

    def resume(self, parked: Any, event: dict[str, Any], **arguments: Any) -> Any:
        """Go on with an answer, on another worker."""
        assert parked.kwargs is not None
        if isinstance(parked, TaskDeferred):
            event = event.get("params_input", event)  # the trigger's event is the completion itself
        self.operator, context = self._made(arguments)
        return self.operator.execute_complete(context, event=event, **parked.kwargs)

    @property
    def token(self) -> str:
        """The token of the try that was executed last."""
        return str(self.ti.xcoms["adf_bridge_token"])

    def _made(self, arguments: dict[str, Any]) -> tuple[Any, Any]:
        """Return an operator that talks through the test's hook, its templates rendered, and its context."""
        operator = self.kind(task_id=self.ti.task_id, **{**self.arguments, **arguments})
        operator.__dict__["hook"] = self.hook
        dag_run = SimpleNamespace(run_after=self.run_after, logical_date=self.run_after, run_type="manual")
        context: Any = {"ti": self.ti, "dag_run": dag_run}
        operator.render_template_fields(context)
        return operator, context


def answer(completion: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What Airflow hands to a task that was answered by the bridge."""
    return {"chosen_options": [completion["status"]], "params_input": completion, **more}
