"""The promises about runs that nobody waits for: none is cancelled too early, and each that is to be is, in the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import Final

from bridge.model import OnAbandon, RunKey, RunStatus, Wait, WaitState
from tests.fakes.airflow import PARKED, place_of
from tests.simulate.adf import SimAdf
from tests.simulate.airflow import GOING_ON, IN_THE_END, SimAirflow
from tests.simulate.audit import Audit
from tests.simulate.starts import Starts
from tests.simulate.timeline import Timeline, Violation

_IN_TIME: Final = timedelta(minutes=2)  # longer than any call in the simulated world takes
CANCELLED: Final = "abandoned run was cancelled in the end"
FINISHED: Final = "run of a start that was left unfinished was cancelled in the end"
_SOON: Final = timedelta(minutes=7)


class Abandonment:
    """Knows who truly waits for a run, and who may yet take it over."""

    def __init__(self, timeline: Timeline, audit: Audit, airflow: SimAirflow, adf: SimAdf, starts: Starts) -> None:
        self._timeline = timeline
        self._audit = audit
        self._airflow = airflow
        self._adf = adf
        self._starts = starts
        self._to_be_cancelled: list[Wait] = []
        self._to_be_finished: set[str] = set()
        self.awaited: Callable[[], Collection[RunKey | None]] = list  # the runs that others may yet wait for

    def check_cancel(self, key: RunKey) -> None:
        """Raise Violation when a run is cancelled that is waited for, or whose waits do not want that."""
        now = self._timeline.now()
        every = self._audit.every_wait()
        waits = [wait for wait in every if wait.key == key]
        reasons = [self._still_wanted(wait, now) for wait in waits if wait.on_abandon is OnAbandon.CANCEL]
        if not reasons or all(reasons):
            raise Violation("cancelled", f"{key.run_id} was cancelled: {reasons or 'no wait wants that'}")
        related = self._related(key)
        for wait in every:
            # One that registers while the run is being cancelled comes too late.
            settled = now - wait.registered_at > _IN_TIME
            if wait.key in related and wait.state is WaitState.OPEN and settled and not self._is_older(wait, waits):
                raise Violation("cancelled", f"{key.run_id} was cancelled, and another task waits for it", wait.token)

    def _related(self, key: RunKey) -> set[RunKey]:
        """Return the runs whose end a cancel of a run is: what it wraps as well, and what wraps it."""
        run = self._adf.runs[key]
        return {one for one in (key, run.child, run.parent) if one is not None}

    def _is_older(self, wait: Wait, others: Collection[Wait]) -> bool:
        """Whether a wait is that of a task's earlier try; the bridge may have registered it late."""
        row = self._airflow.instances.get(place_of(wait.task))
        is_over = row is not None and row.token != wait.token
        return any(
            other.task.place == wait.task.place
            and other.task.try_number > wait.task.try_number
            and (other.registered_at >= wait.registered_at or is_over)
            for other in others
        )

    def _still_wanted(self, wait: Wait, now: datetime) -> str:
        """Say why a run is not abandoned by a task in the try that registered; nothing if it is."""
        row = self._airflow.instances.get(place_of(wait.task))
        if now >= wait.deadline:
            return ""
        kept = wait.keep_for_next_try and not self._starts.has_spoken(wait)
        if row is None:
            # Unless Airflow had shown before that the try was over, and the task was removed since.
            seen = self._airflow.seen_ended if kept else self._airflow.seen_over
            return "" if wait.token in seen else "its task is not there, which proves nothing"
        if row.token == wait.token and row.state in GOING_ON:
            return f"its task is {row.state}"
        over = row.state in IN_THE_END or wait.token in self._airflow.seen_ended
        return f"its next try may take it over; its task is {row.state}" if kept and not over else ""

    def prolong(self) -> None:
        """Have the runs go on that are abandoned now, or will be soon, until they are cancelled as they have to be.

        But for those that somebody else may wait for: who is about to register, or whose request is not settled.
        """
        now = self._timeline.now()
        for wait in self._abandoned(now):
            goes_on = not self._adf.truth(wait.key).status(now).is_terminal
            if goes_on and self._starts.is_of(wait) and not self._related(wait.key) & set(self.awaited()):
                self._adf.prolong(wait.key)
                self._to_be_cancelled.append(wait)
        for key in self._starts.unfinished():
            self.prolong_unfinished(key)

    def prolong_unfinished(self, key: str) -> None:
        """Have the run of a request go on whose task has died before anybody waited for it, until it is cancelled.

        But for one that another task waits for, or may.
        """
        run, wait = self._starts.run_of(key), self._starts.requests[key].wait
        if run is None or wait is None or wait.on_abandon is not OnAbandon.CANCEL:
            return
        row = self._airflow.instances.get(place_of(wait.task))
        is_over = row is not None and row.state in IN_THE_END
        waits = [one for one in self._audit.waits.values() if one.state is WaitState.OPEN]
        others = {one.key for one in waits if one.task.place != wait.task.place}
        is_alone = not {*others, *self.awaited()} & self._related(run.key)
        if is_over and is_alone and self._adf.truth(run.key).goes_on(self._timeline.now()):
            self._adf.prolong(run.key)
            self._to_be_finished.add(key)

    def _abandoned(self, now: datetime) -> Iterator[Wait]:
        """Yield the open waits of tasks that are over for good, or that will be by their deadline; of these alone."""
        still_open = [
            wait
            for wait in self._audit.waits.values()
            if wait.state is WaitState.OPEN and not self._starts.is_taken_over(wait)
        ]
        for wait in still_open:
            row = self._airflow.instances.get(place_of(wait.task))
            related = self._related(wait.key)
            alone = not any(other.key in related for other in still_open if other is not wait)
            if wait.on_abandon is OnAbandon.CANCEL and row is not None and alone:
                expires = row.token == wait.token and row.state == PARKED and wait.deadline < now + _SOON
                if row.state in IN_THE_END or expires:
                    yield wait

    def check_cancelled(self) -> None:
        """Raise Violation for a run that was abandoned, and goes on all the same."""
        for wait in self._to_be_cancelled:
            run = self._adf.truth(wait.key)
            after = self._audit.wait(wait.token)
            state = after.state if after is not None else None
            if state is not WaitState.WITHDRAWN and run.outcome is not RunStatus.CANCELLED:
                raise Violation("abandoned", f"{wait.key.run_id} goes on, its wait is {state}", wait.token)
            self._timeline.happened[CANCELLED] += 1
        for key in self._to_be_finished:
            found, after = self._starts.run_of(key), self._audit.wait(key)
            if found is None or (after is not None and after.state is WaitState.WITHDRAWN):
                continue
            if self._adf.truth(found.key).outcome is not RunStatus.CANCELLED:
                raise Violation("leaked", f"{found.key.run_id} goes on, and its task died before it waited", key)
            self._timeline.happened[FINISHED] += 1
