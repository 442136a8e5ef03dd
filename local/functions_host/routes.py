"""Route templates, as ASP.NET routing reads them for an HTTP trigger.

Rules as in
https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger#customize-the-http-endpoint
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_PARAMETER = re.compile(
    r"\{(?P<catch_all>\*{1,2})?(?P<name>\w+)(?P<constraints>(?::\w+(?:\([^)]*\))?)*)(?P<optional>\?)?(?:=(?P<default>[^}]*))?\}"
)
_CONSTRAINT = re.compile(r":(?P<name>\w+)(?:\((?P<argument>[^)]*)\))?")
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


class RouteError(ValueError):
    """A route template cannot be read."""


@dataclass(frozen=True)
class _Segment:
    """One part of a template between slashes: literal text, or a parameter."""

    literal: str = ""
    parameter: str = ""
    constraints: tuple[Callable[[str], bool], ...] = ()
    catch_all: bool = False
    optional: bool = False
    default: str | None = None

    @property
    def rank(self) -> int:
        """How specific the segment is: the lower, the sooner it is tried."""
        if not self.parameter:
            return 0
        if self.catch_all:
            return 3
        return 1 if self.constraints else 2

    def accepts(self, text: str) -> bool:
        """Whether a path segment fits. Literals ignore case."""
        if not self.parameter:
            return text.casefold() == self.literal.casefold()
        return all(check(text) for check in self.constraints)


@dataclass(frozen=True)
class Route:
    """A parsed template."""

    segments: tuple[_Segment, ...]

    @property
    def precedence(self) -> tuple[int, ...]:
        """The order in which routes are tried: literals before parameters, catch-alls last."""
        return tuple(segment.rank for segment in self.segments)

    def match(self, raw_path: str) -> Mapping[str, str] | None:
        """The route parameters in a request's path (still percent-encoded), or None if the route is another
        one's.
        """
        given = path_segments(raw_path)
        values: dict[str, str] = {}
        for position, segment in enumerate(self.segments):
            if segment.catch_all:
                rest = "/".join(given[position:])
                if rest or segment.default is not None:
                    values[segment.parameter] = rest or str(segment.default)
                return values
            if position >= len(given):
                if segment.default is not None:
                    values[segment.parameter] = segment.default
                elif not segment.optional:
                    return None
                continue
            if not segment.accepts(given[position]):
                return None
            if segment.parameter:
                values[segment.parameter] = given[position]
        return values if len(given) <= len(self.segments) else None


def parse_route(template: str) -> Route:
    """Read a template such as `waits/{token}`, `items/{id:int?}` or `files/{*path}`. Raises RouteError."""
    parts = [part for part in template.strip("/").split("/") if part]
    segments = tuple(_parse_segment(part, template) for part in parts)
    if any(segment.catch_all for segment in segments[:-1]):
        raise RouteError(f"in the route {template!r} a catch-all parameter is not the last one")
    return Route(segments)


def path_segments(raw_path: str) -> list[str]:
    """A path's segments, decoded, except that an encoded slash stays `%2F` as on Azure."""
    return [unquote(_ENCODED_SLASH.sub("%252F", segment)) for segment in raw_path.strip("/").split("/") if segment]


def _parse_segment(text: str, template: str) -> _Segment:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        if "{" in text or "}" in text:
            raise RouteError(f"{text!r} in the route {template!r} is not supported: a parameter takes a whole segment")
        return _Segment(literal=text)
    return _Segment(
        parameter=match["name"],
        constraints=tuple(
            _constraint(found["name"], found["argument"], template)
            for found in _CONSTRAINT.finditer(match["constraints"] or "")
        ),
        catch_all=match["catch_all"] is not None,
        optional=match["optional"] is not None,
        default=match["default"],
    )


def _constraint(name: str, argument: str | None, template: str) -> Callable[[str], bool]:
    """The check behind a constraint's name."""
    if argument is None and name in _PLAIN:
        return _PLAIN[name]
    if argument is not None and name in _WITH_ARGUMENT:
        try:
            return _WITH_ARGUMENT[name](argument)
        except ValueError as error:
            raise RouteError(f"the constraint {name}({argument}) in the route {template!r} is wrong: {error}") from None
    raise RouteError(f"the constraint {name!r} in the route {template!r} is not known")


def _reads_as(convert: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            convert(text)
        except ValueError:
            return False
        return True

    return check


def _integer_of_bits(bits: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        return re.fullmatch(r"[+-]?\d{1,19}", text) is not None and -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1)

    return check


def _between(low: int | None, high: int | None) -> Callable[[str], bool]:
    is_long = _integer_of_bits(64)

    def check(text: str) -> bool:
        return is_long(text) and (low is None or low <= int(text)) and (high is None or int(text) <= high)

    return check


def _length(low: int, high: int | None) -> Callable[[str], bool]:
    return lambda text: low <= len(text) and (high is None or len(text) <= high)


def _numbers(argument: str) -> tuple[int, int]:
    """One number (both ends the same) or two of them."""
    first, _, second = argument.partition(",")
    return int(first), int(second or first)


def _pattern(argument: str) -> Callable[[str], bool]:
    compiled = re.compile(argument, re.IGNORECASE)
    return lambda text: compiled.search(text) is not None


_PLAIN: Mapping[str, Callable[[str], bool]] = {
    "int": _integer_of_bits(32),
    "long": _integer_of_bits(64),
    "bool": lambda text: text.lower() in {"true", "false"},
    "double": _reads_as(float),
    "decimal": _reads_as(float),
    "float": _reads_as(float),
    "guid": _reads_as(uuid.UUID),
    "alpha": lambda text: re.fullmatch("[A-Za-z]*", text) is not None,
    "required": bool,
}
_WITH_ARGUMENT: Mapping[str, Callable[[str], Callable[[str], bool]]] = {
    "min": lambda argument: _between(int(argument), None),
    "max": lambda argument: _between(None, int(argument)),
    "range": lambda argument: _between(*_numbers(argument)),
    "minlength": lambda argument: _length(int(argument), None),
    "maxlength": lambda argument: _length(0, int(argument)),
    "length": lambda argument: _length(*_numbers(argument)),
    "regex": _pattern,
}
