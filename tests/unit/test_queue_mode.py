"""Mode queue: every completion reaches its task, whatever becomes of listeners, messages and the queue."""

from datetime import timedelta
from typing import Any

import pytest

from bridge import policy, service
from bridge.errors import WaitConflict
from bridge.model import Mode, OnAbandon, Outcome, RunKey, RunStatus, Wait, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes import bench as benches
from tests.fakes.adf import Lost
from tests.fakes.bench import Bench
from tests.fakes.listener import EDGE, Listener
from tests.fakes.samples import DEADLINE, FACTORY, KEY, MINUTE, a_request, a_task

HOUR = timedelta(hours=1)
DOWN = Refusal(RefusalKind.UNREACHABLE, "the queue completions could not be reached")
LOST = Lost(Refusal(RefusalKind.UNAVAILABLE, "the queue completions did not answer"))


def a_bench(**settings: str) -> Bench:
    """Return a bridge with the target `edge`."""
    given: dict[str, Any] = {**benches.EDGE, **settings}
    return Bench(**given)


@pytest.fixture
def bench() -> Bench:
    """A bridge whose target `edge` has a queue and no Airflow that the bridge could call; a run goes on."""
    bench = a_bench()
    bench.adf.begin(KEY)
    return bench


def deferred(bench: Bench, **changes: Any) -> Wait:
    """Have the task register its wait and defer, as it does before its listener knows of it."""
    bench.register(EDGE, mode=Mode.QUEUE, **changes)
    return bench.wait(EDGE)


def ended(bench: Bench, status: RunStatus = RunStatus.SUCCEEDED) -> None:
    """Have the run end, and its event arrive."""
    bench.clock.advance(MINUTE)
    bench.adf.end(KEY, status)
    bench.event(status.value)


def story(bench: Bench) -> list[str]:
    """Return the words of the wait's story."""
    return [entry.what for entry in bench.wait(EDGE).timeline]


def test_a_completion_is_sent_to_its_listener(bench: Bench) -> None:
    """A task that is deferred is told through its listener's session, once, and Airflow is never called."""
    deferred(bench)
    listener = Listener(bench)
    assert None is listener.register()
    ended(bench)
    listener.receive()
    assert Outcome.SUCCEEDED is listener.told[EDGE.token].status
    assert (WaitState.DELIVERED, 1, 0) == (
        bench.wait(EDGE).state,
        bench.completions.accepted[EDGE.token],
        sum(bench.airflow.calls.values()),
    )
    assert ["registered", "listening", "event", "decided", "delivered"] == story(bench)


def test_a_completion_waits_for_its_listener(bench: Bench) -> None:
    """What is decided before a listener has registered is attempted by nobody, and is the answer when one does."""
    deferred(bench)
    ended(bench)
    row = bench.wait(EDGE)
    assert (WaitState.DUE, 0, DEADLINE + policy.DELIVERY_GRACE) == (row.state, row.attempts, row.due_at)
    bench.pass_time(HOUR)
    assert (0, 0) == (bench.completions.calls["edge"], bench.wait(EDGE).attempts)
    completion = Listener(bench).register()
    assert completion is not None
    assert (Outcome.SUCCEEDED, WaitState.DELIVERED) == (completion.status, bench.wait(EDGE).state)


def test_a_lost_answer_is_given_again(bench: Bench) -> None:
    """S14: a listener whose registration was answered, and the answer lost, asks again and is answered again."""
    deferred(bench)
    ended(bench)
    first = Listener(bench).register()
    assert first is not None
    assert first == Listener(bench).register()
    assert story(bench).count("answered") == 1


def test_a_dead_listener_loses_nothing(bench: Bench) -> None:
    """S14: what was sent to a triggerer that died is the answer to the one that takes its tasks over."""
    deferred(bench)
    Listener(bench, "dead").register()
    ended(bench)
    assert 1 == bench.completions.accepted[EDGE.token]
    heir = Listener(bench, "heir")
    completion = heir.register()
    assert completion is not None
    assert (WaitState.DELIVERED, "heir") == (bench.wait(EDGE).state, bench.wait(EDGE).reply_to)
    heir.receive()
    assert {EDGE.token: completion} == heir.told


