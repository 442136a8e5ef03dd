"""Event Grid's rules of when a delivery is tried again."""

from datetime import timedelta

import pytest

from local.event_grid.retry import Probation, never_again, wait_before
from local.event_grid.subscription import EndpointType

FUNCTION, WEBHOOK = EndpointType.AZURE_FUNCTION, EndpointType.WEBHOOK


def test_waits_follow_the_published_schedule() -> None:
    """The waits are 10 s, 30 s, 1 m, 5 m, 10 m, 30 m, 1 h, 3 h, 6 h, and then 12 h every time."""
    waits = [wait_before(attempt, 500).total_seconds() for attempt in range(2, 14)]

    assert [10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 43200, 43200] == waits


@pytest.mark.parametrize(("status", "seconds"), [(404, 300), (408, 120), (503, 30), (500, 10), (None, 10)])
def test_some_answers_ask_for_a_longer_first_wait(status: int | None, seconds: int) -> None:
    """After 404, 408 and 503 the first wait is longer than the schedule's."""
    assert timedelta(seconds=seconds) == wait_before(2, status)


@pytest.mark.parametrize(
    ("endpoint", "status", "reason"),
    [
        (WEBHOOK, 400, "UndeliverableDueToHttpBadRequest"),
        (WEBHOOK, 401, "UndeliverableDueToHttpUnauthorized"),
        (WEBHOOK, 403, "UndeliverableDueToHttpForbidden"),
        (WEBHOOK, 413, "UndeliverableDueToHttpRequestEntityTooLarge"),
        (FUNCTION, 401, None),
        (FUNCTION, 403, "UndeliverableDueToHttpForbidden"),
        (FUNCTION, 500, None),
        (WEBHOOK, None, None),
    ],
)
def test_some_answers_are_final(endpoint: EndpointType, status: int | None, reason: str | None) -> None:
    """400, 403 and 413 are never tried again, and 401 is not at a webhook."""
    assert reason == never_again(endpoint, status)


def test_an_endpoint_that_keeps_failing_is_left_alone_ever_longer() -> None:
    """The tenth failure in a row begins a pause that doubles up to three hours; a success ends the count."""
    probation = Probation()
    pauses = [probation.failed() for _ in range(17)]

    assert [None] * 9 == pauses[:9]
    assert [5, 10, 20, 40, 80, 160, 180, 180] == [pause and pause.total_seconds() / 60 for pause in pauses[9:]]
    probation.succeeded()
    assert probation.failed() is None
