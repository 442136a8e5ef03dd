"""Functions that decide and compare, but for `if`, which evaluates only one of its branches.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#logical-functions
"""

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import same, truth_argument, type_name
from local.json_value import JsonValue


def _and(*terms: JsonValue) -> JsonValue:
    truths = [truth_argument("and", term) for term in terms]
    return all(truths)


def _or(*terms: JsonValue) -> JsonValue:
    truths = [truth_argument("or", term) for term in terms]
    return any(truths)


def _not(term: JsonValue) -> JsonValue:
    return not truth_argument("not", term)


def _coalesce(*values: JsonValue) -> JsonValue:
    return next((value for value in values if value is not None), None)


def _greater(one: JsonValue, other: JsonValue) -> JsonValue:
    return _order("greater", one, other) > 0


def _greater_or_equals(one: JsonValue, other: JsonValue) -> JsonValue:
    return _order("greaterOrEquals", one, other) >= 0


def _less(one: JsonValue, other: JsonValue) -> JsonValue:
    return _order("less", one, other) < 0


def _less_or_equals(one: JsonValue, other: JsonValue) -> JsonValue:
    return _order("lessOrEquals", one, other) <= 0


def _order(function: str, one: JsonValue, other: JsonValue) -> int:
    """Above zero where the first is greater, below where the second is: numbers among numbers, texts among
    texts.
    """
    if isinstance(one, str) and isinstance(other, str):
        return (one > other) - (one < other)
    if _is_number(one) and _is_number(other):
        return (one > other) - (one < other)  # type: ignore[operator] # both are numbers
    raise ExpressionError(
        f"The function '{function}' expects all of its parameters to be either integers or decimal numbers or strings. "
        f"Found invalid parameter types: '{type_name(one)}', '{type_name(other)}'."
    )


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


LOGIC_FUNCTIONS = functions(
    Function("equals", same, 2, 2),
    Function("not", _not, 1, 1),
    Function("and", _and, 1, None),
    Function("or", _or, 1, None),
    Function("coalesce", _coalesce, 1, None),
    Function("greater", _greater, 2, 2),
    Function("greaterOrEquals", _greater_or_equals, 2, 2),
    Function("less", _less, 2, 2),
    Function("lessOrEquals", _less_or_equals, 2, 2),
)
