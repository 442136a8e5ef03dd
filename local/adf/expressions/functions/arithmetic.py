"""Functions that reckon. Whole numbers stay whole: div(11, 5) is 2.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#math-functions
"""

import math

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import number_argument
from local.json_value import JsonValue


def _add(one: JsonValue, other: JsonValue) -> JsonValue:
    return number_argument("add", one) + number_argument("add", other)


def _sub(one: JsonValue, other: JsonValue) -> JsonValue:
    return number_argument("sub", one) - number_argument("sub", other)


def _mul(one: JsonValue, other: JsonValue) -> JsonValue:
    return number_argument("mul", one) * number_argument("mul", other)


def _div(one: JsonValue, other: JsonValue) -> JsonValue:
    dividend, divisor = number_argument("div", one), _divisor("div", other)
    if isinstance(dividend, int) and isinstance(divisor, int):
        return _quotient(dividend, divisor)
    return dividend / divisor


def _mod(one: JsonValue, other: JsonValue) -> JsonValue:
    """The remainder has the sign of the dividend, as in .NET."""
    dividend, divisor = number_argument("mod", one), _divisor("mod", other)
    if isinstance(dividend, int) and isinstance(divisor, int):
        return dividend - divisor * _quotient(dividend, divisor)
    return math.fmod(dividend, divisor)


def _quotient(dividend: int, divisor: int) -> int:
    """Rounded towards zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _divisor(function: str, value: JsonValue) -> int | float:
    divisor = number_argument(function, value)
    if divisor == 0:
        raise ExpressionError(f"Attempt to divide an integral or decimal number by zero in function '{function}'.")
    return divisor


ARITHMETIC_FUNCTIONS = functions(
    Function("add", _add, 2, 2),
    Function("sub", _sub, 2, 2),
    Function("mul", _mul, 2, 2),
    Function("div", _div, 2, 2),
    Function("mod", _mod, 2, 2),
)
