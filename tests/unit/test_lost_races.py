"""What an instance does that finds out that another one was faster: it leaves, without an error and without harm."""

import pytest

from bridge import service
from bridge.model import RunKey, RunStatus, WaitState
from bridge.service import Swept
from tests.fakes.samples import FACTORY, KEY, MINUTE, TASK
from tests.fakes.stage import FACTORY_PAUSE, HOUR, TARGET_PAUSE, Stage
from tests.fakes.stories import due_with_the_target_paused, has_failed, unswept, unswept_and_paused


@pytest.fixture
def stage() -> Stage:
    """A bridge with a task that has been parked for long, and whose completion is due."""
    stage = Stage()
    has_failed(stage)
    stage.app.run(service.check_run(KEY, stage.app.rules))
    return stage


def test_a_delivery_that_another_takes_up(stage: Stage) -> None:
    """S22: an instance that comes too late to take up a delivery does not call Airflow."""
    stage.store.conflict("put")
    assert stage.app.run(service.deliver(TASK.token, stage.app.rules)) is None
    assert 0 == stage.airflow.calls["prod"]


def test_a_delivery_that_was_settled_by_another(stage: Stage) -> None:
    """S22: an instance that cannot write down what came of its delivery leaves; the task is told once all the same."""
    stage.store.conflict("put", nth=2)
    assert stage.app.run(service.deliver(TASK.token, stage.app.rules)) is None
    assert WaitState.DUE is stage.wait().state
    stage.rest()
    assert ({"ti-1": 1}, WaitState.DELIVERED) == (stage.airflow.resumed, stage.wait().state)


def test_a_wait_that_another_gives_up() -> None:
    """S22: an instance that comes too late to give up a wait leaves it; the task is told once that it expired."""
    stage = Stage()
    stage.has_waited(until=stage.clock.now() + 6 * HOUR)
    stage.store.conflict("put", nth=2)
    stage.app.run(service.attend(TASK.token, stage.app.rules))
    stage.rest()
    assert (["Expired"], {"ti-1": 1}) == ([one.status for one in stage.airflow.told["ti-1"]], stage.airflow.resumed)


def test_a_probe_that_another_takes() -> None:
    """S22: an instance that comes too late to probe a paused target does not call it."""
    stage = Stage()
    due_with_the_target_paused(stage)
    stage.store.conflict("save_breaker")
    assert stage.app.run(service.deliver(TASK.token, stage.app.rules)) is None
    assert (0, True) == (stage.airflow.calls["prod"], stage.store.inner.breaker(TARGET_PAUSE).is_open)


@pytest.mark.parametrize(("nth", "queries"), [(1, 0), (2, 1)])
def test_a_sweep_that_another_has_taken(nth: int, queries: int) -> None:
    """S22: an instance that comes too late to sweep, or to write down that it has, leaves the factory to the other."""
    stage = Stage()
    unswept(stage)
    covered = stage.store.inner.sweep(FACTORY).covered_until
    stage.store.conflict("save_sweep", nth=nth)
    assert Swept() == stage.app.run(service.sweep(FACTORY, stage.app.rules))
    assert (queries, covered) == (len(stage.adf.queries), stage.store.inner.sweep(FACTORY).covered_until)


def test_the_end_of_a_pause_that_another_has_told() -> None:
    """S22: an instance that cannot write down that a paused peer answers goes on with what it was answered."""
    stage = Stage()
    unswept_and_paused(stage)
    stage.store.conflict("save_breaker", nth=2)
    assert stage.app.run(service.sweep(FACTORY, stage.app.rules)).completed
    assert stage.store.inner.breaker(FACTORY_PAUSE).is_open


def test_a_sweep_that_is_cut_short() -> None:
    """S28: a sweep that was cut short after a page has told what that page showed, and covers nothing."""
    stage = Stage()
    unswept(stage)
    stage.adf.page_size = 1
    for number in range(3):
        stage.adf.begin(RunKey(FACTORY, f"another-{number}"))
        stage.adf.end(RunKey(FACTORY, f"another-{number}"), RunStatus.SUCCEEDED)
    before = stage.store.inner.sweep(FACTORY).covered_until
    stage.store.before("breaker", lambda: stage.is_paused(FACTORY_PAUSE, pause=MINUTE), nth=2)
    swept = stage.app.run(service.sweep(FACTORY, stage.app.rules))
    after = stage.store.inner.sweep(FACTORY).covered_until
    assert (False, (TASK.token,), 1, before) == (swept.completed, swept.due, len(stage.adf.queries), after)
