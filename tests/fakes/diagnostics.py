"""Diagnostic records as Azure Monitor writes them to an event hub: the shapes that were seen, with canaries in them."""

import json
from typing import Any

from tests.fakes.samples import ARM_ID, KEY

PARAMETER_CANARY = "canary-parameter"
MESSAGE_CANARY = "canary-message"
NEVER = "1601-01-01T00:00:00Z"


def record(status: str = "Succeeded", **changes: Any) -> dict[str, Any]:
    """A record of the category PipelineRuns about a run of `copy_orders`."""
    ended = status in {"Succeeded", "Failed", "Cancelled"}
    return {
        "Level": 4,
        "time": "2026-03-01T12:03:01.1234567Z",
        "timestamp": "2026-03-01T12:03:01.1234567Z",
        "resourceId": ARM_ID.upper(),
        "category": "PipelineRuns",
        "operationName": f"copy_orders - {status}",
        "level": "Error" if status == "Failed" else "Informational",
        "correlationId": KEY.run_id,
        "runId": KEY.run_id,
        "groupId": KEY.run_id,
        "pipelineName": "copy_orders",
        "start": "2026-03-01T12:00:00.1234567Z",
        "end": "2026-03-01T12:03:00.7654321Z" if ended else NEVER,
        "status": status,
        "location": "westeurope",
        "tags": "{}",
        "EventName": "PipelineRun",
        "env_dt_traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "properties": properties(),
        **changes,
    }


def properties(**changes: Any) -> dict[str, Any]:
    """The properties of a record, whose parameters and messages are secrets."""
    return {
        "Parameters": {"password": PARAMETER_CANARY},
        "SystemParameters": {
            "ExecutionStart": "2026-03-01T12:00:00.1234567Z",
            "TriggerId": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "SubscriptionId": "s",
            "PipelineRunRequestTime": "2026-03-01T12:00:00.0000000+00:00",
        },
        "Predecessors": [
            {"Name": "Manual", "Id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "InvokedByType": "Manual"},
        ],
        "Annotations": [PARAMETER_CANARY],
        "UserProperties": {"note": PARAMETER_CANARY},
        "Message": MESSAGE_CANARY,
        "FailureType": MESSAGE_CANARY,
        **changes,
    }


def executed_by(pipeline: str, run_id: str) -> dict[str, Any]:
    """The properties of a run that another pipeline's Execute Pipeline activity started."""
    invoker = {
        "Name": "Run",
        "Id": "2c5e8f3b-0000-4000-8000-000000000000",
        "InvokedByType": "PipelineActivity",
        "PipelineName": pipeline,
        "PipelineRunId": run_id,
    }
    return properties(Predecessors=[invoker])


def message(*records: Any) -> bytes:
    """A message of the event hub."""
    return json.dumps({"records": records}).encode()
