"""Checks a JSON value against a JSON Schema (2020-12): the keywords that our own schema uses, and no others.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_SILENT: Final = {"$schema", "$id", "$defs", "title", "description"}
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def problems(value: Any, schema: Any, *, root: Any = None, at: str = "$") -> list[str]:
    """Return where and why a value does not fit; raise KeyError for a keyword that is not known here."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return [] if schema else [f"{at} is not allowed"]
    found: list[str] = []
    for keyword, rule in schema.items():
        if keyword not in _SILENT:
            found += [f"{at}: {trouble}" for trouble in _KEYWORDS[keyword](value, rule, schema, root)]
    return found


def _all_of(value: Any, schemas: Any, root: Any) -> list[list[str]]:
    return [problems(value, schema, root=root) for schema in schemas]


def _type(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    allowed = rule if isinstance(rule, list) else [rule]
    if not any(_TYPES[one](value) for one in allowed):
        yield f"{value!r} is no {' or '.join(allowed)}"


def _const(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if value != rule:
        yield f"{value!r} is not {rule!r}"


def _enum(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if value not in rule:
        yield f"{value!r} is none of {rule}"


def _pattern(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{value!r} does not match {rule}"


def _min_length(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) < rule:
        yield f"{value!r} is too short"


def _format(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    assert "date-time" == rule
    if not isinstance(value, str):
        return
    try:
        assert _DATE_TIME.fullmatch(value)
        datetime.fromisoformat(value)
    except (AssertionError, ValueError):
        yield f"{value!r} is no date-time"


def _required(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{name} is missing" for name in rule if name not in value)


def _properties(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in rule.keys() & value.keys():
            yield from problems(value[name], rule[name], root=root, at=name)


def _additional(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            yield from problems(value[name], rule, root=root, at=name)


def _property_names(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value:
            yield from problems(name, rule, root=root, at=f"the name {name}")


def _any_of(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    tried = _all_of(value, rule, root)
    if all(tried):
        yield f"fits none of {len(rule)}: {tried}"


def _one_of(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    tried = _all_of(value, rule, root)
    if tried.count([]) != 1:
        yield f"fits {tried.count([])} of {len(rule)}, not one: {tried}"


def _ref(value: Any, rule: Any, schema: Any, root: Any) -> Iterator[str]:
    yield from problems(value, root["$defs"][rule.removeprefix("#/$defs/")], root=root)


_KEYWORDS: Final[Mapping[str, Callable[[Any, Any, Any, Any], Iterator[str]]]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "minLength": _min_length,
    "format": _format,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "$ref": _ref,
}
