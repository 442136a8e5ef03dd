"""The values the bridge thinks in: runs, run events, waits, completions. Frozen, and free of any I/O.

ADF's and Airflow's own words are kept. Times are aware UTC. A row (`Run`, `Wait`, `StartRequest`, `Breaker`) carries
`version`, the store's compare-and-set tag: empty means "not stored yet", anything else is opaque to all but the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from bridge.hashing import canonical_hash
from bridge.token import canonical_task, token_of_canonical

JsonObject = Mapping[str, Any]

_ARM_FACTORY: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.DataFactory/factories/(?P<name>[^/]+)/?",
    re.IGNORECASE,
)
# ADF's run ids are GUIDs; anything that could change a URL's path is refused before it gets near one.
_MATCH: Final = "match~"  # "~" is in no run id
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class RunStatus(StrEnum):
    """The status of a pipeline run, in ADF's spelling.

    https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/get
    """

    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELING = "Canceling"
    CANCELLED = "Cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether a run in this status has ended for good."""
        return self in _TERMINAL

    @classmethod
    def spelled(cls, text: str) -> RunStatus | None:
        """Return the status of a vendor's spelling (any case, `Canceled`, `Cancelling`), or None if it is unknown."""
        return _SPELLINGS.get(text.lower())


_SPELLINGS: Final = {
    **{status.value.lower(): status for status in RunStatus},
    "canceled": RunStatus.CANCELLED,
    "cancelling": RunStatus.CANCELING,
}
_TERMINAL: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class Outcome(StrEnum):
    """What a task may be told. These are the options of a parked task, fixed from the first release on.

    Adding one later would leave tasks that are parked at that moment without it.
    """

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    UNKNOWN = "Unknown"


class Mode(StrEnum):
    """How a completion reaches a task."""

    RESUME = "resume"  # Airflow's API: the parked task is answered
    QUEUE = "queue"  # a message to the listener that serves the deferred task's triggerer


class OnAbandon(StrEnum):
    """What becomes of the run when nobody waits for it any more."""

    LEAVE = "leave"
    CANCEL = "cancel"


class WaitState(StrEnum):
    """Where a wait stands. Everything but `open` and `due` is final."""

    OPEN = "open"  # the run goes on
    DUE = "due"  # the completion is decided and has to be delivered
    DELIVERED = "delivered"  # Airflow has it
    INLINE = "inline"  # the run had ended when the wait was registered: the answer was the completion
    STALE = "stale"  # the task instance is no longer that try
    OVERRIDDEN = "overridden"  # a person, or Airflow itself, ended the task first
    GONE = "gone"  # Airflow does not know the task any more
    EXPIRED = "expired"  # the deadline passed and the completion could not be delivered
    WITHDRAWN = "withdrawn"  # the caller stopped waiting

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to a wait in this state."""
        return self not in (WaitState.OPEN, WaitState.DUE)

    @property
    def is_told(self) -> bool:
        """Whether it is the task that is reached for when a wait in this state is due: told, or looked at for proof."""
        return self in (WaitState.DUE, WaitState.INLINE)


class Verdict(StrEnum):
    """What became of a run event."""

    MATCHED = "matched"  # ADF confirmed the end of a run that somebody waits for
    NOTED = "noted"  # a status that is no end, of a run that somebody waits for
    PARKED = "parked"  # nobody waits for that run (yet); kept for a wait that registers later
    DUPLICATE = "duplicate"  # the run's end was known
    UNCONFIRMED = "unconfirmed"  # ADF says that the run has not ended
    UNVERIFIED = "unverified"  # ADF could not be asked; asked again later
    UNKNOWN_STATUS = "unknown-status"
    MALFORMED = "malformed"
    REJECTED = "rejected"  # a factory that is not on the allow-list


@dataclass(frozen=True, slots=True)
class FactoryId:
    """The ARM id of a data factory. ARM ids compare without regard to case; `arm_id` keeps the spelling."""

    key: str
    arm_id: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> FactoryId:
        """Parse `/subscriptions/S/resourceGroups/G/providers/Microsoft.DataFactory/factories/F`; raise ValueError."""
        match = _ARM_FACTORY.fullmatch(text)
        if match is None:
            msg = (
                "not the ARM id of a data factory "
                "(/subscriptions/…/resourceGroups/…/providers/Microsoft.DataFactory/factories/…)"
            )
            raise ValueError(msg)
        arm_id = text.rstrip("/")
        return cls(key=arm_id.lower(), arm_id=arm_id)

    @property
    def subscription_id(self) -> str:
        """The subscription's id."""
        return self._part("subscription")

    @property
    def resource_group(self) -> str:
        """The resource group's name."""
        return self._part("group")

    @property
    def name(self) -> str:
        """The factory's name."""
        return self._part("name")

    def _part(self, name: str) -> str:
        match = _ARM_FACTORY.fullmatch(self.arm_id)
        assert match is not None  # noqa: S101 - parse() checked it
        return match[name]


