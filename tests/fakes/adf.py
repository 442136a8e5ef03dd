"""Azure Data Factory with runs that end when the test says so."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.model import FactoryId, FailedActivity, JsonObject, Match, Recovery, RunKey, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, PipelineDeclaration, Refusal, RefusalKind, RunsPage, Started
from tests.fakes.clock import VirtualClock

_GOING_ON: Final = (RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELING)
PARAMETERS: Final = frozenset({"day"})  # what a pipeline takes of which nothing else is said


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
    recovery: Recovery | None = None


@dataclass
class FakeAdf:
    """The port `Adf`. Counts every call, also the refused ones.

    A pipeline that is neither declared nor missing is there, and declares nothing. `listed_after` its start a run is
    shown to who searches for it.
    """

    clock: VirtualClock
    runs: dict[RunKey, RunReading] = field(default_factory=dict)
    causes: dict[RunKey, FailedActivity] = field(default_factory=dict)
    creates: list[Create] = field(default_factory=list)
    reads: Counter[RunKey] = field(default_factory=Counter)
    activity_reads: Counter[RunKey] = field(default_factory=Counter)
    create_script: deque[Refusal | Lost] = field(default_factory=deque)
    read_script: deque[RunReading | Refusal] = field(default_factory=deque)
    cancels: list[tuple[RunKey, bool]] = field(default_factory=list)
    cancel_script: deque[Refusal | Lost] = field(default_factory=deque)
    wrappers: dict[str, PipelineDeclaration] = field(default_factory=dict)
    wrapper_reads: int = 0
    pipelines: dict[str, PipelineDeclaration] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    pipeline_reads: Counter[str] = field(default_factory=Counter)
    pipeline_script: deque[Refusal] = field(default_factory=deque)
    run_searches: int = 0
    _searched: tuple[datetime, datetime] | None = None
    search_script: deque[Refusal] = field(default_factory=deque)
    listed_after: timedelta = timedelta(0)
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

    def begin(
        self,
        key: RunKey,
        *,
        pipeline: str = "copy_orders",
        status: RunStatus = RunStatus.IN_PROGRESS,
        parameters: Mapping[str, object] | None = None,
        group: str | None = None,
    ) -> None:
        """Have a run that goes on: the first of its group, unless that is named."""
        self.runs[key] = RunReading(
            status,
            status.value,
            pipeline=pipeline,
            run_start=self.clock.now(),
            group=group or key.run_id,
            parameters=_shown(parameters or {}),
        )

    def declare(self, pipeline: str, *parameters: str) -> None:
        """Have a pipeline that takes these parameters."""
        self.pipelines[pipeline] = PipelineDeclaration(pipeline, frozenset(parameters))

    def wrap(self, pipeline: str, *parameters: str) -> None:
        """Have a wrapper for a pipeline."""
        declared = frozenset({*parameters, policy.CORRELATION})
        self.wrappers[pipeline] = PipelineDeclaration(policy.wrapper_of(pipeline), declared, is_wrapper=True)

    def begin_child(self, key: RunKey, parent: RunKey, *, pipeline: str = "copy_orders") -> None:
        """Have a wrapper's run start the run that it wraps."""
        self.begin(key, pipeline=pipeline)
        self.runs[key] = replace(
            self.runs[key],
            parent_run_id=parent.run_id,
            parent_pipeline=self.runs[parent].pipeline,
            by_hand=False,
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

    def create_run(
        self, factory: FactoryId, pipeline: str, parameters: JsonObject, recovery: Recovery | None = None
    ) -> Started | Refusal:
        """Start a run, or run one again with its own parameters, unless the script says otherwise."""
        self.creates.append(Create(factory, pipeline, dict(parameters), recovery))
        step = self.create_script.popleft() if self.create_script else self.down
        if isinstance(step, Refusal):
            return step
        if pipeline in self.missing:
            return Refusal(RefusalKind.NOT_FOUND, "ADF answered 404")
        run = RunKey(factory, f"run-{len(self.creates)}")
        if recovery is None:
            self.begin(run, pipeline=pipeline, parameters=self._taken(pipeline, parameters))
        else:
            again = self.runs.get(RunKey(factory, recovery.run_id))
            if again is None or (again.pipeline or "").lower() != pipeline.lower():
                return Refusal(RefusalKind.INVALID, "ADF answered 400 ReferencedPipelineRunNotValid")
            group = again.group or recovery.run_id
            self.begin(run, pipeline=pipeline, parameters=again.parameters, group=group)
        return step.refusal if isinstance(step, Lost) else Started(run.run_id)

    def _taken(self, pipeline: str, parameters: JsonObject) -> JsonObject:
        """Leave out what a pipeline does not declare, as ADF does; one that was never declared takes everything."""
        declared = self.pipelines.get(pipeline) or self.wrappers.get(policy.unwrapped(pipeline) or "")
        if declared is None or declared.name != pipeline:
            return parameters
        known = {name.lower() for name in declared.parameters}
        return {name: value for name, value in parameters.items() if name.lower() in known}

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
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None, ended: bool = False
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
            if key.factory == factory
            and since <= (reading.run_end or reading.run_start or since) + self.ahead <= until
            and not (ended and reading.status in _GOING_ON)
        ]
        return self._page(changed, continuation)

    def search_runs(
        self, factory: FactoryId, pipeline: str, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Show a page of one pipeline's runs that changed in a window, the oldest first, as far as they are listed.

        All times are by a clock that is `ahead` of the bridge's.
        """
        self.run_searches += 1
        if self.search_script:
            return self.search_script.popleft()
        if self.down is not None:
            return self.down
        if continuation is None:
            self._searched = (since, until)
        elif self._searched != (since, until):
            return Refusal(RefusalKind.INVALID, "ADF answered 400: the continuation is another query's")
        now = self.clock.now()
        listed = [
            (key.run_id, replace(reading, run_start=start + self.ahead))
            for key, reading in self.runs.items()
            if key.factory == factory
            and reading.pipeline == pipeline
            and (start := reading.run_start or now) + self.listed_after <= now
            and since <= (reading.run_end or start) + self.ahead <= until
        ]
        listed.sort(key=lambda one: one[1].run_start or now)
        return self._page(listed, continuation)

    def _page(self, found: Sequence[tuple[str, RunReading]], continuation: str | None) -> RunsPage:
        start = int(continuation or 0)
        following = str(start + self.page_size) if len(found) > start + self.page_size else None
        return RunsPage(dict(found[start : start + self.page_size]), following, self.clock.now() + self.ahead)

    def pipeline(self, factory: FactoryId, name: str, *, fresh: bool) -> PipelineDeclaration | Refusal | None:
        """Tell what a pipeline or a wrapper declares; None when there is none of that name."""
        self.pipeline_reads[name] += 1
        if policy.is_wrapper(name):
            self.wrapper_reads += 1
        if self.pipeline_script:
            return self.pipeline_script.popleft()
        if self.down is not None:
            return self.down
        if policy.is_wrapper(name):
            return self.wrappers.get(policy.unwrapped(name) or "")
        return None if name in self.missing else self.pipelines.get(name, PipelineDeclaration(name, PARAMETERS))

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


def _shown(parameters: Mapping[str, object]) -> Mapping[str, str]:
    """Return a run's parameters as ADF shows them: text as it is, anything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
