"""What a use case may ask the world for, as values.

A use case in `bridge.service` is a generator: it yields commands and is sent their results, so that nothing in it does
I/O by itself. `bridge.executor` performs them; a simulator can interleave or crash a use case at every one of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

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
    Wait,
)
from bridge.ports import (
    Accepted,
    FoundRun,
    NotRunning,
    OpenWait,
    ParkedPage,
    PipelineDeclaration,
    Refusal,
    RunsPage,
    Started,
    TaskView,
)

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Point(StrEnum):
    """The places where a process can die between two effects. A test arms one; production code only passes by."""

    EVENT_NOTED = "event.noted"
    EVENT_RECORDED = "event.recorded"
    RUN_READ = "run.read"
    FAILURE_READ = "run.failure-read"
    RUN_FOUND = "run.found"
    CHILD_FOUND = "run.child-found"
    RUN_SETTLED = "run.settled"
    DELIVERY_CLAIMED = "delivery.claimed"
    TASK_READ = "delivery.task-read"
    COMPLETION_SENT = "delivery.sent"
    COMPLETION_QUEUED = "delivery.queued"
    TASK_READ_AGAIN = "delivery.task-read-again"
    DELIVERY_SETTLED = "delivery.settled"
    BREAKER_SAVED = "breaker.saved"
    KEY_RESERVED = "start.key-reserved"
    PIPELINE_FOUND = "start.pipeline-found"
    RUNS_SEARCHED = "start.runs-searched"
    RUN_CLAIMED = "start.run-claimed"
    RUN_CREATED = "start.run-created"
    START_RECORDED = "start.recorded"
    START_REFUSED = "start.refused"
    WAIT_WRITTEN = "register.wait-written"
    START_ANSWERED = "start.answered"
    START_LEFT = "start.left"
    WAIT_EXPIRED = "wait.expired"
    WAIT_WITHDRAWN = "wait.withdrawn"
    PARKED_LISTED = "watch.parked-listed"
    TASK_LOOKED_AT = "watch.task-read"
    WAIT_WATCHED = "watch.saved"
    RUN_CANCELLED = "run.cancelled"
    CANCEL_NOTED = "run.cancel-noted"
    CANCEL_SETTLED = "run.cancel-settled"
    SWEEP_TAKEN = "sweep.taken"
    RUNS_QUERIED = "sweep.runs-queried"
    SWEEP_SAVED = "sweep.saved"


class Command(Generic[R_co]):
    """A request to the world whose result has type `R_co`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Effect(Command[R_co]):
    """A command after which the process may die at a named point."""

    _: KW_ONLY
    point: Point


@dataclass(frozen=True, slots=True)
class Now(Command[datetime]):
    """Read the clock."""


@dataclass(frozen=True, slots=True)
class Jitter(Command[float]):
    """Draw a number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class SleepUntil(Command[bool]):
    """Wait inside the invocation; False at once when too many invocations wait already.

    The timer, of which there is one, is not among them (`of_timer`).
    """

    when: datetime
    of_timer: bool = False


@dataclass(frozen=True, slots=True)
class LoadRun(Command[tuple[Run | None, tuple[Wait, ...]]]):
    """Read a run's row and its waits' rows."""

    key: RunKey


@dataclass(frozen=True, slots=True)
class FindWait(Command[Wait | None]):
    """Read the wait of a token."""

    token: str


@dataclass(frozen=True, slots=True)
class LoadRequest(Command[StartRequest | None]):
    """Read the record of a trigger request."""

    idempotency_key: str


@dataclass(frozen=True, slots=True)
class ListRequests(Command[Sequence[StartRequest]]):
    """List the records of the trigger requests of one task, whatever their try, those received last first."""

    place: str
    limit: int


@dataclass(frozen=True, slots=True)
class LoadBreaker(Command[Breaker]):
    """Read a breaker's row."""

    name: str


@dataclass(frozen=True, slots=True)
class LoadSweep(Command[Sweep]):
    """Read how far a factory was swept."""

    factory: FactoryId


