"""Data Factory as the simulator has it: runs that end at a time of their own, read late, refused or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.model import FactoryId, FailedActivity, JsonObject, Match, RunKey, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, Refusal, RefusalKind, RunsPage, Started, WrapperPipeline
from tests.simulate.audit import CANARY
from tests.simulate.timeline import Timeline, Violation

PAGE: Final = 3
PIPELINE: Final = "copy_orders"
WRAPPER: Final = WrapperPipeline(policy.wrapper_of(PIPELINE), frozenset({"key", "secret", policy.CORRELATION}))
QUEUED: Final = timedelta(seconds=1)
CANCELING: Final = timedelta(seconds=3)
_OUTCOMES: Final = (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
REFUSALS: Final = {
    "adf 401": Refusal(RefusalKind.UNAUTHENTICATED, "ADF answered 401"),
    "adf 403": Refusal(RefusalKind.FORBIDDEN, "ADF answered 403"),
    "adf 429": Refusal(RefusalKind.THROTTLED, "ADF answered 429", retry_after=timedelta(seconds=15)),
    "adf 5xx": Refusal(RefusalKind.UNAVAILABLE, "ADF answered 500"),
    "adf unreachable": Refusal(RefusalKind.UNREACHABLE, "ADF cannot be reached"),
}
_REFUSED: Final = tuple(REFUSALS)


@dataclass(frozen=True)
class TrueRun:
    """A run as it truly is. `child` is the run that it wraps, `parent` the one that wraps it."""

    key: RunKey
    started: datetime
    ends: datetime
    outcome: RunStatus
    pipeline: str = PIPELINE
    child: RunKey | None = None
    parent: RunKey | None = None

    def status(self, at: datetime) -> RunStatus:
        """Return the run's status at a time."""
        if at >= self.ends:
            return self.outcome
        if self.outcome is RunStatus.CANCELLED and at >= self.ends - CANCELING:
            return RunStatus.CANCELING
        return RunStatus.QUEUED if at < self.started + QUEUED else RunStatus.IN_PROGRESS


