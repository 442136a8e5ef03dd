"""Fail: end with an error of one's own.

See https://learn.microsoft.com/azure/data-factory/control-flow-fail-activity#understand-the-fail-activity-error-code
"""

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.expressions.error import ExpressionError

_NO_CODE = "ErrorCodeNotString"


async def perform(attempt: Attempt) -> None:
    """Fail with the message and the code given; Data Factory has words of its own where they are missing."""
    message, code = _text(attempt, "message"), _text(attempt, "errorCode")
    attempt.record.input = {"message": message, "errorCode": code}
    missing = f"Failed to interpret {attempt.activity.name} fail message or error code"
    raise ActivityFailedError(code or _NO_CODE, message or missing)


def _text(attempt: Attempt, name: str) -> str | None:
    """A type property as text; None where there is none, or where it cannot be evaluated."""
    try:
        text = attempt.evaluate_text(attempt.activity.type_properties.get(name))
    except ExpressionError:
        return None
    return text if text.strip() else None
