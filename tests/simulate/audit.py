"""The auditor: sees every row that is written and every line that is logged, and knows what may never be there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bridge.model import EventRecord, Mode, Run, RunKey, StartRequest, TimelineEntry, Wait, WaitState
from tests.simulate.timeline import Violation

CANARY: Final = "canary"
SECRET: Final = f"{CANARY}-parameter"
ATTEMPTS: Final = 60  # in at most an hour of simulated trouble


class Audit:
    """The rows as they stand, and as they stood when they were purged."""

    def __init__(self) -> None:
        self.waits: dict[str, Wait] = {}
        self.runs: dict[RunKey, Run] = {}
        self.on_wait: Callable[[Wait], None] = _anything
        self.on_request: Callable[[StartRequest], None] = _anything
        self.on_request_gone: Callable[[str], None] = _anything
        self._purged_waits: dict[str, Wait] = {}
        self._purged_runs: dict[RunKey, Run] = {}

    def wait(self, token: str) -> Wait | None:
        """Return a wait, also one that is purged."""
        return self.waits.get(token) or self._purged_waits.get(token)

    def run(self, key: RunKey) -> Run | None:
        """Return a run, also one that is purged."""
        return self.runs.get(key) or self._purged_runs.get(key)

    def every_wait(self) -> Sequence[Wait]:
        """Return all waits, also those that are purged."""
        return [*self._purged_waits.values(), *self.waits.values()]

    def wrote_run(self, run: Run) -> None:
        """Check a run's row: what has ended stays as it ended."""
        old = self.runs.get(run.key)
        if old is not None and old.has_ended and run.status != old.status:
            raise Violation("absorbing", f"a run that had ended as {old.status} became {run.status}")
        self.runs[run.key] = run

    def wrote_wait(self, wait: Wait) -> None:
        """Check a wait's row: what is final or decided stays so, attempts are bounded, its story holds no secret."""
        old = self.waits.get(wait.token)
        # A completion that was given with an answer nobody heard is delivered after all.
        proved = old is not None and (old.state, wait.state) == (WaitState.INLINE, WaitState.DELIVERED)
        # One that was told by queue, or given up, is the answer to a listener that registers after that.
        proved = proved or (wait.mode is Mode.QUEUE and wait.state is WaitState.DELIVERED)
        if old is not None and old.state.is_final and wait.state is not old.state and not proved:
            raise Violation("final", f"a wait that was {old.state} became {wait.state}", wait.token)
        if old is not None and old.completion is not None and wait.completion != old.completion:
            raise Violation("decided", "what had been decided was decided anew", wait.token)
        if wait.attempts > ATTEMPTS:
            raise Violation("attempts", f"{wait.attempts} attempts", wait.token)
        if any(CANARY in line.detail for line in wait.timeline):
            raise Violation("secret", "a wait's story holds what nobody may see", wait.token)
        self.waits[wait.token] = wait
        self.on_wait(wait)

    def wrote_request(self, record: StartRequest) -> None:
        """Check the record of a trigger request."""
        if SECRET in repr(record):
            raise Violation("secret", "a start's record holds a parameter", record.idempotency_key)
        self.on_request(record)

    def wrote_event(self, record: EventRecord) -> None:
        """Check the record of an event."""
        if CANARY in repr(record):
            raise Violation("secret", "an event's record holds what nobody may see")

    def logged(self, wait: Wait, entry: TimelineEntry) -> None:
        """Check a line of the log."""
        if CANARY in entry.detail:
            raise Violation("secret", "the log holds what nobody may see", wait.token)

    def purged_run(self, key: RunKey) -> None:
        """Remember a run whose row is removed."""
        self._purged_runs[key] = self.runs.pop(key)

    def purged_wait(self, token: str) -> None:
        """Remember a wait whose row is removed; one that goes on is not."""
        wait = self._purged_waits[token] = self.waits.pop(token)
        if not wait.state.is_final:
            raise Violation("purged", f"a wait that is {wait.state} was removed", token)


def _anything(_: object) -> None:
    """Take anything."""
