"""What gathered while a target was paused."""

from __future__ import annotations

from typing import Final

from bridge.app import DUE_AT_ONCE
from bridge.model import OnAbandon, Outcome, RunKey, RunStatus, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, MINUTE, SECOND, a_task

DOWN: Final = Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached")
LATE, LATE_RUN = a_task(task_id="late", task_instance_id="ti-late"), RunKey(FACTORY, "run-that-is-late")


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


def with_a_late_run(count: int) -> Bench:
    """The same, and a task whose run goes on and is to be cancelled at its deadline, in ten minutes."""
    bench = gathered(count)
    bench.adf.begin(LATE_RUN)
    bench.airflow.run(LATE)
    bench.register(LATE, LATE_RUN, deadline=bench.clock.now() + 10 * MINUTE, on_abandon=OnAbandon.CANCEL)
    bench.airflow.park(LATE)
    return bench


def test_a_backlog_keeps_no_deadline_waiting() -> None:
    """S07, S29: however much gathers for a paused target, a run that is too late is cancelled at its deadline."""
    bench = with_a_late_run(DUE_AT_ONCE + 1)
    bench.pass_time(11 * MINUTE)
    wait = bench.wait(LATE)
    assert wait.completion is not None
    assert (WaitState.DUE, Outcome.EXPIRED) == (wait.state, wait.completion.status)
    assert ([(LATE_RUN, True)], False) == (bench.adf.cancels, wait.cancels)


def test_a_refused_cancel_does_not_wait_for_airflow() -> None:
    """S07, S29: while the target is paused, a cancel that ADF refused is tried again, once a tick at most."""
    bench = with_a_late_run(3)
    bench.clock.advance(10 * MINUTE)
    bench.adf.cancel_script += [Refusal(RefusalKind.UNAVAILABLE, "ADF answered 503")] * 2
    asked = []
    for _ in range(4):
        bench.clock.advance(15 * SECOND)
        bench.tick()
        asked.append(len(bench.adf.cancels))
    wait = bench.wait(LATE)
    assert ([1, 2, 3, 3], False, WaitState.DUE) == (asked, wait.cancels, wait.state)
