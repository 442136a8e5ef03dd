"""NCRONTAB expressions and time spans."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from local.functions_host.ncrontab import ScheduleError, parse_schedule

THURSDAY = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * * *", datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)),
        ("*/15 * * * * *", datetime(2026, 1, 1, 12, 0, 15, tzinfo=UTC)),
        ("*/5 * * * *", datetime(2026, 1, 1, 12, 5, tzinfo=UTC)),
        ("0 0 12 * * *", datetime(2026, 1, 2, 12, tzinfo=UTC)),
        ("0 30 9 * * 1-5", datetime(2026, 1, 2, 9, 30, tzinfo=UTC)),
        ("0 30 9 * * Mon", datetime(2026, 1, 5, 9, 30, tzinfo=UTC)),
        ("0 30 9 * Jan Monday", datetime(2026, 1, 5, 9, 30, tzinfo=UTC)),
        ("0 0 0 * * 0", datetime(2026, 1, 4, tzinfo=UTC)),
        ("59 59 23 31 12 *", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0 0 0 31 * *", datetime(2026, 1, 31, tzinfo=UTC)),
        ("0 0 0 30 4,2 *", datetime(2026, 4, 30, tzinfo=UTC)),
        ("0 0 0 29 feb *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("0 0 0 13 * fri", datetime(2026, 2, 13, tzinfo=UTC)),
        ("10-20/5,50 0 12 1 1 *", datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)),
        ("0 5/20 * * * *", datetime(2026, 1, 1, 12, 5, tzinfo=UTC)),
        ("00:10:00", datetime(2026, 1, 1, 12, 10, tzinfo=UTC)),
        ("1.00:00", datetime(2026, 1, 2, 12, tzinfo=UTC)),
        ("0 0 0 30 2 *", None),
    ],
)
def test_next_time(schedule: str, expected: datetime | None) -> None:
    """A schedule's next time is the first one after now that fits every field."""
    assert expected == parse_schedule(schedule).next_after(THURSDAY)


def test_schedules_are_utc() -> None:
    """A time in another zone is the same moment."""
    elsewhere = THURSDAY.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert datetime(2026, 1, 1, 13, tzinfo=UTC) == parse_schedule("0 0 * * * *").next_after(elsewhere)


def test_fractions_of_a_second_do_not_count() -> None:
    """The next time is after now, even a moment after it was due."""
    late = THURSDAY + timedelta(microseconds=1)
    assert THURSDAY + timedelta(seconds=1) == parse_schedule("* * * * * *").next_after(late)


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * *",
        "* * * * * * *",
        "60 * * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * * 13 *",
        "* * * * * 7",
        "* * * * * noday",
        "*/0 * * * * *",
        "5-3 * * * * *",
        "*-3 * * * * *",
        "1, * * * * *",
        "-1 * * * * *",
        "00:00:00",
        "² * * * * *",
    ],
)
def test_wrong_schedules_are_refused(schedule: str) -> None:
    """A schedule that means nothing, or never anything, is an error and no guess."""
    with pytest.raises(ScheduleError):
        parse_schedule(schedule)
