"""What the core needs of the world, as narrow protocols. Fakes with state, simulators and adapters all fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from bridge.model import (
    Breaker,
    Completion,
    EventRecord,
    FactoryId,
    FailedActivity,
    JsonObject,
    Match,
    Recovery,
    Run,
    RunKey,
    RunReading,
    StartRequest,
    Sweep,
    TaskRef,
    Verdict,
    Wait,
    WaitState,
)


class RefusalKind(StrEnum):
    """Why a peer (Airflow or ADF) did not do what it was asked; status codes are sorted into these at the edge."""

    UNAUTHENTICATED = "unauthenticated"  # 401, after the credential was renewed once
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not-found"  # 404, of Airflow only while it answers otherwise
    CONFLICT = "conflict"  # 409
    INVALID = "invalid"  # 400, 422 and other 4xx: asking again in the same words is no use
    THROTTLED = "throttled"  # 429, and 503 with Retry-After: surely not applied
    UNAVAILABLE = "unavailable"  # 5xx, time-out, connection lost, or not the peer's words: may have been applied
    UNREACHABLE = "unreachable"  # the connection could not be made: surely not applied


@dataclass(frozen=True, slots=True)
class Refusal:
    """A peer's refusal: its kind, a sentence that holds no secret, and what it asked for in Retry-After."""

    kind: RefusalKind
    detail: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a parked task was answered: whose it is (`token`, None for a person's), who gave it, and when."""

    token: str | None = None
    by: str | None = None
    at: datetime | None = None
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskView:
    """What Airflow says of a task instance: its state in Airflow's words, which try it is, and what it was answered.

    An answer may be an older try's: Airflow keeps it until the next try parks.
    """

    state: str | None
    try_number: int
    task_instance_id: str | None
    ended_at: datetime | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer said yes."""


@dataclass(frozen=True, slots=True)
class Started:
    """ADF's answer to createRun."""

    run_id: str


@dataclass(frozen=True, slots=True)
class NotRunning:
    """ADF's answer to a cancel: the run has ended, or ends already."""


@dataclass(frozen=True, slots=True)
class ParkedTask:
    """A task instance that is parked, as a listing shows it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    task_instance_id: str | None


@dataclass(frozen=True, slots=True)
class ParkedPage:
    """A page of the tasks that are parked on a target; the listing may change between two pages."""

    tasks: Sequence[ParkedTask]
    more: bool = False


@dataclass(frozen=True, slots=True)
class PipelineDeclaration:
    """A pipeline as the factory has it: its name, what parameters it declares, and whether `bridge wrap` made it.

    `defaults` are the values of parameters that a run was not given.
    """

    name: str
    parameters: frozenset[str]
    is_wrapper: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that was looked for, and what ADF says of it."""

    run_id: str
    reading: RunReading


@dataclass(frozen=True, slots=True)
class RunsPage:
    """A page of the runs that changed in a window, by run id; `told_at` is the time by ADF's own clock, if it told."""

    readings: Mapping[str, RunReading]
    continuation: str | None = None
    told_at: datetime | None = None


class Clock(Protocol):
    """Time, in aware UTC."""

    def now(self) -> datetime:
        """Return the time."""
        ...

    def sleep_until(self, when: datetime) -> None:
        """Return when it is `when`."""
        ...


class Random(Protocol):
    """Randomness for jitter."""

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Adf(Protocol):
    """Azure Data Factory. Never raises for what ADF answers or does not answer."""

    def create_run(
        self, factory: FactoryId, pipeline: str, parameters: JsonObject, recovery: Recovery | None = None
    ) -> Started | Refusal:
        """Start a run, or run an earlier one again, sending exactly one createRun request.

        A recovery takes the earlier run's parameters: `parameters` are not sent then.
        """
        ...

    def read_run(self, key: RunKey) -> RunReading | Refusal:
        """Read one run."""
        ...

    def query_runs(
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None, ended: bool = False
    ) -> RunsPage | Refusal:
        """Read a page of the runs that changed between two times by ADF's clock; `ended`: but for those that go on."""
        ...

    def cancel_run(self, key: RunKey, *, recursive: bool) -> Accepted | NotRunning | Refusal:
        """Cancel a run; `recursive` with the runs that it started."""
        ...

    def search_runs(
        self, factory: FactoryId, pipeline: str, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Read a page of one pipeline's runs that changed between two times by ADF's clock, the oldest first."""
        ...

    def pipeline(self, factory: FactoryId, name: str, *, fresh: bool) -> PipelineDeclaration | Refusal | None:
        """Read what a pipeline declares; None when the factory has none of that name. Unless `fresh`, it may be old.

        Some minutes old, that is. That there is no such wrapper is remembered as well, that there is no such pipeline
        is not.
        """
        ...

    def child(self, key: RunKey, run: RunReading) -> str | Refusal | None:
        """Read which run a wrapper's run has started; None when it started none."""
        ...

    def find_run(self, factory: FactoryId, match: Match) -> FoundRun | Refusal | None:
        """Find the earliest run that a match takes; None when there is none yet."""
        ...

    def failed_activity(self, key: RunKey, run: RunReading) -> FailedActivity | None:
        """Read which activity made a run fail; None when ADF does not say or cannot be asked."""
        ...

    def check(self, factory: FactoryId) -> Refusal | None:
        """Try the cheapest read that needs the bridge's permissions."""
        ...


class Airflow(Protocol):
    """The Airflow deployments, by target name. Never raises for what Airflow answers or does not answer."""

    def read_task(self, task: TaskRef) -> TaskView | Refusal:
        """Read the task instance and its answer: the fence."""
        ...

    def resume(self, task: TaskRef, completion: Completion) -> Accepted | Refusal:
        """Answer the parked task with a completion."""
        ...

    def parked(self, target: str, page: int) -> ParkedPage | Refusal:
        """List the tasks that are parked, 100 to a page; the first page is 0."""
        ...

    def check(self, target: str) -> Refusal | None:
        """Try the cheapest read that needs the bridge's permissions."""
        ...


class Completions(Protocol):
    """The queues that completions go to, by target name. Never raises for what the broker answers or does not."""

    def send(self, target: str, reply_to: str, completion: Completion) -> Accepted | Refusal:
        """Put one message for a listener into its target's queue; what was not accepted for sure may be there twice."""
        ...

    def check(self, target: str) -> Refusal | None:
        """Open the way to the target's queue, as sending does, and send nothing."""
        ...


class NoCompletions:
    """The port `Completions` where no target has a queue."""

    _NONE = Refusal(RefusalKind.UNREACHABLE, "the target has no queue")

    def send(self, target: str, reply_to: str, completion: Completion) -> Refusal:
        """Refuse: there is nowhere to send it."""
        del target, reply_to, completion
        return self._NONE

    def check(self, target: str) -> Refusal:
        """Refuse: there is no queue."""
        del target
        return self._NONE


@dataclass(frozen=True, slots=True)
class WaitFilter:
    """Which waits to list; None means any."""

    state: WaitState | None = None
    target: str | None = None
    factory: FactoryId | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A hint that a wait is due: the row itself has to be read again. `cancels`: its run is to be cancelled."""

    token: str
    due_at: datetime
    state: WaitState
    cancels: bool = False

    @property
    def is_for_adf(self) -> bool:
        """Whether ADF is to be asked about the run, or to cancel it: that does not wait for a paused target."""
        return self.cancels or not self.state.is_told


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A hint to a wait whose run goes on.

    `watched` is its task when that has to be looked at meanwhile; `pipeline`, in lower case, is whose runs it waits for
    by match.
    """

    token: str
    run_id: str
    registered_at: datetime
    watched: TaskRef | None = None
    pipeline: str | None = None


class Store(Protocol):
    """The bridge's memory. A run and its waits share a partition and change in one transaction.

    Every method may raise StoreUnavailable. `put` and `save_*` compare-and-set by each row's `version`
    (empty: must not exist) and raise StoreConflict, changing nothing, when any row was changed by somebody else.
    They return the rows with their new versions. A row that a newer release wrote, and this one cannot read, is in no
    list, and is never written over.
    """

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """Return a run's row and the rows of all its waits, as one consistent reading."""
        ...

    def find_runs(self, run_id: str) -> Sequence[Run]:
        """Return the rows of that run id, of any factory."""
        ...

    def find_wait(self, token: str) -> Wait | None:
        """Return the wait of a token."""
        ...

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """Write rows of one run in one transaction."""
        ...

    def due(self, target: str, *, before: datetime, limit: int, for_adf: bool = False) -> Sequence[Due]:
        """Return hints to a target's waits that are due, the oldest first; or those that ADF is to be asked for."""
        ...

    def open_waits(self, factory: FactoryId, *, limit: int, pipeline: str | None = None) -> Sequence[OpenWait]:
        """Return hints to the open waits for a factory's runs, the oldest first; or those by match of a pipeline."""
        ...

    def waits(self, which: WaitFilter, *, limit: int, cursor: str | None) -> tuple[Sequence[Wait], str | None]:
        """Return a page of waits, newest first, and the cursor of the next page.

        A page may be short, or even empty, and lead on to another: only a page without a cursor is the last one.
        """
        ...

    def request(self, idempotency_key: str) -> StartRequest | None:
        """Return the record of a trigger request."""
        ...

    def save_request(self, record: StartRequest) -> StartRequest:
        """Write the record of a trigger request."""
        ...

    def requests_at(self, place: str, *, limit: int) -> Sequence[StartRequest]:
        """Return the records of trigger requests of one task, whatever their try, those received last first."""
        ...

    def unfinished_requests(self, *, before: datetime, limit: int) -> Sequence[StartRequest]:
        """Return the records that the bridge itself has to go on with by then (`due_at`), the longest due first."""
        ...

    def drop_request(self, record: StartRequest) -> None:
        """Forget a request that was refused before anything was started."""
        ...

    def record_event(self, record: EventRecord) -> None:
        """Remember what became of an event; the list is capped and old entries go."""
        ...

    def events(self, *, verdict: Verdict | None, run_id: str | None, limit: int) -> Sequence[EventRecord]:
        """Return the newest event records first."""
        ...

    def breaker(self, name: str) -> Breaker:
        """Return a breaker's row, closed and with an empty version when there is none."""
        ...

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """Write a breaker's row."""
        ...

    def breakers(self) -> Sequence[Breaker]:
        """Return all breakers' rows."""
        ...

    def sweep(self, factory: FactoryId) -> Sweep:
        """Return how far a factory was swept, a row with an empty version when it never was."""
        ...

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """Write how far a factory was swept."""
        ...

    def repair(self, *, limit: int = 1_000) -> int:
        """Write anew what was lost of the ways to live rows; return how many.

        One call does a bounded part of it, and the next one goes on there.
        """
        ...

    def purge(self, before: datetime, *, limit: int = 1_000) -> int:
        """Remove final waits, runs without waits, requests and events that last changed before that; return how many.

        One call does a bounded part of it, about `limit` rows, and the next one goes on there. Of many rows a part may
        have none that is to go.
        """
        ...

    def check(self) -> None:
        """Write and read something; raise StoreUnavailable when that fails."""
        ...
