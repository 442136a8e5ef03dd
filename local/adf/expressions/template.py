"""Values in a pipeline's JSON, with the expressions in them evaluated.

`@…` is one expression and keeps its type; `@{…}` inside a text becomes text; `@@` is a plain @.
"""

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.evaluation import value_of
from local.adf.expressions.scope import Scope
from local.adf.expressions.values import as_text
from local.json_value import JsonValue


def evaluate(value: JsonValue, scope: Scope) -> JsonValue:
    """The value with every expression in it evaluated, however deep. Raises ExpressionError."""
    match value:
        case {"type": "Expression", "value": inner, **others} if not others:
            return evaluate(inner, scope)
        case dict():
            return {name: evaluate(inner, scope) for name, inner in value.items()}
        case list():
            return [evaluate(item, scope) for item in value]
        case str():
            return _evaluate_text(value, scope)
        case _:
            return value


def evaluate_text(value: JsonValue, scope: Scope) -> str:
    """The same, as text. Raises ExpressionError."""
    return as_text(evaluate(value, scope))


def evaluate_number(value: JsonValue, scope: Scope) -> float:
    """The same, as a number (a text of digits is one). Raises ExpressionError."""
    found = evaluate(value, scope)
    try:
        if not isinstance(found, bool) and isinstance(found, int | float | str):
            return float(found)
    except ValueError:
        pass
    raise ExpressionError(f"The value {as_text(found)!r} is not a number.")


def _evaluate_text(text: str, scope: Scope) -> JsonValue:
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@") and not text.startswith("@{"):
        return value_of(text[1:].strip(), scope)
    return _interpolated(text, scope)


def _interpolated(text: str, scope: Scope) -> str:
    """A text with its @{…} replaced by what they say; @@{ is a plain @{."""
    pieces: list[str] = []
    position = 0
    while (start := text.find("@{", position)) >= 0:
        if text[start - 1 : start] == "@" and start > position:
            pieces.append(text[position:start] + "{")
            position = start + 2
            continue
        end = _end_of_expression(text, start + 2)
        pieces += [text[position:start], as_text(value_of(text[start + 2 : end].strip(), scope))]
        position = end + 1
    return "".join(pieces) + text[position:]


def _end_of_expression(text: str, start: int) -> int:
    """Where the brace is that closes an expression; one inside a literal does not."""
    inside_literal = False
    for position in range(start, len(text)):
        if text[position] == "'":
            inside_literal = not inside_literal
        elif text[position] == "}" and not inside_literal:
            return position
    raise ExpressionError(
        f"Unable to parse expression '{text[start:]}': expected token 'RightBrace' and actual 'EndOfData'."
    )
