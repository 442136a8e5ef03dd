"""Airflow as the simulator has it: tries that run, park, are answered, cleared, retried and marked, under faults.

The rules were observed on a live Airflow and are those of `tests.fakes.airflow`; here every change of a task instance
is checked against what the bridge was allowed to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bridge.model import Completion, TaskRef
from bridge.ports import Accepted, Answer, ParkedPage, ParkedTask, Refusal, RefusalKind, TaskView
from tests.fakes.airflow import ANSWERED, MISSING, PARKED, TOO_EARLY, Place, place_of
from tests.simulate.caller import Caller
from tests.simulate.timeline import Timeline, Violation

# A task that parks later than this after it registered may be taken for one that has parked long since.
PARKS_IN_TIME: Final = 8.8
TIMED_OUT: Final = Refusal(RefusalKind.UNAVAILABLE, "Airflow did not answer")
UNREACHABLE: Final = Refusal(RefusalKind.UNREACHABLE, "Airflow cannot be reached")
REFUSALS: Final = {
    "airflow 401": Refusal(RefusalKind.UNAUTHENTICATED, "Airflow answered 401"),
    "airflow 403": Refusal(RefusalKind.FORBIDDEN, "Airflow answered 403"),
    "airflow 404": MISSING,
    "airflow 422": Refusal(RefusalKind.INVALID, "Airflow answered 422"),
    "airflow 429": Refusal(RefusalKind.THROTTLED, "Airflow answered 429", retry_after=timedelta(seconds=20)),
    "airflow 5xx": Refusal(RefusalKind.UNAVAILABLE, "Airflow answered 502"),
    "airflow time-out": TIMED_OUT,
    "airflow unreachable": UNREACHABLE,
}
_REFUSED: Final = tuple(REFUSALS)
LISTED: Final = 5
# States that a task which goes on is shown in for a moment: on the way to a worker, by an executor, by a plug-in.
IN_PASSING: Final = {
    "airflow showed deferred": "deferred",
    "airflow showed queued": "queued",
    "airflow showed up_for_reschedule": "up_for_reschedule",
    "airflow showed no state": None,
    "airflow showed a state unknown here": "on_holiday",
}
_PASSING: Final = tuple(IN_PASSING)
GOING_ON: Final = frozenset({"running", "scheduled", PARKED})
IN_THE_END: Final = ("success", "failed", "skipped", "removed", "upstream_failed")


@dataclass
class Instance:
    """A task instance. `serial` counts its tries' identities; `token` is that of the try which runs or waits now."""

    id: str | None
    try_number: int = 1
    state: str | None = None
    token: str = ""
    serial: int = 0
    ended_at: datetime | None = None
    parked_at: datetime | None = None
    parked_late: bool = False
    parked_again: bool = False
    has_parked: bool = False
    answer: Answer | None = None
    on_resumed: Callable[[], None] | None = None
    on_failed: Callable[[], None] | None = None
    on_seen: Callable[[], None] | None = None


