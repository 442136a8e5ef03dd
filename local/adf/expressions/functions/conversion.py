"""Functions that make one type of another.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#conversion-functions
"""

import base64
import json
from urllib.parse import quote

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import as_text, text_argument
from local.json_value import JsonValue

_TRUTHS = {"true": True, "false": False}


def _string(value: JsonValue) -> JsonValue:
    return as_text(value)


def _int(value: JsonValue) -> JsonValue:
    try:
        if isinstance(value, int | float):
            return round(value)
        if isinstance(value, str):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise _not_convertible("int")


def _float(value: JsonValue) -> JsonValue:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise _not_convertible("float")


def _bool(value: JsonValue) -> JsonValue:
    if isinstance(value, int | float):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _TRUTHS:
        return _TRUTHS[value.strip().lower()]
    raise _not_convertible("bool")


def _json(value: JsonValue) -> JsonValue:
    """What a text says in JSON; anything but a text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        read: JsonValue = json.loads(value, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ExpressionError(
            f"The function 'json' parameter is not valid. The provided value '{value}' cannot be parsed: '{error}'."
        ) from error
    return read


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is no JSON")


def _uri_component(text: JsonValue) -> JsonValue:
    return quote(text_argument("uriComponent", text), safe="")


def _base64(text: JsonValue) -> JsonValue:
    return base64.b64encode(text_argument("base64", text).encode()).decode()


def _not_convertible(function: str) -> ExpressionError:
    return ExpressionError(
        f"The function '{function}' was invoked with a parameter that is not valid. "
        "The value cannot be converted to the target type."
    )


CONVERSION_FUNCTIONS = functions(
    Function("string", _string, 1, 1),
    Function("int", _int, 1, 1),
    Function("float", _float, 1, 1),
    Function("bool", _bool, 1, 1),
    Function("json", _json, 1, 1),
    Function("uriComponent", _uri_component, 1, 1),
    Function("base64", _base64, 1, 1),
)