def test_whoever_may_have_the_trigger_is_told(bench: Bench) -> None:
    """S14: a wait that two triggerers have registered is told to both; the one without the trigger drops it."""
    deferred(bench)
    old, new = Listener(bench, "old"), Listener(bench, "new")
    old.register()
    bench.clock.advance(MINUTE)
    new.register()
    assert ("new", bench.clock.now()) == (bench.wait(EDGE).reply_to, bench.wait(EDGE).listened_at)
    ended(bench)
    old.receive()
    new.receive()
    assert ([EDGE.token], [EDGE.token]) == (list(old.told), list(new.told))
    assert ["registered", "listening", "listening", "event", "decided", "delivered"] == story(bench)
    assert "sent to the listeners new, old" == bench.wait(EDGE).timeline[-1].detail


def test_a_listener_without_a_lease_is_sent_nothing(bench: Bench) -> None:
    """A listener that has let its lease pass has lost the task: only the others are told. The last one always is."""
    deferred(bench)
    old, new = Listener(bench, "old"), Listener(bench, "new")
    old.register()
    bench.clock.advance(MINUTE)
    new.register()
    bench.clock.advance(policy.LISTENER_LEASE - MINUTE / 2)
    ended(bench)
    assert 1 == bench.completions.accepted[EDGE.token]
    new.receive()
    assert [EDGE.token] == list(new.told)


def test_a_lease_that_is_renewed_keeps_both(bench: Bench) -> None:
    """Of two that renew their leases each stays known, and that is told once in the wait's story."""
    deferred(bench)
    listeners = [Listener(bench, name) for name in ("one", "other")]
    for _ in range(4):
        for listener in listeners:
            bench.clock.advance(7 * MINUTE)
            listener.register()
    assert (["other", "one"], 2) == (
        [one.reply_to for one in bench.wait(EDGE).listeners],
        story(bench).count("listening"),
    )


def test_so_many_listeners_are_kept(bench: Bench) -> None:
    """Of a trigger that wanders, those that registered last are told, the newest first."""
    deferred(bench)
    for number in range(policy.LISTENERS + 2):
        Listener(bench, str(number)).register()
    ended(bench)
    names = [one.reply_to for one in bench.wait(EDGE).listeners]
    assert (["5", "4", "3", "2"], 4) == (names, bench.completions.accepted[EDGE.token])


@pytest.mark.parametrize("accepted", [0, 1])
def test_all_are_sent_to_again_after_a_refusal(bench: Bench, accepted: int) -> None:
    """A queue that refuses one of the messages is sent them all again; who has one already drops the other."""
    deferred(bench)
    listeners = [Listener(bench, name) for name in ("one", "other")]
    for listener in listeners:
        listener.register()
    bench.completions.script.extend([*[None] * accepted, DOWN])
    ended(bench)
    bench.pass_time(2 * MINUTE)
    assert accepted + 3 == bench.completions.calls["edge"]
    for listener in listeners:
        listener.receive()
    assert (WaitState.DELIVERED, accepted + 2) == (bench.wait(EDGE).state, bench.completions.accepted[EDGE.token])
    assert [[EDGE.token]] * 2 == [list(listener.told) for listener in listeners]


def test_what_is_due_to_others_is_sent_though_one_was_answered(bench: Bench) -> None:
    """S14: a second triggerer that registers while the queue is out is answered; the first one is told all the same."""
    deferred(bench)
    keeper, loser = Listener(bench, "keeper"), Listener(bench, "loser")
    keeper.register()
    bench.completions.down["edge"] = DOWN
    ended(bench)
    assert loser.register() is not None
    assert WaitState.DUE is bench.wait(EDGE).state
    del bench.completions.down["edge"]
    bench.pass_time(6 * MINUTE)
    keeper.receive()
    loser.receive()
    assert (WaitState.DELIVERED, [EDGE.token], {EDGE.token: 1}) == (
        bench.wait(EDGE).state,
        list(keeper.told),
        loser.ignored,
    )


