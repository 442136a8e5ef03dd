"""Functions on texts.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#string-functions
"""

import uuid

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import as_text, text_argument, whole_number_argument
from local.json_value import JsonValue

_GUIDS = {"N": "{:.32}", "D": "{}", "B": "{{{}}}", "P": "({})"}


def _concat(*parts: JsonValue) -> JsonValue:
    return "".join(map(as_text, parts))


def _starts_with(text: JsonValue, start: JsonValue) -> JsonValue:
    """Without regard to case, as documented."""
    return text_argument("startsWith", text).lower().startswith(text_argument("startsWith", start).lower())


def _ends_with(text: JsonValue, end: JsonValue) -> JsonValue:
    """Without regard to case, as documented."""
    return text_argument("endsWith", text).lower().endswith(text_argument("endsWith", end).lower())


def _to_lower(text: JsonValue) -> JsonValue:
    return text_argument("toLower", text).lower()


def _to_upper(text: JsonValue) -> JsonValue:
    return text_argument("toUpper", text).upper()


def _trim(text: JsonValue) -> JsonValue:
    return text_argument("trim", text).strip()


def _replace(text: JsonValue, old: JsonValue, new: JsonValue) -> JsonValue:
    found, sought = text_argument("replace", text), text_argument("replace", old)
    if not sought:
        raise ExpressionError("The function 'replace' expects its second parameter to be a string that is not empty.")
    return found.replace(sought, text_argument("replace", new))


def _substring(text: JsonValue, start: JsonValue, length: JsonValue = None) -> JsonValue:
    found, first = text_argument("substring", text), whole_number_argument("substring", start)
    size = len(found) - first if length is None else whole_number_argument("substring", length)
    if first < 0 or size < 0 or first + size > len(found):
        raise ExpressionError(
            "The function 'substring' parameters are out of range: 'start index' and 'length' must be non-negative "
            "integers and their sum must be no larger than the length of the string."
        )
    return found[first : first + size]


def _split(text: JsonValue, delimiter: JsonValue) -> JsonValue:
    found, border = text_argument("split", text), text_argument("split", delimiter)
    return [*(found.split(border) if border else [found])]


def _index_of(text: JsonValue, sought: JsonValue) -> JsonValue:
    """Without regard to case, as documented."""
    return text_argument("indexOf", text).lower().find(text_argument("indexOf", sought).lower())


def _last_index_of(text: JsonValue, sought: JsonValue) -> JsonValue:
    """Without regard to case, as documented."""
    return text_argument("lastIndexOf", text).lower().rfind(text_argument("lastIndexOf", sought).lower())


def _guid(form: JsonValue = "D") -> JsonValue:
    name = text_argument("guid", form).upper()
    if name not in _GUIDS:
        raise ExpressionError(f"The function 'guid' was invoked with the format '{name}'; there are N, D, B and P.")
    made = uuid.uuid4()
    return _GUIDS[name].format(made.hex if name == "N" else made)


TEXT_FUNCTIONS = functions(
    Function("concat", _concat, 1, None),
    Function("startsWith", _starts_with, 2, 2),
    Function("endsWith", _ends_with, 2, 2),
    Function("toLower", _to_lower, 1, 1),
    Function("toUpper", _to_upper, 1, 1),
    Function("trim", _trim, 1, 1),
    Function("replace", _replace, 3, 3),
    Function("substring", _substring, 2, 3),
    Function("split", _split, 2, 2),
    Function("indexOf", _index_of, 2, 2),
    Function("lastIndexOf", _last_index_of, 2, 2),
    Function("guid", _guid, 0, 1),
)
