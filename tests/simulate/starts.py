"""The promises about starting runs: who may have which run, what is started anew, and what nobody can know.

Every record of a trigger request passes here when it is written, every createRun when it arrives, and every answer when
its task hears it; all of it is compared with what truly happened.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bridge import policy
from bridge.model import (
    NewTry,
    PreviousTry,
    Recovery,
    RunKey,
    RunStatus,
    StartedHow,
    StartRequest,
    StartState,
    TriggerRequest,
    Wait,
)
from tests.fakes.airflow import Place, place_of
from tests.simulate.adf import SimAdf
from tests.simulate.audit import Audit
from tests.simulate.timeline import Timeline, Violation
from tests.simulate.true_run import TrueRun, as_text

# What is told from others by its parameters alone has to wait for what may be like it.
ADOPTED_AFTER: Final = timedelta(minutes=1)
# ADF may take so long to list a run.
SEARCHED_FOR: Final = timedelta(minutes=3)
# A search is over after this, whatever slows it down.
_SEARCHED_IN: Final = timedelta(seconds=60)
_STALL: Final = timedelta(seconds=110)
# What ADF said may have been as old as that.
_OLDER: Final = timedelta(seconds=90)
_BY_HOW: Final = {
    StartedHow.STARTED: "run started",
    StartedHow.REATTACHED: "run of the previous try taken over",
    StartedHow.RECOVERED: "run of the previous try run again",
}
ADOPTED: Final = ("run adopted by its key", "run adopted by its parameters", "run that recovers adopted by its group")
CALLER_DIED: Final = "operator died with the bridge that it asked"
KINDS: Final = (*_BY_HOW.values(), *ADOPTED, "told the operator: unknown-outcome")


@dataclass
class Known:
    """A trigger request as its record stands or last stood. `since` it has been there, `settled` as it is."""

    record: StartRequest
    since: datetime
    settled: datetime
    is_there: bool = True
    is_answered: bool = False


class Starts:
    """All trigger requests by their keys. `was_lost` says whether an index row to one was missing since a time."""

    def __init__(
        self,
        timeline: Timeline,
        audit: Audit,
        adf: SimAdf,
        was_lost: Callable[[str, datetime], bool],
        retention: timedelta,
    ) -> None:
        self.requests: dict[str, TriggerRequest] = {}
        self._timeline = timeline
        self._audit = audit
        self._adf = adf
        self._was_lost = was_lost
        self._retention = retention
        self._known: dict[str, Known] = {}
        self._holders: dict[RunKey, dict[str, StartedHow]] = defaultdict(dict)
        self._told: dict[str, RunKey] = {}
        self._died: set[str] = set()
        self._stalled_until = timeline.now()
        self.on_caller_died: Callable[[str], None] = _anything
        self.callers: dict[str, Callable[[], None]] = {}  # how to end who asks, for good, by the key

    # --- what happens ---

    def died(self, key: str) -> None:
        """Hear that a process which worked for a key died, or could not use the store."""
        self._died.add(key)

    def died_with(self, key: str) -> None:
        """Hear that a process died which had begun something for a key: some callers die with it."""
        if key in self.callers and self._timeline.hits(CALLER_DIED, 0.8):
            self.callers[key]()
            if key in self._known:
                self.on_caller_died(key)

    def stalled(self, key: str) -> None:
        """Hear that a process did nothing for a minute: what it does then is late."""
        self._died.add(key)
        self._stalled_until = self._timeline.now() + _STALL

    def wrote(self, record: StartRequest) -> None:
        """Check a record that is written."""
        key, now = record.idempotency_key, self._timeline.now()
        old = self._known.get(key)
        if old is None or not old.is_there:
            self._known[key] = Known(record, now, now)
            old = None
        was = old.record.state if old is not None else None
        known = self._known[key]
        known.record = record
        if was is not record.state and (was is None or _is_settled(was) or _is_settled(record.state)):
            known.settled = now
        if was is StartState.STARTED and record.state is StartState.SEARCHING and key not in self._died:
            raise Violation("taken", "a run whose start was answered was taken by another request", key)
        if record.state is StartState.UNKNOWN and was is not StartState.UNKNOWN:
            self._check_unknown(record)
        if record.how is StartedHow.ADOPTED and was is not record.state:
            self._check_adopted_once(record)
        if record.answer is not None and not known.is_answered:
            known.is_answered = True
            self._count(record)
            self._hold(record)

    def removed(self, key: str) -> None:
        """Hear that a record is gone."""
        self._known[key].is_there = False

    def creating(self, recovery: Recovery | None) -> None:
        """Check a createRun request, before anything comes of it."""
        key = self._adf.caller.key
        known, request = self._known.get(key), self.requests[key]
        if known is None:
            raise Violation("createRun", "it was sent before its request was written down", key)
        if recovery is not None:
            self._check_recovery(known.record, request, recovery)
        elif request.previous is not None and request.previous.do is not PreviousTry.RERUN:
            self._check_anew(known.record, request)

    def told(self, key: str, document: str) -> RunKey:
        """Check an answer that somebody hears: the same for the same key, always. Return its run."""
        shown = json.loads(document)
        run = RunKey(self.requests[key].factory, shown["run"]["run_id"])
        if self._told.setdefault(key, run) != run:
            raise Violation("replay", f"one key was answered with {self._told[key].run_id} and {run.run_id}", key)
        if key in self._known and self._known[key].record.key == run:
            self._hold(self._known[key].record)
        return run

    def told_unknown(self, key: str) -> None:
        """Check that nobody can know: createRun was sent, or a process died that would have."""
        if not self._adf.asked[key] and key not in self._died:
            raise Violation("unknown", "createRun was never sent, nor did a process die", key)

    def has_spoken(self, wait: Wait) -> bool:
        """Whether a later try of the task has said that it does without the run which this one waits for."""
        return any(known.record.key not in (None, wait.key) for known in self._later(wait))

    def is_taken_over(self, wait: Wait) -> bool:
        """Whether a later try of the task was answered with the run that this one waits for: it is that try's now."""
        return any(known.is_answered and known.record.key == wait.key for known in self._later(wait))

    def _later(self, wait: Wait) -> Iterator[Known]:
        """Yield the requests of a task that came after the one of a wait, which may have been registered later."""
        own = self._known.get(wait.token)
        since = own.record.received_at if own is not None else wait.registered_at
        for key, known in self._known.items():
            is_other = key != wait.token and self._place(key) == place_of(wait.task)
            if is_other and known.record.received_at >= since:
                yield known

    def unfinished(self) -> Sequence[str]:
        """Return the keys of the requests that the bridge itself has to finish, by what their records hold."""
        return [
            key
            for key, known in self._known.items()
            if known.is_there and known.record.is_unfinished and self.run_of(key) is not None
        ]

    def run_of(self, key: str) -> TrueRun | None:
        """Return the run of a request, if it is surely nobody else's, and can be found without the parameters."""
        record = self._known[key].record
        if record.key is not None:
            run = self._adf.runs[record.key]
            return run if run.bridge_key or record.how is StartedHow.REATTACHED else None
        if record.correlation is None or record.state is StartState.UNKNOWN:
            return None
        return next((one for one in self._adf.runs.values() if one.asked_by == key), None)

    @property
    def never_finished(self) -> str | None:
        """The key of a request that the bridge has to go on with, if there is one."""
        return next((key for key, one in self._known.items() if one.is_there and one.record.due_at is not None), None)

    def records(self, key: str) -> Sequence[str]:
        """Tell the requests of a task, by the key of one of them, for a person."""
        if key not in self.requests:
            return ()
        place = self._place(key)
        return [_told(one) for other, one in self._known.items() if self._place(other) == place]

    def is_of(self, wait: Wait) -> bool:
        """Whether the run of a wait answers to a request of the same task, and so to nobody else's."""
        holders = self._holders.get(wait.key, {})
        return any(
            how is not StartedHow.REATTACHED and self._place(key) == place_of(wait.task) for key, how in holders.items()
        )

    # --- who may have which run ---

    def _hold(self, record: StartRequest) -> None:
        """Check that a run may answer to a key: it is what was asked for, and nobody else's."""
        key, run = record.idempotency_key, self._run(record)
        self._check_asked_for(key, run)
        holders = self._holders[run.key]
        if record.how is StartedHow.REATTACHED:
            self._check_reattached(record, run)
        elif key not in holders:
            self._check_own(record, run)
        holders[key] = record.how
        if len({self._place(one) for one in holders}) > 1:
            raise Violation("shared", f"{run.key.run_id} answers to requests of several tasks", key)
        owners = [one for one, how in holders.items() if how is not StartedHow.REATTACHED]
        if len(owners) > 1:
            raise Violation("shared", f"{run.key.run_id} answers to several requests", key)

    def _check_adopted_once(self, record: StartRequest) -> None:
        for key, other in self._known.items():
            same = other.record.key == record.key and other.record.how is StartedHow.ADOPTED and other.is_there
            if same and key != record.idempotency_key:
                raise Violation("adopted", f"{record.run_id} was adopted by two", record.idempotency_key)

    def _check_asked_for(self, key: str, run: TrueRun) -> None:
        request = self.requests[key]
        if policy.unwrapped(run.pipeline) != request.pipeline or run.key.factory != request.factory:
            raise Violation("parameters", f"the run is one of {run.pipeline}, not of {request.pipeline}", key)
        if not _has(run, request):
            raise Violation("parameters", f"{run.key.run_id} has other parameters than were asked for", key)

    def _check_own(self, record: StartRequest, run: TrueRun) -> None:
        """Check a run that is said to be what a request has started."""
        key = record.idempotency_key
        if run.asked_by == key:
            return
        if self._timeline.now() < record.received_at + ADOPTED_AFTER:
            raise Violation("adopted", f"{run.key.run_id} was, before the run itself can have been listed", key)
        if run.bridge_key and record.recovers is None:
            raise Violation("adopted", f"{run.key.run_id} carries another key", key)
        if not run.is_by_hand:
            raise Violation("adopted", f"{run.key.run_id} was started by another run", key)
        if record.recovers is None and not run.is_first_of_group:
            raise Violation("adopted", f"{run.key.run_id} runs another one again", key)
        if record.recovers is not None and (run.group != record.group or run.is_first_of_group):
            raise Violation("adopted", f"{run.key.run_id} is in another group", key)
        doubt = policy.SEARCH_SLACK + _STALL
        if not record.received_at - doubt <= run.started <= record.lease_until + doubt:
            raise Violation("adopted", f"{run.key.run_id} began at another time", key)

    def _check_reattached(self, record: StartRequest, run: TrueRun) -> None:
        """Check a run that a previous try had started: it goes on, or has succeeded and nobody wants it once more."""
        key, request = record.idempotency_key, self.requests[record.idempotency_key]
        others = [one for one, known in self._known.items() if one != key and known.record.key == run.key]
        if self._place(key) not in map(self._place, others):
            raise Violation("reattached", f"{run.key.run_id} is no run of that task's", key)
        true = self._adf.truth(run.key)
        long_since = true.ends + _OLDER <= record.received_at
        succeeded = true.outcome is RunStatus.SUCCEEDED
        wanted = succeeded and request.previous is not None and request.previous.after is NewTry.RETRY
        if long_since and not wanted:
            raise Violation("reattached", f"{run.key.run_id} had ended as {true.outcome}", key)

    # --- what is started although there was a previous try ---

    def _earlier(self, record: StartRequest) -> Known | None:
        """Return what the bridge can have known of the previous try when a request's key was reserved."""
        place, reserved = self._place(record.idempotency_key), self._known[record.idempotency_key].since
        previous = self.requests[record.idempotency_key].previous
        is_retry = previous is not None and previous.after is NewTry.RETRY
        since = previous.since_try if previous is not None and is_retry else 0
        found = [
            known
            for key, known in self._known.items()
            if key != record.idempotency_key
            and known.is_there
            and known.since <= reserved
            and self._place(key) == place
            and since <= known.record.try_number < record.try_number
        ]
        return max(found, key=lambda known: (known.record.received_at, known.record.try_number), default=None)

    def _check_anew(self, record: StartRequest, request: TriggerRequest) -> None:
        """Check that a try which wants to go on with a run has none that it could have gone on with."""
        earlier, key = self._earlier(record), record.idempotency_key
        if earlier is None or earlier.settled > self._known[key].since:
            return
        old = earlier.record
        asked = self.requests[old.idempotency_key]
        if (asked.factory, asked.pipeline, asked.parameters) != (request.factory, request.pipeline, request.parameters):
            return
        if self._was_lost(old.idempotency_key, record.received_at):
            self._timeline.happened["try started anew: the way to the previous one was lost"] += 1
            return
        if not _is_settled(old.state):
            raise Violation("continued", "a run is started before it is known whether the previous try has one", key)
        if old.state is not StartState.STARTED:
            return
        run = self._adf.truth(self._run(old).key)
        row = self._audit.run(self._run(old).key)
        if row is not None and row.cancelled_at is not None:
            return  # the bridge has set out to cancel it: whatever becomes of it, no try goes on with it
        now = self._timeline.now()
        assert request.previous is not None
        if run.goes_on(now):
            raise Violation("continued", f"a run is started although the previous try's {run.key.run_id} goes on", key)
        succeeded = run.status(now) is RunStatus.SUCCEEDED
        if succeeded and request.previous.after is NewTry.RETRY:
            raise Violation("continued", f"a run is started although the previous try's {run.key.run_id} did it", key)
        recovers = request.previous.do is PreviousTry.RECOVER and not policy.is_wrapper(run.pipeline)
        if run.status(now) is RunStatus.FAILED and recovers and key not in self._adf.not_run_again:
            raise Violation("continued", f"{run.key.run_id} failed and is not run again", key)

    def _check_recovery(self, record: StartRequest, request: TriggerRequest, recovery: Recovery) -> None:
        """Check that it is the failed run of the previous try that is run again, and that this is the same."""
        key = record.idempotency_key
        run = self._adf.runs.get(RunKey(request.factory, recovery.run_id))
        if run is None or run.status(self._timeline.now()) is not RunStatus.FAILED:
            raise Violation("recovered", f"{recovery.run_id} has not failed", key)
        if policy.is_wrapper(run.pipeline):
            raise Violation("recovered", f"{recovery.run_id} is a wrapper's", key)
        self._check_asked_for(key, run)
        place = self._place(key)
        earlier = (known.record.key for one, known in self._known.items() if self._place(one) == place)
        if run.key not in {self._adf.truth(one).key for one in earlier if one is not None}:
            raise Violation("recovered", f"{recovery.run_id} is no run of that task's", key)

    # --- what nobody can know ---

    def _check_unknown(self, record: StartRequest) -> None:
        """Check that the run of a request was not there to be found, or could not be told from others."""
        key, now = record.idempotency_key, self._timeline.now()
        if now < record.received_at + SEARCHED_FOR:
            raise Violation("unknown", "it was given up before the run must have been listed", key)
        if now < self._adf.search_denied_at + _SEARCHED_IN:
            return  # ADF's last word was that it will not say
        run = next((one for one in self._adf.runs.values() if one.asked_by == key), None)
        if run is None or run.listed_at is None or run.listed_at + _SEARCHED_IN > now:
            return
        if run.started > record.lease_until:
            return  # what has stalled before createRun was sent is late beyond all bounds
        if run.bridge_key == key:
            raise Violation("unknown", f"{run.key.run_id} carries the key, and was not found", key)
        if now < self._stalled_until or self._others_like(run, record):
            return
        if now >= record.received_at + self._retention - policy.SEARCH_SLACK:
            return  # who had claimed which run is forgotten
        row = self._audit.run(run.key)
        if row is None or row.started_by in (None, key):
            raise Violation("unknown", f"{run.key.run_id} is the only run that fits, and was not taken", key)

    def _others_like(self, run: TrueRun, record: StartRequest) -> bool:
        """Whether other runs fit as well: of the same group, for a recovery, else with the same parameters."""
        doubt = policy.SEARCH_SLACK * 2
        since, until = record.received_at - doubt, record.lease_until + doubt
        again = record.recovers is not None
        return any(
            one.key != run.key
            and (one.key.factory, one.pipeline) == (run.key.factory, run.pipeline)
            and one.is_by_hand
            and one.is_first_of_group is not again
            and (one.group == run.group if again else one.parameters == run.parameters)
            and since <= one.started <= until
            for one in self._adf.runs.values()
        )

    # --- what is known ---

    def _run(self, record: StartRequest) -> TrueRun:
        run = self._adf.runs.get(record.key) if record.key is not None else None
        if run is None:
            raise Violation("made up", f"there is no run {record.run_id}", record.idempotency_key)
        return run

    def _place(self, key: str) -> Place:
        wait = self.requests[key].wait
        assert wait is not None
        return place_of(wait.task)

    def _count(self, record: StartRequest) -> None:
        run = self._run(record)
        kind = _BY_HOW.get(record.how) or ADOPTED[0 if run.bridge_key else 1]
        if record.how is StartedHow.RECOVERED and "found it" in (record.why or ""):
            kind = ADOPTED[2]
        self._timeline.happened[kind] += 1


def _anything(_: object) -> None:
    """Take anything."""


def _is_settled(state: StartState) -> bool:
    return state in (StartState.STARTED, StartState.UNKNOWN)


def _has(run: TrueRun, request: TriggerRequest) -> bool:
    """Whether a run has all the parameters that were asked for."""
    shown: Mapping[str, str] = as_text(request.parameters)
    return all(run.parameters.get(name) == value for name, value in shown.items())


def _told(known: Known) -> str:
    record = known.record
    came = f"{record.received_at:%H:%M:%S} try {record.try_number}, {record.idempotency_key[:8]}"
    return f"{came}: {record.state}, {record.how}, {record.run_id or 'no run'}; {record.why or ''}"
