"""The sweep: runs whose events were lost are found, with few calls, and none is missed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bridge import decide, policy, service
from bridge.model import FactoryId, FailedActivity, Outcome, RunKey, RunReading, RunStatus, Sweep, TaskRef, WaitState
from bridge.ports import OpenWait, Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import DEADLINE, FACTORY, MINUTE, OTHER_FACTORY, RULES, SECOND, a_task

HOUR = timedelta(hours=1)
THROTTLED = Refusal(RefusalKind.THROTTLED, "ADF answered 429", timedelta(seconds=30))


def task_of(number: int) -> TaskRef:
    """Return the task that waits for a run."""
    return a_task(map_index=number, task_instance_id=f"ti-{number}")


def waiting(bench: Bench, runs: int, *, factory: FactoryId = FACTORY) -> list[RunKey]:
    """Have that many parked tasks wait for as many runs, one each."""
    keys = [RunKey(factory, f"run-of-{number}") for number in range(runs)]
    for number, key in enumerate(keys):
        bench.adf.begin(key)
        bench.airflow.run(task_of(number))
        bench.register(task_of(number), key)
        bench.airflow.park(task_of(number))
    return keys


def states(bench: Bench, runs: int) -> set[WaitState]:
    """Return the states that the waits are in."""
    return {bench.wait(task_of(number)).state for number in range(runs)}


def reads(bench: Bench) -> int:
    """Return how many single runs were read."""
    return sum(bench.adf.reads.values())


def test_what_goes_on_costs_nothing() -> None:
    """Runs that have begun and go on are no news: they fill no page."""
    bench = Bench()
    waiting(bench, 250)
    bench.adf.queries.clear()
    bench.clock.advance(MINUTE)
    bench.tick()
    assert 1 == len(bench.adf.queries)


def test_more_than_a_sweep_looks_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An operator is told when more tasks wait than a sweep looks for: lost events cost the others an hour."""
    monkeypatch.setattr(policy, "OPEN_WAITS", 2)
    bench = Bench()
    waiting(bench, 2)
    with caplog.at_level(logging.WARNING, logger="bridge"):
        bench.tick()
    (line,) = [json.loads(one.message) for one in caplog.records if "open-waits-capped" in one.message]
    assert (FACTORY.arm_id, 2) == (line["factory"], line["looked_for"])


def test_lost_events() -> None:
    """S27: every event is lost, and within one interval every wait is completed, by one page per 100 changed runs."""
    bench = Bench()
    keys = waiting(bench, 250)
    bench.pass_time(2 * MINUTE)
    bench.adf.queries.clear()
    before = reads(bench)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    bench.tick()
    assert (3, before) == (len(bench.adf.queries), reads(bench))
    bench.pass_time(MINUTE)
    assert {WaitState.DELIVERED} == states(bench, 250)
    assert {1} == set(bench.airflow.resumed.values())


def test_nobody_waits() -> None:
    """A factory that nobody waits for is not swept: ADF is not called at all."""
    bench = Bench()
    bench.clock.advance(HOUR)
    bench.tick()
    assert ([], 0) == (bench.adf.queries, reads(bench))


def test_only_where_somebody_waits() -> None:
    """S18: the end of a run of the same name in another factory completes nothing."""
    bench = Bench()
    waiting(bench, 1, factory=OTHER_FACTORY)
    bench.adf.begin(RunKey(FACTORY, "run-of-0"))
    bench.adf.end(RunKey(FACTORY, "run-of-0"), RunStatus.FAILED)
    bench.pass_time(3 * MINUTE)
    assert {WaitState.OPEN} == states(bench, 1)


def test_an_idle_factory() -> None:
    """S28: after days in which nobody waited, the window starts with the new wait, and a lost event costs one sweep."""
    bench = Bench()
    (first,) = waiting(bench, 1)
    bench.pass_time(2 * MINUTE)
    bench.adf.end(first, RunStatus.SUCCEEDED)
    bench.pass_time(2 * MINUTE)
    bench.clock.advance(timedelta(days=5))
    bench.tick()
    bench.adf.queries.clear()
    task, key = a_task(nonce="later", task_instance_id="later"), RunKey(FACTORY, "later")
    bench.adf.begin(key)
    bench.airflow.run(task)
    bench.register(task, key, deadline=bench.clock.now() + HOUR)
    bench.airflow.park(task)
    bench.clock.advance(20 * SECOND)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    bench.tick()
    assert WaitState.DELIVERED is bench.wait(task).state
    assert [True] == [bench.clock.now() - since < HOUR for since, _, _ in bench.adf.queries]


