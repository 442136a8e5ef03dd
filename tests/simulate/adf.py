"""Data Factory as the simulator has it: runs that end at a time of their own, read late, refused or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.model import FactoryId, FailedActivity, JsonObject, Match, Recovery, RunKey, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, PipelineDeclaration, Refusal, RefusalKind, RunsPage, Started
from tests.simulate.audit import CANARY, SECRET
from tests.simulate.caller import Caller
from tests.simulate.timeline import Timeline, Violation
from tests.simulate.true_run import DECLARED, PIPELINE, WRAPPER, TrueRun, as_text

PAGE: Final = 3
PAGE_OF_SEARCH: Final = 8
# A run that somebody has to cancel.
ENDLESS: Final = timedelta(days=1)
# A run is in ADF's lists so long after it began, at the latest.
LISTED_WITHIN: Final = timedelta(seconds=60)
_OUTCOMES: Final = (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.FAILED, RunStatus.CANCELLED)
REFUSALS: Final = {
    "adf 401": Refusal(RefusalKind.UNAUTHENTICATED, "ADF answered 401"),
    "adf 403": Refusal(RefusalKind.FORBIDDEN, "ADF answered 403"),
    "adf 429": Refusal(RefusalKind.THROTTLED, "ADF answered 429", retry_after=timedelta(seconds=15)),
    "adf 5xx": Refusal(RefusalKind.UNAVAILABLE, "ADF answered 500"),
    "adf unreachable": Refusal(RefusalKind.UNREACHABLE, "ADF cannot be reached"),
}
_REFUSED: Final = tuple(REFUSALS)
_NO_ANSWER: Final = Refusal(RefusalKind.UNAVAILABLE, "ADF did not answer")


class SimAdf:
    """The port `Adf`.

    `asked` counts the createRun requests that arrived for an idempotency key, `created` the runs that were started for
    it. `unsure` holds the keys whose createRun may have started one, as far as its answers tell.
    """

    def __init__(self, timeline: Timeline, trouble: float, on_run: Callable[[TrueRun], None]) -> None:
        self.runs: dict[RunKey, TrueRun] = {}
        self.asked: Counter[str] = Counter()
        self.created: Counter[str] = Counter()
        self.unsure: set[str] = set()
        self.not_run_again: set[str] = set()
        self.caller = Caller()
        self.wrapping: FactoryId | None = None  # the factory whose pipelines have wrappers
        self.check_cancel: Callable[[RunKey], None] = _anything
        self.check_create: Callable[[Recovery | None], None] = _anything
        self._timeline = timeline
        self._trouble = trouble
        self._on_run = on_run
        self._ahead = timedelta(seconds=timeline.random.uniform(-90, 90))
        self.search_denied_at = timeline.now() - timedelta(days=1)
        self._losing_until = 0.0
        self._lag = timedelta(seconds=timeline.random.uniform(0, 60))

    def begin(
        self,
        factory: FactoryId,
        pipeline: str = PIPELINE,
        parameters: Mapping[str, str] | None = None,
        *,
        group: str | None = None,
        asked_by: str = "",
    ) -> TrueRun:
        """Have a run begin, with what it starts itself; when and how it ends is decided now."""
        run = self._planned(factory, pipeline, parameters or {}, group, asked_by)
        if policy.is_wrapper(pipeline):
            run = self._begin_wrapped(run)
        self.runs[run.key] = run
        self._on_run(run)
        return run

    def _planned(
        self, factory: FactoryId, pipeline: str, parameters: Mapping[str, str], group: str | None, asked_by: str
    ) -> TrueRun:
        now = self._timeline.now()
        length, outcome = self.fate()
        run_id = f"run-{len(self.runs) + 1}"
        return TrueRun(
            RunKey(factory, run_id),
            now,
            now + length,
            outcome,
            pipeline,
            parameters=parameters,
            group=group or run_id,
            asked_by=asked_by,
            listed_at=now + LISTED_WITHIN * self._timeline.random.random(),
        )

    def _begin_wrapped(self, run: TrueRun) -> TrueRun:
        """Have the run begin that a wrapper's run wraps, unless that cannot start; return the wrapper's."""
        over = timedelta(seconds=self._timeline.random.uniform(0.5, 20))
        if self._timeline.hits("adf did not start the child", 0.1):
            return replace(run, ends=run.started + over, outcome=RunStatus.FAILED)
        own = RunStatus.SUCCEEDED if run.outcome is RunStatus.SUCCEEDED else RunStatus.FAILED
        child = replace(
            run,
            key=RunKey(run.key.factory, f"{run.key.run_id}-child"),
            pipeline=policy.unwrapped(run.pipeline) or "",
            parent=run.key,
            parameters={name: value for name, value in run.parameters.items() if name != policy.CORRELATION},
            group=f"{run.key.run_id}-child",
            asked_by="",
        )
        self.runs[child.key] = child
        return replace(run, ends=run.ends + over, outcome=own, child=child.key)

    def truth(self, key: RunKey) -> TrueRun:
        """Return the run whose end counts for one that was started."""
        run = self.runs[key]
        return self.runs[run.child] if run.child is not None else run

    def prolong(self, key: RunKey) -> None:
        """Have a run go on until somebody cancels it."""
        for one in (self.runs[key], self.truth(key)):
            self.runs[one.key] = replace(one, ends=self._timeline.now() + ENDLESS, outcome=RunStatus.SUCCEEDED)

    def lose_create_runs(self, seconds: float) -> None:
        """Have many createRun requests, or the answers to them, get lost for a while."""
        self._timeline.faults["adf lost many createRuns"] += 1
        self._losing_until = self._timeline.seconds + seconds

    def fate(self) -> tuple[timedelta, RunStatus]:
        """Decide how long a run takes and how it ends."""
        chance = self._timeline.random
        # Half of them take minutes: it takes one to prove that nobody waits for a run.
        low, high = chance.choice(((0.2, 5), (5, 60), (5, 60), (60, 300), (60, 300)))
        return timedelta(seconds=chance.uniform(low, high)), chance.choice(_OUTCOMES)

    def _refuses(self) -> Refusal | None:
        fault = self._timeline.strikes(_REFUSED, self._trouble)
        return REFUSALS[fault] if fault is not None else None

    def create_run(
        self, factory: FactoryId, pipeline: str, parameters: JsonObject, recovery: Recovery | None = None
    ) -> Started | Refusal:
        """Start a run; ADF may refuse it, repeating a parameter, or start it and not say so, or not even hear of it."""
        key = self.caller.key
        if key in self.unsure:
            raise Violation("createRun", "it was sent again, although it may have started a run", key)
        self.check_create(recovery)
        self.asked[key] += 1
        answer = self._create(factory, pipeline, as_text(parameters), recovery)
        if isinstance(answer, Started) or answer.kind is RefusalKind.UNAVAILABLE:
            self.unsure.add(key)
        elif recovery is not None and answer.kind is RefusalKind.INVALID:
            self.not_run_again.add(key)
        return answer

    def _create(
        self, factory: FactoryId, pipeline: str, parameters: Mapping[str, str], recovery: Recovery | None
    ) -> Started | Refusal:
        key = self.caller.key
        if self._timeline.hits("adf refused createRun", self._trouble / 2):
            return Refusal(RefusalKind.INVALID, f"ADF answered 400: {SECRET} is no date")
        if recovery is not None and self._timeline.hits("adf did not run it again", 0.35):
            return Refusal(RefusalKind.INVALID, f"ADF answered 400: {SECRET} cannot be run again")
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        loses = 0.35 if self._timeline.seconds < self._losing_until else 0.04 + self._trouble / 2
        if self._timeline.hits("adf createRun lost on its way", loses):
            return _NO_ANSWER
        self.created[key] += 1
        if self.created[key] > 1:
            raise Violation("createRun", "two runs were started for one idempotency key", key)
        group = None
        if recovery is not None:
            again = self.runs[RunKey(factory, recovery.run_id)]
            pipeline, parameters, group = again.pipeline, again.parameters, again.group
        run = self.begin(factory, pipeline, parameters, group=group, asked_by=key)
        self._people_start(run)
        if self._timeline.hits("adf createRun without an answer", loses * 1.5 if recovery is None else 0.5):
            return _NO_ANSWER
        return Started(run.key.run_id)

    def _people_start(self, run: TrueRun) -> None:
        """Have people start what a task has just started, or run it again when it has ended."""
        chance = self._timeline.random
        if self._timeline.hits("person: started an equal run", 0.05):
            keyless = {**run.parameters, policy.CORRELATION: ""} if run.bridge_key else run.parameters
            self._timeline.after(chance.uniform(0, 40), lambda: self._by_a_person(run, keyless))
        if self._timeline.hits("person: ran a run again", 0.08):
            at = run.ends + timedelta(seconds=chance.uniform(0, 20))
            self._timeline.at(at, lambda: self._by_a_person(run, run.parameters, group=run.group))

    def _by_a_person(self, run: TrueRun, parameters: Mapping[str, str], group: str | None = None) -> None:
        self.begin(run.key.factory, run.pipeline, parameters, group=group)

    def cancel_run(self, key: RunKey, *, recursive: bool) -> Accepted | NotRunning | Refusal:
        """Cancel a run, if that is all right; ADF may do it and not say so."""
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        if not self.caller.is_operator:
            self.check_cancel(key)
        run, now = self.runs[key], self._timeline.now()
        if run.status(now).is_terminal:
            return NotRunning()
        for one in (run, self.truth(key)):
            if not one.status(now).is_terminal:
                self.runs[one.key] = replace(one, ends=now, outcome=RunStatus.CANCELLED)
        why = "the operator was told to end" if self.caller.is_operator else "nobody waited for it"
        self._timeline.happened[f"run cancelled: {why}"] += 1
        if self._timeline.hits("adf cancel without an answer", 0.5):
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
            return replace(run.reading(run.started, self._ahead), status=None, status_text="Paused")
        if self._timeline.hits("adf read of an older state", self._trouble + 0.12):
            at -= timedelta(seconds=self._timeline.random.uniform(1, 60))
        return run.reading(at, self._ahead)

    def query_runs(
        self, factory: FactoryId, *, since: datetime, until: datetime, continuation: str | None, ended: bool = False
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
            wanted = not ended or run.status(seen).is_terminal
            if run.key.factory == factory and since <= at + self._ahead <= until and wanted:
                changed.append((run.key.run_id, run.reading(seen, self._ahead)))
        return self._page(changed, continuation, PAGE)

    def search_runs(
        self, factory: FactoryId, pipeline: str, *, since: datetime, until: datetime, continuation: str | None
    ) -> RunsPage | Refusal:
        """Show a page of a pipeline's runs, the oldest first, as far as they are listed by now."""
        refusal = self._refuses()
        now = self._timeline.now()
        if refusal is not None:
            if refusal.kind is RefusalKind.FORBIDDEN:
                self.search_denied_at = now
            return refusal
        listed = [
            run
            for run in self.runs.values()
            if run.pipeline == pipeline
            and run.key.factory == factory
            and run.listed_at is not None
            and run.listed_at <= now
            and since <= (run.ends if run.ends <= now else run.started) + self._ahead <= until
        ]
        listed.sort(key=lambda run: (run.started, run.key.run_id))
        found = [(run.key.run_id, run.reading(now, self._ahead)) for run in listed]
        return self._page(found, continuation, PAGE_OF_SEARCH)

    def _page(self, found: Sequence[tuple[str, RunReading]], continuation: str | None, size: int) -> RunsPage:
        start = int(continuation or 0)
        size = size if self._timeline.chaos else 100
        following = str(start + size) if len(found) > start + size else None
        return RunsPage(dict(found[start : start + size]), following, self._timeline.now() + self._ahead)

    def pipeline(self, factory: FactoryId, name: str, *, fresh: bool) -> PipelineDeclaration | Refusal | None:
        """Tell what a pipeline declares; in one of the factories, one has a wrapper."""
        refusal = self._refuses()
        if refusal is not None:
            return refusal
        if policy.is_wrapper(name):
            return WRAPPER if factory == self.wrapping and name == WRAPPER.name else None
        return DECLARED[name]

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


def _anything(_: object) -> None:
    """Take anything."""
