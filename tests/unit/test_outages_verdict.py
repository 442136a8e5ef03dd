"""What `make outages` makes of what became of the tasks: when it exits with 1, and what its table says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.outages.report import table
from tests.outages.rows import ROWS, TASKS
from tests.outages.verdict import Result, Seen, is_well

DONE = Seen("run[0]", "success", own_outcome=True, runs=1, resumed=(1,), took=timedelta(seconds=2))


def row(*tasks: Seen, trouble: str = "") -> Result:
    """What became of an outage."""
    return Result("Service Bus killed", tasks, "dead twice", trouble)


def test_all_as_promised() -> None:
    """Tasks that were told how their own runs ended, once in each try, are what the command exits with 0 for."""
    found = row(DONE, replace(DONE, runs=2, resumed=(1, 1)))
    assert [] == found.wrong
    assert is_well([found])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (replace(DONE, state="late"), ["run[0] is late and has its run's own outcome"]),
        (replace(DONE, state="failed"), ["run[0] is failed and has its run's own outcome"]),
        (replace(DONE, own_outcome=False), ["run[0] is success and has nothing of its run's outcome"]),
        (replace(DONE, resumed=(2,)), ["run[0] was resumed 2 time(s), try by try"]),
        (replace(DONE, resumed=(0,)), ["run[0] was resumed 0 time(s), try by try"]),
        (replace(DONE, runs=2, resumed=(0, 2)), ["run[0] was resumed 0, 2 time(s), try by try"]),
        (
            replace(DONE, runs=0, resumed=()),
            ["run[0] was resumed no time(s), try by try"],
        ),
        (replace(DONE, runs=2), ["run[0] has had 2 run(s) in 1 tries"]),
        (replace(DONE, resumed=(1, 1)), ["run[0] has had 1 run(s) in 2 tries"]),
    ],
)
def test_a_task_that_is_wrong(found: Seen, expected: list[str]) -> None:
    """One task that was lost, resumed other than once in a try, or given a second run, is told of."""
    one = row(DONE, found)
    assert expected == one.wrong
    assert not is_well([row(DONE), one])


def test_an_outage_that_did_not_happen() -> None:
    """A row whose outage was not the one that was meant proves nothing, whatever became of its tasks."""
    found = row(DONE, trouble="the triggerer had none of the tasks")
    assert ["the triggerer had none of the tasks"] == found.wrong
    assert not is_well([found])


def test_nothing_proves_nothing() -> None:
    """A table without a row, or a row without a task, is no success."""
    assert not is_well([])
    assert ["there was no task"] == row().wrong
    assert not is_well([row()])


def test_lost() -> None:
    """Lost is what was not completed in time with its own run's outcome."""
    found = row(DONE, replace(DONE, state="late"), replace(DONE, own_outcome=False), DONE)
    assert (2, 2) == (found.completed, found.lost)


@pytest.mark.parametrize(
    ("counts", "expected"), [([(1,), (1,)], "1"), ([(1,), (2,), (1, 1)], "1 ×3, 2 ×1"), ([(0,), (1,)], "0 ×1, 1 ×1")]
)
def test_resumed(counts: list[tuple[int, ...]], expected: str) -> None:
    """How often `execute_complete` ran is counted for each try, not for each task."""
    assert expected == row(*(replace(DONE, resumed=resumed) for resumed in counts)).resumed


def test_table() -> None:
    """The table has a line for each row, the time from the runs' ends, and what was wrong below its row."""
    slow = replace(DONE, took=timedelta(seconds=5))
    late = replace(DONE, state="late", took=None)
    lines = table([row(DONE, DONE, slow), row(late, trouble="not killed")]).splitlines()
    assert [
        ["Service", "Bus", "killed", "3", "3", "0", "1", "2.0", "5.0", "dead", "twice"],
        ["Service", "Bus", "killed", "1", "0", "1", "1", "–", "–", "dead", "twice"],
        ["WRONG", "not", "killed"],
        ["WRONG", "run[0]", "is", "late", "and", "has", "its", "run's", "own", "outcome"],
    ] == [line.split() for line in lines[2:]]


def test_rows_have_names_of_their_own() -> None:
    """Each row has a name of its own, and a whole run has sixty tasks waiting at least."""
    assert len(ROWS) == len({one.name for one in ROWS})
    assert 60 <= len(ROWS) * TASKS