def test_a_run_that_ended_long_ago() -> None:
    """S28: a wait for a run that ended three days ago is answered when it registers."""
    bench = Bench()
    key = RunKey(FACTORY, "old")
    bench.adf.begin(key)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.clock.advance(timedelta(days=3))
    registered = bench.register(key=key, deadline=bench.clock.now() + HOUR)
    assert registered.wait is not None
    assert WaitState.INLINE is registered.wait.state


@pytest.mark.parametrize("ahead", [-10, 0, 10])
def test_clocks_that_differ(ahead: int) -> None:
    """S31: the window is cut by ADF's clock: runs are found whether it is ahead of ours or behind."""
    bench = Bench()
    bench.adf.ahead = ahead * MINUTE
    keys = waiting(bench, 2)
    bench.pass_time(3 * MINUTE)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
        bench.pass_time(2 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench, 2)


def other_task(bench: Bench, name: str) -> TaskRef:
    """Have another task run."""
    task = a_task(nonce=name, task_instance_id=name, task_id=name)
    bench.airflow.run(task)
    return task


@pytest.mark.parametrize("ahead", [-10, 10])
def test_an_instance_whose_clock_is_off(ahead: int) -> None:
    """S31: a wait that an instance with another clock has registered is told by the next sweep all the same."""
    bench = Bench()
    (first,) = waiting(bench, 1)
    bench.pass_time(3 * MINUTE)
    bench.adf.end(first, RunStatus.SUCCEEDED)
    bench.event(key=first)
    key, task = RunKey(FACTORY, "other"), other_task(bench, "other")
    bench.adf.begin(key)
    bench.register(task, key)
    wait = bench.wait(task)
    bench.store.inner.put(None, (replace(wait, registered_at=wait.registered_at + ahead * MINUTE),))
    bench.airflow.park(task)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.pass_time(2 * MINUTE)
    assert WaitState.DELIVERED is bench.wait(task).state


def test_a_run_that_was_read_before_it_was_waited_for() -> None:
    """S27: a run that ended after it was read, and was swept over since, is asked about when it is waited for."""
    bench = Bench(BRIDGE_SWEEP_SECONDS="600")
    waiting(bench, 1)
    bench.pass_time(30 * SECOND)
    key, early = RunKey(FACTORY, "other"), other_task(bench, "early")
    bench.adf.begin(key)
    bench.register(early, key)
    bench.app.run(service.withdraw(early.token))
    bench.clock.advance(3 * MINUTE)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.pass_time(timedelta(seconds=405))
    registered = bench.register(other_task(bench, "late"), key)
    assert registered.wait is not None
    assert WaitState.INLINE is registered.wait.state


def test_throttled_on_the_way() -> None:
    """S28: a sweep that ADF cuts short covers nothing: the next one starts where the last whole one ended."""
    bench = Bench()
    keys = waiting(bench, 150)
    bench.pass_time(2 * MINUTE)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.adf.query_script.append(THROTTLED)
    bench.clock.advance(MINUTE)
    bench.tick()
    assert {WaitState.OPEN} == states(bench, 150)
    bench.pass_time(5 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench, 150)


def test_an_event_during_the_sweep() -> None:
    """S28: a run that an event and a sweep both find is told once."""
    bench = Bench()
    (key,) = waiting(bench, 1)
    bench.pass_time(2 * MINUTE)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.store.before("put", lambda: bench.event(key=key))
    bench.clock.advance(MINUTE)
    bench.tick()
    bench.pass_time(2 * MINUTE)
    assert ({"ti-0": 1}, {WaitState.DELIVERED}) == (bench.airflow.resumed, states(bench, 1))


def test_two_instances() -> None:
    """S22: of two instances whose timers fire together, one sweeps."""
    bench = Bench()
    waiting(bench, 1)
    bench.clock.advance(MINUTE)
    bench.store.before("save_sweep", bench.another().tick)
    bench.tick()
    assert 1 == len(bench.adf.queries)


def test_why_it_failed() -> None:
    """A failure that only the sweep found still names the activity that failed."""
    bench = Bench()
    (key,) = waiting(bench, 1)
    cause = FailedActivity("Copy", "Copy", "2200", "no such column")
    bench.adf.end(key, RunStatus.FAILED, cause=cause)
    bench.pass_time(2 * MINUTE)
    (told,) = bench.airflow.told["ti-0"]
    assert (Outcome.FAILED, cause) == (told.status, told.failed_activity)


def test_more_pages_than_a_sweep_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """S28: where more changed than a sweep reads, the runs that somebody waits for are read by themselves."""
    monkeypatch.setattr(policy, "SWEEP_PAGES", 2)
    bench = Bench()
    for number in range(300):
        bench.adf.begin(RunKey(FACTORY, f"noise-{number}"))
    (key,) = waiting(bench, 1)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.pass_time(2 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench, 1)


