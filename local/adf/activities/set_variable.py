"""Set Variable. https://learn.microsoft.com/azure/data-factory/control-flow-set-variable-activity."""

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.expressions.values import type_name
from local.json_value import JsonValue

_TYPES = {"string": "String", "bool": "Boolean", "boolean": "Boolean", "array": "Array", "integer": "Integer"}


async def perform(attempt: Attempt) -> None:
    """Give a variable of the run another value, of the variable's own type."""
    name = attempt.evaluate_text(attempt.activity.type_properties.get("variableName"))
    value = attempt.evaluate(attempt.activity.type_properties.get("value"))
    attempt.record.input = {"variableName": name, "value": value}
    declared = next((one for one in attempt.run.pipeline.variables if one.name == name), None)
    if declared is None:
        raise ActivityFailedError("BadRequest", f"The variable '{name}' is not declared in the pipeline.")
    _check_type(name, _TYPES[declared.type], value)
    attempt.run.variables[name] = value
    attempt.record.output = {"name": name, "value": value}


def _check_type(name: str, wanted: str, value: JsonValue) -> None:
    given = type_name(value)
    if given not in {wanted, "Null"}:
        raise ActivityFailedError(
            "BadRequest",
            f"The variable '{name}' of type '{wanted}' cannot be initialized or updated with value of type '{given}'. "
            f"The variable '{name}' only supports values of types '{wanted}'.",
        )