def is_run_id(text: str) -> bool:
    """Whether a text may be a run id: 1 to 128 letters, digits, `-`, `_`, `.`."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RunKey:
    """Names one pipeline run. Run ids of two factories never mix."""

    factory: FactoryId
    run_id: str

    @property
    def is_found(self) -> bool:
        """Whether this names a run, and not a wait by match that has found none yet."""
        return not self.run_id.startswith(_MATCH)

    @property
    def monitor_url(self) -> str:
        """The run's page in ADF's monitor, the same link that Airflow's own provider shows."""
        return f"https://adf.azure.com/en-us/monitoring/pipelineruns/{self.run_id}?factory={self.factory.arm_id}"


@dataclass(frozen=True, slots=True)
class Match:
    """Which run is waited for where nobody knows its id yet: the earliest one of a pipeline that began since then.

    A run that ends in another status than these is passed over.
    """

    pipeline: str
    since: datetime
    statuses: tuple[RunStatus, ...]

    def takes(self, run: RunReading) -> bool:
        """Whether a run is one of those."""
        began = run.run_start is not None and run.run_start >= self.since
        over = run.status is not None and run.status.is_terminal
        return began and same_pipeline(run.pipeline, self.pipeline) and (not over or run.status in self.statuses)


def same_pipeline(one: str | None, other: str | None) -> bool:
    """Whether two names are one pipeline's: ADF's names are the same in any case."""
    return one is not None and other is not None and one.lower() == other.lower()


def match_key(factory: FactoryId, pipeline: str, token: str) -> RunKey:
    """Return the key under which a wait by match is kept: the row of a run that is to be found yet.

    No run id of ADF's looks like it. Keys for the same pipeline begin alike.
    """
    return RunKey(factory, match_prefix(pipeline) + token)


def match_prefix(pipeline: str) -> str:
    """Return how the run ids in the keys of waits for a pipeline's runs begin."""
    return f"{_MATCH}{sha256(pipeline.lower().encode()).hexdigest()[:12]}~"


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One try of one Airflow task instance on one target. `map_index` is -1 for a task that is not mapped."""

    target: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    task_instance_id: str | None
    nonce: str

    @property
    def token(self) -> str:
        """The name of the wait of this try."""
        canonical = canonical_task(
            target=self.target,
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=self.try_number,
            task_instance_id=self.task_instance_id,
            nonce=self.nonce,
        )
        return token_of_canonical(canonical)

    @property
    def place(self) -> str:
        """The name of the task whatever its try: the same for all tries of one task instance of one DAG run."""
        return canonical_hash([self.target.lower(), self.dag_id, self.run_id, self.task_id, self.map_index])


@dataclass(frozen=True, slots=True)
class OtherFailure:
    """An activity that failed by itself beside the one that counts; `path` as there, the message cut short."""

    name: str
    type: str
    error_code: str | None
    message: str | None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedActivity:
    """The activity that made a run fail, with ADF's own error: the innermost one.

    `path` names the ExecutePipeline activities that lead down to it, the outermost first; where there are any,
    `pipeline` and `run_id` are those of the run in which it failed.
    """

    name: str
    type: str
    error_code: str | None
    message: str | None
    path: tuple[str, ...] = ()
    pipeline: str | None = None
    run_id: str | None = None
    others: tuple[OtherFailure, ...] = ()

    @property
    def summary(self) -> str:
        """Which activity failed, with which code, and where: one line, without ADF's message."""
        kind = f" ({self.type})" if self.type else ""
        code = f" with error {self.error_code}" if self.error_code else ""
        way = ", by way of " + " > ".join(f"'{name}'" for name in self.path) if self.path else ""
        return f"activity '{self.name}'{kind} failed{code}{way}"