def test_one_of_several_that_asks_again_is_no_news(bench: Bench) -> None:
    """A listener to which the completion was sent and that registers after that is answered; no row is written."""
    deferred(bench)
    keeper, loser = Listener(bench, "keeper"), Listener(bench, "loser")
    keeper.register()
    loser.register()
    ended(bench)
    row = bench.wait(EDGE)
    assert None is not keeper.register()
    assert row == bench.wait(EDGE)


def test_a_try_that_is_over_hears_nothing(bench: Bench) -> None:
    """S15: the token is the fence: what is sent for an older try wakes no newer one, whoever listens for it."""
    retried = a_task(target="edge", try_number=2, task_instance_id="ti-2", nonce="nonce-2")
    deferred(bench)
    listener = Listener(bench)
    listener.register()
    listener.waits.clear()  # the task was cleared, and its trigger with it
    other = RunKey(FACTORY, "run-of-the-second-try")
    bench.adf.begin(other)
    listener.register(retried, other)
    ended(bench)
    listener.receive()
    assert ({}, {EDGE.token: 1}) == (listener.told, listener.ignored)
    bench.adf.end(other, RunStatus.FAILED)
    bench.event("Failed", other)
    listener.receive()
    assert [retried.token] == list(listener.told)


def test_a_message_that_comes_again_changes_nothing(bench: Bench) -> None:
    """S25: a send whose answer was lost is sent again; the listener takes the second message for what it is."""
    deferred(bench)
    listener = Listener(bench)
    listener.register()
    bench.completions.script.append(LOST)
    ended(bench)
    bench.pass_time(MINUTE)
    listener.receive()
    assert (WaitState.DELIVERED, 2, {EDGE.token: 1}, 1) == (
        bench.wait(EDGE).state,
        bench.completions.accepted[EDGE.token],
        listener.ignored,
        len(listener.told),
    )


def test_two_hours_without_a_queue(bench: Bench) -> None:
    """A queue that is out of reach pauses its target; one send at a time probes it; then the task is told, once."""
    deferred(bench)
    listener = Listener(bench)
    listener.register()
    bench.completions.down["edge"] = DOWN
    ended(bench)
    bench.pass_time(2 * HOUR)
    assert bench.store.inner.breaker(service.target_breaker("edge")).is_open
    assert 20 < bench.completions.calls["edge"] < 150
    del bench.completions.down["edge"]
    bench.pass_time(6 * MINUTE)
    listener.receive()
    assert ([EDGE.token], 1) == (list(listener.told), bench.completions.accepted[EDGE.token])


@pytest.mark.parametrize("kind", [RefusalKind.NOT_FOUND, RefusalKind.CONFLICT])
def test_a_queue_that_is_missing_is_no_answer_about_a_task(bench: Bench, kind: RefusalKind) -> None:
    """A queue that is not there closes no wait: its completion is sent when there is one."""
    deferred(bench)
    Listener(bench).register()
    bench.completions.down["edge"] = Refusal(kind, "the queue completions is not there, or disabled")
    ended(bench)
    bench.pass_time(HOUR)
    assert WaitState.DUE is bench.wait(EDGE).state
    del bench.completions.down["edge"]
    bench.pass_time(6 * MINUTE)
    assert WaitState.DELIVERED is bench.wait(EDGE).state


def test_the_run_had_ended_before_the_task_deferred(bench: Bench) -> None:
    """The task that registers for a run that has ended is answered, and nobody is asked whether it is parked."""
    bench.adf.end(KEY, RunStatus.FAILED)
    row = deferred(bench)
    assert (WaitState.INLINE, None, Outcome.FAILED) == (
        row.state,
        row.due_at,
        row.completion.status if row.completion is not None else None,
    )
    bench.pass_time(HOUR)
    assert 0 == sum(bench.airflow.calls.values())


