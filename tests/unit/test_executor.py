"""The interpreter of commands: every command is performed, every error comes back to who asked."""

from datetime import datetime
from threading import Event, Thread

import pytest

from bridge.commands import Command, Now, Point, Put, SaveBreaker, SleepUntil, UseCase, do
from bridge.errors import StoreConflict
from bridge.executor import Executor, Sleepers, World
from bridge.model import Breaker, TimelineEntry, Wait
from tests.fakes.adf import FakeAdf
from tests.fakes.airflow import FakeAirflow
from tests.fakes.clock import START, ScriptedRandom, VirtualClock
from tests.fakes.samples import MINUTE, SECOND, a_wait
from tests.fakes.store import FaultyStore, MemoryStore


@pytest.fixture
def world() -> World:
    """A world of fakes."""
    clock = VirtualClock()
    return World(clock, ScriptedRandom(), FaultyStore(MemoryStore()), FakeAdf(clock), FakeAirflow(clock))


def test_an_error_is_raised_inside_the_use_case(world: World) -> None:
    """What a port raises is raised where the use case asked, and can be handled there."""

    def use_case() -> UseCase[str]:
        try:
            yield from do(SaveBreaker(Breaker("b", version="7"), point=Point.BREAKER_SAVED))
        except StoreConflict:
            return "lost"
        return "won"

    assert "lost" == Executor(world).run(use_case())


def test_what_is_not_handled_comes_out(world: World) -> None:
    """What a use case does not handle comes out as it was."""
    with pytest.raises(StoreConflict):
        Executor(world).run(do(SaveBreaker(Breaker("b", version="7"), point=Point.BREAKER_SAVED)))


def test_a_point_is_reached_after_its_effect(world: World) -> None:
    """A process that dies at a point has had the effect before it."""
    reached: list[Point] = []
    executor = Executor(world, reach=reached.append)
    executor.run(do(SaveBreaker(Breaker("b", failures=1), point=Point.BREAKER_SAVED)))
    with pytest.raises(StoreConflict):
        executor.run(do(SaveBreaker(Breaker("b"), point=Point.BREAKER_SAVED)))
    assert ([Point.BREAKER_SAVED], 1) == (reached, world.store.breaker("b").failures)


def test_reading_is_no_point(world: World) -> None:
    """Only what has an effect is a point at which to die."""
    reached: list[Point] = []
    assert START == Executor(world, reach=reached.append).run(do(Now()))
    assert [] == reached


def test_an_unknown_command(world: World) -> None:
    """A command that nobody knows is a mistake, not something to pass over."""

    class Odd(Command[None]):
        """Nobody knows this."""

    with pytest.raises(TypeError):
        Executor(world).run(do(Odd()))


def test_new_lines_are_told(world: World) -> None:
    """Every new line of a wait's story is told once it is stored; a writing without news tells nothing."""
    told: list[str] = []

    def tell(wait: Wait, entry: TimelineEntry) -> None:
        told.append(entry.what)

    executor = Executor(world, tell=tell)
    wait = a_wait().told(START, "registered")
    _, (wait,) = executor.run(do(Put(None, (wait,), point=Point.WAIT_WRITTEN)))
    wait = wait.told(START + SECOND, "event").told(START + SECOND, "decided")
    _, (wait,) = executor.run(do(Put(None, (wait,), point=Point.RUN_SETTLED)))
    executor.run(do(Put(None, (wait,), point=Point.DELIVERY_CLAIMED)))
    assert ["registered", "event", "decided"] == told


def test_what_is_not_stored_is_not_told(world: World) -> None:
    """A line that lost its race is not told."""
    told: list[str] = []
    executor = Executor(world, tell=lambda wait, entry: told.append(entry.what))
    wait = a_wait(version="3").told(START, "registered")
    with pytest.raises(StoreConflict):
        executor.run(do(Put(None, (wait,), point=Point.WAIT_WRITTEN)))
    assert [] == told


def test_sleeping(world: World) -> None:
    """A use case may wait inside its invocation."""
    assert Executor(world).run(do(SleepUntil(START + MINUTE)))
    assert START + MINUTE == world.clock.now()


def test_the_timer_always_sleeps(world: World) -> None:
    """S07: invocations that wait for a slow target take no place from the timer, which would hurry on instead."""
    taken = Sleepers(1)
    taken.try_enter()
    executor = Executor(world, sleepers=taken)
    slept = executor.run(do(SleepUntil(START + MINUTE))), executor.run(do(SleepUntil(START + MINUTE, of_timer=True)))
    assert ((False, True), START + MINUTE) == (slept, world.clock.now())


def test_only_so_many_sleep(world: World) -> None:
    """S42: when all places to wait in are taken, nobody else waits: its thread is free at once."""
    asleep, wake = Event(), Event()

    class SlowClock(VirtualClock):
        """A clock on which waiting takes until the test says so."""

        def sleep_until(self, when: datetime) -> None:
            """Wait for the test."""
            asleep.set()
            wake.wait(10)

    slow = World(SlowClock(), world.random, world.store, world.adf, world.airflow)
    executor = Executor(slow, sleepers=Sleepers(1))
    first = Thread(target=executor.run, args=(do(SleepUntil(START)),))
    first.start()
    assert asleep.wait(10)
    assert not executor.run(do(SleepUntil(START)))
    wake.set()
    first.join(10)
    assert executor.run(do(SleepUntil(START)))
