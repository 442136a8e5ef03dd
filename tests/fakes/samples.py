"""Values to test with: a factory, a run, a task, a wait, and what a test changes about them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, Final

from bridge.model import (
    Completion,
    FactoryId,
    Mode,
    OnAbandon,
    Outcome,
    Run,
    RunEvent,
    RunKey,
    RunReading,
    RunStatus,
    TaskRef,
    TriggerRequest,
    Wait,
    WaitRequest,
    WaitState,
)
from bridge.policy import Rules, TargetRules
from bridge.ports import Answer, TaskView
from tests.fakes.clock import START

ARM_ID: Final = (
    "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-demo"
    "/providers/Microsoft.DataFactory/factories/adf-demo"
)
OTHER_ARM_ID: Final = ARM_ID.replace("adf-demo", "adf-other")
STRANGE_ARM_ID: Final = ARM_ID.replace("adf-demo", "adf-strange")
FACTORY: Final = FactoryId.parse(ARM_ID)
OTHER_FACTORY: Final = FactoryId.parse(OTHER_ARM_ID)
KEY: Final = RunKey(FACTORY, "0a1b2c3d-0000-4000-8000-000000000001")
RULES: Final = Rules(
    factories={"demo": FACTORY, "other": OTHER_FACTORY}, targets={"prod": TargetRules(), "dev": TargetRules()}
)
DEADLINE: Final = START + timedelta(hours=6)
TASK: Final = TaskRef(
    target="prod",
    dag_id="orders",
    run_id="scheduled__2026-03-01T00:00:00+00:00",
    task_id="copy",
    map_index=-1,
    try_number=1,
    task_instance_id="ti-1",
    nonce="nonce-1",
)
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)


def a_task(**changes: Any) -> TaskRef:
    """Return a try of a task."""
    return replace(TASK, **changes)


def a_request(task: TaskRef = TASK, **changes: Any) -> WaitRequest:
    """Return what a caller asks for."""
    return replace(WaitRequest(task, Mode.RESUME, DEADLINE), **changes)


def a_wait(task: TaskRef = TASK, **changes: Any) -> Wait:
    """Return an open wait, registered at the start."""
    return replace(_open_wait(task), **changes)


@cache
def _open_wait(task: TaskRef) -> Wait:
    return Wait(
        token=task.token,
        key=KEY,
        task=task,
        mode=Mode.RESUME,
        deadline=DEADLINE,
        on_abandon=OnAbandon.LEAVE,
        registered_at=START,
        due_at=DEADLINE,
    )


def a_due_wait(task: TaskRef = TASK, **changes: Any) -> Wait:
    """Return a wait whose completion is decided and taken up by this instance."""
    return a_wait(
        task,
        **{"state": WaitState.DUE, "due_at": START, "attempts": 1, "completion": a_completion(task), **changes},
    )


def a_completion(task: TaskRef = TASK, **changes: Any) -> Completion:
    """Return what a task is told about a run that succeeded."""
    return replace(_completion(task), **changes)


@cache
def _completion(task: TaskRef) -> Completion:
    return Completion(token=task.token, status=Outcome.SUCCEEDED, key=KEY)


def a_run(**changes: Any) -> Run:
    """Return a run that nobody has asked ADF about."""
    return replace(Run(key=KEY, created_at=START), **changes)


def an_ended_run(status: RunStatus = RunStatus.SUCCEEDED, **changes: Any) -> Run:
    """Return a run that ADF said has ended."""
    return a_run(**{"status": status, "read_at": START, "run_end": START, **changes})


def a_reading(status: RunStatus | None = RunStatus.SUCCEEDED, **changes: Any) -> RunReading:
    """Return what ADF says."""
    return replace(RunReading(status, status.value if status else "Paused"), **changes)


def an_event(status: RunStatus = RunStatus.SUCCEEDED, **changes: Any) -> RunEvent:
    """Return a run event."""
    event = RunEvent(
        id=f"{KEY.run_id}/{status}",
        source=ARM_ID,
        type=f"AdfBridge.PipelineRun.{status}",
        factory=FACTORY,
        run_id=KEY.run_id,
        status=status,
    )
    return replace(event, **changes)


def a_view(state: str | None = "awaiting_input", **changes: Any) -> TaskView:
    """Return what Airflow says of the task."""
    return replace(TaskView(state, TASK.try_number, TASK.task_instance_id), **changes)


def our_answer(task: TaskRef = TASK, **changes: Any) -> Answer:
    """Return the bridge's own answer to the task."""
    return replace(Answer(token=task.token, by="bridge", at=START, chosen=("Succeeded",)), **changes)


def a_trigger(task: TaskRef | None = TASK, **changes: Any) -> TriggerRequest:
    """Return a request to start a run, with a wait unless the task is None."""
    request = TriggerRequest(
        idempotency_key=task.token if task is not None else "key-1",
        body_hash="hash-1",
        factory=FACTORY,
        pipeline="copy_orders",
        parameters={"day": "2026-03-01"},
        wait=a_request(task) if task is not None else None,
    )
    return replace(request, **changes)


def cloud_event(key: RunKey = KEY, status: str = "Succeeded", **changes: Any) -> dict[str, Any]:
    """Return a CloudEvent about a run, as a JSON object."""
    return {
        "specversion": "1.0",
        "id": f"{key.run_id}/{status}",
        "source": key.factory.arm_id,
        "type": f"AdfBridge.PipelineRun.{status}",
        "subject": f"pipelines/copy_orders/runs/{key.run_id}",
        "time": START.isoformat(),
        "datacontenttype": "application/json",
        "data": {"runId": key.run_id, "pipelineName": "copy_orders", "status": status},
        **changes,
    }


def grid_event(key: RunKey = KEY, status: str = "Succeeded", **changes: Any) -> dict[str, Any]:
    """Return an event about a run in the Event Grid schema, as a JSON object."""
    return {
        "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.EventGrid/topics/t",
        "id": f"{key.run_id}/{status}",
        "eventType": f"AdfBridge.PipelineRun.{status}",
        "subject": f"pipelines/copy_orders/runs/{key.run_id}",
        "eventTime": START.isoformat(),
        "dataVersion": "1.0",
        "metadataVersion": "1",
        "data": {
            "factory": key.factory.arm_id,
            "runId": key.run_id,
            "pipelineName": "copy_orders",
            "status": status,
        },
        **changes,
    }


def event_json(key: RunKey = KEY, status: str = "Succeeded", **changes: Any) -> str:
    """Return a CloudEvent about a run, as it arrives."""
    return json.dumps(cloud_event(key, status, **changes))


def wait_body(task: TaskRef = TASK, **changes: Any) -> dict[str, Any]:
    """Return the `wait` of a trigger request's body."""
    return {
        "target": task.target,
        "mode": "resume",
        "task": {
            "dag_id": task.dag_id,
            "run_id": task.run_id,
            "task_id": task.task_id,
            "map_index": task.map_index,
            "try_number": task.try_number,
            "task_instance_id": task.task_instance_id,
            "nonce": task.nonce,
        },
        "deadline": DEADLINE.isoformat(),
        **changes,
    }


def run_body(task: TaskRef | None = TASK, **changes: Any) -> dict[str, Any]:
    """Return the body of `POST /runs`."""
    body: dict[str, Any] = {"factory": "demo", "pipeline": "copy_orders", "parameters": {"day": "2026-03-01"}}
    if task is not None:
        body["wait"] = wait_body(task)
    return {**body, **changes}
