"""Times written in .NET's formats: custom ones, and the common standard ones.

https://learn.microsoft.com/dotnet/standard/base-types/custom-date-and-time-format-strings
https://learn.microsoft.com/dotnet/standard/base-types/standard-date-and-time-format-strings
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from local.adf.expressions.error import ExpressionError

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_HALF_DAY_HOURS = 12

_STANDARD = {
    "d": "M/d/yyyy",
    "D": "dddd, MMMM d, yyyy",
    "f": "dddd, MMMM d, yyyy h:mm tt",
    "F": "dddd, MMMM d, yyyy h:mm:ss tt",
    "g": "M/d/yyyy h:mm tt",
    "G": "M/d/yyyy h:mm:ss tt",
    "o": "yyyy-MM-ddTHH:mm:ss.fffffffK",
    "O": "yyyy-MM-ddTHH:mm:ss.fffffffK",
    "r": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
    "R": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
    "s": "yyyy-MM-ddTHH:mm:ss",
    "t": "h:mm tt",
    "T": "h:mm:ss tt",
    "u": "yyyy-MM-dd HH:mm:ssZ",
}

# Quoted text, an escaped character, or a letter that repeats. What matches none of these stands for itself.
_PIECE = re.compile(r"'([^']*)'|\"([^\"]*)\"|\\(.)|(f{1,7}|F{1,7}|y+|M+|d+|H+|h+|m+|s+|t+|z+|K)")


def format_date(moment: datetime, form: str) -> str:
    """A time in UTC, in one of .NET's formats. Raises ExpressionError where a standard format is unknown here."""
    if len(form) == 1:
        if form not in _STANDARD:
            raise ExpressionError(f"The date format '{form}' is none of those that this stand-in knows.")
        form = _STANDARD[form]
    return _PIECE.sub(lambda piece: _piece(moment, piece), form)


def _piece(moment: datetime, piece: re.Match[str]) -> str:
    letters = piece[4]
    if letters is None:
        return piece[1] or piece[2] or piece[3] or ""
    write = _WRITERS[letters[0]]
    return write(moment, len(letters))


def _fraction(moment: datetime, digits: int) -> str:
    return f"{moment.microsecond:06}0"[:digits]


def _year(moment: datetime, width: int) -> str:
    short = 2
    return f"{moment.year % 100:0{width}}" if width <= short else f"{moment.year:0{width}}"


def _month(moment: datetime, width: int) -> str:
    return _number_or_name(moment.month, width, _MONTHS[moment.month - 1])


def _day(moment: datetime, width: int) -> str:
    return _number_or_name(moment.day, width, _DAYS[moment.weekday()])


def _number_or_name(number: int, width: int, name: str) -> str:
    """One or two letters are a number, three a short name, more the whole name."""
    longest_number, short_name = 2, 3
    if width <= longest_number:
        return f"{number:0{width}}"
    return name[:short_name] if width == short_name else name


def _half_day_hour(moment: datetime, width: int) -> str:
    return f"{moment.hour % _HALF_DAY_HOURS or _HALF_DAY_HOURS:0{min(width, 2)}}"


def _half_day(moment: datetime, width: int) -> str:
    return ("AM" if moment.hour < _HALF_DAY_HOURS else "PM")[: min(width, 2)]


_WRITERS: Mapping[str, Callable[[datetime, int], str]] = {
    "f": _fraction,
    "F": lambda moment, width: _fraction(moment, width).rstrip("0"),
    "y": _year,
    "M": _month,
    "d": _day,
    "H": lambda moment, width: f"{moment.hour:0{min(width, 2)}}",
    "h": _half_day_hour,
    "m": lambda moment, width: f"{moment.minute:0{min(width, 2)}}",
    "s": lambda moment, width: f"{moment.second:0{min(width, 2)}}",
    "t": _half_day,
    "z": lambda _, width: ("+0", "+00", "+00:00")[min(width, 3) - 1],
    "K": lambda _, __: "Z",
}
