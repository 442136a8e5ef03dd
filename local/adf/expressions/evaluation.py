"""The value of an expression that was read."""

from dataclasses import dataclass

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.arithmetic import ARITHMETIC_FUNCTIONS
from local.adf.expressions.functions.collection import COLLECTION_FUNCTIONS
from local.adf.expressions.functions.conversion import CONVERSION_FUNCTIONS
from local.adf.expressions.functions.date import DATE_FUNCTIONS
from local.adf.expressions.functions.function import Function, Functions, functions
from local.adf.expressions.functions.logic import LOGIC_FUNCTIONS
from local.adf.expressions.functions.text import TEXT_FUNCTIONS
from local.adf.expressions.parser import parse
from local.adf.expressions.scope import Scope
from local.adf.expressions.syntax import Call, Literal, Node, Selection
from local.adf.expressions.values import as_text, truth_argument
from local.json_value import JsonObject, JsonValue

_PURE: Functions = {
    **TEXT_FUNCTIONS,
    **COLLECTION_FUNCTIONS,
    **LOGIC_FUNCTIONS,
    **ARITHMETIC_FUNCTIONS,
    **CONVERSION_FUNCTIONS,
    **DATE_FUNCTIONS,
}
_BRANCHES = 3


def value_of(source: str, scope: Scope) -> JsonValue:
    """The value of an expression, which stands without its @. Raises ExpressionError."""
    references = functions(
        Function("pipeline", lambda: scope.pipeline, 0, 0),
        Function("variables", scope.variable, 1, 1),
        Function("activity", scope.activity, 1, 1),
    )
    return _Evaluation(source, {**_PURE, **references}).value(parse(source))


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """The evaluation of one expression; `source` is what its error messages quote."""

    source: str
    functions: Functions

    def value(self, node: Node) -> JsonValue:
        """A node's value."""
        match node:
            case Literal(value):
                return value
            case Call("if", arguments) if len(arguments) == _BRANCHES:
                condition, then, otherwise = arguments
                return self.value(then if truth_argument("if", self.value(condition)) else otherwise)
            case Call(name, arguments):
                if name not in self.functions:
                    raise ExpressionError(f"The template function '{name}' is not defined or not valid.")
                return self.functions[name].call([self.value(argument) for argument in arguments])
            case Selection(whole, part, optional):
                return self._select(self.value(whole), self.value(part), optional=optional)

    def _select(self, whole: JsonValue, part: JsonValue, *, optional: bool) -> JsonValue:
        """A part of a value; where there is none, null if that is allowed."""
        if isinstance(whole, list) and isinstance(part, int):
            if 0 <= part < len(whole):
                return whole[part]
            problem = (
                f"array index '{part}' is outside bounds (0, {len(whole) - 1}) of array"
                if whole
                else f"array index '{part}' cannot be selected from empty array"
            )
        elif isinstance(whole, dict) and isinstance(part, str):
            name = _name_in(whole, part)
            if name is not None:
                return whole[name]
            problem = f"property '{part}' doesn't exist, available properties are '{', '.join(whole)}'"
        else:
            problem = f"property '{as_text(part)}' cannot be selected"
        if optional:
            return None
        raise ExpressionError(f"The expression '{self.source}' cannot be evaluated because {problem}.")


def _name_in(whole: JsonObject, part: str) -> str | None:
    """The property's name as it is written; without regard to case where there is no exact one."""
    if part in whole:
        return part
    return next((name for name in whole if name.lower() == part.lower()), None)
