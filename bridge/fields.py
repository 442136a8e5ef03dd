"""Reads the fields of a JSON body and collects everything that is wrong with them, to be raised once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from bridge.errors import FieldError, InvalidFields

E = TypeVar("E", bound=StrEnum)

NAME_CHARS: Final = 250  # Airflow's own limit for dag, task and run ids


class Fields:
    """One JSON object of a body. Errors of nested objects are collected by the outermost one, under dotted names."""

    def __init__(self, data: Mapping[str, Any], *, path: str = "", errors: list[FieldError] | None = None) -> None:
        self._data = data
        self._path = path
        self._errors = [] if errors is None else errors
        self._read: set[str] = set()

    def wrong(self, name: str, message: str) -> None:
        """Note an error of one field."""
        self._errors.append(FieldError(self._path + name, message))

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        self._read.add(name)
        return self._data.get(name) is not None

    def text(self, name: str, *, most: int = NAME_CHARS) -> str:
        """Read a required text of 1 to `most` characters."""
        value = self._get(name)
        if not isinstance(value, str):
            self.wrong(name, f"has to be a text, not {kind_of(value)}" if value is not None else "is missing")
            return ""
        return self._checked_text(name, value, most)

    def optional_text(self, name: str, *, most: int = NAME_CHARS) -> str | None:
        """Read a text that may be missing or null."""
        return self.text(name, most=most) if self.has(name) else None

    def whole(self, name: str, *, low: int, high: int = 2**31 - 1) -> int:
        """Read a required whole number."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, f"has to be a whole number, not {kind_of(value)}" if value is not None else "is missing")
            return low
        if not low <= value <= high:
            self.wrong(name, f"has to be from {low} to {high}")
        return value

    def yes_or_no(self, name: str, *, default: bool) -> bool:
        """Read true or false, which may be missing."""
        if not self.has(name):
            return default
        value = self._get(name)
        if not isinstance(value, bool):
            self.wrong(name, f"has to be true or false, not {kind_of(value)}")
            return default
        return value

    def one_of(self, name: str, words: type[E], *, default: E | None = None) -> E:
        """Read one of an enumeration's words."""
        first = next(iter(words))
        if default is not None and not self.has(name):
            return default
        value = self._get(name)
        allowed = " or ".join(f"'{word}'" for word in words)
        if not isinstance(value, str) or value not in set(words):
            self.wrong(name, f"has to be {allowed}")
            return first
        return words(value)

    def some_of(self, name: str, words: tuple[E, ...]) -> tuple[E, ...]:
        """Read a list of some of these words; all of them, if it is missing."""
        if not self.has(name):
            return words
        value = self._get(name)
        allowed = ", ".join(f"'{word}'" for word in words)
        if not isinstance(value, list) or not value or any(one not in words for one in value):
            self.wrong(name, f"has to be a list of some of {allowed}")
            return words
        return tuple(word for word in words if word in value)

    def entries(self, name: str, *, most: int) -> list[object]:
        """Read a required list of 1 to `most` entries, whatever they are."""
        value = self._get(name)
        if not isinstance(value, list):
            self.wrong(name, f"has to be a list, not {kind_of(value)}" if value is not None else "is missing")
            return []
        if not 1 <= len(value) <= most:
            self.wrong(name, f"has {len(value)} entries; it has to have 1 to {most}")
            return []
        return value

    def time(self, name: str) -> datetime:
        """Read a time in ISO 8601 with its offset; returned in UTC."""
        text = self.text(name)
        try:
            value = datetime.fromisoformat(text) if text else None
            if value is not None and value.tzinfo is not None:
                return value.astimezone(UTC)
        except (ValueError, OverflowError):  # the latter: year 1 or 9999, pushed out by its offset
            pass
        if text:
            self.wrong(name, "has to be a time with an offset, as in 2026-01-31T12:00:00+00:00")
        return datetime.max.replace(tzinfo=UTC)

    def json_object(self, name: str) -> Mapping[str, Any]:
        """Read a JSON object that may be missing."""
        value = self._get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(name, f"has to be an object, not {kind_of(value)}")
            return {}
        return value

    def nested(self, name: str) -> Fields:
        """Read a required object's fields."""
        value = self._get(name)
        if not isinstance(value, dict):
            self.wrong(name, f"has to be an object, not {kind_of(value)}" if value is not None else "is missing")
            return _Absent()
        return Fields(value, path=f"{self._path}{name}.", errors=self._errors)

    def no_others(self) -> None:
        """Refuse fields that nobody read: a misspelt option would be silently ignored."""
        for name in sorted(set(self._data) - self._read):
            shown = name.encode("utf-8", "replace").decode()[:80]
            self.wrong(shown, "is not a field of this request")

    def finish(self) -> None:
        """Raise InvalidFields if anything was wrong."""
        if self._errors:
            raise InvalidFields(self._errors)

    def _get(self, name: str) -> object:
        self._read.add(name)
        return self._data.get(name)

    def _checked_text(self, name: str, value: str, most: int) -> str:
        if not value:
            self.wrong(name, "must not be empty")
        elif len(value) > most:
            self.wrong(name, f"has {len(value)} characters; {most} are allowed")
        elif not is_unicode(value):
            self.wrong(name, "holds half a surrogate pair, which is no text")
        else:
            return value
        return ""

    def check(self, name: str, value: str, test: Callable[[str], bool], message: str) -> None:
        """Note an error when a text that was read does not pass a test."""
        if value and not test(value):
            self.wrong(name, message)


class _Absent(Fields):
    """Fields of an object that is not there: its absence was noted, what it lacks is no news."""

    def __init__(self) -> None:
        super().__init__({})

    def nested(self, name: str) -> Fields:
        del name
        return self

    def finish(self) -> None:
        return


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: object) -> str:
    """Name a JSON value's kind for a person."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
