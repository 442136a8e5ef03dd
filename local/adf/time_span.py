"""Lengths of time as Data Factory writes them: d.hh:mm:ss, or hh:mm:ss, with a fraction where it is wanted."""

import re
from datetime import timedelta

_SPAN = re.compile(
    r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(?:\.\d{1,7})?)", re.ASCII
)


def parse_time_span(text: str) -> timedelta:
    """Read a length of time. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a length of time in the form d.hh:mm:ss")
    parts = {unit: float(value) for unit, value in match.groupdict("0").items()}
    return timedelta(**parts)
