"""What gathered while a target was paused."""

from __future__ import annotations

from typing import Final

from bridge.app import DUE_AT_ONCE
from bridge.model import RunKey, RunStatus
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, MINUTE, a_task

DOWN: Final = Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached")


def gathered(count: int) -> Bench:
    """A bridge with so many completions for a target that has been out of reach for a while."""
    bench = Bench()
    for index in range(count):
        task, key = a_task(map_index=index, task_instance_id=f"ti-{index}"), RunKey(FACTORY, f"run-of-{index}")
        bench.adf.begin(key)
        bench.airflow.run(task)
        bench.register(task, key)
        bench.airflow.park(task)
    bench.clock.advance(60 * MINUTE)
    bench.airflow.down["prod"] = DOWN
    for index in range(count):
        key = RunKey(FACTORY, f"run-of-{index}")
        bench.adf.end(key, RunStatus.SUCCEEDED)
        bench.event(key=key)
    return bench


def test_a_backlog_is_worked_off_in_one_go() -> None:
    """S07, S42: once a target answers again, one tick resumes all that gathered, however much; each task once."""
    count = 2 * DUE_AT_ONCE + 1
    bench = gathered(count)
    del bench.airflow.down["prod"]
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert ({1}, count) == (set(bench.airflow.resumed.values()), len(bench.airflow.resumed))


def test_a_backlog_costs_one_probe_while_the_target_is_down() -> None:
    """S07: a tick that finds a backlog and a target that is still down calls it once."""
    bench = gathered(DUE_AT_ONCE + 1)
    before = bench.airflow.calls["prod"]
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert 1 == bench.airflow.calls["prod"] - before
