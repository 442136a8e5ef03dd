"""The pipelines in a JSON file: one in Data Factory's Git layout, or all of an ARM template export. Pure.

https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#pipeline-json
https://learn.microsoft.com/azure/data-factory/continuous-integration-delivery
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Never

Json = Any  # what json.loads returns: no type of it says more
Object = Mapping[str, Json]

_OF_PIPELINES: Final = ("name", "properties", "resources")
_ARM_TYPE: Final = "microsoft.datafactory/factories/pipelines"
_ARM_NAME: Final = re.compile(r"\[concat\(\s*(?:parameters|variables)\('[^']+'\)\s*,\s*'/((?:[^']|'')+)'\s*\)\]")
_PLAIN_NAME: Final = re.compile(r"[^/\[\]]+/([^/]+)")


class UnreadableError(Exception):
    """A file, or something in it, that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline as its file has it."""

    name: str
    properties: Object

    @property
    def parameters(self) -> Object:
        """The declared parameters, by name, in their order."""
        return self.properties.get("parameters") or {}


def read(content: bytes) -> list[Pipeline | UnreadableError]:
    """Return a file's pipelines, each or the reason why it cannot be used; raise UnreadableError for the whole file.

    The values for a template's parameters, which stand next to it where Data Factory publishes it, are no pipeline.
    """
    document = _load(content)
    if not isinstance(document, dict):
        raise UnreadableError("holds no JSON object, so no pipeline")
    if isinstance(document.get("parameters"), dict) and document.keys().isdisjoint(_OF_PIPELINES):
        return []
    if "resources" in document and "properties" not in document:
        return list(_of_template(document["resources"]))
    return [_pipeline(document.get("name"), document.get("properties"))]


def _load(content: bytes) -> Json:
    try:
        return json.loads(
            content.decode("utf-8-sig"),  # editors on Windows put a mark at the beginning
            object_pairs_hook=_no_name_twice,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise UnreadableError("is not UTF-8") from None
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from None


def _no_name_twice(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """JSON parsers differ in which of two equal names they take: no such file means anything for sure."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise UnreadableError(f"has {names.most_common(1)[0][0]!r} twice in an object")
    return found


def _no_constant(name: str) -> Never:
    raise UnreadableError(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UnreadableError(f"holds the number {text}, which is too large to be kept")
    return number


def _pipeline(name: Json, properties: Json) -> Pipeline | UnreadableError:
    if not isinstance(name, str) or not name:
        return UnreadableError("has no name: a pipeline's file is {name, properties}, or an ARM template")
    if not isinstance(properties, dict) or not isinstance(properties.get("activities"), list):
        return UnreadableError(f"{name!r} has no properties.activities: is it a pipeline?")
    if not isinstance(properties.get("parameters") or {}, dict):
        return UnreadableError(f"{name!r}: properties.parameters has to be an object")
    return Pipeline(name, properties)


def _of_template(resources: Json) -> Iterator[Pipeline | UnreadableError]:
    """Find the pipelines among a template's resources: a list, or an object where the template is of language 2.0."""
    found = list(resources.values()) if isinstance(resources, dict) else resources
    if not isinstance(found, list):
        raise UnreadableError("is an ARM template without resources")
    for resource in found:
        if isinstance(resource, dict) and str(resource.get("type")).lower() == _ARM_TYPE:
            yield _of_resource(resource)


def _of_resource(resource: Object) -> Pipeline | UnreadableError:
    text = str(resource.get("name"))
    if match := _ARM_NAME.fullmatch(text):
        name = match[1].replace("''", "'")
    elif match := _PLAIN_NAME.fullmatch(text):
        name = match[1]
    else:
        return UnreadableError(
            f"no pipeline's name can be read from {text!r}: expected [concat(parameters('factoryName'), '/NAME')]"
        )
    wanted = ("parameters", "folder")  # a wrapper has copies of these only
    properties = resource.get("properties")
    if not isinstance(properties, dict):
        return _pipeline(name, properties)
    try:
        plain = {key: _evaluated(value) if key in wanted else value for key, value in properties.items()}
    except UnreadableError as trouble:
        return UnreadableError(f"{name!r}: {trouble}")
    return _pipeline(name, plain)


def _evaluated(value: Json) -> Json:
    """Return a template's value as it is deployed: `[[x]` is the text `[x]`; other expressions only ARM can evaluate.

    https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions#escape-characters
    """
    if isinstance(value, dict):
        return {_evaluated(name): _evaluated(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_evaluated(inner) for inner in value]
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        if value.startswith("[["):
            return value[1:]
        raise UnreadableError(
            f"the template sets a value by the expression {value}: take the pipeline's own file instead"
        )
    return value
