"""The use cases: receive an event, start a run, register a wait, deliver a completion, attend to what is due.

Each gathers what is known, lets `bridge.decide` decide, and asks for the effects in a fixed order. A use case is a
generator of commands (`bridge.commands`); it performs nothing itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from bridge import decide, events, masking, policy, views
from bridge.commands import (
    CreateRun,
    DropRequest,
    FindWait,
    Jitter,
    LoadBreaker,
    LoadRequest,
    LoadRun,
    Now,
    Point,
    Put,
    ReadFailedActivity,
    ReadRun,
    ReadTask,
    RecordEvent,
    Resume,
    SaveBreaker,
    SaveRequest,
    UseCase,
    do,
)
from bridge.errors import (
    AdfRefused,
    AdfThrottled,
    AdfUnavailable,
    NotFound,
    PipelineNotFound,
    Problem,
    StoreConflict,
    StoreUnavailable,
)
from bridge.model import (
    Breaker,
    EventRecord,
    FactoryId,
    Run,
    RunEvent,
    RunKey,
    RunReading,
    RunStatus,
    StartRequest,
    StartState,
    TriggerRequest,
    Verdict,
    Wait,
    WaitRequest,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Refusal, RefusalKind, Started

# How often a decision is made anew because somebody else changed a row first.
DECISION_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one event, and the waits that it made due."""

    record: EventRecord
    due: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """A run and the wait that was registered for it, if one was asked for."""

    run: Run
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """The answer to a trigger request, as JSON; `replay` when it was given before."""

    document: str
    replay: bool


# --- run events -------------------------------------------------------------------------------------------------------


def receive(raw: str | bytes, rules: Rules) -> UseCase[list[Received]]:
    """Take in one delivery. Returns normally for anything but a store that cannot be written."""
    received = []
    for parsed in events.parse(raw):
        if isinstance(parsed, events.Unusable):
            received.append((yield from _record_unusable(parsed)))
        elif parsed.factory not in rules.factories.values():
            reason = "the factory is not on the allow-list (BRIDGE_FACTORIES)"
            received.append(Received((yield from _record(parsed, Verdict.REJECTED, reason))))
        else:
            received.append((yield from _receive_event(parsed, rules)))
    return received


def _receive_event(event: RunEvent, rules: Rules) -> UseCase[Received]:
    judgement = yield from _note_event(event, rules)
    if not judgement.ask_adf:
        return Received((yield from _record(event, judgement.verdict, judgement.reason)))
    checked = yield from check_run(event.key, rules)
    verdict, reason = decide.verdict_of(checked.run, checked.refusal)
    return Received((yield from _record(event, verdict, reason)), checked.due)


def _note_event(event: RunEvent, rules: Rules) -> UseCase[decide.Judgement]:
    """Write what the event claims before anything else: it is acknowledged only when this is durable."""
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(event.key))
        now = yield from do(Now())
        judgement = decide.judge_event(event, run, waits, now, rules)
        if not judgement.writes:
            return judgement
        try:
            yield from do(Put(judgement.run, judgement.waits, point=Point.EVENT_NOTED))
        except StoreConflict:
            continue
        return judgement
    raise _contended()


def _record(event: RunEvent, verdict: Verdict, reason: str) -> UseCase[EventRecord]:
    record = EventRecord(
        id=event.id,
        received_at=(yield from do(Now())),
        verdict=verdict,
        reason=reason,
        source=event.source,
        type=event.type,
        factory=event.factory.arm_id,
        run_id=event.run_id,
        status=event.status.value,
    )
    yield from do(RecordEvent(record, point=Point.EVENT_RECORDED))
    return record


def _record_unusable(unusable: events.Unusable) -> UseCase[Received]:
    record = EventRecord(
        id=unusable.id,
        received_at=(yield from do(Now())),
        verdict=unusable.verdict,
        reason=unusable.reason,
        source=unusable.source,
        type=unusable.type,
        factory=unusable.factory,
        run_id=unusable.run_id,
        status=unusable.status,
    )
    yield from do(RecordEvent(record, point=Point.EVENT_RECORDED))
    return Received(record)


# --- asking ADF -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """A run after ADF was asked about it: the row, why ADF could not be asked, and the waits that are due now."""

    run: Run | None
    refusal: Refusal | None
    due: tuple[str, ...] = ()


