"""A process that dies between any two effects: after a restart, the same end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from bridge import service
from bridge.commands import Point
from bridge.errors import Problem
from bridge.model import RunKey, RunStatus, Sweep, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.bench import Bench
from tests.fakes.samples import DEADLINE, FACTORY, KEY, MINUTE, TASK

HOUR = timedelta(hours=1)
FIRST = RunKey(FACTORY, "run-1")
UNAVAILABLE = Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502")


def waiting() -> Bench:
    """Return a bridge with a task that has been parked for long and waits for a run."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(HOUR)
    return bench


def fails(bench: Bench) -> None:
    """The run fails, and its event arrives."""
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.event("Failed")


def fails_in_trouble(bench: Bench) -> None:
    """The run fails while Airflow is in trouble and loses an answer; the timer goes on."""
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.airflow.read_script += [UNAVAILABLE] * 3
    bench.airflow.patch_script.append(Lost(UNAVAILABLE))
    bench.event("Failed")
    bench.pass_time(2 * MINUTE)


def ends_unnoticed(bench: Bench) -> None:
    """No event arrives; the timer finds the run's end at the deadline."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.sleep_until(DEADLINE)
    bench.tick()


def is_swept(bench: Bench) -> None:
    """No event arrives; the next sweep finds the run's end."""
    bench.store.inner.save_sweep(Sweep(FACTORY, covered_until=bench.clock.now()))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    bench.tick()


def never_ends(bench: Bench) -> None:
    """The deadline passes."""
    bench.clock.sleep_until(DEADLINE)
    bench.tick()


OUTCOMES: Final = {
    "fails": "Failed",
    "fails_in_trouble": "Failed",
    "ends_unnoticed": "Succeeded",
    "is_swept": "Succeeded",
    "never_ends": "Expired",
}
STORIES: Final[tuple[Callable[[Bench], None], ...]] = (
    fails,
    fails_in_trouble,
    ends_unnoticed,
    is_swept,
    never_ends,
)


def effects(story: Callable[[Bench], None]) -> list[Point]:
    """Return the effects of a story, in order."""
    bench = waiting()
    before = len(bench.points)
    story(bench)
    return bench.points[before:]


CASES = [
    pytest.param(story, nth, id=f"{story.__name__}-{nth}-{point}")
    for story in STORIES
    for nth, point in enumerate(effects(story))
]


@pytest.mark.parametrize("redelivered", [True, False])
@pytest.mark.parametrize(("story", "nth"), CASES)
def test_dying_at_any_effect(story: Callable[[Bench], None], nth: int, redelivered: bool) -> None:
    """S24: whatever the effect after which the process dies, the task is resumed once, with the right outcome."""
    bench = waiting()
    bench.crash_at(nth)
    lived = bench.surviving(lambda: story(bench))
    assert not lived
    if redelivered and story in (fails, fails_in_trouble):
        bench.clock.advance(timedelta(seconds=10))
        bench.event("Failed")
    bench.pass_time(20 * MINUTE)
    outcome = OUTCOMES[story.__name__]
    assert ({"ti-1": 1}, [outcome]) == (bench.airflow.resumed, [c.status for c in bench.airflow.told["ti-1"]])
    assert WaitState.DELIVERED is bench.wait().state


def starts(bench: Bench) -> None:
    """A run is started, once more after a refusal."""
    bench.adf.create_script.append(Refusal(RefusalKind.INVALID, "no"))
    for _ in range(2):
        try:
            bench.start()
        except Problem:
            continue
    bench.app.run(service.withdraw(TASK.token))


def test_every_point_is_tried() -> None:
    """S24: there is no point at which a process can die that these tests do not try."""
    bench = Bench()
    starts(bench)
    tried = {*bench.points, *(point for story in STORIES for point in effects(story))}
    assert set(Point) == tried
