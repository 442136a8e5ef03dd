"""What a try knows of its task's other tries."""

import pytest
from conftest import TaskInstance

from airflow_adf_bridge.tries import Tries


@pytest.mark.parametrize(
    ("number", "most", "retries", "after"),
    [
        (1, 0, 0, None),
        (1, 3, 3, None),
        (2, 3, 3, "retry"),
        (4, 3, 3, "retry"),
        # cleared after the first try, the second, and the last
        (2, 4, 3, "clear"),
        (3, 5, 3, "clear"),
        (5, 7, 3, "clear"),
        # retries after these clears
        (3, 4, 3, "retry"),
        (8, 7, 3, "retry"),
        # without retries, each further try follows a clear
        (2, 1, 0, "clear"),
        (3, 2, 0, "clear"),
        # cleared while it ran, where the executor called that a failure: Airflow left max_tries as it was
        (2, 0, 0, "clear"),
        (5, 3, 3, "clear"),
    ],
)
def test_a_try_knows_why_there_is_one(number: int, most: int, retries: int, after: str | None) -> None:
    """S14: the first try after a clear is told from a retry by Airflow's counters."""
    assert after == Tries(number, most, retries).after


def test_a_task_s_whole_life_is_told_by_its_counters() -> None:
    """S14: two retries, a clear, a retry, and two clears in a row are each taken for what they are."""
    tries = [TaskInstance(max_tries=2)]
    for step in ("retried", "retried", "cleared", "retried", "cleared", "cleared"):
        tries.append(getattr(tries[-1], step)(2))
    expected = [None, "retry", "retry", "clear", "retry", "clear", "clear"]
    assert expected == [Tries.of(ti, 2).after for ti in tries]


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(1, 0, False), (1, 1, True), (2, 1, False), (4, 4, True), (5, 4, False)]
)
def test_a_try_knows_whether_a_retry_would_follow(number: int, most: int, *, expected: bool) -> None:
    """A try counts as the last one exactly where Airflow would make no other."""
    assert expected == Tries(number, most, 1).another_may_follow


def test_a_task_without_a_number_of_retries_has_none() -> None:
    """`retries=None` means none, as it does to Airflow."""
    assert Tries(1, 0, 0) == Tries.of(TaskInstance(), None)
