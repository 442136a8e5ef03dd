"""Waiting for a run that exists, and not waiting any more."""

from datetime import timedelta

import pytest

from bridge import service
from bridge.errors import InvalidFields, NotFound, WaitConflict
from bridge.model import RunKey, RunStatus, Verdict, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench, Crash
from tests.fakes.samples import DEADLINE, FACTORY, KEY, MINUTE, TASK, a_task

HOUR = timedelta(hours=1)


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a run that goes on."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    return bench


def state_of(registered: service.Registered) -> WaitState:
    """Return where the registered wait stands."""
    assert registered.wait is not None
    return registered.wait.state


def test_a_run_that_goes_on(bench: Bench) -> None:
    """A wait for a run that goes on is open, and ADF was asked about it once."""
    assert (WaitState.OPEN, 1) == (state_of(bench.register()), bench.adf.reads[KEY])


def test_a_run_that_has_ended(bench: Bench) -> None:
    """S01: a wait for a run that has ended is answered with the completion, and nothing is delivered."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    registered = bench.register()
    bench.airflow.finish(TASK)
    bench.pass_time(5 * MINUTE)
    assert (WaitState.INLINE, {}) == (state_of(registered), bench.airflow.resumed)
    assert (WaitState.INLINE, None) == (bench.wait().state, bench.wait().due_at)


def test_an_answer_that_nobody_heard(bench: Bench) -> None:
    """S24: a task that parked because another answer reached it, not the one with the completion, is resumed."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    assert WaitState.INLINE is state_of(bench.register())
    bench.airflow.park(TASK)
    bench.pass_time(3 * MINUTE)
    assert (WaitState.DELIVERED, {"ti-1": 1}) == (bench.wait().state, bench.airflow.resumed)


def test_many_waits_for_one_run(bench: Bench) -> None:
    """500 waits for one run cost one read of ADF, not 500."""
    for index in range(500):
        bench.register(a_task(map_index=index))
    assert 1 == bench.adf.reads[KEY]


def test_registering_again(bench: Bench) -> None:
    """S21: registering again, even after the deadline, finds the same wait and changes nothing."""
    first = bench.register()
    bench.clock.advance(DEADLINE + HOUR - bench.clock.now())
    assert first.wait == bench.register().wait


def test_a_token_waits_for_one_run(bench: Bench) -> None:
    """A token that waits for one run cannot wait for another."""
    bench.register()
    bench.adf.begin(RunKey(FACTORY, "other"))
    with pytest.raises(WaitConflict):
        bench.register(key=RunKey(FACTORY, "other"))


def test_a_run_that_adf_does_not_know(bench: Bench) -> None:
    """A wait for a run that nobody knows is refused, and nothing waits for it."""
    with pytest.raises(NotFound):
        bench.register(key=RunKey(FACTORY, "nobody"))
    assert bench.store.inner.find_wait(TASK.token) is None


def test_adf_cannot_be_asked(bench: Bench) -> None:
    """S45: a wait is registered though ADF cannot be asked, and ADF is asked later."""
    bench.adf.down = Refusal(RefusalKind.UNAVAILABLE, "ADF answered 503")
    assert WaitState.OPEN is state_of(bench.register())
    bench.adf.down = None
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.airflow.park(TASK)
    bench.pass_time(2 * MINUTE)
    assert {"ti-1": 1} == bench.airflow.resumed


@pytest.mark.parametrize("deadline", [DEADLINE - timedelta(hours=6), DEADLINE + timedelta(days=60)])
def test_a_deadline_that_makes_no_sense(bench: Bench, deadline: object) -> None:
    """A deadline that has passed, or that lies beyond ADF's memory, is refused, and nothing is written."""
    with pytest.raises(InvalidFields):
        bench.register(deadline=deadline)
    assert bench.store.inner.find_wait(TASK.token) is None


@pytest.mark.parametrize("nth", range(4))
@pytest.mark.parametrize("repeats", [True, False])
def test_dying_on_the_way(bench: Bench, nth: int, repeats: bool) -> None:
    """S24: a process that dies while registering for a run whose event came before still leads to one completion."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    assert Verdict.PARKED is bench.event()
    bench.crash_at(nth)
    with pytest.raises(Crash):
        bench.register()
    bench.restart()
    answered = repeats and state_of(bench.register()) is WaitState.INLINE
    if answered:
        bench.airflow.finish(TASK)  # it has its completion, and goes on to its end
    else:
        bench.airflow.park(TASK)
    bench.pass_time(5 * MINUTE)
    assert ({} if answered else {"ti-1": 1}) == bench.airflow.resumed
    assert bench.wait().state in (WaitState.INLINE, WaitState.DELIVERED)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_lost_race_is_decided_anew(bench: Bench, nth: int) -> None:
    """S23: a registration that somebody else overtook is decided anew."""
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.store.conflict("put", nth=nth)
    assert WaitState.INLINE is state_of(bench.register())


def test_a_completion_delivered_while_registering(bench: Bench) -> None:
    """S22: a completion that the timer delivers while a wait is being registered is not told again with the answer."""
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    registered = bench.register()
    assert registered.wait is not None
    assert (WaitState.DELIVERED, {"ti-1": 1}) == (registered.wait.state, bench.airflow.resumed)


def test_withdrawing(bench: Bench) -> None:
    """A withdrawn wait is told nothing; the run goes on, and withdrawing again changes nothing."""
    bench.register()
    first = bench.app.run(service.withdraw(TASK.token))
    assert (WaitState.WITHDRAWN, first) == (first.state, bench.app.run(service.withdraw(TASK.token)))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    assert Verdict.PARKED is bench.event()


def test_registering_what_was_withdrawn(bench: Bench) -> None:
    """A token whose wait was withdrawn is taken: nobody parks for an answer that never comes."""
    bench.register()
    bench.app.run(service.withdraw(TASK.token))
    with pytest.raises(WaitConflict):
        bench.register()


def test_withdrawing_what_is_not_there(bench: Bench) -> None:
    """There is no withdrawing a wait that nobody registered."""
    with pytest.raises(NotFound):
        bench.app.run(service.withdraw("no-such-token"))


@pytest.mark.parametrize("lost", [1, 5])
def test_withdrawing_is_decided_anew(bench: Bench, lost: int) -> None:
    """S23: a withdrawal that somebody else overtook is decided anew."""
    bench.register()
    for nth in range(1, lost + 1):
        bench.store.conflict("put", nth=nth)
    assert WaitState.WITHDRAWN is bench.app.run(service.withdraw(TASK.token)).state