def check_run(key: RunKey, rules: Rules) -> UseCase[Checked]:
    """Ask ADF about a run, once, and settle the waits for it accordingly."""
    reading = yield from _read_run(key)
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        if isinstance(reading, Refusal):
            known, settled = run, decide.postpone(waits, reading, now, rules)
        else:
            known = decide.apply_reading(run, key, reading, now)
            settled = decide.settle(known, waits, now, rules)
        try:
            written, settled = yield from do(Put(known, settled, point=Point.RUN_SETTLED))
        except StoreConflict:
            continue
        due = tuple(wait.token for wait in settled if wait.state is WaitState.DUE)
        return Checked(written, reading if isinstance(reading, Refusal) else None, due)
    raise _contended()


def _read_run(key: RunKey) -> UseCase[RunReading | Refusal]:
    name = factory_breaker(key.factory)
    breaker = yield from _enter(name)
    if isinstance(breaker, Refusal):
        return breaker
    reading = yield from do(ReadRun(key, point=Point.RUN_READ))
    yield from _leave(breaker, reading if isinstance(reading, Refusal) else None)
    if isinstance(reading, RunReading) and reading.status is RunStatus.FAILED:
        activity = yield from do(ReadFailedActivity(key, reading, point=Point.FAILURE_READ))
        return replace(reading, failed_activity=activity)
    return reading


# --- starting a run ---------------------------------------------------------------------------------------------------


def start_run(request: TriggerRequest, rules: Rules) -> UseCase[StartAnswer]:
    """Start at most one run for an idempotency key, and register the wait for it; the same key, the same answer."""
    for _ in range(DECISION_TRIES):
        record = yield from do(LoadRequest(request.idempotency_key))
        now = yield from do(Now())
        admission = decide.admit(request, record, now)
        try:
            if admission.replay is not None:
                return StartAnswer(admission.replay, replay=True)
            if admission.unknown is not None:
                saved = yield from do(SaveRequest(admission.unknown, point=Point.START_RECORDED))
                raise decide.unknown_outcome(saved)
            if admission.reserve is not None:
                if request.wait is not None:
                    decide.check_deadline(request.wait.deadline, now)
                    decide.check_free((yield from do(FindWait(request.wait.task.token))))
                reserved = yield from do(SaveRequest(admission.reserve, point=Point.KEY_RESERVED))
                started = yield from _create_run(request, reserved)
                return (yield from _answer(request, started, rules, just_started=True))
            if admission.started is not None:
                return (yield from _answer(request, admission.started, rules, just_started=False))
        except StoreConflict:
            continue
    raise _contended()


def _create_run(request: TriggerRequest, reserved: StartRequest) -> UseCase[StartRequest]:
    """Send createRun, exactly once for this record, and write down what came of it."""
    answer = yield from do(CreateRun(request.factory, request.pipeline, request.parameters, point=Point.RUN_CREATED))
    if isinstance(answer, Started):
        return (yield from _record_start(reserved, answer.run_id))
    if answer.kind is RefusalKind.UNAVAILABLE:
        unknown = yield from do(SaveRequest(replace(reserved, state=StartState.UNKNOWN), point=Point.START_RECORDED))
        raise decide.unknown_outcome(unknown)
    yield from do(DropRequest(reserved, point=Point.START_REFUSED))
    raise _start_refused(request, answer)


def _record_start(reserved: StartRequest, run_id: str) -> UseCase[StartRequest]:
    """Write down which run answers to the key, also over a record that was given up as unknown meanwhile."""
    record: StartRequest | None = reserved
    while record is not None:
        started = replace(record, state=StartState.STARTED, run_id=run_id)
        try:
            return (yield from do(SaveRequest(started, point=Point.START_RECORDED)))
        except StoreConflict:
            record = yield from do(LoadRequest(reserved.idempotency_key))
    raise _contended()


def _start_refused(request: TriggerRequest, refusal: Refusal) -> Problem:
    # ADF may repeat a parameter's value, which may be a secret.
    started_nothing = f"Nothing was started. {masking.masked(refusal.detail, masking.texts_in(request.parameters))}"
    match refusal.kind:
        case RefusalKind.NOT_FOUND:
            return PipelineNotFound(f"{request.pipeline!r}: {started_nothing}")
        case RefusalKind.THROTTLED:
            return AdfThrottled(started_nothing, retry_after=refusal.retry_after or timedelta(seconds=30))
        case RefusalKind.UNREACHABLE | RefusalKind.UNAUTHENTICATED:
            return AdfUnavailable(started_nothing, retry_after=refusal.retry_after or timedelta(seconds=30))
        case RefusalKind.FORBIDDEN:
            return AdfRefused(
                f"{started_nothing} Give the bridge's identity the permission to start runs in this factory.",
                status=403,
            )
        case RefusalKind.CONFLICT | RefusalKind.INVALID | RefusalKind.UNAVAILABLE:
            return AdfRefused(started_nothing)


