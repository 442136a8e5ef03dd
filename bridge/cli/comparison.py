"""What a pipeline says, however it is written: Data Factory, its Studio and editors lay it out anew. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from bridge.cli.pipelines import Object

_ADDED: Final = ("lastPublishTime",)  # by Data Factory itself
_LAYOUT: Final[dict[str, Any]] = {"indent": 4, "sort_keys": True, "ensure_ascii": False}


def essence(document: Object) -> str:
    """Return what a pipeline, `{name, properties}`, says, as JSON in lines: equal for those that say the same.

    Data Factory adds a field, and empty ones that were not given. In parameters, nulls and empty values mean something.
    """
    kept = {name: value for name, value in document["properties"].items() if name not in _ADDED}
    parameters = kept.pop("parameters", None)
    properties = {"parameters": parameters, **_without_empty(kept)}
    return json.dumps(_plain({"name": document.get("name"), "properties": properties}), **_LAYOUT)


def _without_empty(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        inner = {name: _without_empty(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one not in (None, [], {})}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value in which a number is written in one way: 1.0 is 1, and true is neither."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
