"""The expressions that pipelines may use here: parameters and the run's own facts, alone or inside a text.

`@pipeline().parameters.x` keeps the parameter's type; `@{pipeline().parameters.x}` inside a text becomes
text; `@@` is a plain @. See
https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions and, for the run's
facts, https://learn.microsoft.com/azure/data-factory/control-flow-system-variables
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from local.json_value import JsonValue

_PARAMETER = re.compile(r"""pipeline\(\)\.parameters(?:\.(\w+)|\['([^']+)'\])""")
_FACT = re.compile(r"pipeline\(\)\.(\w+)")
_INSIDE_TEXT = re.compile(r"@\{([^{}]*)\}")


class ExpressionError(Exception):
    """An expression that cannot be evaluated; it fails the activity that holds it, as in Data Factory."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions can see: the run's parameters, and its facts by the name that `pipeline()` gives them."""

    parameters: Mapping[str, JsonValue]
    facts: Mapping[str, str]

    def evaluate(self, value: JsonValue) -> JsonValue:
        """The value that stands for an expression; anything else stands for itself. Raises ExpressionError."""
        if isinstance(value, dict) and value.get("type") == "Expression":
            value = value.get("value")
        if not isinstance(value, str):
            return value
        if value.startswith("@@"):
            return value[1:]
        if value.startswith("@") and not value.startswith("@{"):
            return self._look_up(value[1:])
        return _INSIDE_TEXT.sub(lambda match: as_text(self._look_up(match[1])), value)

    def evaluate_text(self, value: JsonValue) -> str:
        """The same, as text. Raises ExpressionError."""
        return as_text(self.evaluate(value))

    def evaluate_number(self, value: JsonValue) -> float:
        """The same, as a number (a text of digits is one). Raises ExpressionError."""
        found = self.evaluate(value)
        try:
            if not isinstance(found, bool) and isinstance(found, int | float | str):
                return float(found)
        except ValueError:
            pass
        raise ExpressionError(f"The value {as_text(found)!r} is not a number.")

    def _look_up(self, expression: str) -> JsonValue:
        expression = expression.strip()
        if match := _PARAMETER.fullmatch(expression):
            name = match[1] or match[2]
            if name in self.parameters:
                return self.parameters[name]
            raise ExpressionError(
                f"The expression '{expression}' cannot be evaluated because property '{name}' doesn't exist."
            )
        if (match := _FACT.fullmatch(expression)) and match[1] in self.facts:
            return self.facts[match[1]]
        raise ExpressionError(
            f"The expression '{expression}' is none of those that this stand-in for Data Factory evaluates."
        )


def as_text(value: JsonValue) -> str:
    """A value as Data Factory writes it into a text: texts plainly, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
