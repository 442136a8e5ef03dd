"""Keys of Table Storage: any name fits into one, and they sort as they should."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters import table_keys as keys
from bridge.model import RunKey
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY

ALLOWED = re.compile(r"[^/\\#?\x00-\x1f\x7f-\x9f]*")
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it gets one


@given(NAMES, NAMES)
def test_two_names_have_two_keys(one: str, other: str) -> None:
    """S33: keys are equal only if the names are."""
    assert (one == other) == (keys.name(one) == keys.name(other))


@pytest.mark.parametrize("name", ["x" * 5_000, "💥" * 250, "\x00" * 250, "/\\#?" * 60, "ARM/" * 250])
def test_a_key_is_one_that_azure_takes(name: str) -> None:
    """S33: whatever the names, keys have at most 512 characters and none that Azure forbids."""
    partition = keys.run_partition(RunKey(FACTORY, name))
    assert ALLOWED.fullmatch(partition)
    assert len(partition) <= 512
    assert all(len(key) <= 512 for key in (keys.wait_row(name), *keys.age_key(START, name)))
    assert all(ALLOWED.fullmatch(key) for key in (keys.wait_row(name), *keys.age_key(START, name)))


def test_long_names_that_begin_alike() -> None:
    """S33: names that differ only at their end have different keys, however long they are."""
    assert keys.name("x" * 400 + "a") != keys.name("x" * 400 + "b")


@given(TIMES, TIMES)
def test_times_sort(one: datetime, other: datetime) -> None:
    """Keys of times sort as the times do, or the other way round, and can be read again."""
    assert (one < other) == (keys.moment(one) < keys.moment(other))
    assert (one < other) == (keys.newest_first(one) > keys.newest_first(other))
    assert one == keys.moment_of(keys.moment(one) + ";rest")
    assert (one <= other) == (keys.moment(one) < keys.moment_after(other))


@given(TIMES, TIMES)
def test_days_sort_backwards(one: datetime, other: datetime) -> None:
    """A later day comes first."""
    assert (one.date() < other.date()) == (keys.newest_day_first(one) > keys.newest_day_first(other))


@given(NAMES, NAMES)
def test_names_sort_backwards(one: str, other: str) -> None:
    """An inverted name sorts the other way round, also when one is the beginning of the other."""
    first, second = keys.name(one), keys.name(other)
    assert (first < second) == (keys.inverted(first) > keys.inverted(second))


def test_the_end_of_a_prefix() -> None:
    """Nothing that starts with a prefix lies past its end, and the next prefix does."""
    end = keys.past(keys.RUNS)
    assert keys.RUNS + "\uffff" < end <= "run<"
    assert not keys.RUNS < keys.RUN_IDS < end


def test_time_before_1970_is_the_beginning() -> None:
    """A time that cannot be is no error."""
    assert "0" * 18 == keys.moment(START - timedelta(days=30_000))