@dataclass(frozen=True, slots=True)
class ListOpen(Command[Sequence[OpenWait]]):
    """List the open waits for a factory's runs."""

    factory: FactoryId
    limit: int
    pipeline: str | None = None  # only the waits by match for its runs


@dataclass(frozen=True, slots=True)
class Put(Effect[tuple[Run | None, tuple[Wait, ...]]]):
    """Write rows of one run in one transaction; StoreConflict when one was changed meanwhile."""

    run: Run | None
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class SaveRequest(Effect[StartRequest]):
    """Write the record of a trigger request; StoreConflict when it was changed meanwhile."""

    record: StartRequest


@dataclass(frozen=True, slots=True)
class DropRequest(Effect[None]):
    """Forget a trigger request that started nothing."""

    record: StartRequest


@dataclass(frozen=True, slots=True)
class SaveBreaker(Effect[Breaker]):
    """Write a breaker's row; StoreConflict when it was changed meanwhile."""

    breaker: Breaker


@dataclass(frozen=True, slots=True)
class SaveSweep(Effect[Sweep]):
    """Write how far a factory was swept; StoreConflict when it was changed meanwhile."""

    sweep: Sweep


@dataclass(frozen=True, slots=True)
class QueryRuns(Effect[RunsPage | Refusal]):
    """Read a page of the runs that changed in a window; of those alone that do not go on any more, if `ended`."""

    factory: FactoryId
    since: datetime
    until: datetime
    continuation: str | None
    ended: bool


@dataclass(frozen=True, slots=True)
class RecordEvent(Effect[None]):
    """Remember what became of an event."""

    record: EventRecord


@dataclass(frozen=True, slots=True)
class CreateRun(Effect[Started | Refusal]):
    """Start a pipeline run."""

    factory: FactoryId
    pipeline: str
    parameters: JsonObject
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True)
class SearchRuns(Effect[RunsPage | Refusal]):
    """Read a page of one pipeline's runs that changed in a window."""

    factory: FactoryId
    pipeline: str
    since: datetime
    until: datetime
    continuation: str | None


@dataclass(frozen=True, slots=True)
class CancelRun(Effect[Accepted | NotRunning | Refusal]):
    """Cancel a run."""

    key: RunKey
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class ReadRun(Effect[RunReading | Refusal]):
    """Read a run from ADF."""

    key: RunKey


@dataclass(frozen=True, slots=True)
class ReadFailedActivity(Effect[FailedActivity | None]):
    """Read from ADF which activity made a run fail."""

    key: RunKey
    reading: RunReading


@dataclass(frozen=True, slots=True)
class FindChild(Effect[str | None | Refusal]):
    """Read from ADF which run a wrapper's run has started."""

    key: RunKey
    reading: RunReading


@dataclass(frozen=True, slots=True)
class FindRun(Effect[FoundRun | None | Refusal]):
    """Find in ADF the earliest run that a match takes."""

    factory: FactoryId
    match: Match


@dataclass(frozen=True, slots=True)
class FindPipeline(Effect[PipelineDeclaration | None | Refusal]):
    """Read from ADF what a pipeline declares, if there is one of that name."""

    factory: FactoryId
    name: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class ReadTask(Effect[TaskView | Refusal]):
    """Read a task instance from Airflow."""

    task: TaskRef


@dataclass(frozen=True, slots=True)
class ListParked(Effect[ParkedPage | Refusal]):
    """List a page of the tasks that are parked on a target."""

    target: str
    page: int


@dataclass(frozen=True, slots=True)
class Resume(Effect[Accepted | Refusal]):
    """Answer a parked task."""

    task: TaskRef
    completion: Completion


@dataclass(frozen=True, slots=True)
class Enqueue(Effect[Accepted | Refusal]):
    """Put a completion into a target's queue, for one listener."""

    target: str
    reply_to: str
    completion: Completion


UseCase = Generator[Command[Any], Any, R]


def do(command: Command[R]) -> UseCase[R]:
    """Have a command performed, and keep the type of its result."""
    result: R = yield command
    return result
