"""The timer, while one target takes its time."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from bridge import app as app_module
from bridge.app import App
from bridge.executor import Executor, World
from bridge.model import RunKey, RunStatus, TaskRef, WaitState
from bridge.ports import Refusal, RefusalKind, TaskView
from bridge.telemetry import Log
from tests.fakes.bench import Bench
from tests.fakes.clock import ScriptedRandom
from tests.fakes.samples import FACTORY, a_task

QUICK, SLOW = a_task(target="dev", task_instance_id="ti-quick"), a_task(target="prod", task_instance_id="ti-slow")


def test_a_slow_target_does_not_keep_the_timer_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: while a tick waits for one target, what comes due for another one is delivered by the same tick."""
    monkeypatch.setattr(app_module, "TICK_REACH", timedelta(0))
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    bench = Bench()
    asked, answer = threading.Event(), threading.Event()
    read = bench.airflow.read_task

    def read_task(task: TaskRef) -> TaskView | Refusal:
        if task.target == "prod" and not answer.is_set():
            asked.set()
            answer.wait(20)
        return read(task)

    for task, run_id in ((SLOW, "slow-run"), (QUICK, "quick-run")):
        bench.adf.begin(RunKey(FACTORY, run_id))
        bench.airflow.run(task)
        bench.register(task, RunKey(FACTORY, run_id))
        bench.airflow.park(task)
        bench.clock.advance(timedelta(minutes=1))
    for run_id in ("slow-run", "quick-run"):
        bench.airflow.read_script.append(Refusal(RefusalKind.INVALID, "Airflow answered 400", timedelta(minutes=1)))
        bench.adf.end(RunKey(FACTORY, run_id), RunStatus.SUCCEEDED)
        bench.event(key=RunKey(FACTORY, run_id))
        bench.clock.advance(timedelta(seconds=30))
    bench.clock.advance(timedelta(seconds=5))  # due: the slow one, not yet the quick one
    monkeypatch.setattr(bench.airflow, "read_task", read_task)
    world = World(bench.clock, ScriptedRandom(), bench.store, bench.adf, bench.airflow)
    app = App(bench.config, world, Executor(world), Log(), threads=8)
    ticking = threading.Thread(target=app.tick)
    ticking.start()
    assert asked.wait(20)
    time.sleep(0.2)
    assert WaitState.DUE is bench.wait(QUICK).state
    bench.clock.advance(timedelta(seconds=40))
    deadline = time.monotonic() + 5
    while bench.wait(QUICK).state is WaitState.DUE and time.monotonic() < deadline:
        time.sleep(0.01)
    quick, slow = bench.wait(QUICK).state, bench.wait(SLOW).state
    answer.set()
    ticking.join()
    assert (WaitState.DELIVERED, WaitState.DUE) == (quick, slow)