@dataclass(frozen=True, slots=True)
class Run:
    """A pipeline run as the bridge knows it. `status` comes from ADF only; `hint` is what events claimed.

    Where a wrapper was started, `key` is the wrapper's run, and everything else is told of the run that it wraps:
    `watched_run_id`, confirmed by ADF; `claimed_run_id` is what an event named. Where a run is waited for by `match`,
    `key` is `match_key`, and `watched_run_id` the run that was found.
    """

    key: RunKey
    pipeline: str | None = None
    status: RunStatus | None = None
    read_at: datetime | None = None
    reads: int = 0
    hint: RunStatus | None = None
    hint_at: datetime | None = None
    run_start: datetime | None = None
    run_end: datetime | None = None
    message: str | None = None
    failed_activity: FailedActivity | None = None
    created_at: datetime | None = None
    watched_run_id: str | None = None
    claimed_run_id: str | None = None
    match: Match | None = None
    started_by: str | None = None  # the key of the trigger request that this run answers to
    cancelled_at: datetime | None = None  # when the bridge set out to cancel it: no try goes on with it then
    cancel_taken: bool = False  # ADF has accepted that, or the run was not running: nobody calls it off any more
    version: str = ""

    @property
    def watched_key(self) -> RunKey:
        """The run whose end counts, and which a person wants to see."""
        return RunKey(self.key.factory, self.watched_run_id) if self.watched_run_id is not None else self.key

    @property
    def has_ended(self) -> bool:
        """Whether ADF itself said that the run has ended."""
        return self.status is not None and self.status.is_terminal


@dataclass(frozen=True, slots=True)
class RunReading:
    """What one read of a run from ADF said. `status_text` is ADF's spelling when it is none that we know.

    `parent_run_id` and `parent_pipeline` name what started the run, if that was another run. `watched_run_id` is set
    when the reading is that of the run which a wrapper wraps. `group` is ADF's runGroupId: of a run that runs an
    earlier one again, that one's. `by_hand` says that createRun started it, as ADF tells the invoker. ADF shows every
    parameter's value as text.
    """

    status: RunStatus | None
    status_text: str
    pipeline: str | None = None
    run_start: datetime | None = None
    run_end: datetime | None = None
    message: str | None = None
    failed_activity: FailedActivity | None = None
    parent_run_id: str | None = None
    parent_pipeline: str | None = None
    watched_run_id: str | None = None
    group: str | None = None
    by_hand: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """What is told to Airflow about a wait; serialised as `completion/v1` everywhere.

    `key` is the run that was started; `watched_run_id` the run that it wraps, if it is a wrapper's.
    """

    token: str
    status: Outcome
    key: RunKey
    pipeline: str | None = None
    run_start: datetime | None = None
    run_end: datetime | None = None
    message: str | None = None
    failed_activity: FailedActivity | None = None
    watched_run_id: str | None = None

    @property
    def watched_key(self) -> RunKey:
        """The run whose end counted."""
        return RunKey(self.key.factory, self.watched_run_id) if self.watched_run_id is not None else self.key


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of a wait's story: when, what (a stable word), and a sentence for a person."""

    at: datetime
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who has registered a wait in mode queue, and when last."""

    reply_to: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """One try of one Airflow task that waits for one run. The row is its own outbox: state, attempts, due time."""

    token: str
    key: RunKey
    task: TaskRef
    mode: Mode
    deadline: datetime
    on_abandon: OnAbandon
    registered_at: datetime
    asked_at: datetime | None = None  # when its trigger request came; the bridge may have registered it later
    state: WaitState = WaitState.OPEN
    due_at: datetime | None = None
    attempts: int = 0
    failures: int = 0
    seen_running_at: datetime | None = None
    seen_waiting_at: datetime | None = None
    missing_since: datetime | None = None
    sent_at: datetime | None = None
    abandoned_at: datetime | None = None  # when a read of the task first showed that nobody waits
    cancels: bool = False  # the run is to be cancelled, and was not yet
    match: Match | None = None
    keep_for_next_try: bool = False
    completion: Completion | None = None
    decided_at: datetime | None = None  # when it was known what the task is to be told
    reply_to: str | None = None  # mode queue: the listener that registered the wait last
    listened_at: datetime | None = None  # when that was
    earlier: tuple[Listener, ...] = ()  # others that have registered it, the newest first: each may serve its task
    timeline: tuple[TimelineEntry, ...] = ()
    news: int = 0  # how many of the newest lines are not stored yet
    version: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the wait is final, and nothing is left to do for it: no proof, no run to cancel."""
        return self.state.is_final and self.due_at is None

    def is_due(self, now: datetime) -> bool:
        """Whether something is to be done for it by now."""
        return self.due_at is not None and self.due_at <= now

    @property
    def lacks_listener(self) -> bool:
        """Whether nobody can be told: its task is deferred, and no listener has registered for it yet."""
        return self.mode is Mode.QUEUE and self.reply_to is None

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """All that have registered the wait and may still serve its task, the newest first."""
        if self.reply_to is None:
            return ()
        return (Listener(self.reply_to, self.listened_at or self.registered_at), *self.earlier)

    @property
    def answer(self) -> Completion | None:
        """The completion, if whoever registers the wait now is to have it with the answer."""
        is_heard_of = self.mode is Mode.QUEUE and self.reply_to is not None
        return self.completion if self.state.is_final or is_heard_of else None

    @property
    def watched(self) -> TaskRef | None:
        """The task that has to be looked at while the run goes on: its run is cancelled when nobody waits any more."""
        return self.task if self.on_abandon is OnAbandon.CANCEL and self.mode is Mode.RESUME else None

    def told(self, at: datetime, what: str, detail: str = "") -> Wait:
        """Return the wait with one more line in its story, unless that is its last line already.

        Of many lines the first and the newest are kept.
        """
        last = self.timeline[-1] if self.timeline else None
        if last is not None and (last.what, last.detail) == (what, detail):
            return self
        lines = (*self.timeline, TimelineEntry(at, what, detail))
        if len(lines) > TIMELINE_LINES:
            lines = (*lines[:TIMELINE_HEAD], *lines[TIMELINE_HEAD + 1 :])
        return replace(self, timeline=lines, news=self.news + 1)


