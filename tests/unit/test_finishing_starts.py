"""Starts whose callers have died: the bridge finishes what was begun, so that no run is left to itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge import decide, policy, service
from bridge.app import FINISH_AT_ONCE
from bridge.model import (
    Continuation,
    NewTry,
    OnAbandon,
    PreviousTry,
    Run,
    RunKey,
    RunStatus,
    StartRequest,
    StartState,
    TaskRef,
    WaitState,
)
from bridge.ports import Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.bench import Bench, Crash
from tests.fakes.clock import START
from tests.fakes.samples import (
    DEADLINE,
    FACTORY,
    KEY,
    MINUTE,
    SECOND,
    TASK,
    a_request,
    a_task,
    a_trigger,
    a_view,
    a_wait,
)
from tests.fakes.stepping import Stepping

FIRST = RunKey(FACTORY, "run-1")
RETRY = a_task(try_number=2, nonce="nonce-2", task_instance_id="ti-2")
NO_ANSWER = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 504")
THROTTLED = Refusal(RefusalKind.THROTTLED, "ADF answered 429")
HOUR = timedelta(hours=1)
REATTACH = Continuation(PreviousTry.REATTACH, NewTry.RETRY)
# At which effect of a keyed start its process dies.
PIPELINE_FOUND, KEY_RESERVED, RUN_CREATED, START_RECORDED, WAIT_WRITTEN = range(1, 6)


@pytest.fixture
def bench() -> Bench:
    """A bridge in front of a pipeline that takes the key as a parameter, with a task that runs."""
    bench = Bench()
    bench.adf.declare("copy_orders", "day", "bridge_key")
    bench.airflow.run(TASK)
    return bench


def dies(bench: Bench, at: int, task: TaskRef = TASK, **changes: Any) -> None:
    """Have the process die that handles a start, right after an effect."""
    wait = a_request(task, on_abandon=OnAbandon.CANCEL, keep_for_next_try=True)
    bench.crash_at(at)
    with pytest.raises(Crash):
        bench.start(task, **{"wait": wait, **changes})
    bench.restart()


def asking(bench: Bench) -> Stepping[service.StartAnswer]:
    """Return the task's request, as one instance of the bridge handles it."""
    wait = a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=True)
    return Stepping(bench, service.start_run(a_trigger(wait=wait), bench.app.rules))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [one.message for one in caplog.records if one.levelno >= logging.ERROR]


def a_record(bench: Bench, task: TaskRef = TASK) -> StartRequest:
    """Return the record of a task's request."""
    record = bench.store.request(task.token)
    assert record is not None
    return record


def runs(bench: Bench) -> list[RunStatus | None]:
    """Return how ADF's runs stand."""
    return [run.status for run in bench.adf.runs.values()]


# --- none leaked ---


@pytest.mark.parametrize("at", [RUN_CREATED, START_RECORDED, WAIT_WRITTEN])
def test_a_task_that_fails_for_good(bench: Bench, at: int) -> None:
    """S19: a run whose task failed for good while its request was handled is waited for, and cancelled in the end."""
    dies(bench, at)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(10 * MINUTE)
    assert ([RunStatus.CANCELLED], WaitState.OVERRIDDEN, 1) == (
        runs(bench),
        bench.wait().state,
        len(bench.adf.creates),
    )


def test_another_instance_is_ahead(bench: Bench) -> None:
    """S31: an instance whose clock is an hour ahead does not give up a start that is under way."""
    wait = a_request(on_abandon=OnAbandon.CANCEL)
    start = Stepping(bench, service.start_run(a_trigger(wait=wait), bench.app.rules))
    while bench.store.inner.request(TASK.token) is None:
        start.go_on(1)
    now = bench.clock.now()
    bench.clock.show(now + HOUR)
    bench.another().tick()
    bench.clock.show(now)
    while not bench.adf.creates:
        start.go_on(1)
    bench.pass_time(2 * HOUR)  # its process has died
    assert (StartState.STARTED, WaitState.OPEN) == (a_record(bench).state, bench.wait().state)


def test_nothing_was_started(bench: Bench) -> None:
    """S19: of a request whose process died before createRun it is found out that there is no run; nobody waits."""
    dies(bench, KEY_RESERVED)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(10 * MINUTE)
    assert (StartState.UNKNOWN, None, []) == (
        a_record(bench).state,
        bench.store.find_wait(TASK.token),
        bench.adf.creates,
    )


