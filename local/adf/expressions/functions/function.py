"""What a function is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from local.adf.expressions.error import ExpressionError
from local.json_value import JsonValue


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its name as Data Factory writes it, and how many arguments it takes (`most` is None: any
    number).
    """

    name: str
    act: Callable[..., JsonValue]
    fewest: int
    most: int | None

    def call(self, arguments: list[JsonValue]) -> JsonValue:
        """The function's value. Raises ExpressionError."""
        if len(arguments) < self.fewest or (self.most is not None and len(arguments) > self.most):
            raise ExpressionError(
                f"The function '{self.name}' expects {self._expected()} parameter(s). "
                f"The function was invoked with '{len(arguments)}' parameter(s)."
            )
        return self.act(*arguments)

    def _expected(self) -> str:
        if self.most is None:
            return f"at least {self.fewest}"
        return str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"


Functions: TypeAlias = Mapping[str, Function]


def functions(*declared: Function) -> Functions:
    """Functions by their names in lower case."""
    return {function.name.lower(): function for function in declared}
