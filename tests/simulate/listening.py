"""Tasks in mode queue: deferred, listened for by triggerers that die, whose messages then nobody takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from bridge import service
from bridge.errors import Problem
from bridge.model import Completion, Mode, OnAbandon, RunKey, TaskRef, Wait, WaitRequest, WaitState
from bridge.ports import Accepted, Refusal, RefusalKind
from tests.simulate.attempt import Host
from tests.simulate.caller import Caller
from tests.simulate.timeline import Timeline, Violation

REFUSALS: Final = {
    "queue unreachable": Refusal(RefusalKind.UNREACHABLE, "the queue could not be reached"),
    "queue busy": Refusal(RefusalKind.THROTTLED, "the queue is full, or its namespace busy", timedelta(seconds=10)),
}
LOST: Final = Refusal(RefusalKind.UNAVAILABLE, "the queue did not answer")
TRIGGERERS: Final = 2
AGAIN: Final = 20.0
LEASE: Final = 300.0
_UNDER_WAY: Final = 5.0  # a message that was sent is received by then


class SimCompletions:
    """The port `Completions`: what is for a listener that has died stays in its session, for nobody."""

    def __init__(self, timeline: Timeline, trouble: float) -> None:
        self._timeline = timeline
        self._trouble = trouble
        self.listeners: dict[str, Listener] = {}
        self.tasks: dict[str, Deferred] = {}

    def send(self, target: str, reply_to: str, completion: Completion) -> Accepted | Refusal:
        """Take a message, most of the time."""
        del target
        if (fault := self._timeline.strikes(tuple(REFUSALS), self._trouble)) is not None:
            return REFUSALS[fault]
        listener = self.listeners.get(reply_to)
        if listener is None:
            self._timeline.happened["a message to a dead listener"] += 1
        else:
            self._timeline.after(self._timeline.random.uniform(0, 2), lambda: listener.hears(completion))
        return LOST if self._timeline.hits("queue took it without an answer", self._trouble) else Accepted()

    def wrote(self, wait: Wait) -> None:
        """Look, once a completion has been sent, at whether all have it that should."""
        sent = wait.mode is Mode.QUEUE and wait.state is WaitState.DELIVERED and wait.timeline[-1].what == "delivered"
        if sent and not self.tasks[wait.token].is_told:
            task, names = self.tasks[wait.token], set(self.tasks[wait.token].registered)
            self._timeline.after(_UNDER_WAY, lambda: self._check_told(task, names))

    def _check_told(self, task: Deferred, names: set[str]) -> None:
        """Raise Violation for a listener that had registered a task and has it, and was not told."""
        for listener in self.listeners.values():
            if not task.is_told and listener.name in names and task.token in listener.tasks:
                raise Violation("listener", f"{listener.name} had registered it, and was not told", task.token)

    def check(self, target: str) -> Refusal | None:
        """Say that it is there."""
        del target
        return None


class Listener:
    """The listener of one process of a triggerer, which begins under another name when it has died."""

    def __init__(self, host: Host, queue: SimCompletions, number: int) -> None:
        self._host = host
        self._timeline = host.timeline
        self._queue = queue
        self._number = number
        self._lives = 0
        self.tasks: dict[str, Deferred] = {}
        self._begin()

    def _begin(self) -> None:
        self._lives += 1
        self.name = f"triggerer-{self._number}-{self._lives}"
        self._queue.listeners[self.name] = self

    def dies(self) -> None:
        """Lose everything but the tasks, which Airflow gives to the triggerer's next process, or leaves with it."""
        if not self._timeline.chaos or not self.name:
            return
        self._timeline.faults["triggerer died"] += 1
        del self._queue.listeners[self.name]
        self.name = ""
        self._timeline.after(self._timeline.random.uniform(5, 40), self._come_back)

    def _come_back(self) -> None:
        self._begin()
        for task in list(self.tasks.values()):
            self.register(task)

    def take(self, task: Deferred) -> None:
        """Have one more task."""
        self.tasks[task.token] = task
        if self.name:
            self.register(task)

    def give(self, other: Listener) -> None:
        """Have Airflow move the tasks to another triggerer."""
        if not self._timeline.chaos or self is other:
            return
        self._timeline.faults["tasks moved to another triggerer"] += 1
        moved, self.tasks = list(self.tasks.values()), {}
        for task in moved:
            other.take(task)

    def shares(self, other: Listener) -> None:
        """Have Airflow run the tasks on another triggerer too, for a moment: the one that registers last loses them."""
        if not self._timeline.chaos or self is other:
            return
        self._timeline.faults["tasks on two triggerers for a moment"] += 1
        shared = [task for task in self.tasks.values() if task.token not in other.tasks]
        for task in shared:
            other.take(task)

        def lost() -> None:
            for task in shared:
                if task.token in self.tasks:
                    other.tasks.pop(task.token, None)

        self._timeline.after(self._timeline.random.uniform(1, 10), lost)

    def register(self, task: Deferred) -> None:
        """Register a wait; again as long as nobody answers, and then once a lease."""
        name = self.name
        if not name or task.is_told or task.token not in self.tasks:
            return
        answered: list[bool] = []

        def heard(result: Any) -> None:
            task.registered.add(name)
            if self.name != name or self._timeline.hits("answer to a listener lost", 0.2):
                return
            answered.append(True)
            wait = result.wait
            if wait.answer is not None:
                self.hears(wait.answer)
            elif wait.state.is_final:
                raise Violation("answered", f"{name} was not told how a wait ended that is {wait.state}", task.token)

        def again() -> None:
            if self.name == name:
                if answered:
                    self._timeline.after(LEASE, lambda: self.register(task) if self.name == name else None)
                else:
                    self.register(task)

        task.asks(replace(task.wait, reply_to=name), heard)
        self._timeline.after(AGAIN, again)

    def hears(self, completion: Completion) -> None:
        """Take a message, or an answer; what is for nobody here is passed over."""
        task = self.tasks.pop(completion.token, None)
        if self.name and task is not None:
            task.told(completion)
        elif task is not None:
            self.tasks[completion.token] = task  # it came while nobody listened