TIMELINE_LINES: Final = 60
TIMELINE_HEAD: Final = 10


@dataclass(frozen=True, slots=True)
class RunEvent:
    """A statement that a run changed status. A hint: nothing is completed before ADF was asked.

    `run_id` is None in the notice of a wrapper whose child never started; then there is a `parent_run_id`.
    """

    id: str
    source: str
    type: str
    factory: FactoryId
    run_id: str | None
    status: RunStatus
    parent_run_id: str | None = None
    pipeline: str | None = None

    @property
    def key(self) -> RunKey:
        """The run that the event speaks of; the one that was to start it, if it never started."""
        return self.keys[0]

    @property
    def keys(self) -> tuple[RunKey, ...]:
        """The runs that somebody may wait for: the one that the event speaks of, and the one that started it."""
        return tuple(RunKey(self.factory, one) for one in (self.run_id, self.parent_run_id) if one is not None)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A received event and what became of it, as `GET /events` shows it. Never holds the event's payload."""

    id: str
    received_at: datetime
    verdict: Verdict
    reason: str
    source: str = ""
    type: str = ""
    factory: str = ""
    run_id: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """What a caller asks for when it wants a task completed.

    With `keep_for_next_try` the run is not abandoned while the task's next try may take it over. `reply_to` is the
    listener that asks, in mode queue; the task itself, which is not deferred yet, names none.
    """

    task: TaskRef
    mode: Mode
    deadline: datetime
    on_abandon: OnAbandon = OnAbandon.LEAVE
    match: Match | None = None
    keep_for_next_try: bool = False
    reply_to: str | None = None


class Wrapped(StrEnum):
    """Whether a trigger request starts the wrapper of a pipeline: the one that tells Event Grid how it ended."""

    AUTO = "auto"  # if the factory has one
    ALWAYS = "always"
    NEVER = "never"


class PreviousTry(StrEnum):
    """What a try does about the run that the task's previous try asked for."""

    RERUN = "rerun"  # nothing: it starts a run of its own
    REATTACH = "reattach"  # it waits for that run, if it goes on
    RECOVER = "recover"  # the same; and if that run failed, it is run again from the failed activity on


class NewTry(StrEnum):
    """Why a task has another try."""

    RETRY = "retry"  # the one before failed
    CLEAR = "clear"  # a person wants it done once more


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a try goes on from the task's previous one.

    `since_try` is the first try since the task was cleared last: a retry does not look at those before.
    """

    do: PreviousTry
    after: NewTry
    since_try: int = 0


class RecoveryMode(StrEnum):
    """From where on a run is run again."""

    FROM_FAILURE = "from_failure"
    FROM_ACTIVITY = "from_activity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A run that is to be run again, in the same run group and with its own parameters.

    https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run (referencePipelineRunId, isRecovery)
    """

    run_id: str
    mode: RecoveryMode = RecoveryMode.FROM_FAILURE
    activity: str | None = None  # with `from_activity`


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """What a caller asks for when it wants a run started. `body_hash` fences the idempotency key."""

    idempotency_key: str
    body_hash: str
    factory: FactoryId
    pipeline: str
    parameters: JsonObject
    wait: WaitRequest | None = None
    wrapped: Wrapped = Wrapped.AUTO
    recover_from: Recovery | None = None
    previous: Continuation | None = None

    @property
    def parameters_hash(self) -> str:
        """What tells whether two requests for a pipeline ask for the same: parameters, and what is to be recovered."""
        recovery = self.recover_from
        asked = None if recovery is None else [recovery.run_id, recovery.mode, recovery.activity]
        return canonical_hash([dict(self.parameters), asked])