def _answer(
    request: TriggerRequest, started: StartRequest, rules: Rules, *, just_started: bool
) -> UseCase[StartAnswer]:
    assert started.run_id is not None  # noqa: S101 - a started record has its run
    key = RunKey(request.factory, started.run_id)
    registered = yield from _register(key, request.wait, rules, pipeline=request.pipeline, just_started=just_started)
    document = json.dumps(views.registration_document(registered.run, registered.wait, rules))
    try:
        yield from do(SaveRequest(replace(started, answer=document), point=Point.START_ANSWERED))
    except StoreConflict:
        # A concurrent repetition has answered already; the wait is the same.
        return StartAnswer(document, replay=True)
    return StartAnswer(document, replay=False)


# --- registering a wait -----------------------------------------------------------------------------------------------


def register_wait(key: RunKey, request: WaitRequest, rules: Rules) -> UseCase[Registered]:
    """Register a wait for an existing run; answer with the completion when the run has ended.

    A run that is news to the store is looked up first: nobody waits for one that ADF does not know.
    """
    existing = yield from do(FindWait(request.task.token))
    if existing is None:
        decide.check_deadline(request.deadline, (yield from do(Now())))
        yield from _check_known(key, rules)
    elif existing.key != key:
        decide.check_free(existing)
    return (yield from _register(key, request, rules, pipeline=None, just_started=False))


def _check_known(key: RunKey, rules: Rules) -> UseCase[None]:
    known, _ = yield from do(LoadRun(key))
    if known is not None:
        return
    checked = yield from check_run(key, rules)
    if checked.refusal is not None and checked.refusal.kind is RefusalKind.NOT_FOUND:
        msg = f"ADF does not know run {key.run_id} in this factory."
        raise NotFound(msg)


def _register(
    key: RunKey, request: WaitRequest | None, rules: Rules, *, pipeline: str | None, just_started: bool
) -> UseCase[Registered]:
    """Write the wait, then look at the run: an event writes the run, then looks at the waits. One sees the other."""
    for _ in range(DECISION_TRIES):
        known, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        run = known or Run(key=key, created_at=now)
        run = replace(run, pipeline=run.pipeline or pipeline)
        if request is None:
            run_row, _ = yield from _try_put(run, ())
            if run_row is None:
                continue
            return Registered(run_row, None)
        registration = decide.register(request, run, waits, now, rules, just_started=just_started)
        if not registration.writes:
            return Registered(run, registration.wait)
        run_row, written = yield from _try_put(run, (registration.wait,))
        if run_row is None:
            continue
        if not registration.ask_adf:
            return Registered(run_row, written[0])
        return (yield from _ask_and_answer(key, written[0], rules))
    raise _contended()


def _try_put(run: Run, waits: tuple[Wait, ...]) -> UseCase[tuple[Run | None, tuple[Wait, ...]]]:
    try:
        return (yield from do(Put(run, waits, point=Point.WAIT_WRITTEN)))
    except StoreConflict:
        return None, ()


def _ask_and_answer(key: RunKey, wait: Wait, rules: Rules) -> UseCase[Registered]:
    """Ask ADF about a run that somebody just registered for; a run that has ended is answered at once."""
    yield from check_run(key, rules)
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        current = next((row for row in waits if row.token == wait.token), wait)
        known = run or Run(key=key)
        taken = decide.take_inline(known, current, now)
        if taken is None:
            return Registered(known, current)
        try:
            _, written = yield from do(Put(None, (taken,), point=Point.WAIT_WRITTEN))
        except StoreConflict:
            continue
        return Registered(known, written[0])
    raise _contended()


def withdraw(token: str) -> UseCase[Wait]:
    """Stop waiting; a wait that is over stays as it is."""
    for _ in range(DECISION_TRIES):
        wait = yield from do(FindWait(token))
        if wait is None:
            msg = "No wait has this token."
            raise NotFound(msg)
        withdrawn = decide.withdraw(wait, (yield from do(Now())))
        if withdrawn is None:
            return wait
        try:
            _, written = yield from do(Put(None, (withdrawn,), point=Point.WAIT_WITHDRAWN))
        except StoreConflict:
            continue
        return written[0]
    raise _contended()


# --- what is due ------------------------------------------------------------------------------------------------------


def attend(token: str, rules: Rules) -> UseCase[bool]:
    """Do what is due for a wait: ask ADF again, give up at the deadline, or deliver. False when nothing was due."""
    wait = yield from do(FindWait(token))
    now = yield from do(Now())
    if wait is None or wait.due_at is None or wait.due_at > now:
        return False
    if wait.state is WaitState.OPEN:
        yield from check_run(wait.key, rules)
    yield from deliver(token, rules)
    return True