def reattaches_and_dies(bench: Bench) -> None:
    """Have a first try that waits, and a second one whose process dies when it has reserved its key for that run."""
    bench.start(TASK, wait=a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=True))
    bench.airflow.park(TASK)
    bench.pass_time(5 * MINUTE)
    bench.airflow.retry(TASK, new_id="ti-2")
    bench.airflow.run(RETRY)
    bench.crash_at(2)
    with pytest.raises(Crash):
        bench.start(
            RETRY, wait=a_request(RETRY, on_abandon=OnAbandon.CANCEL, keep_for_next_try=True), previous=REATTACH
        )
    assert "start.key-reserved" == bench.places[-1].point
    bench.restart()


def test_a_next_try_that_died(bench: Bench) -> None:
    """S14, S19: a next try that took the run over and died before it waited keeps no run from being cancelled."""
    reattaches_and_dies(bench)
    bench.airflow.finish(RETRY, "failed")
    bench.pass_time(15 * MINUTE)
    assert ([RunStatus.CANCELLED], {WaitState.STALE, WaitState.OVERRIDDEN}) == (
        runs(bench),
        {bench.wait().state, bench.wait(RETRY).state},
    )


def test_a_next_try_that_comes_back(bench: Bench) -> None:
    """S14: a next try whose first request died, and that repeats it in time, gets the run that goes on."""
    reattaches_and_dies(bench)
    bench.pass_time(90 * SECOND)
    assert WaitState.OPEN is bench.wait().state
    assert "reattached" == bench.start(RETRY, wait=a_request(RETRY), previous=REATTACH)["start"]["how"]
    bench.airflow.park(RETRY)
    bench.pass_time(10 * MINUTE)
    assert ([RunStatus.IN_PROGRESS], WaitState.STALE, WaitState.OPEN) == (
        runs(bench),
        bench.wait().state,
        bench.wait(RETRY).state,
    )
    assert "taken-over" == bench.wait().timeline[-1].what


def test_the_later_try_ends_right_away(bench: Bench) -> None:
    """S14: the wait of an earlier try, open still, does not keep the run alive when the later one is over as well."""
    bench.start(TASK, wait=a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=True))
    bench.airflow.park(TASK)
    bench.pass_time(5 * MINUTE)
    bench.airflow.retry(TASK, new_id="ti-2")
    bench.airflow.run(RETRY)
    bench.start(RETRY, wait=a_request(RETRY, on_abandon=OnAbandon.CANCEL), previous=REATTACH)
    bench.airflow.finish(RETRY, "failed")
    bench.pass_time(5 * MINUTE)
    assert [RunStatus.CANCELLED] == runs(bench)


def test_a_wait_that_was_registered_late() -> None:
    """S14: which try came later is told by the requests: the bridge may have registered the earlier wait after both.

    A later one that was answered has the run as long as it waits.
    """
    wait = a_wait(registered_at=START + 5 * MINUTE, abandoned_at=START + 5 * MINUTE)
    own, later = (
        StartRequest(one.token, "hash", StartState.STARTED, FACTORY, "copy_orders", at, at, run_id=KEY.run_id)
        for one, at in ((TASK, START), (RETRY, START + MINUTE))
    )
    seen = a_view("running", try_number=2, task_instance_id="ti-2")
    answered, left, its_wait = replace(later, answer="{}"), replace(later, left="why"), a_wait(RETRY)
    looks = [
        decide.on_look(wait, seen, [one, own], [wait, *waits], START + HOUR)
        for one, waits in (
            (later, []),
            (answered, [its_wait]),
            (answered, [replace(its_wait, state=WaitState.STALE)]),
            (left, []),
        )
    ]
    kept, taken_over, abandoned = (WaitState.OPEN, False), (WaitState.STALE, False), (WaitState.STALE, True)
    assert [kept, taken_over, abandoned, abandoned] == [
        (look.state, look.cancels) for look in looks if look is not None
    ]


@pytest.mark.parametrize("is_first", [True, False])
def test_an_earlier_try_that_was_registered_late(is_first: bool) -> None:
    """S47: a wait that the bridge registered late for an earlier try does not keep the later one's run going.

    One whose request came later as well is that of a DAG run made anew under the same names.
    """
    asked = START - MINUTE if is_first else START + SECOND
    late = a_wait(key=FIRST, registered_at=START + MINUTE, asked_at=asked)
    later = a_wait(RETRY, key=FIRST, registered_at=START, asked_at=START, state=WaitState.DUE, cancels=True)
    kept = decide.keeps_running(later, Run(FIRST), (late, later), Bench().app.rules)
    assert (None if is_first else "another task waits for it") == kept


