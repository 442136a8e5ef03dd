"""Azure Data Factory with runs that end when the test says so."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bridge.model import FactoryId, FailedActivity, JsonObject, Match, RunKey, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, Refusal, RefusalKind, RunsPage, Started, WrapperPipeline
from tests.fakes.clock import VirtualClock


@dataclass(frozen=True)
class Lost:
    """The change was made, but the answer never arrived: the caller hears this refusal."""

    refusal: Refusal


@dataclass(frozen=True)
class Create:
    """A createRun request as it arrived."""

    factory: FactoryId
    pipeline: str
    parameters: Mapping[str, object]


@dataclass
class FakeAdf:
    """The port `Adf`. Counts every call, also the refused ones."""

    clock: VirtualClock
    runs: dict[RunKey, RunReading] = field(default_factory=dict)
    causes: dict[RunKey, FailedActivity] = field(default_factory=dict)
    creates: list[Create] = field(default_factory=list)
    reads: Counter[RunKey] = field(default_factory=Counter)
    activity_reads: Counter[RunKey] = field(default_factory=Counter)
    create_script: deque[Refusal | Lost] = field(default_factory=deque)
    read_script: deque[Refusal] = field(default_factory=deque)
    cancels: list[tuple[RunKey, bool]] = field(default_factory=list)
    cancel_script: deque[Refusal | Lost] = field(default_factory=deque)
    wrappers: dict[str, WrapperPipeline] = field(default_factory=dict)
    wrapper_reads: int = 0
    searches: list[Match] = field(default_factory=list)
    child_reads: Counter[RunKey] = field(default_factory=Counter)
    child_script: deque[Refusal] = field(default_factory=deque)
    queries: list[tuple[datetime, datetime, str | None]] = field(default_factory=list)
    query_script: deque[Refusal] = field(default_factory=deque)
    page_size: int = 100
    ahead: timedelta = timedelta(0)
    takes: timedelta = timedelta(0)  # that long a search takes
    unsearchable: set[RunKey] = field(default_factory=set)  # not shown by a search yet
    down: Refusal | None = None

    @property
    def calls(self) -> int:
        """How often it was asked for anything, the pages of the sweeps left out."""
        counted = (self.reads, self.activity_reads, self.child_reads)
        listed = (self.creates, self.cancels, self.searches)
        return sum(each.total() for each in counted) + sum(len(each) for each in listed) + self.wrapper_reads

    def begin(self, key: RunKey, *, pipeline: str = "copy_orders", status: RunStatus = RunStatus.IN_PROGRESS) -> None:
        """Have a run that goes on."""
        self.runs[key] = RunReading(status, status.value, pipeline=pipeline, run_start=self.clock.now())

    def wrap(self, pipeline: str, *parameters: str) -> None:
        """Have a wrapper for a pipeline."""
        self.wrappers[pipeline] = WrapperPipeline(f"{pipeline}__notified", frozenset({*parameters, "bridge_key"}))

    def begin_child(self, key: RunKey, parent: RunKey, *, pipeline: str = "copy_orders") -> None:
        """Have a wrapper's run start the run that it wraps."""
        self.begin(key, pipeline=pipeline)
        self.runs[key] = replace(
            self.runs[key], parent_run_id=parent.run_id, parent_pipeline=self.runs[parent].pipeline
        )

    def end(
        self, key: RunKey, status: RunStatus, *, message: str | None = None, cause: FailedActivity | None = None
    ) -> None:
        """End a run."""
        self.runs[key] = replace(
            self.runs[key], status=status, status_text=status.value, run_end=self.clock.now(), message=message
        )
        if cause is not None:
            self.causes[key] = cause

    def create_run(self, factory: FactoryId, pipeline: str, parameters: JsonObject) -> Started | Refusal:
        """Start a run, unless the script says otherwise."""
        self.creates.append(Create(factory, pipeline, dict(parameters)))
        step = self.create_script.popleft() if self.create_script else self.down
        if isinstance(step, Refusal):
            return step
        run_id = f"run-{len(self.creates)}"
        self.begin(RunKey(factory, run_id), pipeline=pipeline)
        return step.refusal if isinstance(step, Lost) else Started(run_id)

    def cancel_run(self, key: RunKey, *, recursive: bool) -> Accepted | NotRunning | Refusal:
        """Cancel a run; one that has ended is not running."""
        self.cancels.append((key, recursive))
        step = self.cancel_script.popleft() if self.cancel_script else self.down
        if isinstance(step, Refusal):
            return step
        run = self.runs.get(key)
        if run is None:
            return Refusal(RefusalKind.NOT_FOUND, "ADF answered 404")
        if run.status not in (RunStatus.QUEUED, RunStatus.IN_PROGRESS):
            return NotRunning()
        self.end(key, RunStatus.CANCELLED)
        return step.refusal if isinstance(step, Lost) else Accepted()

    def read_run(self, key: RunKey) -> RunReading | Refusal:
        """Read a run."""
        self.reads[key] += 1
        if self.read_script:
            return self.read_script.popleft()
        if self.down is not None:
            return self.down
        return self.runs.get(key) or Refusal(RefusalKind.NOT_FOUND, "ADF answered 404")

    def query_runs(
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Show a page of what changed in a window, by a clock that is `ahead` of the bridge's."""
        self.queries.append((since, until, continuation))
        if self.query_script:
            return self.query_script.popleft()
        if self.down is not None:
            return self.down
        changed = [
            (key.run_id, reading)
            for key, reading in self.runs.items()
            if key.factory == factory and since <= (reading.run_end or reading.run_start or since) + self.ahead <= until
        ]
        start = int(continuation or 0)
        following = str(start + self.page_size) if len(changed) > start + self.page_size else None
        return RunsPage(dict(changed[start : start + self.page_size]), following, self.clock.now() + self.ahead)

    def wrapper(self, factory: FactoryId, pipeline: str) -> WrapperPipeline | Refusal | None:
        """Tell whether a pipeline has a wrapper."""
        self.wrapper_reads += 1
        return self.down or self.wrappers.get(pipeline)

    def child(self, key: RunKey, run: RunReading) -> str | Refusal | None:
        """Tell which run a wrapper's run has started."""
        self.child_reads[key] += 1
        if self.child_script:
            return self.child_script.popleft()
        if self.down is not None:
            return self.down
        return next((one.run_id for one, reading in self.runs.items() if reading.parent_run_id == key.run_id), None)

    def find_run(self, factory: FactoryId, match: Match) -> FoundRun | Refusal | None:
        """Find the earliest run that a match takes."""
        self.searches.append(match)
        self.clock.advance(self.takes)
        if self.down is not None:
            return self.down
        found = [
            FoundRun(key.run_id, reading)
            for key, reading in self.runs.items()
            if key.factory == factory and key not in self.unsearchable and match.takes(reading)
        ]
        return min(found, key=lambda one: one.reading.run_start or self.clock.now(), default=None)

    def failed_activity(self, key: RunKey, run: RunReading) -> FailedActivity | None:
        """Read why a run failed."""
        self.activity_reads[key] += 1
        return self.causes.get(key) if self.down is None else None

    def check(self, factory: FactoryId) -> Refusal | None:
        """Say whether ADF is up."""
        return self.down
