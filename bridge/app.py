"""The assembled bridge: runs use cases, bounds what a slow target can hold, does the timer's work, tells health."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from bridge import __version__, decide, policy, service, views
from bridge.callers import Tokens
from bridge.commands import FindWait, SleepUntil, UseCase, do
from bridge.config import Config
from bridge.errors import Problem, StoreUnavailable
from bridge.executor import Executor, World
from bridge.model import Breaker, EventRecord, FactoryId, Mode, StartRequest
from bridge.policy import Rules
from bridge.ports import Adf, Due, Refusal, Store
from bridge.telemetry import Log

R = TypeVar("R")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

DUE_AT_ONCE: Final = 200
IN_FLIGHT_PER_TARGET: Final = 4
TICK_BUDGET: Final = timedelta(seconds=45)
TICK_REACH: Final = timedelta(seconds=12)  # the timer fires every 15 s
NO_REACH: Final = timedelta(0)
REPAIR_EVERY: Final = timedelta(minutes=1)
REPAIR_ROWS: Final = 200
FINISH_EVERY: Final = timedelta(minutes=1)
FINISH_AT_ONCE: Final = 50
BATCH_BUDGET: Final = timedelta(seconds=15)
PURGE_EVERY: Final = timedelta(minutes=10)
TICK_LOOK: Final = timedelta(seconds=1)  # while something comes due, what else has come due is seen this soon


class Batched(Protocol[T_contra, R_co]):
    """What is done for each item of a call."""

    def __call__(self, item: T_contra, /, *, in_time: bool) -> R_co:
        """Do it; or, if it is too late for that, say so."""
        ...


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did: factories swept, waits attended to, and waits left because time ran out or a call failed."""

    attended: int
    left: int
    swept: int = 0