class SimAdf:
    """The port `Adf`. `created` counts the runs that were started for an idempotency key."""

    def __init__(self, timeline: Timeline, trouble: float, on_run: Callable[[TrueRun], None]) -> None:
        self.runs: dict[RunKey, TrueRun] = {}
        self.created: Counter[str] = Counter()
        self.wrapping: FactoryId | None = None  # the factory whose pipelines have wrappers
        self.check_cancel: Callable[[RunKey], None] = _anything
        self._timeline = timeline
        self._trouble = trouble
        self._on_run = on_run
        self._ahead = timedelta(seconds=timeline.random.uniform(-90, 90))
        self._lag = timedelta(seconds=timeline.random.uniform(0, 60))

    def begin(self, factory: FactoryId) -> TrueRun:
        """Have a run begin; when and how it ends is decided now."""
        now = self._timeline.now()
        length, outcome = self.fate()
        run = TrueRun(RunKey(factory, f"run-{len(self.runs) + 1}"), now, now + length, outcome)
        self.runs[run.key] = run
        self._on_run(run)
        return run

    def begin_wrapped(self, factory: FactoryId) -> TrueRun:
        """Have a wrapper's run begin, and the run that it wraps, unless that cannot start; return the former."""
        chance, now = self._timeline.random, self._timeline.now()
        length, outcome = self.fate()
        over = timedelta(seconds=chance.uniform(0.5, 20))
        key = RunKey(factory, f"run-{len(self.runs) + 1}")
        if self._timeline.hits("adf did not start the child", 0.1):
            wrapper = TrueRun(key, now, now + over, RunStatus.FAILED, WRAPPER.name)
            self.runs[key] = wrapper
        else:
            own = RunStatus.SUCCEEDED if outcome is RunStatus.SUCCEEDED else RunStatus.FAILED
            child_key = RunKey(factory, f"run-{len(self.runs) + 2}")
            wrapper = TrueRun(key, now, now + length + over, own, WRAPPER.name, child=child_key)
            self.runs[key] = wrapper
            self.runs[child_key] = TrueRun(child_key, now, now + length, outcome, parent=key)
        self._on_run(wrapper)
        return wrapper

    def truth(self, key: RunKey) -> TrueRun:
        """Return the run whose end counts for one that was started."""
        run = self.runs[key]
        return self.runs[run.child] if run.child is not None else run

    def fate(self) -> tuple[timedelta, RunStatus]:
        """Decide how long a run takes and how it ends."""
        chance = self._timeline.random
        # Half of them take minutes: it takes one to prove that nobody waits for a run.
        low, high = chance.choice(((0.2, 5), (5, 60), (60, 300), (60, 300)))
        return timedelta(seconds=chance.uniform(low, high)), chance.choice(_OUTCOMES)

    def _refuses(self) -> Refusal | None:
        fault = self._timeline.strikes(_REFUSED, self._trouble)
        return REFUSALS[fault] if fault is not None else None

    def create_run(self, factory: FactoryId, pipeline: str, parameters: JsonObject) -> Started | Refusal:
        """Start a run; ADF may refuse it, repeating a parameter, or start it and not say so."""
        if self._timeline.hits("adf refused createRun", self._trouble / 2):
            return Refusal(RefusalKind.INVALID, f"ADF answered 400: {parameters['secret']} is no date")
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        key = str(parameters["key"])
        self.created[key] += 1
        if self.created[key] > 1:
            raise Violation("createRun", "two runs were started for one idempotency key", key)
        run = self.begin_wrapped(factory) if policy.is_wrapper(pipeline) else self.begin(factory)
        if self._timeline.hits("adf createRun without an answer", self._trouble):
            return Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer")
        return Started(run.key.run_id)

    def cancel_run(self, key: RunKey, *, recursive: bool) -> Accepted | NotRunning | Refusal:
        """Cancel a run, if that is all right; ADF may do it and not say so."""
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        self.check_cancel(key)
        run, now = self.runs[key], self._timeline.now()
        if run.status(now).is_terminal:
            return NotRunning()
        for one in (run, self.truth(key)):
            if not one.status(now).is_terminal:
                self.runs[one.key] = replace(one, ends=now, outcome=RunStatus.CANCELLED)
        self._timeline.happened["run cancelled: nobody waited for it"] += 1
        if self._timeline.hits("adf cancel without an answer", 0.4):
            return Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer")
        return Accepted()

    def read_run(self, key: RunKey) -> RunReading | Refusal:
        """Read a run, sometimes as it was a while ago."""
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        run = self.runs.get(key)
        if run is None:
            return Refusal(RefusalKind.NOT_FOUND, "ADF answered 404")
        at = self._timeline.now()
        if at < run.ends and self._timeline.hits("adf read with a status unknown here", self._trouble / 2):
            return replace(_reading(run, run.started), status=None, status_text="Paused")
        if self._timeline.hits("adf read of an older state", self._trouble + 0.12):
            at -= timedelta(seconds=self._timeline.random.uniform(1, 60))
        return _reading(run, at)

    def query_runs(
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Show a page of what changed, by ADF's clock, as far as it shows by now."""
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        now = self._timeline.now()
        seen = now - self._lag if self._timeline.chaos else now
        changed = []
        for run in self.runs.values():
            at = run.ends if run.ends <= seen else run.started
            if run.key.factory == factory and since <= at + self._ahead <= until:
                changed.append((run.key.run_id, _reading(run, seen)))
        start = int(continuation or 0)
        size = PAGE if self._timeline.chaos else 100
        following = str(start + size) if len(changed) > start + size else None
        return RunsPage(dict(changed[start : start + size]), following, now + self._ahead)

    def wrapper(self, factory: FactoryId, pipeline: str) -> WrapperPipeline | Refusal | None:
        """Tell whether there is a wrapper: in one of the factories there is."""
        refusal = self._refuses()
        return refusal or (WRAPPER if factory == self.wrapping else None)

    def child(self, key: RunKey, run: RunReading) -> str | Refusal | None:
        """Tell which run a wrapper's run has started."""
        refusal = self._refuses()
        child = self.runs[key].child
        return refusal or (child.run_id if child is not None else None)

    def find_run(self, factory: FactoryId, match: Match) -> FoundRun | Refusal | None:
        """Find a run: no simulated task waits for one that it does not know."""
        raise Violation("searched", f"a run of {match.pipeline} was looked for")

    def failed_activity(self, key: RunKey, run: RunReading) -> FailedActivity | None:
        """Read why a run failed."""
        return FailedActivity("copy", "Copy", "2200", f"row of {CANARY}")

    def check(self, factory: FactoryId) -> Refusal | None:
        """Say that ADF is up."""
        return None


def _reading(run: TrueRun, at: datetime) -> RunReading:
    status = run.status(at)
    ended = status.is_terminal
    message = f"the load of {CANARY} failed" if status is RunStatus.FAILED else None
    return RunReading(
        status,
        status.value,
        run.pipeline,
        run.started,
        run_end=run.ends if ended else None,
        message=message,
        parent_run_id=run.parent.run_id if run.parent is not None else None,
        parent_pipeline=WRAPPER.name if run.parent is not None else None,
    )


def _anything(_: RunKey) -> None:
    """Take anything."""