def _give_up_if_late(token: str) -> UseCase[None]:
    """Expire a wait whose deadline has passed; one that changed meanwhile is looked at again at the next tick."""
    wait = yield from do(FindWait(token))
    now = yield from do(Now())
    if wait is None or not decide.is_past_deadline(wait, now):
        return
    run, _ = yield from do(LoadRun(wait.key))
    try:
        yield from do(Put(None, (decide.expire(wait, run, now),), point=Point.WAIT_EXPIRED))
    except StoreConflict:
        return


def deliver(token: str, rules: Rules) -> UseCase[Wait | None]:
    """Make one attempt to deliver a wait's completion; return the wait as it stands then.

    None when there is nothing to do here: not due, the target is paused, or the wait is somebody else's by now.
    """
    yield from _give_up_if_late(token)
    wait = yield from do(FindWait(token))
    if wait is None:
        return None
    return (yield from _deliver_once(wait, rules))


def _deliver_once(wait: Wait, rules: Rules) -> UseCase[Wait | None]:
    """Take the wait up, attempt, and write down what came of it."""
    claimed = decide.claim(wait, (yield from do(Now())))
    if claimed is None or wait.task.target not in rules.targets:
        return None
    breaker = yield from _enter(target_breaker(wait.task.target))
    if isinstance(breaker, Refusal):
        return None
    try:
        _, (row,) = yield from do(Put(None, (claimed,), point=Point.DELIVERY_CLAIMED))
        outcome = yield from _attempt(row, rules)
        _, (settled,) = yield from do(Put(None, (outcome.wait,), point=Point.DELIVERY_SETTLED))
    except StoreConflict:
        return None
    yield from _leave(breaker, outcome.trouble)
    return settled


def _attempt(wait: Wait, rules: Rules) -> UseCase[decide.Settle]:
    """Fence, send, and look again: the only place where Airflow is told anything."""
    seen = yield from do(ReadTask(wait.task, point=Point.TASK_READ))
    jitter = yield from do(Jitter())
    step = decide.on_task(wait, seen, (yield from do(Now())), rules, jitter)
    if isinstance(step, decide.Settle):
        return step
    parked = step.wait
    assert parked.completion is not None  # noqa: S101 - a due wait has its completion
    reply = yield from do(Resume(parked.task, parked.completion, point=Point.COMPLETION_SENT))
    if isinstance(reply, Refusal):
        refused = decide.on_refusal(parked, reply, (yield from do(Now())), jitter)
        if refused is not None:
            return refused
    seen = yield from do(ReadTask(parked.task, point=Point.TASK_READ_AGAIN))
    return decide.after_reply(parked, reply, seen, (yield from do(Now())), jitter)


# --- breakers ---------------------------------------------------------------------------------------------------------


def target_breaker(target: str) -> str:
    """Return the name of a target's breaker."""
    return f"target:{target}"


def factory_breaker(factory: FactoryId) -> str:
    """Return the name of a factory's breaker."""
    return f"factory:{factory.key}"


def _enter(name: str) -> UseCase[Breaker | Refusal]:
    """Return the breaker of a peer that may be called, having taken the probe if it is paused; else a refusal."""
    breaker = yield from do(LoadBreaker(name))
    now = yield from do(Now())
    if decide.may_call(breaker, now):
        probe = decide.claim_probe(breaker, now)
        if probe is None:
            return breaker
        try:
            return (yield from do(SaveBreaker(probe, point=Point.BREAKER_SAVED)))
        except StoreConflict:
            breaker = yield from do(LoadBreaker(name))
    paused_for = max((breaker.probe_at or now) - now, timedelta(0))
    return Refusal(RefusalKind.UNREACHABLE, f"paused: {breaker.detail}", retry_after=paused_for)


def _leave(breaker: Breaker, trouble: Refusal | None) -> UseCase[None]:
    """Tell the breaker how a call went. Losing a race here is harmless: the other call told it as much."""
    jitter = yield from do(Jitter())
    after = decide.breaker_after(breaker, trouble, (yield from do(Now())), jitter)
    if after is None:
        return
    try:
        yield from do(SaveBreaker(after, point=Point.BREAKER_SAVED))
    except StoreConflict:
        return


def _contended() -> StoreUnavailable:
    msg = "Many instances change the same rows. Nothing is lost: try again."
    return StoreUnavailable(msg, retry_after=policy.BACKOFF_FIRST)
