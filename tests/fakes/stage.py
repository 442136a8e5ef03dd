"""The bench as a stage: a bridge with one factory and one target, and the people and programs that deal with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from bridge import service, views
from bridge.errors import AdfUnavailable, Problem, RequestInFlight
from bridge.model import (
    Breaker,
    Continuation,
    Mode,
    NewTry,
    OnAbandon,
    Outcome,
    PreviousTry,
    RunStatus,
    Sweep,
    WaitState,
)
from bridge.ports import WaitFilter
from tests.fakes.airflow import place_of
from tests.fakes.bench import TICK, Bench, OpenStore, Place, R
from tests.fakes.samples import ARM_ID, FACTORY, KEY, MINUTE, SECOND, TASK

HOUR: Final = timedelta(hours=1)
MOST_TICKS: Final = 100
GRACE: Final = timedelta(minutes=6)  # after which a store knows that what was written by half was left so
ONE_OF_EACH: Final[dict[str, Any]] = {
    "BRIDGE_FACTORIES": f"demo={ARM_ID}",
    "BRIDGE_AIRFLOW__PROD__QUEUE": "completions",
    "BRIDGE_SERVICEBUS__fullyQualifiedNamespace": "bus.servicebus.windows.net",
    **{f"BRIDGE_AIRFLOW__DEV__{name}": "" for name in ("URL", "AUTH", "TOKEN")},
}
LISTENER: Final = "listener"
FACTORY_PAUSE: Final = service.factory_breaker(FACTORY)
TARGET_PAUSE: Final = service.target_breaker(TASK.target)


class Stage(Bench):
    """A bridge with one factory and one target, a task's operator, and the hand of time."""

    def __init__(self, stores: OpenStore | None = None) -> None:
        super().__init__(None, stores=stores, **ONE_OF_EACH)
        self.heard = ""  # what the operator was answered at last
        self.listened: dict[str, str] = {}  # what the task's listener was told, by token
        self.passed: list[Place] = []  # the places in what happened, up to the one where the process died

    # --- what was before ---

    def waits(self, on_abandon: OnAbandon = OnAbandon.LEAVE) -> None:
        """Have a task that waits for a run, and has just parked."""
        self.adf.begin(KEY)
        self.airflow.run(TASK)
        self.register(on_abandon=on_abandon)
        self.airflow.park(TASK)

    def has_waited(self, on_abandon: OnAbandon = OnAbandon.LEAVE, *, until: datetime | None = None) -> None:
        """Have a task that has been parked for long; its factory was swept a moment ago."""
        self.waits(on_abandon)
        self.clock.sleep_until(until or self.clock.now() + HOUR)
        self.was_swept()

    def was_swept(self, *, ago: timedelta = timedelta(0)) -> None:
        """Another instance has swept the factory."""
        then, mark = self.clock.now() - ago, self.store.inner.sweep(FACTORY)
        self.store.inner.save_sweep(Sweep(FACTORY, covered_until=then, next_at=then + MINUTE, version=mark.version))

    def is_paused(self, name: str, *, pause: timedelta = timedelta(0)) -> None:
        """Have a peer paused: another instance found it out of order, and its probe comes after that."""
        now, version = self.clock.now(), self.store.inner.breaker(name).version
        breaker = Breaker(name, reason="unavailable", failures=3, since=now, probe_at=now + pause, version=version)
        self.store.inner.save_breaker(breaker)

    def is_paused_at(self, name: str, *, nth: int) -> None:
        """Have a peer paused right before the bridge looks for the nth time whether one is; its probe has come."""
        self.store.before("breaker", lambda: self.is_paused(name), nth=nth)

    def is_deferred(self) -> None:
        """Have a task that was deferred in mode queue, whose listener is not there yet."""
        self.adf.begin(KEY)
        self.register(mode=Mode.QUEUE)
        self.clock.advance(HOUR)
        self.was_swept()

    def is_listened_to(self, reply_to: str = LISTENER) -> None:
        """Have a task that was deferred, and its listener."""
        self.is_deferred()
        self.register(mode=Mode.QUEUE, reply_to=reply_to)

    def run_fails(self) -> None:
        """Have the run fail."""
        self.adf.end(KEY, RunStatus.FAILED)

    # --- the listener of the task ---

    def listens(self) -> None:
        """Have the listener register the task's wait; what it is answered wakes the task."""
        registered = self.register(mode=Mode.QUEUE, reply_to=LISTENER)
        document = views.registration_document(registered.run, registered.wait, self.app.rules)
        self.heard = "listens"
        if (completed := document["completed"]) is not None:
            self.heard = self.listened[completed["token"]] = completed["status"]

    def receives(self) -> None:
        """Have the listener take what is in its session; what comes again wakes nobody."""
        while (completion := self.completions.receive(TASK.target, LISTENER)) is not None:
            self.listened.setdefault(completion.token, completion.status.value)

    # --- the operator of the task ---

    def starts(self, **changes: Any) -> None:
        """Have the operator ask for a run; then it parks."""
        self._asks(lambda: self.start(**changes))

    def retries(self, do: PreviousTry) -> None:
        """Have the operator of a later try ask for a run; then it parks."""
        self.starts(previous=Continuation(do, NewTry.RETRY))

    def starts_only(self) -> None:
        """Have the operator ask for a run that it does not wait for."""
        self._asks(lambda: self.start(None))

    def registers(self) -> None:
        """Have the operator ask to wait for a run that exists; then it parks."""
        self._asks(self._register)

    def _register(self) -> dict[str, Any]:
        registered = self.register()
        return views.registration_document(registered.run, registered.wait, self.app.rules)

    def _asks(self, ask: Callable[[], dict[str, Any]]) -> None:
        if place_of(TASK) not in self.airflow.instances:
            self.airflow.run(TASK)
        try:
            document = self._answer(ask)
        except Problem as problem:
            self.heard = problem.code
            self.gives_up()
            return
        if (completed := document["completed"]) is not None:
            self.heard = completed["status"]
            self.airflow.finish(TASK, "success" if self.heard == Outcome.SUCCEEDED else "failed")
        elif document["wait"] is not None:
            self.heard = "waits"
            self.airflow.park(TASK)
        else:
            self.heard = "started"

    def cancels(self) -> None:
        """Have somebody ask for the run to be cancelled."""
        self._answer(lambda: self.app.run(service.waiting_for(KEY)))
        cancelled = self._answer(lambda: self.app.run(service.cancel_run(KEY, self.app.rules, recursive=True)))
        self.heard = "accepted" if cancelled.accepted else "not-running"

    def _answer(self, ask: Callable[[], R]) -> R:
        """Ask until the first request is no longer under way, and nobody asks to wait."""
        while True:
            try:
                return ask()
            except (RequestInFlight, AdfUnavailable) as problem:
                self.clock.advance(max(problem.retry_after or SECOND, 20 * SECOND))

    def gives_up(self) -> None:
        """Have the try of the task fail: nobody asks again."""
        if place_of(TASK) in self.airflow.instances:
            self.airflow.finish(TASK, "failed")

    # --- the hand of time ---

    def all_ends(self) -> None:
        """Every run that goes on succeeds, and no event tells."""
        for key, run in list(self.adf.runs.items()):
            if run.status is RunStatus.IN_PROGRESS:
                self.adf.end(key, RunStatus.SUCCEEDED)

    def rest(self) -> None:
        """Let time pass, with the timer firing when there is something to do, until nothing is left."""
        self.clock.sleep_until(self._next_moment() or self.clock.now())
        for _ in range(MOST_TICKS):
            self.clock.advance(TICK)
            self.tick()
            moment = self._next_moment()
            if moment is None:
                self.clock.advance(GRACE)
                return
            self.clock.sleep_until(moment)
        raise AssertionError("it never comes to rest")

    def _next_moment(self) -> datetime | None:
        """Return when the timer should find something to do, or None when nothing is left."""
        waits, _ = self.store.inner.waits(WaitFilter(), limit=9, cursor=None)
        moments = [wait.due_at for wait in waits if wait.due_at is not None]
        far = self.clock.now() + timedelta(days=400)
        unfinished = self.store.inner.unfinished_requests(before=far, limit=9)
        # The timer goes on with them once a minute.
        moments += [max(one.due_at, self.clock.now() + MINUTE) for one in unfinished if one.due_at is not None]
        if any(wait.state is WaitState.OPEN for wait in waits):
            moments.append(self.store.inner.sweep(FACTORY).next_at or self.clock.now())
        return min(moments, default=None)
