"""Who tells a waiting task how its run ended, whatever happens to wrapper, child and topic: all rows at once."""

from collections.abc import Iterator

import pytest

from tests.sources.rows import ROWS, Seen
from tests.sources.scenario import HURRIED, Play, perform, running_play


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """The local Azure with the pipelines of all rows, and their wrappers."""
    with running_play(tmp_path_factory.mktemp("sources"), HURRIED) as started:
        yield started


@pytest.fixture(scope="module")
def table(play: Play) -> dict[str, Seen]:
    """What came of the rows, all of them played."""
    return {seen.row.name: seen for seen in perform(play)}


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_row(table: dict[str, Seen], name: str) -> None:
    """S27, S30, S35: the task is told the true end and why, in time, by the right source; no failure is hidden."""
    assert [] == table[name].wrong


def test_every_task_is_answered_once(play: Play, table: dict[str, Seen]) -> None:
    """S03: notices, second looks and sweeps together send each task one answer."""
    assert len(table) - 1 == len(play.stage.airflow.patches)  # a forged notice is answered by none
