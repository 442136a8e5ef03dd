"""What expressions do with any value: name its type, write it as text, compare it."""

import json

from local.adf.expressions.error import ExpressionError
from local.json_value import JsonValue


def type_name(value: JsonValue) -> str:
    """A value's type, in the words of Data Factory's error messages."""
    match value:
        case None:
            return "Null"
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case float():
            return "Float"
        case str():
            return "String"
        case list():
            return "Array"
        case dict():
            return "Object"


def as_text(value: JsonValue) -> str:
    """A value as it stands inside a text: texts plainly, null as nothing, lists and objects as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return str(value)  # True and False, as .NET writes them
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two values are equal. 1 is 1.0, but neither true nor '1'."""
    match one, other:
        case bool() | None, _:
            return one is other
        case _, bool():
            return False
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
        case _:
            return one == other


def text_argument(function: str, value: JsonValue) -> str:
    """An argument that must be text. Raises ExpressionError."""
    if not isinstance(value, str):
        raise wrong_type(function, "a string", value)
    return value


def whole_number_argument(function: str, value: JsonValue) -> int:
    """An argument that must be a whole number. Raises ExpressionError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(function, "an integer", value)
    return value


def number_argument(function: str, value: JsonValue) -> int | float:
    """An argument that must be a number. Raises ExpressionError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(function, "an integer or a decimal number", value)
    return value


def truth_argument(function: str, value: JsonValue) -> bool:
    """An argument that must be true or false. Raises ExpressionError."""
    if not isinstance(value, bool):
        raise wrong_type(function, "a boolean", value)
    return value


def wrong_type(function: str, expected: str, value: JsonValue) -> ExpressionError:
    """The error of an argument of the wrong type."""
    return ExpressionError(
        f"The function '{function}' expects its parameter to be {expected}. "
        f"The provided value is of type '{type_name(value)}'."
    )