def test_a_task_that_deferred_all_the_same(bench: Bench) -> None:
    """A task that never got its inline answer is deferred: its listener is given the completion."""
    bench.adf.end(KEY, RunStatus.FAILED)
    deferred(bench)
    listener = Listener(bench)
    assert listener.register() is not None
    assert (WaitState.DELIVERED, [EDGE.token]) == (bench.wait(EDGE).state, list(listener.told))


def test_a_late_request_of_the_task_takes_nothing_from_its_listener(bench: Bench) -> None:
    """What is due to a listener stays so when the task's own request comes once more, late."""
    deferred(bench)
    Listener(bench).register()
    bench.completions.down["edge"] = DOWN
    ended(bench)
    row = deferred(bench)
    assert (WaitState.DUE, "triggerer-1") == (row.state, row.reply_to)


def test_another_listener_registers_while_adf_is_asked(bench: Bench) -> None:
    """A listener whose registration asks Data Factory is not answered in the place of one that registered since."""
    slow, quick = Listener(bench, "slow"), Listener(bench, "quick")
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    read_run = bench.adf.read_run

    def overtaken(key: RunKey) -> Any:
        reading = read_run(key)
        bench.adf.read_run = read_run  # type: ignore[method-assign]
        quick.register()
        return reading

    bench.store.inner.put(None, ())
    bench.adf.read_run = overtaken  # type: ignore[method-assign]
    slow.register()
    slow.receive()
    quick.receive()
    assert [EDGE.token] == list(quick.told)


def test_the_deadline(bench: Bench) -> None:
    """S29: a deadline that passes is told to the listener as any other end; with cancel, the run is cancelled."""
    deferred(bench, on_abandon=OnAbandon.CANCEL)
    listener = Listener(bench)
    listener.register(on_abandon=OnAbandon.CANCEL)
    bench.pass_time(DEADLINE - bench.clock.now() + MINUTE)
    listener.receive()
    assert (Outcome.EXPIRED, RunStatus.CANCELLED) == (
        listener.told[EDGE.token].status,
        bench.adf.runs[KEY].status,
    )


def test_the_deadline_of_a_wait_without_a_listener(bench: Bench) -> None:
    """S29: without a listener the run is cancelled at the deadline, and the wait closed an hour after it."""
    deferred(bench, on_abandon=OnAbandon.CANCEL)
    bench.pass_time(DEADLINE - bench.clock.now() + MINUTE)
    row = bench.wait(EDGE)
    assert (WaitState.DUE, RunStatus.CANCELLED, False) == (row.state, bench.adf.runs[KEY].status, row.cancels)
    bench.pass_time(policy.DELIVERY_GRACE + MINUTE)
    assert (WaitState.EXPIRED, 0) == (bench.wait(EDGE).state, bench.completions.calls["edge"])
    assert "no listener" in bench.wait(EDGE).timeline[-1].detail


def test_a_cancel_that_adf_refuses_is_not_asked_at_every_tick(bench: Bench) -> None:
    """A run that cannot be cancelled yet, of a wait without a listener, is tried again ever less often."""
    deferred(bench, on_abandon=OnAbandon.CANCEL)
    bench.pass_time(DEADLINE - bench.clock.now() - MINUTE)
    bench.adf.cancel_script.extend([Refusal(RefusalKind.UNAVAILABLE, "Data Factory answered 500")] * 3)
    bench.pass_time(HOUR)
    assert RunStatus.CANCELLED is bench.adf.runs[KEY].status


def test_nobody_looks_for_an_abandoned_task(bench: Bench) -> None:
    """A task in mode queue is never looked for in Airflow: abandoned means killed, or the deadline."""
    deferred(bench, on_abandon=OnAbandon.CANCEL)
    bench.pass_time(HOUR)
    assert (0, WaitState.OPEN) == (sum(bench.airflow.calls.values()), bench.wait(EDGE).state)


def test_observe_mode_sends_nothing() -> None:
    """A target in observe mode is sent nothing: what would be sent is told once."""
    bench = a_bench(BRIDGE_AIRFLOW__EDGE__OBSERVE="true")
    bench.adf.begin(KEY)
    deferred(bench)
    Listener(bench).register()
    ended(bench)
    bench.pass_time(5 * MINUTE)
    assert (0, 1) == (bench.completions.calls["edge"], story(bench).count("observed"))


