"""Telling Airflow: once, to the right try, whatever Airflow answers and for however long it does not."""

from collections import Counter
from datetime import timedelta

import pytest

from bridge import service
from bridge.app import IN_FLIGHT_PER_TARGET
from bridge.model import Outcome, RunKey, RunStatus, TaskRef, Wait, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.adf import Lost
from tests.fakes.airflow import place_of
from tests.fakes.bench import Bench, ended_unnoticed
from tests.fakes.samples import DEADLINE, FACTORY, KEY, MINUTE, SECOND, TASK, a_task, our_answer

HOUR = timedelta(hours=1)
UNAVAILABLE = Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502")
UNREACHABLE = Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached")
PLACE = place_of(TASK)


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a task that has been parked for long, whose run has ended unnoticed so far."""
    return ended_unnoticed()


def story(wait: Wait) -> list[str]:
    """Return the words of a wait's story."""
    return [entry.what for entry in wait.timeline]


def paused(bench: Bench) -> bool:
    """Return whether the target is paused."""
    return bench.store.inner.breaker(service.target_breaker("prod")).is_open


def test_the_story_of_a_wait(bench: Bench) -> None:
    """A wait tells its story: registered, the event, the decision, the delivery."""
    bench.event()
    assert ["registered", "event", "decided", "delivered"] == story(bench.wait())


def test_two_hours_without_airflow(bench: Bench) -> None:
    """S07: Airflow is down for two hours: it is called a bounded number of times, then the task is resumed, once."""
    bench.airflow.down["prod"] = UNREACHABLE
    bench.event()
    bench.pass_time(2 * HOUR)
    assert paused(bench)
    # Three failures, then one probe after pauses that grow to a minute.
    assert 20 < bench.airflow.calls["prod"] < 150
    del bench.airflow.down["prod"]
    bench.pass_time(6 * MINUTE)
    assert (WaitState.DELIVERED, {"ti-1": 1}, False) == (bench.wait().state, bench.airflow.resumed, paused(bench))


def parked_for_long(bench: Bench, count: int) -> tuple[list[TaskRef], list[RunKey]]:
    """Have that many tasks, parked for an hour, wait for as many runs."""
    tasks = [a_task(map_index=index, task_instance_id=f"ti-{index}") for index in range(count)]
    keys = [RunKey(FACTORY, f"run-of-{index}") for index in range(count)]
    for task, key in zip(tasks, keys, strict=True):
        bench.adf.begin(key)
        bench.airflow.run(task)
        bench.register(task, key)
        bench.airflow.park(task)
    bench.clock.advance(HOUR)
    return tasks, keys


def test_no_stampede_after_an_outage() -> None:
    """S07: many waits that gathered in an outage cost one probe at a time while it lasts, and all drain after it."""
    bench = Bench()
    _, keys = parked_for_long(bench, 40)
    bench.airflow.down["prod"] = UNREACHABLE
    for key in keys:
        bench.adf.end(key, RunStatus.SUCCEEDED)
        bench.event(key=key)
    bench.pass_time(2 * HOUR)
    assert bench.airflow.calls["prod"] < 150 + IN_FLIGHT_PER_TARGET
    del bench.airflow.down["prod"]
    bench.pass_time(6 * MINUTE)
    assert [1] * 40 == list(bench.airflow.resumed.values())


@pytest.mark.parametrize("kind", [RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN])
def test_refused_credentials_pause_the_target(bench: Bench, kind: RefusalKind) -> None:
    """S08: refused credentials pause the target at once and visibly; no attempt is lost, and it resumes by itself."""
    refusal = Refusal(kind, "Airflow answered 40x", retry_after=MINUTE)
    bench.airflow.down["prod"] = refusal
    bench.event()
    assert (True, 1, 0) == (paused(bench), bench.airflow.calls["prod"], bench.wait().attempts)
    bench.pass_time(HOUR)
    assert (0, WaitState.DUE, True) == (
        bench.wait().attempts,
        bench.wait().state,
        bench.airflow.calls["prod"] < 75,
    )
    health = bench.app.health()["targets"]["prod"]
    assert (True, "Airflow answered 40x") == (health["paused"], health["paused_because"])
    del bench.airflow.down["prod"]
    bench.pass_time(6 * MINUTE)
    assert (WaitState.DELIVERED, False) == (bench.wait().state, paused(bench))