def test_after_the_deadline(bench: Bench) -> None:
    """S29: what could not be finished before the task's deadline is finished after it: its run is cancelled."""
    dies(bench, START_RECORDED)
    bench.airflow.finish(TASK, "failed")
    bench.clock.sleep_until(DEADLINE + MINUTE)
    bench.pass_time(10 * MINUTE)
    assert ([RunStatus.CANCELLED], []) == (runs(bench), list(bench.airflow.told))


# --- as a repeated request would ---


def test_a_later_repetition(bench: Bench) -> None:
    """S21: who repeats a request that the bridge has finished is answered as it was then, and parks."""
    dies(bench, RUN_CREATED)
    bench.pass_time(4 * MINUTE)
    finished = a_record(bench)
    assert finished.answer is not None
    again = bench.app.run(
        service.start_run(
            a_trigger(wait=a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=True)), bench.app.rules
        )
    )
    assert (finished.answer, True, 1) == (again.document, again.replay, len(bench.adf.creates))
    bench.airflow.park(TASK)
    bench.adf.end(FIRST, RunStatus.SUCCEEDED)
    bench.pass_time(5 * MINUTE)
    assert ["Succeeded"] == [one.status.value for one in bench.airflow.told["ti-1"]]


def test_not_while_its_caller_may_live(bench: Bench) -> None:
    """S21: what a living caller has begun is left to it: a lease, and a margin in which it repeats its request."""
    dies(bench, START_RECORDED)
    bench.clock.advance(policy.START_LEASE + policy.FINISH_AFTER - SECOND)
    bench.tick()
    assert None is a_record(bench).answer
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert None is not a_record(bench).answer


def test_a_start_without_a_wait(bench: Bench) -> None:
    """S21: a start that nobody wanted to wait for is answered as well."""
    bench.crash_at(START_RECORDED)
    with pytest.raises(Crash):
        bench.start(None)
    bench.restart()
    bench.pass_time(4 * MINUTE)
    record = bench.store.request("key-1")
    assert record is not None
    assert (True, RunStatus.IN_PROGRESS) == (record.answer is not None, bench.adf.runs[FIRST].status)


def test_what_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What the bridge has finished is logged: the token, the run, and how it came to be."""
    dies(bench, RUN_CREATED)
    with caplog.at_level(logging.INFO, logger="bridge"):
        bench.pass_time(4 * MINUTE)
    (line,) = [one.message for one in caplog.records if "start.finished" in one.message]
    assert all(word in line for word in (TASK.token, "run-1", "adopted"))


# --- what cannot be finished ---


def test_without_a_key(bench: Bench) -> None:
    """S19: a run that its parameters alone tell from others is left to its caller, who may still ask, and to nobody."""
    bench.adf.declare("copy_orders", "day")
    dies(bench, RUN_CREATED)
    bench.pass_time(HOUR)
    record = a_record(bench)
    assert (False, StartState.STARTING, 0) == (record.is_unfinished, record.state, bench.adf.run_searches)
    asked = a_request(on_abandon=OnAbandon.CANCEL, keep_for_next_try=True)
    assert "adopted" == bench.start(wait=asked)["start"]["how"]


def test_a_run_without_a_key_that_is_known(bench: Bench) -> None:
    """S19: once it is written down which run answers to a request, the run needs no key."""
    bench.adf.declare("copy_orders", "day")
    dies(bench, START_RECORDED)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(10 * MINUTE)
    assert [RunStatus.CANCELLED] == runs(bench)


def test_a_run_that_was_taken(bench: Bench) -> None:
    """S19: a request whose run another one has adopted meanwhile gets no wait for that one's."""
    bench.adf.declare("copy_orders", "day")
    dies(bench, START_RECORDED)
    bench.store.put(Run(FIRST, started_by="another"), ())
    bench.pass_time(30 * MINUTE)
    assert (None, False) == (bench.store.find_wait(TASK.token), a_record(bench).is_unfinished)


def test_a_withdrawn_wait(bench: Bench) -> None:
    """S21: a request whose wait was withdrawn is left."""
    dies(bench, WAIT_WRITTEN)
    bench.app.run(service.withdraw(TASK.token))
    bench.pass_time(10 * MINUTE)
    assert "Its wait was withdrawn." == a_record(bench).left


