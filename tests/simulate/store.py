"""The store in memory that fails before or after it wrote, and checks every row that is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import Breaker, EventRecord, Run, RunKey, StartRequest, Sweep, Wait, WaitState
from tests.fakes.store import MemoryStore
from tests.simulate.adf import CANARY, SECRET
from tests.simulate.timeline import Timeline, Violation

T = TypeVar("T")
ATTEMPTS: Final = 60  # in at most an hour of simulated trouble


class SimStore(MemoryStore):
    """The port `Store`. Conflicts come from real interleaving; they are counted."""

    def __init__(self, timeline: Timeline, trouble: float) -> None:
        super().__init__()
        self._timeline = timeline
        self._trouble = trouble

    def _before(self) -> None:
        if self._timeline.hits("store unavailable", self._trouble):
            raise StoreUnavailable("the store is down")

    def _after(self) -> None:
        if self._timeline.hits("store wrote and did not say so", self._trouble):
            raise StoreUnavailable("the store did not answer")

    def wait_row(self, token: str) -> Wait | None:
        """Return a wait's row, whatever state the store is in."""
        return self._waits.get(token)

    def run_row(self, key: RunKey) -> Run | None:
        """Return a run's row, whatever state the store is in."""
        return self._runs.get(key)

    def wait_rows(self) -> Sequence[Wait]:
        """Return all waits' rows."""
        return list(self._waits.values())

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """Read, unless it fails."""
        self._before()
        return super().run(key)

    def find_wait(self, token: str) -> Wait | None:
        """Read, unless it fails."""
        self._before()
        return super().find_wait(token)

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """Write, unless it fails before; it may fail after."""
        self._before()
        old_run = self._runs.get(run.key) if run is not None else None
        old_waits = [self._waits.get(wait.token) for wait in waits]
        try:
            written = super().put(run, waits)
        except StoreConflict:
            self._timeline.faults["store conflict"] += 1
            raise
        if old_run is not None and run is not None and old_run.has_ended and run.status != old_run.status:
            raise Violation("absorbing", f"a run that had ended as {old_run.status} became {run.status}")
        for old, wait in zip(old_waits, waits, strict=True):
            _check_wait(old, wait)
        self._after()
        return written

    def request(self, idempotency_key: str) -> StartRequest | None:
        """Read, unless it fails."""
        self._before()
        return super().request(idempotency_key)

    def save_request(self, record: StartRequest) -> StartRequest:
        """Write, unless it fails before; it may fail after."""
        self._before()
        saved = self._saving(lambda: MemoryStore.save_request(self, record))
        if SECRET in (record.answer or ""):
            raise Violation("secret", "a start's record holds a parameter", record.idempotency_key)
        self._after()
        return saved

    def drop_request(self, record: StartRequest) -> None:
        """Delete, unless it fails."""
        self._before()
        super().drop_request(record)
        self._after()

    def breaker(self, name: str) -> Breaker:
        """Read, unless it fails."""
        self._before()
        return super().breaker(name)

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """Write, unless it fails before; it may fail after."""
        self._before()
        saved = self._saving(lambda: MemoryStore.save_breaker(self, breaker))
        self._after()
        return saved

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """Write, unless it fails before; it may fail after."""
        self._before()
        saved = self._saving(lambda: MemoryStore.save_sweep(self, sweep))
        self._after()
        return saved

    def record_event(self, record: EventRecord) -> None:
        """Write, unless it fails."""
        self._before()
        if CANARY in repr(record):
            raise Violation("secret", "an event's record holds what nobody may see")
        super().record_event(record)
        self._after()

    def _saving(self, save: Callable[[], T]) -> T:
        try:
            return save()
        except StoreConflict:
            self._timeline.faults["store conflict"] += 1
            raise


def _check_wait(old: Wait | None, wait: Wait) -> None:
    # A completion that was given with an answer nobody heard is delivered after all.
    proved = old is not None and (old.state, wait.state) == (WaitState.INLINE, WaitState.DELIVERED)
    if old is not None and old.state.is_final and wait.state is not old.state and not proved:
        raise Violation("final", f"a wait that was {old.state} became {wait.state}", wait.token)
    if old is not None and old.completion is not None and wait.completion != old.completion:
        raise Violation("decided", "what had been decided was decided anew", wait.token)
    if wait.attempts > ATTEMPTS:
        raise Violation("attempts", f"{wait.attempts} attempts", wait.token)
    for line in wait.timeline[len(wait.timeline) - wait.news :]:
        if CANARY in line.detail:
            raise Violation("secret", "a wait's story holds what nobody may see", wait.token)