def test_a_forbidden_answer_pauses_the_target(bench: Bench) -> None:
    """S09: a user who may read and may not answer pauses the target; after the fix the task is resumed."""
    bench.airflow.patch_script.append(Refusal(RefusalKind.FORBIDDEN, "Airflow answered 403: Forbidden", MINUTE))
    bench.event()
    assert (True, 0, "paused") == (paused(bench), bench.wait().attempts, story(bench.wait())[-1])
    bench.pass_time(2 * MINUTE)
    assert {"ti-1": 1} == bench.airflow.resumed


def test_one_paused_target_holds_no_other(bench: Bench) -> None:
    """S42: while one target is paused, the tasks of another one are resumed."""
    dev, key = a_task(target="dev", task_instance_id="ti-dev"), RunKey(FACTORY, "dev-run")
    bench.adf.begin(key)
    bench.airflow.run(dev)
    bench.register(dev, key)
    bench.airflow.park(dev)
    bench.clock.advance(MINUTE)
    bench.airflow.down["prod"] = Refusal(RefusalKind.FORBIDDEN, "no")
    bench.event()
    bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.event(key=key)
    assert {"ti-dev": 1} == bench.airflow.resumed


def test_a_task_that_is_gone(bench: Bench) -> None:
    """S10: a task that Airflow does not know is looked for for ten minutes, then its wait closes as gone."""
    bench.airflow.remove(TASK)
    bench.event()
    bench.pass_time(9 * MINUTE)
    assert WaitState.DUE is bench.wait().state
    bench.pass_time(2 * MINUTE)
    assert (WaitState.GONE, False) == (bench.wait().state, paused(bench))


def test_a_task_that_is_missing_for_a_moment(bench: Bench) -> None:
    """S10: a task that Airflow does not know for a moment is resumed when it is back."""
    bench.airflow.read_script += [Refusal(RefusalKind.NOT_FOUND, "404")] * 2
    bench.event()
    assert ({"ti-1": 1}, WaitState.DELIVERED) == (bench.airflow.resumed, bench.wait().state)


def test_a_conflict_over_our_own_answer(bench: Bench) -> None:
    """S11: a 409 to an answer that is our own means that it has arrived."""
    bench.airflow.patch_script.append(Lost(Refusal(RefusalKind.CONFLICT, "Airflow answered 409")))
    bench.event()
    assert (WaitState.DELIVERED, {"ti-1": 1}) == (bench.wait().state, bench.airflow.resumed)


def test_a_conflict_over_an_older_answer(bench: Bench) -> None:
    """S11: a 409 over another token's answer is no failure: the task is answered once it has parked anew."""
    older = a_task(nonce="nonce-0")
    bench.airflow.instances[PLACE].answer = our_answer(older)
    bench.event()
    assert (WaitState.DUE, False) == (bench.wait().state, paused(bench))
    bench.airflow.park(TASK)
    bench.pass_time(MINUTE)
    assert ({"ti-1": 1}, WaitState.DELIVERED) == (bench.airflow.resumed, bench.wait().state)


@pytest.mark.parametrize("asked", [90 * SECOND, 15 * MINUTE])
@pytest.mark.parametrize("call", ["read", "patch"])
def test_retry_after_is_honoured(bench: Bench, call: str, asked: timedelta) -> None:
    """S12: a target that asks to wait is not called before that, and one refusal is enough to know."""
    refusal = Refusal(RefusalKind.THROTTLED, "Airflow answered 429", asked)
    (bench.airflow.read_script if call == "read" else bench.airflow.patch_script).append(refusal)
    bench.event()
    before = bench.airflow.calls["prod"]
    bench.pass_time(asked - 15 * SECOND)
    assert before == bench.airflow.calls["prod"]
    bench.pass_time(MINUTE)
    assert {"ti-1": 1} == bench.airflow.resumed


def test_an_answer_that_got_lost(bench: Bench) -> None:
    """S13: a time-out after Airflow took the answer leads to a look, not to a second answer."""
    bench.airflow.patch_script.append(Lost(UNAVAILABLE))
    bench.event()
    bench.pass_time(MINUTE)
    assert (WaitState.DELIVERED, 1, {"ti-1": 1}) == (
        bench.wait().state,
        bench.airflow.patches[PLACE],
        bench.airflow.resumed,
    )


def test_an_answer_that_never_arrived(bench: Bench) -> None:
    """S13: a time-out before Airflow took the answer leads to a look, and then to the answer."""
    bench.airflow.patch_script.append(UNAVAILABLE)
    bench.event()
    bench.pass_time(MINUTE)
    assert (WaitState.DELIVERED, 2, {"ti-1": 1}) == (
        bench.wait().state,
        bench.airflow.patches[PLACE],
        bench.airflow.resumed,
    )