def test_no_wait_goes_unread_for_long() -> None:
    """A run that no sweep shows is read by itself, hourly at least."""
    bench = Bench()
    (key,) = waiting(bench, 1)
    bench.adf.page_size = 0  # pages without end, and without runs
    bench.adf.query_script.extend([THROTTLED] * 100)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.pass_time(70 * MINUTE)
    assert {WaitState.DELIVERED} == states(bench, 1)


def plan(*ages: timedelta, covered: timedelta | None = None) -> decide.SweepPlan:
    """Plan a sweep now for waits of these ages; coverage ended so long ago."""
    now = START + timedelta(days=1)
    waits = [OpenWait(f"t{number}", f"r{number}", now - age) for number, age in enumerate(ages)]
    return decide.plan_sweep(Sweep(FACTORY, covered_until=now - covered if covered else None), waits, now)


def test_the_window() -> None:
    """S28: the window starts with the last whole sweep, or the oldest wait where there was none, and some before."""
    now = START + timedelta(days=1)
    assert now - 3 * MINUTE == plan(HOUR, 5 * HOUR, covered=MINUTE).since
    assert now - 20 * MINUTE == plan(5 * MINUTE, MINUTE).since
    assert now - 62 * MINUTE == plan(30 * SECOND, covered=HOUR).since


@pytest.mark.parametrize(
    ("ages", "covered", "one_by_one"),
    [
        pytest.param([HOUR], MINUTE, False, id="a-short-window"),
        pytest.param([24 * HOUR], 5 * HOUR, True, id="a-long-window-and-few-runs"),
        pytest.param([24 * HOUR] * 80, 5 * HOUR, False, id="a-long-window-and-many-runs"),
    ],
)
def test_reading_one_by_one(ages: list[timedelta], covered: timedelta, one_by_one: bool) -> None:
    """After a long pause, few runs are read one by one: fewer calls than all pages of what changed meanwhile."""
    assert one_by_one == plan(*ages, covered=covered).one_by_one


