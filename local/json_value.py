"""The values that JSON can hold, as types."""

from collections.abc import Mapping
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class FieldError(ValueError):
    """A field of a JSON body has the wrong type or value. The message names the field and what it must be."""


def optional_text(body: Mapping[str, JsonValue], field: str) -> str | None:
    """The text in `field`, or None where it is absent or null."""
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise FieldError(f"{field} must be text")
    return value


def text(body: Mapping[str, JsonValue], field: str) -> str:
    """The text in `field`, which must be there and not be empty."""
    value = optional_text(body, field)
    if not value:
        raise FieldError(f"{field} is required")
    return value


def number(body: Mapping[str, JsonValue], field: str, default: float) -> float:
    """The number in `field` (zero or more), or `default` where it is absent or null."""
    value = body.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise FieldError(f"{field} must be a number, zero or more")
    return value


def whole_number(body: Mapping[str, JsonValue], field: str, default: int) -> int:
    """The whole number in `field` (zero or more), or `default` where it is absent or null."""
    value = number(body, field, default)
    if not isinstance(value, int):
        raise FieldError(f"{field} must be a whole number")
    return value


def flag(body: Mapping[str, JsonValue], field: str) -> bool:
    """Whether `field` is true; absent and null mean false."""
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise FieldError(f"{field} must be true or false")
    return bool(value)


def texts(body: Mapping[str, JsonValue], field: str) -> tuple[str, ...]:
    """The list of texts in `field`; absent and null mean none."""
    value = body.get(field)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [None]
    found = tuple(item for item in items if isinstance(item, str))
    if len(found) != len(items):
        raise FieldError(f"{field} must be a list of texts")
    return found


def reject_unknown(body: Mapping[str, JsonValue], known: frozenset[str]) -> None:
    """Refuse fields that mean nothing, so that a misspelt one does not pass for a wish fulfilled."""
    unknown = sorted(set(body) - known)
    if unknown:
        raise FieldError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
