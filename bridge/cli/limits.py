"""What Data Factory allows a pipeline to be: checked before it is asked, and told all at once. Pure.

Names: https://learn.microsoft.com/azure/data-factory/naming-rules
Their length: 260 in https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftdatafactory
and in the REST API, 140 in https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#pipeline-json
Numbers: https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-data-factory-limits
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from bridge.cli.pipelines import Object, Pipeline
from bridge.cli.wrapper import SECURE
from bridge.policy import CORRELATION, WRAPPER_SUFFIX, wrapper_of

_NAME_CHARACTERS: Final = 260
_SURE_NAME_CHARACTERS: Final = 140
_FORBIDDEN: Final = "<>*#.%&:\\+?/"
_PARAMETERS: Final = 50
_COMPOUND: Final = ("array", "object")
_TYPES: Final = ("string", "int", "float", "bool", *_COMPOUND, SECURE)
_EXPRESSION_CHARACTERS: Final = 8_192
_PIPELINE_BYTES: Final = 200 * 1024


def problems_of(pipeline: Pipeline) -> list[str]:
    """Return what keeps a pipeline from having a wrapper."""
    return [*_name(pipeline.name), *_parameters(pipeline.parameters)]


def problems_in(wrapper: Object) -> list[str]:
    """Return what Data Factory would not take of a wrapper."""
    return [*_expressions(wrapper), *_size(wrapper)]


def warnings_of(pipeline: Pipeline) -> list[str]:
    """Return what works, and is better done otherwise, or may not work."""
    return [*_secrets(pipeline.parameters), *_compounds(pipeline.parameters), *_long_name(pipeline.name)]


def _secrets(parameters: Object) -> Iterator[str]:
    for name, given in parameters.items():
        if str(given["type"]).lower() == SECURE and given.get("defaultValue") not in (None, ""):
            yield (
                f"the secureString parameter {name!r} has a default: it stands readable in this pipeline, "
                "and in its wrapper"
            )


def _compounds(parameters: Object) -> Iterator[str]:
    """Issues 274, 529 and 682 of Azure/Azure-DataFactory: docs/unverified.md."""
    found = [repr(name) for name, given in parameters.items() if str(given["type"]).lower() in _COMPOUND]
    if found:
        yield (
            f"{', '.join(found)} may arrive in the pipeline as text: some report that Data Factory passes lists and "
            "objects on like that. Try it out, or start this pipeline with `wrapped: never`"
        )


def _long_name(name: str) -> Iterator[str]:
    if _characters(wrapper_of(name)) > _SURE_NAME_CHARACTERS:
        yield (
            f"its wrapper's name is longer than {_SURE_NAME_CHARACTERS} characters: Data Factory's pages disagree "
            f"on whether it takes more ({_NAME_CHARACTERS})"
        )


def _name(name: str) -> Iterator[str]:
    if not (name[0].isalnum() or name[0] == "_"):
        yield "its name has to begin with a letter, a digit or an underscore"
    bad = sorted({sign for sign in name if sign in _FORBIDDEN or unicodedata.category(sign) == "Cc"})
    if bad:
        yield f"its name holds {', '.join(map(ascii, bad))}, which Data Factory does not allow"
    length = _characters(wrapper_of(name))
    if length > _NAME_CHARACTERS:
        yield (
            f"its wrapper's name would have {length} characters; {_NAME_CHARACTERS} are allowed, "
            f"{len(WRAPPER_SUFFIX)} of them are for {WRAPPER_SUFFIX}"
        )


def _parameters(parameters: Object) -> Iterator[str]:
    own = _PARAMETERS - 1
    if len(parameters) > own:
        yield (
            f"it has {len(parameters)} parameters; {own} are allowed, because a pipeline has at most {_PARAMETERS}, "
            f"and one of the wrapper's is {CORRELATION}"
        )
    spellings = Counter(name.lower() for name in parameters)
    for name, given in parameters.items():
        if name.lower() == CORRELATION:
            yield f"its parameter {name!r} has the name of the wrapper's own parameter: rename it"
        if spellings[name.lower()] > 1:
            yield f"its parameter {name!r} has a twin that differs in upper and lower case only"
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            yield f"its parameter {name!r} has no type"
        elif given["type"].lower() not in _TYPES:
            yield f"its parameter {name!r} has the type {given['type']!r}, which is none of {', '.join(_TYPES)}"


def _expressions(wrapper: Object) -> Iterator[str]:
    for expression in _expressions_in(wrapper["properties"]["activities"]):
        length = _characters(expression)
        if length > _EXPRESSION_CHARACTERS:
            yield (
                f"an expression of its wrapper has {length} characters; {_EXPRESSION_CHARACTERS} are allowed: "
                f"{expression[:60]}…"
            )


def _expressions_in(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        if value.get("type") == "Expression":
            yield value["value"]
        else:
            for inner in value.values():
                yield from _expressions_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions_in(inner)


def _size(wrapper: Object) -> Iterator[str]:
    try:
        size = len(json.dumps(wrapper, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError:
        yield "it holds half a surrogate pair, which no file can hold"
        return
    if size > _PIPELINE_BYTES:
        yield f"its wrapper has {size} bytes, most of them defaults of parameters; {_PIPELINE_BYTES} are allowed"


def _characters(text: str) -> int:
    """Count as Data Factory's own languages do, in UTF-16: some letters are two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