def taking(bench: Bench, call: str, takes: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a call of ADF take its time."""
    inner = getattr(bench.adf, call)

    def slow(*args: Any, **named: Any) -> Any:
        bench.clock.advance(takes)
        return inner(*args, **named)

    monkeypatch.setattr(bench.adf, call, slow)


def one_sweep(bench: Bench) -> service.Swept:
    """Have the factory swept, an interval later."""
    bench.clock.advance(2 * MINUTE)
    return bench.app.run(service.sweep(FACTORY, bench.app.rules))


def after_an_outage(bench: Bench, hours: int, *, waits: int = 400) -> RunKey:
    """Return a run that has ended while the bridge was down for hours, in each of which 300 others have ended."""
    *_, last = waiting(bench, waits)
    bench.pass_time(2 * MINUTE)
    bench.clock.advance(2 * MINUTE)
    for hour in range(hours):
        for number in range(300):
            noise = RunKey(FACTORY, f"noise-{hour}-{number}")
            bench.adf.begin(noise)
            bench.adf.end(noise, RunStatus.SUCCEEDED)
        bench.clock.advance(HOUR)
    bench.adf.end(last, RunStatus.SUCCEEDED)
    return last


def test_more_than_one_sweep_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """S28, S42: after an outage a sweep ends long before the host would end it, and the next one goes on from there."""
    bench = Bench()
    after_an_outage(bench, 10)
    taking(bench, "query_runs", 5 * SECOND, monkeypatch)
    took, pages = list[timedelta](), list[int]()
    while policy.SWEEP_OVERLAP < bench.clock.now() - covered_until(bench):
        begun = bench.clock.now()
        pages.append(one_sweep(bench).pages)
        took.append(bench.clock.now() - begun - 2 * MINUTE)
    assert (True, {WaitState.OPEN, WaitState.DUE}) == (max(took) < policy.SWEEP_LIMIT, states(bench, 400))
    assert [12, 12, 7] == pages


def covered_until(bench: Bench) -> datetime:
    """Return until when the factory was swept."""
    until = bench.store.inner.sweep(FACTORY).covered_until
    assert until is not None
    return until


def test_an_hour_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """S28, S42: where not even an hour of changes can be read in time, the runs are read by themselves, in turns."""
    monkeypatch.setattr(policy, "SWEEP_LIMIT", 8 * SECOND)
    bench = Bench()
    last = after_an_outage(bench, 2, waits=40)
    taking(bench, "query_runs", 5 * SECOND, monkeypatch)
    taking(bench, "read_run", 4 * SECOND, monkeypatch)
    swept = [one_sweep(bench) for _ in range(4)]
    assert [(2, 0, False), (0, 15, False), (0, 15, False), (0, 10, True)] == [
        (one.pages, one.reads, one.completed) for one in swept
    ]
    assert WaitState.DUE is bench.wait(task_of(39)).state, last


def test_many_runs_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """S28: of runs that are read one by one none is read again before all were, whatever ADF refuses meanwhile."""
    bench = Bench()
    waiting(bench, 40)
    bench.pass_time(2 * MINUTE)
    bench.clock.advance(12 * HOUR)
    taking(bench, "read_run", 4 * SECOND, monkeypatch)
    bench.adf.reads.clear()
    began = bench.clock.now()
    first = one_sweep(bench)
    bench.adf.down = THROTTLED
    assert (False, 1) == (one_sweep(bench).completed, one_sweep(bench).reads)
    bench.adf.down = None
    others = [one_sweep(bench) for _ in range(2)]
    assert (15, [False, True]) == (first.reads, [one.completed for one in others])
    assert {1: 39, 3: 1} == Counter(bench.adf.reads.values())
    assert began + 2 * MINUTE == covered_until(bench)


@pytest.mark.parametrize("idle", [timedelta(0), 3 * HOUR], ids=["by-pages", "one-by-one"])
def test_an_error_of_ours_about_one_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, idle: timedelta
) -> None:
    """S42: a run with which the bridge cannot deal is told in the log, and keeps no other one from being found."""
    bench = Bench()
    keys = waiting(bench, 3)
    bench.pass_time(2 * MINUTE)
    bench.clock.advance(idle)
    for key in keys:
        bench.adf.end(key, RunStatus.FAILED)
    cause = bench.adf.failed_activity

    def fail(key: RunKey, reading: RunReading) -> FailedActivity | None:
        if key == keys[0]:
            raise ZeroDivisionError
        return cause(key, reading)

    monkeypatch.setattr(bench.adf, "failed_activity", fail)
    bench.clock.advance(2 * MINUTE)
    with caplog.at_level(logging.ERROR, logger="bridge"):
        bench.tick()
    assert [WaitState.OPEN, WaitState.DELIVERED, WaitState.DELIVERED] == [
        bench.wait(task_of(number)).state for number in range(3)
    ]
    assert 1 == sum("sweep.failed" in one.message for one in caplog.records)


def test_what_was_begun_for_nobody() -> None:
    """When nobody waits any more, it is forgotten how far runs were read one by one."""
    bench = Bench()
    bench.store.save_sweep(Sweep(FACTORY, begun_at=START, read_up_to="run-1"))
    bench.app.run(service.sweep(FACTORY, bench.app.rules))
    assert Sweep(FACTORY) == replace(bench.store.sweep(FACTORY), version="")


def test_a_run_that_adf_fails_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """S45: while ADF has an error for one run, those that come after it are read one by one all the same."""
    bench = Bench()
    keys = waiting(bench, 3)
    bench.pass_time(2 * MINUTE)
    bench.clock.advance(3 * HOUR)
    read = bench.adf.read_run

    def fail(key: RunKey) -> RunReading | Refusal:
        return Refusal(RefusalKind.UNAVAILABLE, "ADF answered 500") if key == keys[1] else read(key)

    monkeypatch.setattr(bench.adf, "read_run", fail)
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
    assert [False, True] == [one_sweep(bench).completed for _ in range(2)]
    assert [WaitState.DUE, WaitState.OPEN, WaitState.DUE] == [bench.wait(task_of(number)).state for number in range(3)]
    assert bench.due_at(task_of(1)) <= bench.clock.now()


def test_a_sweep_is_not_due_at_once_again() -> None:
    """A factory is swept once an interval, whatever became of the last sweep."""
    taken = decide.take_sweep(Sweep(FACTORY), START, RULES)
    before, after = START + RULES.sweep - SECOND, START + RULES.sweep
    assert (False, True) == (decide.is_sweep_due(taken, before), decide.is_sweep_due(taken, after))


def test_past_the_deadline() -> None:
    """S29: an expired wait keeps no factory swept."""
    bench = Bench()
    waiting(bench, 1)
    bench.clock.sleep_until(DEADLINE)
    bench.pass_time(2 * MINUTE)
    bench.adf.queries.clear()
    bench.pass_time(5 * MINUTE)
    assert service.Swept() == bench.app.run(service.sweep(FACTORY, bench.app.rules))
    assert [] == bench.adf.queries


def test_between_the_pages() -> None:
    """S42: between the pages of a sweep there is a pause, in which events have the processor."""
    bench = Bench()
    bench.adf.page_size = 10
    for key in waiting(bench, 30):
        bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.clock.advance(MINUTE)
    before = bench.clock.now()
    swept = bench.app.run(service.sweep(FACTORY, bench.app.rules))
    assert (3, 2 * policy.BETWEEN_PAGES) == (swept.pages, bench.clock.now() - before)