def test_an_effect_that_cannot_be_read(bench: Bench) -> None:
    """S13: when Airflow fails right after it took the answer, the next look tells that it has arrived."""
    bench.airflow.read_script += [None, UNAVAILABLE]
    bench.event()
    bench.pass_time(MINUTE)
    assert (WaitState.DELIVERED, 1) == (bench.wait().state, bench.airflow.patches[PLACE])


def test_a_task_that_was_cleared(bench: Bench) -> None:
    """S14: a task that was cleared while the run went on is not answered, though it has parked again."""
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.airflow.next_try(TASK)
    bench.airflow.park(TASK)
    bench.event()
    assert (WaitState.STALE, {}) == (bench.wait().state, bench.airflow.resumed)


def test_a_task_that_will_be_retried(bench: Bench) -> None:
    """S14: a task that failed meanwhile and will be retried is not answered: its next try is another wait."""
    bench.airflow.retry(TASK, new_id="ti-2")
    bench.event()
    assert (WaitState.STALE, 0) == (bench.wait().state, bench.airflow.patches[PLACE])


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_task_that_a_person_marked(bench: Bench, state: str) -> None:
    """S16: a task that a person marked while it waited stays as marked, and is sent nothing."""
    bench.airflow.finish(TASK, state)
    bench.event()
    assert (WaitState.OVERRIDDEN, 0, state) == (
        bench.wait().state,
        bench.airflow.patches[PLACE],
        bench.airflow.instances[PLACE].state,
    )


def test_a_task_that_a_person_answered(bench: Bench) -> None:
    """S16: an answer given in Required Actions stands, is never overwritten, and the story names the person."""
    bench.airflow.answer_as("ada", TASK, "Failed")
    bench.airflow.finish(TASK, "failed")
    bench.event("Succeeded")
    last = bench.wait().timeline[-1]
    assert (WaitState.OVERRIDDEN, True) == (bench.wait().state, "ada answered Failed" in last.detail)
    assert ({}, 0) == (bench.airflow.resumed, bench.airflow.patches[PLACE])


def test_a_person_who_is_faster_than_the_answer(bench: Bench) -> None:
    """S16: a person who answers between the look and the answer wins, and the story names the person."""
    original = bench.airflow.resume

    def overtaken(*args: object) -> object:
        bench.airflow.answer_as("ada", TASK, "Succeeded")
        return original(*args)  # type: ignore[arg-type]

    bench.airflow.resume = overtaken  # type: ignore[method-assign,assignment]
    bench.event()
    last = bench.wait().timeline[-1]
    assert (WaitState.OVERRIDDEN, "ada answered Succeeded in Required Actions") == (bench.wait().state, last.detail)


def test_an_observed_target() -> None:
    """In observe mode all is decided and told, Airflow is only read, and nothing is resumed."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__OBSERVE="true")
    bench.adf.begin(KEY)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.event("Failed")
    bench.pass_time(5 * MINUTE)
    assert (0, WaitState.DUE, 1) == (
        bench.airflow.patches[PLACE],
        bench.wait().state,
        story(bench.wait()).count("observed"),
    )


def test_a_completion_that_cannot_be_delivered_in_time(bench: Bench) -> None:
    """S29: a completion that cannot be delivered expires an hour after the deadline, and stays readable."""
    bench.airflow.down["prod"] = UNREACHABLE
    bench.event()
    bench.pass_time(DEADLINE + HOUR - bench.clock.now() + 6 * MINUTE)
    wait = bench.wait()
    assert wait.completion is not None
    assert (WaitState.EXPIRED, Outcome.SUCCEEDED) == (wait.state, wait.completion.status)


def test_a_withdrawn_wait_is_not_delivered(bench: Bench) -> None:
    """A wait that was withdrawn is told nothing more."""
    bench.app.run(service.withdraw(TASK.token))
    bench.event()
    bench.pass_time(MINUTE)
    assert (WaitState.WITHDRAWN, {}) == (bench.wait().state, bench.airflow.resumed)


def test_a_wait_withdrawn_during_its_delivery(bench: Bench) -> None:
    """S22: a wait that changes while it is being delivered is not overwritten."""
    bench.store.before("put", lambda: bench.app.run(service.withdraw(TASK.token)), nth=4)
    bench.event()
    assert WaitState.WITHDRAWN is bench.wait().state


def test_the_timer_comes_back_to_what_is_held() -> None:
    """S02: what comes due before the timer fires again is answered at its time, not a tick later."""
    bench = Bench(BRIDGE_INLINE_SECONDS="0")
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(3 * SECOND)
    bench.event()
    assert WaitState.DUE is bench.wait().state
    before = bench.clock.now()
    bench.clock.sleep_until(bench.due_at() - 5 * SECOND)
    bench.tick()
    assert WaitState.DELIVERED is bench.wait().state
    assert bench.clock.now() - before <= 9 * SECOND


@pytest.mark.parametrize(("budget", "attempts"), [("0", 0), ("1", 1), ("12", 3)])
def test_an_invocation_ends_with_its_time(budget: str, attempts: int) -> None:
    """S07, S42: an event's invocation begins no attempt once its time is up, however many wait; the timer does them."""
    bench = Bench(BRIDGE_INLINE_SECONDS=budget)
    bench.adf.begin(KEY)
    tasks = [a_task(map_index=index, task_instance_id=f"ti-{index}") for index in range(20)]
    for task in tasks:
        bench.airflow.run(task)
        bench.register(task)
        bench.airflow.park(task)
    bench.clock.advance(HOUR)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    original = bench.airflow.read_task

    def slow(task: TaskRef) -> object:
        bench.clock.advance(2 * SECOND)
        return original(task)

    bench.airflow.read_task = slow  # type: ignore[method-assign,assignment]
    began = bench.clock.now()
    bench.event()
    assert (attempts, 4 * attempts * SECOND) == (len(bench.airflow.resumed), bench.clock.now() - began)
    bench.tick()
    assert {1: 20} == Counter(bench.airflow.resumed.values())


