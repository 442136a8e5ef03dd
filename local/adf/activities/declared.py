"""Activities that are not executed: they take the time, and have the failure, that their user properties declare.

Data Factory shows user properties and does nothing with them, so the pipeline stays one that Azure accepts.

| user property     | value                                                       | without it                   |
| ----------------- | ----------------------------------------------------------- | ---------------------------- |
| localSeconds      | seconds, or "held": until `POST /_local/runs/{id}/finish`   | Wait: its own time; others 1 |
| localErrorCode    | the activity fails with this code                           | it succeeds                  |
| localErrorMessage | the message of that failure                                 | a plain sentence             |
| localFailTimes    | it fails in its first N executions only, then succeeds      | it fails every time          |
| localFailTimesPer | what executions are counted by, say a parameter's value     | all executions together      |

Values may be expressions. An activity can have five user properties, these five:
https://learn.microsoft.com/azure/data-factory/concepts-annotations-user-properties
"""

import asyncio

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.activity_run import ActivityError
from local.adf.graph import Activity

HELD = "held"

_OVERRIDABLE = frozenset({"Wait", "WebActivity"})
_DECLARATIONS = frozenset({"localSeconds", "localErrorCode"})
_DEFAULT_SECONDS = 1.0


def overrides(activity: Activity) -> bool:
    """Whether an activity that could be executed declares to be none: a Wait or a Web activity may."""
    return activity.type in _OVERRIDABLE and not _DECLARATIONS.isdisjoint(activity.user_properties)


async def perform(attempt: Attempt) -> None:
    """Let the declared time pass, then fail if that is declared."""
    attempt.record.input = attempt.activity.type_properties
    seconds = _seconds(attempt)
    error = _error(attempt)
    if seconds is None:
        await asyncio.get_running_loop().create_future()  # held: only a cancelled task leaves this
    else:
        await asyncio.sleep(seconds)
    if error is not None:
        raise ActivityFailedError(error.code, error.message)


def _seconds(attempt: Attempt) -> float | None:
    """How long it takes; None is until it is told to end."""
    activity = attempt.activity
    declared = activity.user_properties.get("localSeconds")
    if declared is not None:
        value = attempt.evaluate(declared)
        return None if value == HELD else attempt.evaluate_number(value)
    if activity.type == "Wait":
        return attempt.evaluate_number(activity.type_properties.get("waitTimeInSeconds"))
    return _DEFAULT_SECONDS


def _error(attempt: Attempt) -> ActivityError | None:
    declared = attempt.activity.user_properties
    if "localErrorCode" not in declared:
        return None
    counted_by = attempt.evaluate_text(declared.get("localFailTimesPer", ""))
    where = f"{attempt.run.factory.id}/{attempt.run.pipeline.name}".lower()
    execution = attempt.declarations.next(where, attempt.activity.name, counted_by)
    if "localFailTimes" in declared and execution > attempt.evaluate_number(declared["localFailTimes"]):
        return None
    code = attempt.evaluate_text(declared["localErrorCode"])
    message = attempt.evaluate_text(declared.get("localErrorMessage", f"{attempt.activity.name} was declared to fail."))
    return ActivityError(code, message)
