"""The parameters of one run: what the caller gave, over the pipeline's defaults.

Which wrong values createRun itself refuses is not documented; here it refuses a missing one and one of the
wrong type. A parameter that the pipeline does not declare is dropped, so that nobody comes to rely on it. Null
stays null. See https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run
"""

import json
from collections.abc import Callable, Mapping

from local.adf.arm_error import bad_request
from local.adf.pipeline import Declaration, Pipeline
from local.json_value import JsonValue


def bind(pipeline: Pipeline, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The values that a run of this pipeline has. Raises ArmError (400)."""
    names = {name.lower(): name for name in given}
    bound: dict[str, JsonValue] = {}
    for parameter in pipeline.parameters:
        if parameter.name.lower() in names:
            bound[parameter.name] = _convert(pipeline, parameter, given[names[parameter.name.lower()]])
        elif parameter.has_default:
            bound[parameter.name] = _convert(pipeline, parameter, parameter.default)
        else:
            raise bad_request(
                f"The value for the pipeline parameter '{parameter.name}' is not provided and it has no default value.",
                target=f"pipeline/{pipeline.name}",
            )
    return bound


def _convert(pipeline: Pipeline, parameter: Declaration, value: JsonValue) -> JsonValue:
    """The value in the parameter's type; numbers and truth values may come as text."""
    if value is None:
        return None
    try:
        return _CONVERTERS[parameter.type](value)
    except (TypeError, ValueError) as error:
        message = (
            f"The provided value for the pipeline parameter '{parameter.name}' is not valid. "
            f"Expected a value of type '{parameter.type}'."
        )
        raise bad_request(message, target=f"pipeline/{pipeline.name}") from error


def _to_text(value: JsonValue) -> JsonValue:
    if isinstance(value, list | dict):
        raise TypeError
    return value if isinstance(value, str) else json.dumps(value)


def _to_int(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _to_float(value: JsonValue) -> JsonValue:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _to_bool(value: JsonValue) -> JsonValue:
    return {"true": True, "false": False}[str(value).lower()] if str(value).lower() in {"true", "false"} else _refuse()


def _to_list(value: JsonValue) -> JsonValue:
    return value if isinstance(value, list) else _refuse()


def _to_object(value: JsonValue) -> JsonValue:
    return value if isinstance(value, dict) else _refuse()


def _refuse() -> JsonValue:
    raise TypeError


_CONVERTERS: Mapping[str, Callable[[JsonValue], JsonValue]] = {
    "string": _to_text,
    "securestring": _to_text,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "array": _to_list,
    "object": _to_object,
}
