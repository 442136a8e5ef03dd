"""Around a wait's deadline, and between two clocks: what ADF says counts, whenever it is asked."""

import pytest

from bridge.model import Outcome, RunStatus, WaitState
from tests.fakes.samples import DEADLINE, KEY, MINUTE, SECOND
from tests.fakes.stage import Stage
from tests.fakes.stories import UNAVAILABLE, at_its_deadline


def told(stage: Stage) -> list[Outcome]:
    """Return what the task was told."""
    return [one.status for one in stage.airflow.told.get("ti-1", [])]


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_ended_just_in_time(status: RunStatus) -> None:
    """S29: a run whose end nobody told is asked about at the deadline, and the task is told its end, not `Expired`."""
    stage = Stage()
    stage.has_waited(until=DEADLINE - SECOND)
    stage.adf.end(KEY, status)
    stage.clock.sleep_until(DEADLINE)
    stage.tick()
    assert [Outcome(status.value)] == told(stage)


@pytest.mark.parametrize("is_told", [True, False])
def test_an_event_after_the_deadline(is_told: bool) -> None:
    """S29: an event that comes when the task was told, or is being told, that it expired changes nothing."""
    stage = Stage()
    at_its_deadline(stage)
    if not is_told:
        stage.airflow.down["prod"] = UNAVAILABLE
    stage.tick()
    stage.airflow.down.clear()
    assert (1 if is_told else 0) == len(told(stage))
    stage.adf.end(KEY, RunStatus.SUCCEEDED)
    before = stage.wait()
    stage.event("Succeeded")
    assert before == stage.wait()
    stage.rest()
    assert ([Outcome.EXPIRED], WaitState.DELIVERED, None) == (told(stage), stage.wait().state, stage.wait().due_at)


@pytest.mark.parametrize("ahead", [-10, 10])
def test_the_first_sweep_of_a_factory(ahead: int) -> None:
    """S31: the first sweep finds a run that ended at once, though it cannot know yet how far ADF's clock is off."""
    stage = Stage()
    stage.adf.ahead = ahead * MINUTE
    stage.waits()
    stage.clock.advance(5 * SECOND)
    stage.adf.end(KEY, RunStatus.SUCCEEDED)
    stage.clock.advance(25 * SECOND)
    stage.tick()
    assert [Outcome.SUCCEEDED] == told(stage)


def test_an_error_of_ours_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """S29: a run that the bridge fails to ask about keeps its task waiting until the deadline, and no longer."""
    stage = Stage()
    stage.has_waited(until=DEADLINE - SECOND)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stage.adf, "read_run", fail)
    stage.clock.sleep_until(DEADLINE)
    stage.tick()
    stage.rest()
    assert ([Outcome.EXPIRED], WaitState.DELIVERED) == (told(stage), stage.wait().state)


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.IN_PROGRESS])
def test_a_bridge_that_was_down_at_the_deadline(status: RunStatus) -> None:
    """S29: a bridge that comes back hours after a deadline still tells the task, whatever became of the run."""
    stage = Stage()
    stage.has_waited(until=DEADLINE - MINUTE)
    if status is not RunStatus.IN_PROGRESS:
        stage.adf.end(KEY, status)
    stage.clock.sleep_until(DEADLINE + 180 * MINUTE)
    stage.tick()
    stage.rest()
    expected = Outcome.SUCCEEDED if status is RunStatus.SUCCEEDED else Outcome.EXPIRED
    assert ([expected], WaitState.DELIVERED) == (told(stage), stage.wait().state)