class StartState(StrEnum):
    """Where a trigger request stands."""

    STARTING = "starting"  # createRun may be under way
    SEARCHING = "searching"  # createRun was sent and not answered for sure: its run is looked for
    STARTED = "started"  # a run answers to this key
    UNKNOWN = "unknown"  # createRun's outcome could not be found out; never started again


class StartedHow(StrEnum):
    """How a run came to answer to a key."""

    STARTED = "started"
    ADOPTED = "adopted"  # createRun's answer was lost, and the run was found
    REATTACHED = "reattached"  # the task's previous try had started it
    RECOVERED = "recovered"  # an earlier run was run again, in its group


@dataclass(frozen=True, slots=True)
class StartRequest:
    """The idempotency record of a trigger request. Holds hashes of the body and of the parameters, never those.

    `place` names the task whatever its try (`task_place`). `correlation` is the parameter by which ADF shows the key
    with the run. `recovers` is the run that createRun is to run again, `group` its run group. `wait` is what the
    request asked to wait for: should its caller die, the bridge itself finishes what was begun. Rows of older versions
    have neither that nor a `finish_at`.
    """

    idempotency_key: str
    body_hash: str
    state: StartState
    factory: FactoryId
    pipeline: str
    received_at: datetime
    lease_until: datetime
    run_id: str | None = None
    answer: str | None = None  # the first answer's JSON, replayed to the letter
    started_pipeline: str | None = None  # the wrapper's name, where that was started
    place: str | None = None
    try_number: int = 0
    parameters_hash: str | None = None
    correlation: str | None = None
    recovers: str | None = None
    group: str | None = None
    search_until: datetime | None = None
    recovery_mode: RecoveryMode = RecoveryMode.FROM_FAILURE
    recovery_activity: str | None = None
    how: StartedHow = StartedHow.STARTED
    why: str | None = None  # why a run was started although there was an earlier one, or was not
    wait: WaitRequest | None = None
    finish_at: datetime | None = None  # when the bridge goes on with it by itself, if nobody has answered it by then
    left: str | None = None  # why the bridge does not finish it by itself
    version: str = ""

    @property
    def key(self) -> RunKey | None:
        """The run that answers to the key, once there is one."""
        return RunKey(self.factory, self.run_id) if self.run_id is not None else None

    @property
    def is_unfinished(self) -> bool:
        """Whether it has no answer yet, and may still get one."""
        return self.answer is None and self.state is not StartState.UNKNOWN and self.left is None

    @property
    def due_at(self) -> datetime | None:
        """When the bridge has to go on with it by itself; None when nothing is left to do."""
        return self.finish_at if self.is_unfinished else None

    @property
    def recovery(self) -> Recovery | None:
        """What createRun is to run again."""
        if self.recovers is None:
            return None
        return Recovery(self.recovers, self.recovery_mode, self.recovery_activity)


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far a factory's runs have been swept: everything that changed before `covered_until` was looked at.

    `covered_until` is in ADF's time, which was `ahead` of ours when it was asked last (negative: behind). `begun_at` is
    when runs began to be read one by one, as long as some are left for the next sweep: those after `read_up_to`.
    """

    factory: FactoryId
    covered_until: datetime | None = None
    next_at: datetime | None = None
    ahead: timedelta = timedelta(0)
    begun_at: datetime | None = None
    read_up_to: str = ""
    version: str = ""

    @property
    def uncovered(self) -> Sweep:
        """The sweep of a factory of which nothing is known to be covered: it begins anew."""
        return replace(self, covered_until=None, begun_at=None, read_up_to="")


@dataclass(frozen=True, slots=True)
class Breaker:
    """Whether a target or a factory may be called at all; shared by all instances through the store."""

    name: str  # "target:<name>" or "factory:<key>"
    reason: str = ""
    detail: str = ""
    failures: int = 0
    since: datetime | None = None
    probe_at: datetime | None = None
    version: str = ""

    @property
    def is_open(self) -> bool:
        """Whether calls are held back (but for one probe whenever `probe_at` has come)."""
        return self.probe_at is not None
