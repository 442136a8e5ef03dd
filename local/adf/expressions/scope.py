"""What expressions can see."""

from collections.abc import Mapping
from dataclasses import dataclass

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.values import text_argument
from local.json_value import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class Scope:
    """One run, as its expressions see it.

    `pipeline` is what `pipeline()` gives: the run's facts, and its parameters. `activities` are by name; one that
    has not run is null. See https://learn.microsoft.com/azure/data-factory/control-flow-system-variables
    """

    pipeline: JsonObject
    variables: Mapping[str, JsonValue]
    activities: Mapping[str, JsonValue]

    def variable(self, name: JsonValue) -> JsonValue:
        """A variable's value. Raises ExpressionError."""
        wanted = text_argument("variables", name)
        if wanted not in self.variables:
            message = (
                f"Template language expression cannot be evaluated: the template variable '{wanted}' cannot be found."
            )
            raise ExpressionError(message)
        return self.variables[wanted]

    def activity(self, name: JsonValue) -> JsonValue:
        """What an activity left: its output, its error, its status. Raises ExpressionError."""
        wanted = text_argument("activity", name)
        if wanted not in self.activities:
            raise ExpressionError(f"The activity '{wanted}' that the expression refers to is not in this pipeline.")
        return self.activities[wanted]
