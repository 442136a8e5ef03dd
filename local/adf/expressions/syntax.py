"""What an expression consists of, once it was read."""

from dataclasses import dataclass
from typing import TypeAlias

from local.json_value import JsonValue


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the expression itself."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments. The name is in lower case: functions are found in any case."""

    function: str
    arguments: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of a value: `.name`, `['name']`, `[0]`. With a question mark before it, it is `optional`: null where
    there is no such part.
    """

    whole: "Node"
    part: "Node"
    optional: bool


Node: TypeAlias = Literal | Call | Selection
