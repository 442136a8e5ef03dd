"""Reading the fields of a JSON body."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidFields
from bridge.fields import Fields


class Colour(StrEnum):
    """Something to choose from."""

    RED = "red"
    BLUE = "blue"


def said(fields: Fields) -> dict[str, str]:
    """Return what is wrong with the fields that were read."""
    try:
        fields.finish()
    except InvalidFields as problem:
        return {error.field: error.message for error in problem.errors}
    return {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", None),
        ("ü💥", None),
        ("x" * 250, None),
        ("", "must not be empty"),
        ("x" * 251, "has 251 characters; 250 are allowed"),
        ("\ud800", "holds half a surrogate pair, which is no text"),
        (None, "is missing"),
        (1, "has to be a text, not a number"),
        (True, "has to be a text, not true or false"),
        ([], "has to be a text, not a list"),
        ({}, "has to be a text, not an object"),
    ],
)
def test_texts(value: object, message: str | None) -> None:
    """A text is a JSON string of a bounded length, and the message says what came instead."""
    fields = Fields({"name": value})
    read = fields.text("name")
    assert (value if message is None else "", {} if message is None else {"name": message}) == (read, said(fields))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, None),
        (2**31 - 1, None),
        (-2, "has to be from -1 to 2147483647"),
        (2**31, "has to be from -1 to 2147483647"),
        ("1", "has to be a whole number, not a text"),
        (1.0, "has to be a whole number, not a number"),
        (True, "has to be a whole number, not true or false"),
        (None, "is missing"),
    ],
)
def test_whole_numbers(value: object, message: str | None) -> None:
    """A whole number is a JSON integer within its bounds; true is none."""
    fields = Fields({"name": value})
    fields.whole("name", low=-1)
    assert ({} if message is None else {"name": message}) == said(fields)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-31T12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00", None),
        ("2026-01-31", None),
        ("soon", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
    ],
)
def test_times(value: str, expected: datetime | None) -> None:
    """A time has an offset and is read into UTC; what cannot be is refused."""
    fields = Fields({"at": value})
    read = fields.time("at")
    assert (expected is None) == ("at" in said(fields))
    assert expected in (None, read)


@given(st.text() | st.datetimes().map(lambda at: f"{at.isoformat()}+23:59"))
def test_times_never_raise(value: str) -> None:
    """Whatever stands where a time should, reading it collects an error at most."""
    fields = Fields({"at": value})
    assert UTC == fields.time("at").tzinfo


def test_words() -> None:
    """A word of a closed list is taken as it is written, and nothing else is."""
    fields = Fields({"a": "red", "b": "Red", "c": ["red"], "d": None})
    read = [fields.one_of(name, Colour) for name in ("a", "b", "c")]
    assert (Colour.BLUE, Colour.RED) == (fields.one_of("d", Colour, default=Colour.BLUE), read[0])
    assert {"b": "has to be 'red' or 'blue'", "c": "has to be 'red' or 'blue'"} == said(fields)


def test_objects() -> None:
    """A missing object is empty where it may be missing, and one error where it may not."""
    fields = Fields({"list": [], "text": "x"})
    assert ({}, {}) == (fields.json_object("absent"), fields.json_object("list"))
    absent = fields.nested("task")
    absent.text("dag_id")
    absent.nested("deeper").whole("n", low=0)
    absent.finish()
    assert {"list": "has to be an object, not a list", "task": "is missing"} == said(fields)


def test_errors_of_nested_objects() -> None:
    """An error of a nested field is listed under its whole path, together with all others."""
    fields = Fields({"wait": {"task": {"dag_id": 1, "typo": 2}}})
    task = fields.nested("wait").nested("task")
    task.text("dag_id")
    task.no_others()
    assert ["wait.task.dag_id", "wait.task.typo"] == list(said(fields))


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.booleans()))
def test_any_name_of_a_field_can_be_shown(data: dict[str, Any]) -> None:
    """A field that does not belong there is refused, and its name is shown in a form that can be written."""
    fields = Fields(data)
    fields.no_others()
    found = said(fields)
    "".join(found).encode()
    assert bool(data) == bool(found)
