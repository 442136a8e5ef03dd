"""When a delivery is tried again, and when never: Event Grid's rules, without any I/O.

See https://learn.microsoft.com/azure/event-grid/delivery-and-retry
"""

from dataclasses import dataclass
from datetime import timedelta

from local.event_grid.subscription import EndpointType

SUCCESS = frozenset({200, 201, 202, 203, 204})

# What an answer is called in a dead-lettered event. No answer at all within the time limit is a time-out, too.
_OUTCOMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "TimedOut",
    413: "RequestEntityTooLarge",
    503: "Busy",
}

_SCHEDULE = tuple(
    timedelta(seconds=seconds) for seconds in (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
)
_LEAST_WAIT = {404: timedelta(minutes=5), 408: timedelta(minutes=2), 503: timedelta(seconds=30)}
_PROBATION_AFTER = 10
_PROBATION = timedelta(minutes=5)
_LONGEST_PROBATION = timedelta(hours=3)
_NEVER_AGAIN = {
    EndpointType.AZURE_FUNCTION: frozenset({400, 403, 413}),
    EndpointType.WEBHOOK: frozenset({400, 401, 403, 413}),
    EndpointType.SERVICE_BUS_QUEUE: frozenset({400, 403, 413}),
}


def outcome_of(status: int | None) -> str:
    """What became of a delivery, in the service's word. No status: the endpoint gave no answer."""
    if status is None:
        return "TimedOut"
    return "Success" if status in SUCCESS else _OUTCOMES.get(status, "GenericError")


def never_again(endpoint: EndpointType, status: int | None) -> str | None:
    """The reason to dead-letter at once after this answer, or None where another attempt may help."""
    if status not in _NEVER_AGAIN[endpoint]:
        return None
    return f"UndeliverableDueToHttp{outcome_of(status)}"


def wait_before(attempt: int, last_status: int | None) -> timedelta:
    """How long to wait before an attempt (the second is number 2), before jitter and the clock factor.

    Some answers ask for a longer wait than the schedule says: 404, 408 and 503.
    """
    scheduled = _SCHEDULE[min(attempt - 2, len(_SCHEDULE) - 1)]
    return scheduled if last_status is None else max(scheduled, _LEAST_WAIT.get(last_status, scheduled))


@dataclass(slots=True)
class Probation:
    """Delayed delivery: an endpoint that keeps failing gets nothing at all for a while.

    Azure tells neither the threshold ("around ten failures") nor the length ("up to several hours"). Here the
    tenth failure in a row begins five minutes, and each further failure doubles them, up to three hours. A
    success ends it.
    """

    failures: int = 0

    def failed(self) -> timedelta | None:
        """Count a failure. Returns for how long the endpoint is left alone from now on, if it is."""
        self.failures += 1
        if self.failures < _PROBATION_AFTER:
            return None
        return min(_PROBATION * (1 << min(self.failures - _PROBATION_AFTER, 6)), _LONGEST_PROBATION)

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0
