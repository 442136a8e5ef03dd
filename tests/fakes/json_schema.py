"""Whether a JSON value fits a JSON Schema (2020-12), times included."""

from __future__ import annotations

from typing import Any, Final

from jsonschema import Draft202012Validator

# Without it a `format` is a remark: https://json-schema.org/draft/2020-12/json-schema-validation#section-7.2.1
_FORMATS: Final = Draft202012Validator.FORMAT_CHECKER


def problems(value: Any, schema: Any) -> list[str]:
    """Return where and why a value does not fit. Raises SchemaError for a schema that is none."""
    Draft202012Validator.check_schema(schema)
    found = Draft202012Validator(schema, format_checker=_FORMATS).iter_errors(value)
    return [f"{one.json_path}: {one.message}" for one in found]
