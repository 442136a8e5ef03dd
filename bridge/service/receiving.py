"""Taking in run events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bridge import decide, events, policy
from bridge.commands import (
    ListOpen,
    LoadRun,
    Now,
    Point,
    Put,
    RecordEvent,
    UseCase,
    do,
)
from bridge.errors import (
    StoreConflict,
)
from bridge.model import (
    EventRecord,
    Run,
    RunEvent,
    RunKey,
    Verdict,
)
from bridge.policy import Rules
from bridge.service.asking import Asked
from bridge.service.checking import check_claim, check_run
from bridge.service.contention import DECISION_TRIES, contended

Told = tuple[Verdict, str]  # with its reason


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one event, and the waits that it made due, or found to be."""

    record: EventRecord
    due: tuple[str, ...] = ()


def receive(raw: str | bytes, rules: Rules) -> UseCase[list[Received]]:
    """Take in one delivery. Returns normally for anything but a store that cannot be written."""
    received = []
    until = (yield from do(Now())) + policy.EVENT_BUDGET
    for parsed in events.parse(raw, rules.factories.values()):
        if isinstance(parsed, events.Unusable):
            received.append((yield from _record_unusable(parsed)))
        elif parsed.factory not in rules.factories.values():
            reason = "the factory is not on the allow-list (BRIDGE_FACTORIES)"
            received.append(Received((yield from _record(parsed, Verdict.REJECTED, reason))))
        else:
            received.append((yield from _receive_event(parsed, rules, until)))
    return received


def _receive_event(event: RunEvent, rules: Rules, until: datetime) -> UseCase[Received]:
    verdicts: list[Told] = []
    due: list[str] = []
    for key in event.keys:
        judgement = yield from _note_event(event, key, rules)
        if judgement is None:
            continue
        if not judgement.ask_adf:
            verdicts.append((judgement.verdict, judgement.reason))
            due.extend(judgement.untold)
            continue
        claimed = decide.claimed_by(event, key)
        checked = yield from (
            check_claim(key, rules, claimed, judgement.due) if claimed is not None else check_run(key, rules)
        )
        verdicts.append(decide.verdict_of(checked.run, checked.refusal))
        due.extend(checked.due)
    more_verdicts, more_due = yield from _receive_for_matches(event, rules, until)
    verdict, reason = decide.most_telling([*verdicts, *more_verdicts])
    return Received((yield from _record(event, verdict, reason)), (*due, *more_due))


def _receive_for_matches(event: RunEvent, rules: Rules, until: datetime) -> UseCase[tuple[list[Told], list[str]]]:
    """Let an event count for the waits for a run that somebody else starts: one read of its run answers for all.

    All are noted before ADF is asked. Those that the time does not suffice for are the timer's, and the sweep's.
    """
    verdicts: list[Told] = []
    due: list[str] = []
    to_check: list[tuple[Run, decide.DueBefore]] = []
    named = event.run_id
    if named is None:
        return [], []
    for key in (yield from _matches(event)):
        if (yield from do(Now())) >= until:
            break
        judgement = yield from _note_event(event, key, rules)
        if judgement is None:
            continue
        if judgement.ask_adf and judgement.run is not None:
            to_check.append((judgement.run, judgement.due))
        else:
            verdicts.append((judgement.verdict, judgement.reason))
    asked = Asked()
    for run, due_before in sorted(to_check, key=lambda one: decide.since_of(one[0])):
        if (yield from do(Now())) >= until:
            verdicts.append((Verdict.UNVERIFIED, "there was no time to ask ADF for all that wait; it is asked again"))
            break
        checked = yield from check_claim(run.key, rules, named, due_before, asked)
        verdicts.append(decide.verdict_of(checked.run, checked.refusal))
        due.extend(checked.due)
    return verdicts, due


def _matches(event: RunEvent) -> UseCase[tuple[RunKey, ...]]:
    """Return the waits for a run of the event's pipeline that somebody else starts; which run it is, ADF says."""
    if event.pipeline is None:
        return ()
    waits = yield from do(ListOpen(event.factory, policy.MATCHES, event.pipeline.lower()))
    return tuple(RunKey(event.factory, wait.run_id) for wait in waits)


def _note_event(event: RunEvent, key: RunKey, rules: Rules) -> UseCase[decide.Judgement | None]:
    """Write what the event claims before anything else: it is acknowledged only when this is durable.

    Where the event names the run that started this one, that one is waited for; this one's own row need not be made.
    Nor is one written that waits for another run.
    """
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        if (run is None and key in event.keys[:-1]) or not decide.is_meant(event, run):
            return None
        now = yield from do(Now())
        judgement = decide.judge_event(event, run, waits, now, rules, key=key)
        if not judgement.writes:
            return judgement
        try:
            yield from do(Put(judgement.run, judgement.waits, point=Point.EVENT_NOTED))
        except StoreConflict:
            continue
        return judgement
    raise contended()


def _record(event: RunEvent, verdict: Verdict, reason: str) -> UseCase[EventRecord]:
    record = EventRecord(
        id=event.id,
        received_at=(yield from do(Now())),
        verdict=verdict,
        reason=reason,
        source=event.source,
        type=event.type,
        factory=event.factory.arm_id,
        run_id=event.key.run_id,
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
