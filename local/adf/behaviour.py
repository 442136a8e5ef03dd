"""What an activity does here: how long it takes, and whether it fails.

Wait and Fail do what they do in Azure. Every other activity takes the time, and has the failure, that its
user properties declare; Data Factory shows user properties and does nothing with them, so the pipeline stays
one that Azure accepts.

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

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from local.adf.expression import ExpressionError, Scope
from local.adf.pipeline import Activity

HELD = "held"

_DEFAULT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ActivityError:
    """Why an activity failed. `failure_type` is Data Factory's: the user's fault, or the system's."""

    code: str
    message: str
    failure_type: str = "UserError"


@dataclass(frozen=True, slots=True)
class Execution:
    """What one execution of an activity will do. No duration means that it is held."""

    duration: timedelta | None
    error: ActivityError | None


class Executions:
    """How often each activity was executed, for failures that happen only so many times."""

    def __init__(self) -> None:
        """Begin with nothing executed."""
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def plan(self, activity: Activity, scope: Scope, *, where: str) -> Execution:
        """What the next execution of this activity does. `where` names its factory and pipeline."""
        try:
            duration = _duration(activity, scope)
            return Execution(duration, self._error(activity, scope, where))
        except ExpressionError as error:
            return Execution(timedelta(), ActivityError("InvalidTemplate", str(error)))

    def _error(self, activity: Activity, scope: Scope, where: str) -> ActivityError | None:
        if activity.type == "Fail":
            return _fail_activity(activity, scope)
        declared = activity.user_properties
        if "localErrorCode" not in declared:
            return None
        counted_by = scope.evaluate_text(declared.get("localFailTimesPer", ""))
        key = (where, activity.name, counted_by)
        self._seen[key] += 1
        if "localFailTimes" in declared and self._seen[key] > scope.evaluate_number(declared["localFailTimes"]):
            return None
        code = scope.evaluate_text(declared["localErrorCode"])
        message = scope.evaluate_text(declared.get("localErrorMessage", f"{activity.name} was declared to fail."))
        return ActivityError(code, message)


def _duration(activity: Activity, scope: Scope) -> timedelta | None:
    declared = activity.user_properties.get("localSeconds")
    if declared is not None:
        value = scope.evaluate(declared)
        return None if value == HELD else timedelta(seconds=scope.evaluate_number(value))
    if activity.type == "Wait":
        return timedelta(seconds=scope.evaluate_number(activity.type_properties.get("waitTimeInSeconds")))
    if activity.type == "Fail":
        return timedelta()
    return timedelta(seconds=_DEFAULT_SECONDS)


def _fail_activity(activity: Activity, scope: Scope) -> ActivityError:
    """A Fail activity's own error. https://learn.microsoft.com/azure/data-factory/control-flow-fail-activity."""
    message = scope.evaluate_text(activity.type_properties.get("message", ""))
    code = scope.evaluate_text(activity.type_properties.get("errorCode", ""))
    return ActivityError(code, message)
