"""A use case that is done command by command, so that a test can have others act in between."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

from bridge.commands import Command, UseCase
from bridge.errors import Problem
from tests.fakes.bench import Bench

R = TypeVar("R")


class Stepping(Generic[R]):
    """A use case under way on one instance of the bridge, and what it came to."""

    def __init__(self, bench: Bench, use_case: UseCase[R]) -> None:
        self.result: R | None = None
        self.problem: Problem | None = None
        self.is_over = False
        self._bench = bench
        self._use_case: Generator[Command[Any], Any, R] = use_case
        self._send: Any = None
        self._throw: BaseException | None = None

    def go_on(self, steps: int = 1_000) -> Stepping[R]:
        """Do the next steps, as far as there are any."""
        for _ in range(steps):
            if self.is_over:
                break
            self._step()
        return self

    def _step(self) -> None:
        try:
            command = self._use_case.throw(self._throw) if self._throw else self._use_case.send(self._send)
        except StopIteration as end:
            self.result, self.is_over = end.value, True
            return
        except Problem as problem:
            self.problem, self.is_over = problem, True
            return
        self._send = self._throw = None
        try:
            self._send = self._bench.executor.perform(command)
        except Exception as error:  # noqa: BLE001 - it is the use case's to handle
            self._throw = error
