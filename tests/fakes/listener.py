"""A listener as the provider has one in each triggerer process: it registers its waits and receives its session."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bridge import service
from bridge.model import Completion, Mode, RunKey, TaskRef
from tests.fakes.bench import Bench
from tests.fakes.samples import KEY, a_request, a_task

EDGE = a_task(target="edge")


class Listener:
    """A listener. `told` are the completions that its tasks got; what is for nobody here is `ignored`."""

    def __init__(self, bench: Bench, name: str = "triggerer-1") -> None:
        self.bench = bench
        self.name = name
        self.waits: dict[str, tuple[TaskRef, RunKey]] = {}
        self.told: dict[str, Completion] = {}
        self.ignored: Counter[str] = Counter()

    def register(self, task: TaskRef = EDGE, key: RunKey = KEY, **changes: Any) -> Completion | None:
        """Register a wait; its task has its event if the answer is the completion."""
        self.waits[task.token] = (task, key)
        request = a_request(task, mode=Mode.QUEUE, reply_to=self.name, **changes)
        app = self.bench.app
        wait = app.run(service.register_wait(key, request, app.rules)).wait
        completion = wait.answer if wait is not None else None
        if completion is not None:
            self._tell(completion)
        return completion

    def renew(self) -> None:
        """Register all its waits anew, as it does every 15 minutes."""
        for task, key in list(self.waits.values()):
            self.register(task, key)

    def receive(self) -> None:
        """Take everything out of the session."""
        for target in {task.target for task, _ in self.waits.values()} | {"edge"}:
            while (completion := self.bench.completions.receive(target, self.name)) is not None:
                self._tell(completion)

    def _tell(self, completion: Completion) -> None:
        if self.waits.pop(completion.token, None) is None:
            self.ignored[completion.token] += 1
        else:
            self.told[completion.token] = completion
