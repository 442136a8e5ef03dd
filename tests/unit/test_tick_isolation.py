"""The timer, while one target takes its time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bridge import app as app_module
from bridge.app import App
from bridge.errors import StoreUnavailable
from bridge.executor import Executor, World
from bridge.model import OnAbandon, RunKey, RunStatus, TaskRef, WaitState
from bridge.ports import Refusal, RefusalKind, RunsPage, TaskView
from bridge.telemetry import Log
from tests.fakes.bench import Bench
from tests.fakes.clock import ScriptedRandom
from tests.fakes.samples import FACTORY, OTHER_FACTORY, a_task

LONG = timedelta(minutes=1)
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


def many(bench: Bench, count: int) -> list[RunKey]:
    """Have that many parked tasks of the slow target wait for as many runs."""
    keys = [RunKey(FACTORY, f"run-of-{index}") for index in range(count)]
    for index, key in enumerate(keys):
        task = a_task(map_index=index, task_instance_id=f"ti-{index}")
        bench.adf.begin(key)
        bench.airflow.run(task)
        bench.register(task, key)
        bench.airflow.park(task)
    bench.clock.advance(timedelta(minutes=1))
    return keys


def an_app(bench: Bench) -> App:
    """An instance with threads enough to do several things at once."""
    world = World(bench.clock, ScriptedRandom(), bench.store, bench.adf, bench.airflow)
    return App(bench.config, world, Executor(world), Log(), threads=8)


def eventually(fact: Callable[[], bool]) -> bool:
    """Whether something has come true within five seconds."""
    deadline = time.monotonic() + 5
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.01)
    return fact()


def hold_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], threading.Event]:
    """Have the slow target answer no read of a task before it is let; return the reads by target, and what lets it."""
    reads: Counter[str] = Counter()
    answer = threading.Event()
    read = bench.airflow.read_task

    def read_task(task: TaskRef) -> TaskView | Refusal:
        reads[task.target] += 1
        if task.target == "prod":
            answer.wait(20)
        return read(task)

    monkeypatch.setattr(bench.airflow, "read_task", read_task)
    return reads, answer


@pytest.mark.parametrize("lost", [False, True], ids=["due", "found-by-the-sweep"])
def test_a_tick_ends_in_time(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """S42: once a tick's time is up it begins no attempt for what is due, nor for what its own sweep has found."""
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    monkeypatch.setattr(app_module, "TICK_BUDGET", timedelta(seconds=0.3))
    bench = Bench(BRIDGE_INLINE_SECONDS="0")
    keys = many(bench, 40)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
        if not lost:
            bench.event(key=key)
    reads, answer = hold_back(bench, monkeypatch)
    app = an_app(bench)
    ticking = threading.Thread(target=app.tick)
    ticking.start()
    assert eventually(lambda: reads["prod"] == app_module.IN_FLIGHT_PER_TARGET)
    time.sleep(0.5)
    answer.set()
    ticking.join()
    told = app_module.IN_FLIGHT_PER_TARGET
    assert (told, 2 * told) == (len(bench.airflow.resumed), reads["prod"])
    app.tick()
    assert {1: 40} == Counter(bench.airflow.resumed.values())


def test_what_a_sweep_finds_does_not_wait_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: what a page shows the end of is delivered while the next page is read."""
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    monkeypatch.setattr(app_module, "TICK_REACH", LONG)
    bench = Bench()
    keys = many(bench, 2)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
    monkeypatch.setattr(bench.adf, "page_size", 1)
    query, in_time = bench.adf.query_runs, list[bool]()

    def query_runs(*args: Any, **named: Any) -> Any:
        page = query(*args, **named)
        if isinstance(page, RunsPage) and page.continuation is None:
            in_time.append(eventually(lambda: bench.airflow.resumed.total() == 1))
        return page

    monkeypatch.setattr(bench.adf, "query_runs", query_runs)
    an_app(bench).tick()
    assert ([True], {"ti-0": 1, "ti-1": 1}) == (in_time, bench.airflow.resumed)


def test_what_a_sweep_finds_last_does_not_wait_for_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: a tick looks at the targets once more when its sweep has made something due with its last page."""
    monkeypatch.setattr(app_module, "TICK_LOOK", LONG)
    monkeypatch.setattr(app_module, "TICK_REACH", LONG)
    bench = Bench()
    (key,) = many(bench, 1)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    looked: Counter[str] = Counter()
    query, due = bench.adf.query_runs, bench.store.due

    def query_runs(*args: Any, **named: Any) -> Any:
        assert eventually(lambda: looked["prod"] == 2)  # what is due, and what is about to be
        return query(*args, **named)

    def count(target: str, **named: Any) -> Any:
        looked[target] += 1
        return due(target, **named)

    monkeypatch.setattr(bench.adf, "query_runs", query_runs)
    monkeypatch.setattr(bench.store, "due", count)
    an_app(bench).tick()
    assert {"ti-0": 1} == bench.airflow.resumed


