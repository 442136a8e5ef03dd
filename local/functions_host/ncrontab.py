"""Timer schedules: six-field NCRONTAB expressions and time spans.

Rules as in https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions;
all times are UTC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from local.functions_host.host_json import parse_time_span

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TERM = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")
_HORIZON_YEARS = 12  # more than the eight years between the leap days around 2100


class ScheduleError(ValueError):
    """A schedule cannot be read. The message says what is wrong with it."""


class Schedule(Protocol):
    """When a timer is due."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after `moment` at which the timer is due, or None if there is none."""


@dataclass(frozen=True)
class Interval:
    """Due again and again after the same time."""

    every: timedelta

    def next_after(self, moment: datetime) -> datetime:
        """One interval later."""
        return moment + self.every


@dataclass(frozen=True)
class _Field:
    """One of the six fields: its name, the values it allows, and their names from `low` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)


@dataclass(frozen=True)
class Cron:
    """Due whenever all six fields agree. Unlike in Unix cron, day and day of week must *both* match."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    days_of_week: frozenset[int]

    def next_after(self, moment: datetime) -> datetime | None:
        """The next matching second, or None for a date that never comes, such as 30 February."""
        at = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        last_year = at.year + _HORIZON_YEARS
        while at.year <= last_year:
            if at.month not in self.months:
                at = _midnight(at.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif at.day not in self.days or at.isoweekday() % 7 not in self.days_of_week:
                at = _midnight(at + timedelta(days=1))
            elif at.hour not in self.hours:
                at = at.replace(minute=0, second=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at = at.replace(second=0) + timedelta(minutes=1)
            elif at.second not in self.seconds:
                at += timedelta(seconds=1)
            else:
                return at
        return None


def parse_schedule(text: str) -> Schedule:
    """Read a schedule: `{second} {minute} {hour} {day} {month} {day of week}`, or a time span `hh:mm:ss`.

    Five fields are a schedule without seconds. Raises ScheduleError.
    """
    span = parse_time_span(text)
    if span:
        return Interval(span)
    terms = text.split()
    if len(terms) == len(_FIELDS) - 1:
        terms.insert(0, "0")
    if len(terms) != len(_FIELDS):
        raise ScheduleError(f"the schedule {text!r} has {len(terms)} fields, not 6 (or 5, without seconds)")
    return Cron(*(_values(term, field) for term, field in zip(terms, _FIELDS, strict=True)))


def _values(text: str, field: _Field) -> frozenset[int]:
    """Every value that a field's list of terms stands for."""
    return frozenset(value for term in text.split(",") for value in _range(term, field))


def _range(term: str, field: _Field) -> range:
    match = _TERM.fullmatch(term)
    if match is None or (match["first"] == "*" and match["last"]):
        raise ScheduleError(f"{term!r} is no {field.name}")
    step = int(match["step"] or 1)
    if match["first"] == "*":
        first, last = field.low, field.high
    else:
        first = _number(match["first"], field)
        last = _number(match["last"], field) if match["last"] else field.high if match["step"] else first
    if step < 1 or first > last:
        raise ScheduleError(f"{term!r} covers no {field.name}")
    return range(first, last + 1, step)


def _number(text: str, field: _Field) -> int:
    """A value from its number or from (the beginning of) its name."""
    if text.isdecimal():
        value = int(text)
    elif text[:3].lower() in field.names:
        value = field.low + field.names.index(text[:3].lower())
    else:
        raise ScheduleError(f"{text!r} is no {field.name}")
    if not field.low <= value <= field.high:
        raise ScheduleError(f"{value} is no {field.name}: it must be {field.low} to {field.high}")
    return value


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0)
