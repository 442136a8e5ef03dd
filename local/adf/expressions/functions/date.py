"""Functions on times. All of them are UTC.

https://learn.microsoft.com/azure/data-factory/control-flow-expression-language-functions#date-functions
"""

from datetime import UTC, datetime

from local.adf.expressions.date_format import format_date
from local.adf.expressions.error import ExpressionError
from local.adf.expressions.functions.function import Function, functions
from local.adf.expressions.values import text_argument
from local.json_value import JsonValue


def _utc_now(form: JsonValue = "o") -> JsonValue:
    return format_date(datetime.now(UTC), text_argument("utcNow", form))


def _format_date_time(time: JsonValue, form: JsonValue = "o") -> JsonValue:
    text = text_argument("formatDateTime", time)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ExpressionError(
            f"In function 'formatDateTime', the value provided for date time string '{text}' was not valid. "
            "The datetime string must match ISO 8601 format."
        ) from error
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return format_date(moment, text_argument("formatDateTime", form))


DATE_FUNCTIONS = functions(
    Function("utcNow", _utc_now, 0, 1),
    Function("formatDateTime", _format_date_time, 1, 2),
)