def test_what_is_over_goes(bench: Bench) -> None:
    """A wait that is over, its run and its request are kept for the retention and then removed; an open one stays."""
    bench.event()
    other = a_task(task_id="other", task_instance_id="ti-other")
    bench.adf.begin(RunKey(FACTORY, "goes-on"))
    bench.register(other, RunKey(FACTORY, "goes-on"), deadline=bench.clock.now() + timedelta(days=40))
    bench.clock.advance(timedelta(days=29))
    bench.tick()
    assert WaitState.DELIVERED is bench.wait().state
    bench.clock.advance(timedelta(days=2))
    bench.tick()
    assert (None, (None, ())) == (bench.store.inner.find_wait(TASK.token), bench.store.inner.run(KEY))
    assert WaitState.OPEN is bench.wait(other).state


def test_upkeep_that_fails_harms_nobody(bench: Bench) -> None:
    """S23: a store that cannot be mended or purged right now keeps no completion from being delivered."""
    bench.store.fail("repair")
    bench.store.fail("purge")
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.clock.advance(2 * MINUTE)
    bench.tick()
    assert WaitState.DELIVERED is bench.wait().state


def test_the_timer_fails_for_no_one_wait(bench: Bench) -> None:
    """S26: a wait that breaks its handling is left for the next tick, and the others are attended to."""
    other, key = a_task(task_id="other", task_instance_id="ti-other"), RunKey(FACTORY, "other-run")
    bench.adf.begin(key)
    bench.airflow.run(other)
    bench.register(other, key)
    bench.airflow.park(other)
    bench.clock.advance(MINUTE)
    bench.adf.end(key, RunStatus.SUCCEEDED)
    for one in (KEY, key):
        bench.airflow.read_script.append(Refusal(RefusalKind.INVALID, "Airflow answered 400", MINUTE))
        bench.event(key=one)
    bench.clock.advance(MINUTE)
    bench.store.fail("find_wait")
    ticked = bench.tick()
    assert (1, 1) == (ticked.attended, ticked.left)
    bench.pass_time(MINUTE)
    assert {"ti-1": 1, "ti-other": 1} == bench.airflow.resumed


def test_five_hundred_waits_through_an_outage() -> None:
    """S07: Airflow is down for 2 h while 500 runs end: every event is taken, few calls are made, all drain in 2 min."""
    bench = Bench()
    tasks, keys = parked_for_long(bench, 500)
    before = bench.airflow.calls["prod"]
    bench.airflow.down["prod"] = UNREACHABLE
    for number, key in enumerate(keys):
        bench.adf.end(key, RunStatus.SUCCEEDED)
        bench.event(key=key)
        if number % 50 == 49:
            bench.pass_time(12 * MINUTE)
    assert bench.airflow.calls["prod"] - before <= 700
    del bench.airflow.down["prod"]
    recovered = bench.clock.now()
    while any(bench.wait(task).state is not WaitState.DELIVERED for task in tasks):
        bench.pass_time(15 * SECOND)
    assert bench.clock.now() - recovered <= 2 * MINUTE
    assert {1} == set(bench.airflow.resumed.values())