def test_a_token_that_is_taken(bench: Bench) -> None:
    """S21: a request whose token names a wait for another run is left."""
    dies(bench, START_RECORDED)
    other = RunKey(FACTORY, "another")
    bench.adf.begin(other)
    bench.register(TASK, other)
    bench.pass_time(10 * MINUTE)
    assert "another" in (a_record(bench).left or "")


def test_a_run_that_the_next_try_has(bench: Bench) -> None:
    """S14: no wait is registered for a try whose next one waits for the run."""
    dies(bench, START_RECORDED)
    bench.airflow.retry(TASK, new_id="ti-2")
    bench.airflow.run(RETRY)
    assert "reattached" == bench.start(RETRY, wait=a_request(RETRY), previous=REATTACH)["start"]["how"]
    bench.airflow.park(RETRY)
    bench.pass_time(10 * MINUTE)
    assert ("The task's next try waits for the run.", None, [RunStatus.IN_PROGRESS]) == (
        a_record(bench).left,
        bench.store.find_wait(TASK.token),
        runs(bench),
    )


def test_adf_refuses(bench: Bench) -> None:
    """S28: what ADF refuses to say is asked again a minute later, then ever less often, until it says so."""
    bench.adf.create_script.append(Lost(NO_ANSWER))
    bench.adf.search_script += [THROTTLED] * 4
    dies(bench, RUN_CREATED)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(30 * MINUTE)
    assert ([RunStatus.CANCELLED], 5) == (runs(bench), bench.adf.run_searches)


def test_a_permission_that_is_missing_for_a_while(bench: Bench) -> None:
    """S45: that the bridge may not list runs for a while leaks no run: it is found, and cancelled, in the end."""
    bench.crash_at(RUN_CREATED)
    with pytest.raises(Crash):
        bench.start(wait=a_request(on_abandon=OnAbandon.CANCEL))
    bench.restart()
    bench.airflow.finish(TASK, "failed")
    bench.adf.search_script += [Refusal(RefusalKind.FORBIDDEN, "ADF answered 403")] * 5
    bench.pass_time(3 * HOUR)
    assert RunStatus.CANCELLED is bench.adf.runs[FIRST].status


def test_adf_never_says(bench: Bench) -> None:
    """S19: what cannot be found out for days is left, and not looked at for ever."""
    dies(bench, RUN_CREATED)
    bench.adf.search_script += [THROTTLED] * 10_000
    bench.pass_time(policy.FINISH_FOR + HOUR)
    record, asked = a_record(bench), bench.adf.run_searches
    assert (None, True) == (record.due_at, "7 days" in (record.left or ""))
    bench.pass_time(HOUR)
    assert asked == bench.adf.run_searches