def test_a_withdrawn_wait_is_answered_to_nobody(bench: Bench) -> None:
    """A wait that was withdrawn stays so: its listener is told that it waits for nothing."""
    deferred(bench)
    bench.app.run(service.withdraw(EDGE.token))
    with pytest.raises(WaitConflict):
        Listener(bench).register()


def test_a_listener_and_a_parked_task() -> None:
    """A listener cannot register a wait that is in another mode."""
    bench = a_bench(BRIDGE_AIRFLOW__PROD__QUEUE="completions")
    bench.adf.begin(KEY)
    bench.register()
    with pytest.raises(WaitConflict, match="mode resume"):
        Listener(bench).register(a_task())


def test_a_lease_is_renewed(bench: Bench) -> None:
    """A listener that registers its waits anew, every so often, reads nothing from Data Factory for that."""
    deferred(bench)
    listener = Listener(bench)
    listener.register()
    reads = bench.adf.reads.total()
    bench.clock.advance(15 * MINUTE)
    listener.renew()
    assert (reads, bench.clock.now(), 1) == (
        bench.adf.reads.total(),
        bench.wait(EDGE).listened_at,
        story(bench).count("listening"),
    )


def test_a_crash_after_the_send(bench: Bench) -> None:
    """S24, S25: a process that dies once the message is out leaves a row that comes due, and sends it again."""
    deferred(bench)
    listener = Listener(bench)
    listener.register()
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    for nth in range(20):
        bench.crash_at(nth)
        bench.surviving(bench.event)
        bench.clock.advance(2 * MINUTE)
        if bench.completions.accepted[EDGE.token]:
            break
    bench.pass_time(5 * MINUTE)
    listener.receive()
    assert (WaitState.DELIVERED, [EDGE.token]) == (bench.wait(EDGE).state, list(listener.told))


def test_a_crash_between_two_sends() -> None:
    """S24: a process that dies when one listener was sent its message leaves a row that comes due: both are told."""
    seen = 0
    for nth in range(15):
        bench = a_bench()
        bench.adf.begin(KEY)
        deferred(bench)
        listeners = [Listener(bench, name) for name in ("one", "other")]
        for listener in listeners:
            listener.register()
        bench.clock.advance(MINUTE)
        bench.adf.end(KEY, RunStatus.SUCCEEDED)
        bench.crash_at(nth)
        bench.surviving(bench.event)
        seen += bench.completions.accepted[EDGE.token] == 1
        bench.restart()
        bench.pass_time(5 * MINUTE)
        for listener in listeners:
            listener.receive()
        told = [list(listener.told) for listener in listeners]
        if bench.completions.accepted[EDGE.token]:  # else the event comes again, from Event Grid
            assert (WaitState.DELIVERED, [[EDGE.token]] * 2) == (bench.wait(EDGE).state, told)
    assert seen > 0


def test_health_tells_whether_the_queue_is_there(bench: Bench) -> None:
    """Health tries the queue of a target that has one, and Airflow of one that has a URL."""
    assert True is bench.app.health()["targets"]["edge"]["reachable"]
    bench.completions.down["edge"] = DOWN
    edge = bench.app.health()["targets"]["edge"]
    assert (False, DOWN.detail, ["queue"]) == (edge["reachable"], edge["detail"], list(edge["modes"]))
    assert ["resume"] == list(bench.app.health()["targets"]["prod"]["modes"])


def test_both_ways_to_a_target() -> None:
    """S41: health names the way to a target that is shut, and shows the other one as open."""
    bench = a_bench(BRIDGE_AIRFLOW__PROD__QUEUE="completions")
    bench.completions.down["prod"] = DOWN
    modes = bench.app.health()["targets"]["prod"]["modes"]
    assert (False, True) == (modes["queue"]["reachable"], modes["resume"]["reachable"])


def test_a_request_names_no_listener() -> None:
    """The request of the task itself names no listener."""
    assert None is a_request(EDGE, mode=Mode.QUEUE).reply_to