@pytest.mark.parametrize(
    ("reach", "budget"),
    [(LONG, LONG), (timedelta(0), timedelta(seconds=0.05))],
    ids=["within the tick's time", "longer than a tick may take"],
)
def test_a_long_sweep_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, reach: timedelta, budget: timedelta
) -> None:
    """S42: while a sweep goes on, be it longer than a tick may, what comes due is delivered by that tick still."""
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    monkeypatch.setattr(app_module, "TICK_REACH", reach)
    monkeypatch.setattr(app_module, "TICK_BUDGET", budget)
    bench = Bench(BRIDGE_INLINE_SECONDS="0")
    (key,) = many(bench, 1)
    asked, answer = threading.Event(), threading.Event()
    query = bench.adf.query_runs

    def query_runs(*args: Any, **named: Any) -> Any:
        asked.set()
        assert answer.wait(20)
        return query(*args, **named)

    monkeypatch.setattr(bench.adf, "query_runs", query_runs)
    ticking = threading.Thread(target=an_app(bench).tick)
    ticking.start()
    assert asked.wait(20)
    time.sleep(0.2)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.event(key=key)
    delivered = eventually(lambda: bench.airflow.resumed == {"ti-0": 1})
    answer.set()
    ticking.join()
    assert delivered


def test_a_target_whose_rows_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: when the table is too busy for the rows of one target, the others have their turn, and so has upkeep."""
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    bench = Bench()
    (key,) = many(bench, 1)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    due, repair, kept = bench.store.due, bench.store.repair, list[int]()
    looked = threading.Event()

    def busy(target: str, **named: Any) -> Any:
        if target == "dev":
            looked.set()
            raise StoreUnavailable("The table is busy.")
        return due(target, **named)

    def mend(*, limit: int) -> int:
        kept.append(limit)
        return repair(limit=limit)

    query = bench.adf.query_runs
    monkeypatch.setattr(bench.adf, "query_runs", lambda *args, **named: looked.wait(20) and query(*args, **named))
    monkeypatch.setattr(bench.store, "due", busy)
    monkeypatch.setattr(bench.store, "repair", mend)
    with pytest.raises(StoreUnavailable, match="busy"):
        an_app(bench).tick()
    assert ({"ti-0": 1}, [app_module.REPAIR_ROWS]) == (bench.airflow.resumed, kept)


def test_more_parts_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: however many factories take long to sweep, and however few threads there are, what is due is delivered."""
    monkeypatch.setattr(app_module, "TICK_LOOK", timedelta(seconds=0.01))
    bench = Bench(BRIDGE_INLINE_SECONDS="0")
    (key,) = many(bench, 1)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.event(key=key)
    for factory in (FACTORY, OTHER_FACTORY):
        other = RunKey(factory, "goes-on")
        bench.adf.begin(other)
        bench.register(a_task(map_index=len(factory.key), task_instance_id=factory.name), other)
    answer = threading.Event()
    query = bench.adf.query_runs
    monkeypatch.setattr(bench.adf, "query_runs", lambda *args, **named: answer.wait(20) and query(*args, **named))
    world = World(bench.clock, ScriptedRandom(), bench.store, bench.adf, bench.airflow)
    ticking = threading.Thread(target=App(bench.config, world, Executor(world), Log(), threads=2).tick)
    ticking.start()
    delivered = eventually(lambda: bench.airflow.resumed == {"ti-0": 1})
    answer.set()
    ticking.join()
    assert delivered


@pytest.mark.parametrize("fails", ["sweep", "watch"])
def test_an_error_of_ours_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """S42: a sweep that fails, or the look after its tasks, fails by itself: what is due is delivered all the same."""
    bench = Bench(BRIDGE_INLINE_SECONDS="0")
    (key,) = many(bench, 1)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.event(key=key)
    bench.adf.begin(RunKey(FACTORY, "goes-on"))
    bench.register(QUICK, RunKey(FACTORY, "goes-on"), on_abandon=OnAbandon.CANCEL)
    called = list[bool]()

    def fail(*_: object, **__: object) -> None:
        called.append(True)
        raise ZeroDivisionError

    owner, call = (bench.adf, "query_runs") if fails == "sweep" else (bench.airflow, "parked")
    monkeypatch.setattr(owner, call, fail)
    an_app(bench).tick()
    assert ([True], {"ti-0": 1}) == (called, bench.airflow.resumed)