@pytest.mark.parametrize("trouble", ["ADF's", "an error of ours"])
def test_one_that_fails_hides_no_other(bench: Bench, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: a request that cannot be finished now keeps none of those behind it from being finished."""

    def search(*_: object, **__: object) -> Refusal:
        if trouble == "ADF's":
            return THROTTLED
        raise ZeroDivisionError

    monkeypatch.setattr(bench.adf, "search_runs", search)
    dies(bench, RUN_CREATED)
    failed = a_record(bench)
    for number in range(60):
        bench.store.save_request(replace(failed, idempotency_key=f"key-{number}", version=""))
    bench.clock.advance(SECOND)
    other = a_task(task_id="other", task_instance_id="ti-9", nonce="9")
    bench.airflow.run(other)
    dies(bench, START_RECORDED, other)
    bench.pass_time(10 * MINUTE)
    assert None is not a_record(bench, other).answer


def test_what_was_left_is_found_after_all(bench: Bench) -> None:
    """S19: a run that only its caller could find is waited for when that has found it and dies, too."""
    bench.adf.declare("copy_orders", "day")
    dies(bench, RUN_CREATED)
    bench.pass_time(HOUR)
    assert a_record(bench).left is not None
    again = asking(bench)
    while a_record(bench).run_id is None:
        again.go_on(1)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(30 * MINUTE)
    assert [RunStatus.CANCELLED] == runs(bench)


def test_what_was_left_is_started_after_all(bench: Bench) -> None:
    """S31: a start that an instance whose clock is ahead has left is finished all the same once ADF has answered."""
    bench.adf.declare("copy_orders", "day")
    start = asking(bench)
    while bench.store.inner.request(TASK.token) is None:
        start.go_on(1)
    now = bench.clock.now()
    bench.clock.show(now + HOUR)
    bench.another().tick()
    assert a_record(bench).left is not None
    bench.clock.show(now)
    while a_record(bench).run_id is None:
        start.go_on(1)
    bench.airflow.finish(TASK, "failed")
    bench.pass_time(30 * MINUTE)
    assert [RunStatus.CANCELLED] == runs(bench)


def test_a_start_that_takes_its_time(bench: Bench) -> None:
    """S21: a createRun that comes long after its request arrived is left to its caller for as long as any other."""
    start = asking(bench)
    while not bench.adf.pipeline_reads["copy_orders"]:
        start.go_on(1)
    bench.clock.advance(5 * MINUTE)
    while not bench.adf.creates:
        start.go_on(1)
    bench.tick()
    assert (StartState.STARTING, 0) == (a_record(bench).state, bench.adf.run_searches)
    assert bench.clock.now() + policy.START_LEASE + policy.FINISH_AFTER == a_record(bench).due_at


def test_a_next_try_that_was_not_answered(bench: Bench) -> None:
    """S19: a wait is registered for a run that a next try has asked for, as long as that one was not answered."""
    dies(bench, START_RECORDED)
    record = a_record(bench)
    later = replace(record, idempotency_key=RETRY.token, try_number=2, received_at=record.received_at + MINUTE)
    reasons = [decide.not_to_be_waited_for(record, None, [one, record]) for one in (later, replace(later, answer="{}"))]
    assert [None, "The task's next try waits for the run."] == reasons


# --- others are at it as well ---


def test_withdrawn_at_that_moment(bench: Bench) -> None:
    """S22: a request whose wait is withdrawn while the bridge finishes it is left, and that is no error."""
    dies(bench, WAIT_WRITTEN)
    bench.clock.advance(135 * SECOND)
    bench.store.before("requests_at", lambda: bench.app.run(service.withdraw(TASK.token)))
    finished = bench.app.run(service.finish(TASK.token, bench.app.rules))
    assert finished is not None
    assert ("left", "withdrawn" in (a_record(bench).left or "")) == (finished.how, True)


def test_another_instance_leaves_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """S22: an instance that finds that another one has changed the record goes away, without an error."""
    dies(bench, WAIT_WRITTEN)
    bench.app.run(service.withdraw(TASK.token))
    before = a_record(bench)
    bench.clock.advance(135 * SECOND)
    bench.store.conflict("save_request")
    assert None is bench.app.run(service.finish(TASK.token, bench.app.rules))
    assert (before, []) == (a_record(bench), errors(caplog))


def test_another_instance_puts_it_off(bench: Bench) -> None:
    """S22: an instance that cannot put a request off because another one has changed it goes away."""
    dies(bench, RUN_CREATED)
    bench.clock.advance(135 * SECOND)
    before = a_record(bench)
    bench.adf.search_script += [THROTTLED] * 2
    bench.store.conflict("save_request", nth=2)  # the first says that its run is looked for
    assert None is bench.app.run(service.finish(TASK.token, bench.app.rules))
    assert (StartState.SEARCHING, before.finish_at) == (a_record(bench).state, a_record(bench).finish_at)


# --- how many, how often ---


def test_how_often_is_looked(bench: Bench) -> None:
    """Where nothing is to be finished, the store is asked once a minute for what is, not with every tick."""
    bench.tick()
    before = bench.store.calls["unfinished_requests"]
    for _ in range(40):
        bench.clock.advance(15 * SECOND)
        bench.tick()
    assert 10 == bench.store.calls["unfinished_requests"] - before


def test_how_many_at_once(bench: Bench) -> None:
    """What many callers have begun who died together is finished tick by tick, a bounded number in each."""
    dies(bench, START_RECORDED)
    record = a_record(bench)
    names = [f"key-{number}" for number in range(FINISH_AT_ONCE + 10)]
    for name in names:
        bench.store.inner.save_request(replace(record, idempotency_key=name, wait=None, place=None, version=""))
    bench.clock.advance(HOUR)
    left = []
    for _ in range(2):
        bench.tick()
        bench.clock.advance(SECOND)
        left.append(len(bench.store.inner.unfinished_requests(before=bench.clock.now(), limit=1_000)))
    assert [11, 0] == left


# --- the record ---


def test_an_unfinished_record_is_kept(bench: Bench) -> None:
    """S38: retention removes no request that is still to be finished, and each that is not."""
    dies(bench, START_RECORDED)
    later = bench.clock.now() + timedelta(days=99)
    bench.store.purge(later)
    assert START < (a_record(bench).due_at or START)
    bench.pass_time(4 * MINUTE)
    bench.store.purge(later)
    assert None is bench.store.request(TASK.token)