class Deferred:
    """One task in mode queue, which waits for a run of somebody else's."""

    def __init__(self, host: Host, task: TaskRef, untrue: Callable[[Completion], str | None]) -> None:
        self._host = host
        self._timeline = host.timeline
        self._untrue = untrue
        self.registered: set[str] = set()  # the listeners that have, whether or not they hear of it
        self._name = task
        self.is_told = False
        self.token = task.token
        self.run: RunKey | None = None

    @property
    def awaited(self) -> RunKey | None:
        """The run that it waits for."""
        return None if self.is_told else self.run

    def defers_to(self, listener: Listener) -> None:
        """Have the task ask for itself, then be deferred."""
        self.run = self._host.adf.begin(self._timeline.random.choice(list(self._host.rules.factories.values()))).key
        deadline = self._timeline.now() + timedelta(hours=6)
        self.wait = WaitRequest(self._name, Mode.QUEUE, deadline, OnAbandon.LEAVE)
        self._host.remember(self.wait)
        self._ask_until(listener)

    def _ask_until(self, listener: Listener) -> None:
        answers: list[Any] = []

        def again() -> None:
            if not answers:
                self._ask_until(listener)

        def heard(result: Any) -> None:
            if answers or self.is_told or self.token in listener.tasks:
                return
            answers.append(result)
            wait = result.wait
            if wait.completion is not None and wait.state.is_final:
                self.told(wait.completion)
            else:
                listener.take(self)

        self.asks(self.wait, heard)
        self._timeline.after(AGAIN, again)

    def asks(self, wait: WaitRequest, on_result: Callable[[Any], None]) -> None:
        """Send a registration."""

        def failed(error: Exception) -> None:
            if not isinstance(error, Problem):
                raise error

        assert self.run is not None
        use_case = service.register_wait(self.run, wait, self._host.rules)
        self._host.ask(use_case, Caller(), on_result, failed)

    def told(self, completion: Completion) -> None:
        """Wake up."""
        if (why := self._untrue(completion)) is not None:
            raise Violation("truth", why, self.token)
        if self.is_told:
            return
        self.is_told = True
        self._timeline.happened["a deferred task was told"] += 1
