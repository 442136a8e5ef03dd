"""What a run's expressions see.

See https://learn.microsoft.com/azure/data-factory/control-flow-system-variables
"""

from local.adf.activity_run import ActivityRun
from local.adf.expressions.scope import Scope
from local.adf.graph import every_activity
from local.adf.run import PipelineRun
from local.adf.status import iso
from local.json_value import JsonObject, JsonValue


def scope_of(run: PipelineRun) -> Scope:
    """The run as it is now."""
    executions = run.seen_executions()
    activities: dict[str, JsonValue] = {
        activity.name: _activity(executions[activity.name]) if activity.name in executions else None
        for activity in every_activity(run.pipeline.activities)
    }
    return Scope(_pipeline(run), run.variables, activities)


def _pipeline(run: PipelineRun) -> JsonObject:
    invoked_by = run.invoked_by()
    return {
        "DataFactory": run.factory.name,
        "Pipeline": run.pipeline.name,
        "RunId": run.id,
        "GroupId": run.group_id,
        "TriggerType": invoked_by["invokedByType"],
        "TriggerId": invoked_by["id"],
        "TriggerName": invoked_by["name"],
        "TriggerTime": iso(run.start),
        "TriggeredByPipelineName": invoked_by.get("pipelineName"),
        "TriggeredByPipelineRunId": invoked_by.get("pipelineRunId"),
        "parameters": {**run.parameters},
    }


def _activity(execution: ActivityRun) -> JsonObject:
    """What an activity left. There is an error only where it failed."""
    seen: JsonObject = {
        "activityRunId": execution.id,
        "activityRunStart": iso(execution.start),
        "activityRunEnd": iso(execution.end),
        "status": str(execution.status),
        "output": execution.output,
    }
    if execution.error is not None:
        seen["error"] = execution.error.to_arm(execution.activity.name)
    return seen
