"""If Condition: one of two graphs of activities.

See https://learn.microsoft.com/azure/data-factory/control-flow-if-condition-activity
"""

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.expressions.values import type_name


async def perform(attempt: Attempt) -> None:
    """Execute the activities of the branch that the expression chooses. It fails as a pipeline of them would."""
    condition = attempt.evaluate(attempt.activity.type_properties.get("expression"))
    attempt.record.input = {"expression": condition}
    if not isinstance(condition, bool):
        message = f"The expression of an If Condition must be a boolean. It is of type '{type_name(condition)}'."
        raise ActivityFailedError("InvalidTemplate", message)
    failed = await attempt.walk(attempt.activity.branches["ifTrueActivities" if condition else "ifFalseActivities"])
    if failed:
        error = attempt.run.last_executions()[failed[0].name].error if failed[0].inactive_outcome is None else None
        raise ActivityFailedError(
            "ActionFailed",
            f"Activity failed because an inner activity failed; Inner activity name: {failed[0].name}, "
            f"Error: {error.message if error else ''}",
        )
