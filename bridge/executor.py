"""Performs the commands of a use case, one after the other, through the ports. The only interpreter of commands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bridge import commands as c
from bridge.model import TimelineEntry, Wait
from bridge.ports import Adf, Airflow, Clock, Completions, NoCompletions, Random, Store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the core, as ports."""

    clock: Clock
    random: Random
    store: Store
    adf: Adf
    airflow: Airflow
    completions: Completions = field(default_factory=NoCompletions)


class Sleepers:
    """Bounds how many invocations wait inside themselves, so that waiting never uses up the threads."""

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    def try_enter(self) -> bool:
        """Take a place if there is one."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place back."""
        self._places.release()


def pass_by(point: c.Point) -> None:
    """Pass a crash point in production: nothing happens."""
    del point


def say_nothing(wait: Wait, entry: TimelineEntry) -> None:
    """Tell nobody about a new line in a wait's story."""
    del wait, entry


class Executor:
    """Runs use cases. `reach` is called after every effect; tests make it raise or kill the process at a point.

    `tell` hears every new line of a wait's story once it is stored: the log is the timeline.
    """

    def __init__(
        self,
        world: World,
        *,
        sleepers: Sleepers | None = None,
        reach: Callable[[c.Point], None] = pass_by,
        tell: Callable[[Wait, TimelineEntry], None] = say_nothing,
    ) -> None:
        self._world = world
        self._sleepers = sleepers or Sleepers(1)
        self._reach = reach
        self._tell = tell

    def run(self, use_case: c.UseCase[R]) -> R:
        """Run a use case to its end and return its result; errors of the ports are raised inside it first."""
        try:
            command = next(use_case)
            while True:
                try:
                    result = self.perform(command)
                except Exception as error:  # noqa: BLE001 - the use case decides what it handles; the rest comes back out
                    command = use_case.throw(error)
                else:
                    command = use_case.send(result)
        except StopIteration as done:
            value: R = done.value
            return value

    def perform(self, command: c.Command[Any]) -> object:
        """Perform one command."""
        result = self._effect(command) if isinstance(command, c.Effect) else self._reading(command)
        if isinstance(command, c.Effect):
            self._reach(command.point)
        return result

    def _reading(self, command: c.Command[Any]) -> object:
        world = self._world
        match command:
            case c.Now():
                return world.clock.now()
            case c.Jitter():
                return world.random.fraction()
            case c.SleepUntil():
                return self._sleep(command)
            case c.LoadRun(key):
                return world.store.run(key)
            case c.FindWait(token):
                return world.store.find_wait(token)
            case c.LoadRequest(key):
                return world.store.request(key)
            case c.ListRequests(place, limit):
                return world.store.requests_at(place, limit=limit)
            case c.LoadBreaker(name):
                return world.store.breaker(name)
            case c.LoadSweep(factory):
                return world.store.sweep(factory)
            case c.ListOpen(factory, limit, pipeline):
                return world.store.open_waits(factory, limit=limit, pipeline=pipeline)
            case _:
                raise TypeError(command)

    def _effect(self, command: c.Effect[Any]) -> object:
        """Write to the store, or call a peer."""
        store = self._world.store
        match command:
            case c.Put():
                return self._put(command)
            case c.SaveRequest(record):
                return store.save_request(record)
            case c.DropRequest(record):
                store.drop_request(record)
                return None
            case c.SaveBreaker(breaker):
                return store.save_breaker(breaker)
            case c.SaveSweep(sweep):
                return store.save_sweep(sweep)
            case c.RecordEvent(record):
                store.record_event(record)
                return None
            case _:
                return self._call(command)

    def _call(self, command: c.Effect[Any]) -> object:
        airflow = self._world.airflow
        match command:
            case c.ReadTask(task):
                return airflow.read_task(task)
            case c.ListParked(target, page):
                return airflow.parked(target, page)
            case c.Resume(task, completion):
                return airflow.resume(task, completion)
            case c.Enqueue(target, reply_to, completion):
                return self._world.completions.send(target, reply_to, completion)
            case _:
                return self._call_adf(command)

    def _call_adf(self, command: c.Effect[Any]) -> object:
        adf = self._world.adf
        match command:
            case c.CreateRun(factory, pipeline, parameters, recovery):
                return adf.create_run(factory, pipeline, parameters, recovery)
            case c.ReadRun(key):
                return adf.read_run(key)
            case c.QueryRuns(factory, since, until, continuation, ended):
                return adf.query_runs(factory, since=since, until=until, continuation=continuation, ended=ended)
            case c.SearchRuns(factory, pipeline, since, until, continuation):
                return adf.search_runs(factory, pipeline, since=since, until=until, continuation=continuation)
            case c.CancelRun(key, recursive):
                return adf.cancel_run(key, recursive=recursive)
            case c.ReadFailedActivity(key, reading):
                return adf.failed_activity(key, reading)
            case c.FindChild(key, reading):
                return adf.child(key, reading)
            case c.FindRun(factory, match):
                return adf.find_run(factory, match)
            case c.FindPipeline(factory, name, fresh):
                return adf.pipeline(factory, name, fresh=fresh)
            case _:
                raise TypeError(command)

    def _sleep(self, command: c.SleepUntil) -> bool:
        if command.of_timer:
            self._world.clock.sleep_until(command.when)
            return True
        if not self._sleepers.try_enter():
            return False
        try:
            self._world.clock.sleep_until(command.when)
        finally:
            self._sleepers.leave()
        return True

    def _put(self, command: c.Put) -> object:
        written = self._world.store.put(command.run, command.waits)
        for wait in command.waits:
            for entry in wait.timeline[len(wait.timeline) - wait.news :]:
                self._tell(wait, entry)
        return written
