"""Functions on lists, and on texts and objects as far as they are collections.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#collection-functions
"""

from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import as_text, same, text_argument, wrong_type
from local.json_value import JsonValue


def _length(value: JsonValue) -> JsonValue:
    if not isinstance(value, str | list):
        raise wrong_type("length", "an array or a string", value)
    return len(value)


def _empty(value: JsonValue) -> JsonValue:
    if value is not None and not isinstance(value, str | list | dict):
        raise wrong_type("empty", "an object, an array or a string", value)
    return not value


def _contains(collection: JsonValue, item: JsonValue) -> JsonValue:
    match collection:
        case str():
            return text_argument("contains", item) in collection
        case list():
            return any(same(one, item) for one in collection)
        case dict():
            return text_argument("contains", item) in collection
        case _:
            raise wrong_type("contains", "a dictionary (object), an array or a string", collection)


def _first(value: JsonValue) -> JsonValue:
    return _end(value, "first", 0)


def _last(value: JsonValue) -> JsonValue:
    return _end(value, "last", -1)


def _end(value: JsonValue, function: str, place: int) -> JsonValue:
    """The item at one end; of an empty text nothing, of an empty list null."""
    match value:
        case str():
            return value[place] if value else ""
        case list():
            return value[place] if value else None
        case _:
            raise wrong_type(function, "an array or a string", value)


def _join(items: JsonValue, delimiter: JsonValue) -> JsonValue:
    if not isinstance(items, list):
        raise wrong_type("join", "an array", items)
    return text_argument("join", delimiter).join(map(as_text, items))


def _create_array(*items: JsonValue) -> JsonValue:
    return [*items]


COLLECTION_FUNCTIONS = functions(
    Function("length", _length, 1, 1),
    Function("empty", _empty, 1, 1),
    Function("contains", _contains, 2, 2),
    Function("first", _first, 1, 1),
    Function("last", _last, 1, 1),
    Function("join", _join, 2, 2),
    Function("createArray", _create_array, 1, None),
    Function("array", _create_array, 1, 1),
)