class SimAirflow:
    """The port `Airflow`, and what took effect of what it was told.

    `effective` holds the completions; `crossed` the tokens whose answer hit another try; `seen_over` those whose try
    the bridge has been shown to be over, `seen_ended` those whose task it has been shown to have ended since.
    """

    def __init__(self, timeline: Timeline, trouble: float, truth: Callable[[Completion], str | None]) -> None:
        self.instances: dict[Place, Instance] = {}
        self.effective: dict[str, Completion] = {}
        self.crossed: set[str] = set()
        self.seen_over: set[str] = set()
        self.seen_ended: set[str] = set()
        self.caller = Caller()
        self._timeline = timeline
        self._trouble = trouble
        self._truth = truth
        self._down_until: dict[str, float] = {}

    def go_down(self, target: str, seconds: float) -> None:
        """Have a target be down for a while."""
        self._down_until[target] = self._timeline.seconds + seconds
        self._timeline.faults["airflow outage"] += 1

    def check(self, target: str) -> Refusal | None:
        """Say whether a target is up."""
        is_down = self._timeline.chaos and self._timeline.seconds < self._down_until.get(target, 0)
        return UNREACHABLE if is_down else None

    def _refuses(self) -> Refusal | None:
        fault = self._timeline.strikes(_REFUSED, self._trouble)
        return REFUSALS[fault] if fault is not None else None

    def read_task(self, task: TaskRef) -> TaskView | Refusal:
        """Read a task instance with its answer."""
        refusal = self.check(task.target) or self._refuses()
        if refusal is not None:
            return refusal
        found = self.instances.get(place_of(task))
        if found is None:
            return MISSING
        self.caller.seen_serial = found.serial
        if found.token != task.token or found.state not in GOING_ON:
            self.seen_over.add(task.token)
        if found.state in IN_THE_END:
            self.seen_ended.add(task.token)
        if found.state == PARKED and self._timeline.hits("person acts between fence and PATCH", 0.25):
            delay = self._timeline.random.choice((0.3, 0.3, 30)) * self._timeline.random.random()
            self._timeline.after(delay, found.on_seen or _nothing)
        state = self._shown(found.state)
        return TaskView(state, found.try_number, found.id, ended_at=found.ended_at, answer=found.answer)

    def _shown(self, state: str | None) -> str | None:
        fault = self._timeline.strikes(_PASSING, 0.08) if state in GOING_ON else None
        shown = IN_PASSING[fault] if fault is not None else state
        self._timeline.shown[shown or "none"] += 1
        return shown

    def parked(self, target: str, page: int) -> ParkedPage | Refusal:
        """List the parked tasks, a few to a page; a page may leave one out."""
        refusal = self.check(target) or self._refuses()
        if refusal is not None:
            return refusal
        tasks = [
            ParkedTask(place[1], place[2], place[3], place[4], one.try_number, one.id)
            for place, one in self.instances.items()
            if place[0] == target and one.state == PARKED
        ]
        start, end = page * LISTED, (page + 1) * LISTED
        shown = tasks[start:end]
        if shown and self._timeline.hits("airflow left one out of its list", self._trouble):
            shown = shown[1:]
        return ParkedPage(shown, more=len(tasks) > end)

    def resume(self, task: TaskRef, completion: Completion) -> Accepted | Refusal:
        """Answer a task: what is refused may have been applied."""
        refusal = self.check(task.target) or self._refuses()
        if refusal is not None:
            return refusal
        if self._timeline.hits("airflow 409 for nothing", self._trouble / 1.5):
            return ANSWERED
        refusal = self._answer(task, completion)
        if refusal is None and self._timeline.hits("airflow time-out after applying", self._trouble):
            return TIMED_OUT
        return refusal or Accepted()

    def _answer(self, task: TaskRef, completion: Completion) -> Refusal | None:
        found = self.instances.get(place_of(task))
        if found is None or not found.has_parked:
            return MISSING
        if found.answer is not None:
            self._timeline.faults["airflow 409"] += 1
            return ANSWERED
        if found.token != completion.token:
            self._crossed(found, completion)
        now = self._timeline.now()
        found.answer = Answer(completion.token, by="bridge", at=now, chosen=(completion.status.value,))
        if found.state == PARKED:
            self._resumed(found, completion, now)
        return None

    def _crossed(self, found: Instance, completion: Completion) -> None:
        if found.serial == self.caller.seen_serial:
            raise Violation("fence", "a task instance was answered that is not the token's", completion.token)
        self._timeline.faults["S15: cleared between fence and PATCH"] += 1
        self.crossed.add(completion.token)

    def _resumed(self, found: Instance, completion: Completion, now: datetime) -> None:
        if found.token == completion.token:
            self.completed(completion)
        found.state = "scheduled"
        if found.parked_at is not None and now - found.parked_at < TOO_EARLY:
            if found.token == completion.token and not (found.parked_late or found.parked_again):
                raise Violation("hold", "a task was resumed before its worker had reported", completion.token)
            why = "parked late" if found.parked_late else "S15"
            self._timeline.happened[f"resumed too early: {why}"] += 1
            found.state, found.ended_at = "failed", now
            self._timeline.after(0.1, found.on_failed or _nothing)
        else:
            self._timeline.after(self._timeline.random.uniform(0.5, 4), found.on_resumed or _nothing)

    def answer_as_person(self, found: Instance) -> None:
        """Have a person answer in Required Actions."""
        found.answer = Answer(None, by="ana", at=self._timeline.now(), chosen=("Failed",))
        found.state = "scheduled"

    def completed(self, completion: Completion) -> None:
        """Count a completion that took effect, and compare it with the truth."""
        if completion.token in self.effective:
            raise Violation("double", "a token was completed twice", completion.token)
        self.effective[completion.token] = completion
        wrong = self._truth(completion)
        if wrong is not None:
            raise Violation("wrong", wrong, completion.token)


def _nothing() -> None:
    """Nobody is there to go on."""