class App:
    """Everything that the entry points need, made once per process by `bridge.wiring`."""

    def __init__(
        self,
        config: Config,
        world: World,
        executor: Executor,
        log: Log,
        *,
        threads: int,
        tokens: Tokens | None = None,
    ) -> None:
        self.config = config
        self.log = log
        self.tokens = tokens
        self._world = world
        self._executor = executor
        self._threads = threads
        self._ticking = threading.Lock()
        self._finish_at = self._repair_at = self._purge_at = datetime.min.replace(tzinfo=UTC)
        self._slots = {name: threading.BoundedSemaphore(max(1, threads // 4)) for name in config.targets}

    @property
    def rules(self) -> Rules:
        """The configured part of the policy."""
        return self.config.rules

    @property
    def store(self) -> Store:
        """The bridge's memory, for the calls that only read."""
        return self._world.store

    def run(self, use_case: UseCase[R]) -> R:
        """Run a use case."""
        return self._executor.run(use_case)

    def now(self) -> datetime:
        """Return the time."""
        return self._world.clock.now()

    def pause(self, duration: timedelta) -> None:
        """Wait inside the invocation, unless too many others do."""
        self.run(do(SleepUntil(self.now() + duration)))

    def record(self, record: EventRecord) -> None:
        """Have something shown among the events; without the store it is in the log alone."""
        try:
            self.store.record_event(record)
        except StoreUnavailable as problem:
            self.log.warning("store.upkeep-failed", detail=problem.detail)

    # --- run events ---

    def receive(self, raw: str) -> list[service.Received]:
        """Take in one delivery of Event Grid, and deliver at once what it makes due.

        Returns for anything that was written down. Raises StoreUnavailable when nothing could be: Event Grid then
        delivers it again. What fails after the writing, and what the time is not enough for, is left to the timer.
        """
        until = self._world.clock.now() + self.rules.inline
        received = self.run(service.receive(raw, self.rules))
        for one in received:
            record = one.record
            self.log.info(
                "event.received",
                id=record.id,
                run_id=record.run_id,
                verdict=record.verdict.value,
                reason=record.reason,
            )
            for token in one.due:
                if self._world.clock.now() < until:
                    self._deliver_inline(token, until)
        return received

    def _deliver_inline(self, token: str, until: datetime) -> None:
        """Attempt, and wait for the next attempt inside this invocation as long as it is due in time."""
        wait = self._guarded(do(FindWait(token)), token)
        while wait is not None:
            # While it waits, an invocation holds none of the target's places.
            with self._slot(wait.task.target) as entered:
                if entered:
                    wait = self._guarded(service.deliver(token, self.rules), token)
            now = self._world.clock.now()
            again = decide.again_by(wait, until) if entered else policy.place_again(now, until)
            if again is None or not self.run(do(SleepUntil(again))):
                return

    @contextmanager
    def _slot(self, target: str) -> Iterator[bool]:
        """Hold one of a target's places: at most a quarter of the threads for one target, the timer does the rest."""
        slots = self._slots.get(target)
        entered = slots is not None and slots.acquire(blocking=False)
        try:
            yield entered
        finally:
            if slots is not None and entered:
                slots.release()

    def _guarded(self, use_case: UseCase[R], token: str) -> R | None:
        """Run a use case whose failure must not fail the others: the wait stays due, the timer comes back to it."""
        try:
            return self.run(use_case)
        except Exception as error:  # noqa: BLE001 - the wait's row says that it is due; nothing is lost
            self.log.failure("attend.failed", error, token=token)
            return None

    def batch(self, items: Sequence[T], work: Batched[T, R]) -> list[R]:
        """Do something for each item of a call, several at a time; `in_time` is False once the call's time is up."""
        until = self._world.clock.now() + BATCH_BUDGET

        def one(item: T) -> R:
            return work(item, in_time=self._world.clock.now() < until)

        return _parallel(items, one, max(1, self._threads // 4))

    # --- the timer ---

    def tick(self) -> Ticked:
        """Sweep the factories, and attend to what is due. Factories and targets do not wait for each other.

        A tick that starts while another one still runs in this process leaves the work to that one.
        """
        if not self._ticking.acquire(blocking=False):
            return Ticked(0, 0)
        try:
            return self._tick()
        finally:
            self._ticking.release()

    def _tick(self) -> Ticked:
        began = time.monotonic()
        stop_at = began + TICK_BUDGET.total_seconds()
        factories, targets = list(self.rules.factories.values()), sorted(self.rules.targets)
        # As many threads as parts, for each may take long; they are not those in which the functions run.
        at_once = len(factories) + len(targets) + 1 if self._threads > 1 else 1
        unseen: set[str] = set()  # targets to look at again: for one, because a sweep may have made something due

        asked = service.Asked()

        def look(target: str, until: float, reach: timedelta) -> Ticked:
            unseen.discard(target)
            return self._tick_target(target, until, reach, asked)

        with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="tick") as pool:
            sweeps = [pool.submit(self._sweep, factory, lambda: unseen.update(targets)) for factory in factories]
            finished = pool.submit(self._finish_starts)
            looks = {pool.submit(look, target, stop_at, TICK_REACH): target for target in targets}
            attended: list[Ticked] = []
            failed: list[Exception] = []
            idle: set[str] = set()
            busy: set[Future[Any]] = {*sweeps, finished, *looks}
            while busy:
                busy = wait(busy, timeout=TICK_LOOK.total_seconds()).not_done
                for ended in looks.keys() - busy:
                    target = looks.pop(ended)
                    try:
                        attended.append(ended.result())
                    except Exception as error:  # noqa: BLE001 - it is raised once all others have had their turn
                        failed.append(error)
                    else:
                        idle.add(target)
                # What a sweep has made due does not wait for its end. And the timer never overlaps itself: while a
                # target takes long, be it longer than the tick may, the others are looked at again.
                late = time.monotonic() - began >= TICK_REACH.total_seconds()
                if busy.intersection(sweeps) or (busy and late):
                    unseen.update(idle)
                until = max(stop_at, time.monotonic() + TICK_LOOK.total_seconds()) if busy else stop_at
                again = {pool.submit(look, target, until, NO_REACH): target for target in idle & unseen}
                idle.difference_update(again.values())
                looks, busy = looks | again, busy | again.keys()
            swept = sum(sweep.result() for sweep in sweeps)
            finished.result()
        self._keep_up()
        if failed:
            raise failed[0]
        return Ticked(sum(one.attended for one in attended), sum(one.left for one in attended), swept)

    def _keep_up(self) -> None:
        """Mend the store's ways to its rows, and remove what is too old; a bounded part of it each time."""
        now = self._world.clock.now()
        if now >= self._repair_at:
            self._repair_at = now + REPAIR_EVERY
            self._try("store.repaired", lambda: self.store.repair(limit=REPAIR_ROWS))
        if now >= self._purge_at:
            self._purge_at = now + PURGE_EVERY
            self._try("store.purged", lambda: self.store.purge(now - self.rules.retention))

    def _try(self, event: str, work: Callable[[], int]) -> None:
        """Do upkeep that may fail without harm, and say what it did if it did something."""
        try:
            rows = work()
        except StoreUnavailable as problem:
            self.log.warning("store.upkeep-failed", detail=problem.detail)
            return
        if rows:
            self.log.info(event, rows=rows)

    def _finish_starts(self) -> None:
        """Finish what callers have begun who died since; for as long as a tick may take, the rest comes with the next.

        The targets are attended to meanwhile.
        """
        stop_at, now = time.monotonic() + TICK_REACH.total_seconds(), self._world.clock.now()
        if now < self._finish_at:
            return
        try:
            found = self.store.unfinished_requests(before=now, limit=FINISH_AT_ONCE)
        except StoreUnavailable as problem:
            self.log.warning("store.upkeep-failed", detail=problem.detail)
            return
        for record in found:
            if time.monotonic() >= stop_at:
                return
            self._finish(record)
        if len(found) < FINISH_AT_ONCE:
            self._finish_at = now + FINISH_EVERY

    def _finish(self, record: StartRequest) -> None:
        token = record.wait.task.token if record.wait is not None else ""  # a key by itself is its caller's
        finished = self._guarded(service.finish(record.idempotency_key, self.rules), token)
        if finished is not None and finished.is_over:
            after = finished.record
            self.log.info("start.finished", token=token, run_id=after.run_id, how=finished.how, reason=after.left)

    def _sweep(self, factory: FactoryId, found: Callable[[], None]) -> bool:
        """Sweep a factory, tell when that has made something due, and look for tasks that wait no more."""
        swept = self._guarded(service.sweep(factory, self.rules), factory.name)
        if swept is None or not swept.taken:
            return False
        if swept.due:
            found()
        self.log.info(
            "factory.swept",
            factory=factory.arm_id,
            pages=swept.pages,
            reads=swept.reads,
            found=len(swept.due),
            completed=swept.completed,
        )
        for error in swept.errors:
            self.log.failure("sweep.failed", error, factory=factory.arm_id)
        if swept.capped:
            self.log.warning("factory.open-waits-capped", factory=factory.arm_id, looked_for=policy.OPEN_WAITS)
        self._watch(factory)
        return swept.completed

    def _watch(self, factory: FactoryId) -> None:
        """Look for tasks that wait no more, where their runs are to be cancelled then."""
        watched = self._guarded(service.watch(factory, self.rules), factory.name)
        if watched is not None and watched.looks:
            self.log.info(
                "tasks.watched",
                factory=factory.arm_id,
                pages=watched.pages,
                looks=watched.looks,
                abandoned=watched.abandoned,
            )

    def _tick_target(self, target: str, stop_at: float, reach: timedelta, asked: service.Asked) -> Ticked:
        """Attend to a target's due waits, and to those that come due within the reach, each at its time.

        What gathered while the target was paused is worked off in one go, as far as the time goes.
        """
        until = self._world.clock.now() + reach
        done: list[bool] = []
        tried: set[str] = set()
        while time.monotonic() < stop_at:
            now = self._world.clock.now()
            breaker = self.store.breaker(service.target_breaker(target))
            shown = self._due(target, now, breaker)
            # A cancel that ADF refuses stays due while the target is paused: it is asked for once a tick.
            refused = {one.token for one in shown if breaker.is_open and one.cancels and one.token in tried}
            due = [one for one in decide.to_attend(shown, breaker, now) if one.token not in refused]
            tried |= {one.token for one in due}
            attended = _parallel(
                [one.token for one in due],
                lambda token: self._attend(token, stop_at, asked),
                min(IN_FLIGHT_PER_TARGET, self._threads),
            )
            done += attended
            if any(attended) and (breaker.is_open or len(shown) >= DUE_AT_ONCE):
                continue  # more may be due than this look has shown
            coming = self.store.due(target, before=until, limit=DUE_AT_ONCE)
            again = next((min(one.due_at, now + TICK_LOOK) for one in coming if one.due_at > now), None)
            if again is None:
                break
            self.run(do(SleepUntil(again, of_timer=True)))
        return Ticked(sum(done), len(done) - sum(done))

    def _due(self, target: str, now: datetime, breaker: Breaker) -> Sequence[Due]:
        """Return what is due the longest; what gathers for a paused target hides nothing that ADF is asked for."""
        shown = self.store.due(target, before=now, limit=DUE_AT_ONCE)
        if not breaker.is_open or len(shown) < DUE_AT_ONCE:
            return shown
        tokens = {one.token for one in shown}
        beside = self.store.due(target, before=now, limit=DUE_AT_ONCE, for_adf=True)
        return [*shown, *(one for one in beside if one.token not in tokens)]

    def _attend(self, token: str, stop_at: float, asked: service.Asked) -> bool:
        if time.monotonic() >= stop_at:
            return False
        return self._guarded(service.attend(token, self.rules, asked), token) is not None

    # --- health ---

    def health(self) -> dict[str, Any]:
        """Try the store, every target and every factory, at the same time, and say what each answered."""
        errors: list[str] = []
        store = self._store_health()
        breakers = self._breakers() if store["reachable"] else {}
        targets, factories = sorted(self.rules.targets), sorted(self.rules.factories)
        with ThreadPoolExecutor(max_workers=1 + len(targets) + len(factories)) as pool:
            entra_check = pool.submit(self._entra_health)
            target_checks = [pool.submit(self._target_health, name, breakers) for name in targets]
            factory_checks = [pool.submit(self._factory_health, alias, breakers) for alias in factories]
            entra = entra_check.result()
            target_health = dict(zip(targets, [check.result() for check in target_checks], strict=True))
            factory_health = dict(zip(factories, [check.result() for check in factory_checks], strict=True))
        if not targets:
            errors.append("No target is configured: runs can be started, but no task can be completed.")
        parts = [*target_health.values(), *factory_health.values(), *entra.values()]
        well = not errors and all(part["reachable"] for part in parts)
        return {
            "status": ("ok" if well else "degraded") if store["reachable"] else "failed",
            "version": __version__,
            "airflow_api": ["v2"],
            "completion": [views.COMPLETION_SCHEMA],
            "errors": errors,
            "store": store,
            "targets": target_health,
            "factories": factory_health,
            **entra,
        }

    def _store_health(self) -> dict[str, Any]:
        try:
            self.store.check()
        except StoreUnavailable as problem:
            return {"reachable": False, "detail": problem.detail}
        return {"reachable": True, "detail": ""}

    def _entra_health(self) -> dict[str, Any]:
        """Tell whether Entra's keys can be had, where tokens of Entra are taken."""
        if self.tokens is None:
            return {}
        problem = self.tokens.check()
        detail = f"Entra's keys cannot be had ({problem})" if problem is not None else ""
        return {"entra": {"reachable": problem is None, "detail": detail}}

    def _breakers(self) -> dict[str, Breaker]:
        return {breaker.name: breaker for breaker in self.store.breakers()}

    def _target_health(self, name: str, breakers: dict[str, Breaker]) -> dict[str, Any]:
        paused = breakers.get(service.target_breaker(name))
        rules = self.rules.targets[name]
        ways = {Mode.RESUME: self._world.airflow.check, Mode.QUEUE: self._world.completions.check}
        tried = {mode: ways[mode](name) for mode in sorted(rules.modes)}
        refusal = next((one for one in tried.values() if one is not None), None)
        return {
            **_checked(refusal, paused),
            "modes": {
                mode.value: {"reachable": one is None, "detail": one.detail if one is not None else ""}
                for mode, one in tried.items()
            },
            "observe": rules.observe,
            "hold_seconds": rules.hold.total_seconds(),
        }

    def _factory_health(self, alias: str, breakers: dict[str, Breaker]) -> dict[str, Any]:
        adf: Adf = self._world.adf
        factory = self.rules.factories[alias]
        paused = breakers.get(service.factory_breaker(factory))
        return {**_checked(adf.check(factory), paused), "id": factory.arm_id}


def _checked(refusal: Refusal | None, breaker: Breaker | None) -> dict[str, Any]:
    paused = breaker is not None and breaker.is_open
    return {
        "reachable": refusal is None,
        "detail": refusal.detail if refusal is not None else "",
        "paused": paused,
        "paused_since": views.timestamp(breaker.since) if breaker is not None and paused else None,
        "paused_because": breaker.detail if breaker is not None and paused else None,
    }


def _parallel(items: Sequence[T], work: Callable[[T], R], most: int) -> list[R]:
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(most, len(items)), thread_name_prefix="attend") as pool:
        return list(pool.map(work, items))


def invalid_health(problem: Problem) -> dict[str, Any]:
    """Return the health of a bridge whose settings are wrong: every error, nothing else."""
    return {
        "status": problem.code,
        "version": __version__,
        "errors": [f"{error.field}: {error.message}" for error in problem.errors],
        "detail": problem.detail,
    }
