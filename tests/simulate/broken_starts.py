"""The rules about starting runs, each taken out: what is put where instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from bridge import decide, policy, service
from bridge.adapters.table_upkeep import Upkeep
from bridge.commands import Point, SaveRequest, do
from bridge.decide import abandoning
from bridge.decide.abandoning import NextTry
from bridge.model import (
    JsonObject,
    Run,
    RunKey,
    RunReading,
    RunStatus,
    StartedHow,
    StartRequest,
    StartState,
    TaskRef,
    TriggerRequest,
    Wait,
)
from bridge.policy import Rules
from bridge.ports import TaskView
from bridge.service import abandoning as watching
from bridge.service import continuing, delivering, starting
from bridge.service import searching as looking

Place = tuple[object, str, object]

_admit = decide.admit
_alike = decide.alike
_go_on = decide.go_on
_owned = decide.owned


def _start_anew(record: StartRequest, now: datetime) -> decide.Admission:
    lease = now + policy.START_LEASE
    return decide.Admission(reserve=replace(record, state=StartState.STARTING, lease_until=lease))


def _resend(request: TriggerRequest, record: StartRequest | None, now: datetime) -> decide.Admission:
    """Start once more what nobody knows whether it was started."""
    if record is not None and record.state is StartState.UNKNOWN and record.body_hash == request.body_hash:
        return _start_anew(record, now)
    return _admit(request, record, now)


def _take_the_lease(request: TriggerRequest, record: StartRequest | None, now: datetime) -> decide.Admission:
    """Go on for a process that has taken longer than it may."""
    if record is not None and record.state is StartState.STARTING and now >= record.lease_until:
        return _start_anew(record, now)
    return _admit(request, record, now)


def _any_body(request: TriggerRequest, record: StartRequest | None, now: datetime) -> decide.Admission:
    """Answer whoever has the key."""
    return _admit(replace(request, body_hash=record.body_hash) if record is not None else request, record, now)


def _adopt_unclaimed(record: StartRequest, run_id: str) -> Any:
    """Adopt a run without having it say so first."""
    return (yield from do(SaveRequest(decide.adopted(record, run_id), point=Point.START_RECORDED)))


def _by_anybody(record: StartRequest, parameters: JsonObject, found: Mapping[str, RunReading], *more: Any) -> Any:
    """Take runs that other runs have started for those that createRun has."""
    return _alike(record, parameters, {run_id: replace(one, by_hand=True) for run_id, one in found.items()}, *more)


def _of_any_group(record: StartRequest, parameters: JsonObject, found: Mapping[str, RunReading], *more: Any) -> Any:
    """Take a run that runs an earlier one again for one that was started anew."""
    shown = found
    if record.recovers is None:
        shown = {run_id: replace(one, group=run_id) for run_id, one in found.items()}
    return _alike(record, parameters, shown, *more)


def _same_anyway(request: TriggerRequest, earlier: StartRequest) -> None:
    """Go on with the previous try's run, whatever this one asks for."""


def _recover_as_it_is(request: TriggerRequest, reserve: StartRequest, run_id: str) -> Any:
    """Run the run again that was started, be it a wrapper's."""
    reading = yield from continuing._read(RunKey(request.factory, run_id))
    if isinstance(reading, str):
        return reading
    return replace(
        reserve,
        started_pipeline=reading.pipeline,
        recovers=run_id,
        group=reading.group,
        how=StartedHow.RECOVERED,
    )


def _recover_the_wrapper(previous: Any, earlier: StartRequest, run: Run | None) -> Any:
    plan = _go_on(previous, earlier, run)
    return replace(plan, recover=earlier.run_id) if plan.recover is not None else plan


def _give_up_at_once(record: StartRequest, parameters: JsonObject, rules: Rules) -> Any:
    """Take a try whose start is not settled for one of which nothing can be known."""
    yield from ()
    return replace(record, state=StartState.UNKNOWN)


def _for_nobody(wait: Wait, seen: TaskView, requests: Sequence[StartRequest], waits: Collection[Wait]) -> NextTry:
    """Think of no next try."""
    return NextTry.DOES_WITHOUT


def _succeeded_will_do(previous: Any, earlier: StartRequest, run: Run | None) -> Any:
    """Take a run that has succeeded for this try's, although somebody wants it once more."""
    if run is not None and run.status is RunStatus.SUCCEEDED:
        return replace(_go_on(previous, earlier, replace(run, status=RunStatus.IN_PROGRESS)), why="done")
    return _go_on(previous, earlier, run)


def _cancelled_will_do(previous: Any, earlier: StartRequest, run: Run | None) -> Any:
    """Wait for a run that was cancelled."""
    if run is not None and run.status is RunStatus.CANCELLED:
        return replace(_go_on(previous, earlier, replace(run, status=RunStatus.IN_PROGRESS)), why="cancelled")
    return _go_on(previous, earlier, run)


def _own_it(run: Run, start: StartRequest) -> Run:
    """Have a run answer to whoever comes."""
    return _owned(replace(run, started_by=None), start)


def _finish_nothing(idempotency_key: str, rules: object) -> Any:
    """Leave what was begun to its caller, who has died."""
    yield from ()


def _cancel_nothing(token: str, rules: object) -> Any:
    """Leave every run alone."""
    yield from ()


def _no_repair(upkeep: Upkeep, *_: object) -> int:
    """Leave the ways to requests as they are."""
    return 0


def _look_away(*_: object) -> Any:
    """Start a run, whatever the task's other tries ask for at the same time."""
    yield from ()


def _first_of_all(request: TriggerRequest, records: Sequence[StartRequest]) -> StartRequest | None:
    """Take the task's first try for the previous one."""
    found = [one for one in records if one.idempotency_key != request.idempotency_key]
    return min(found, key=lambda one: one.received_at, default=None) if request.previous is not None else None


BROKEN: Final[Mapping[str, Sequence[Place]]] = {
    "resend-createRun-on-unknown": ((decide, "admit", _resend),),
    "lease-taken-over": ((decide, "admit", _take_the_lease),),
    "any-body-is-answered": ((decide, "admit", _any_body),),
    "adopt-without-a-claim": ((looking, "_adopt", _adopt_unclaimed),),
    "adopt-at-once": ((policy, "ADOPT_AFTER", timedelta(0)),),
    "adopt-whoever-started-it": ((decide, "alike", _by_anybody),),
    "adopt-of-any-group": ((decide, "alike", _of_any_group),),
    "search-gives-up-at-once": ((policy, "SEARCH_FOR", -policy.START_LEASE),),
    "taken-run-is-kept": ((decide, "owned", _own_it),),
    "reattach-with-other-parameters": ((decide, "differs", _same_anyway),),
    "reattach-to-any-task's-run": ((TaskRef, "place", property(lambda self: "anywhere")),),
    "reattach-to-the-first-try": ((decide, "earlier_try", _first_of_all),),
    "reattach-to-a-success-after-a-clear": ((decide, "go_on", _succeeded_will_do),),
    "reattach-to-a-cancelled-run": ((decide, "go_on", _cancelled_will_do),),
    "recover-the-wrapper": (
        (continuing, "to_recover", _recover_as_it_is),
        (decide, "go_on", _recover_the_wrapper),
    ),
    "tries-at-once": ((starting, "check_other_tries", _look_away),),
    "previous-try-not-settled": (
        (continuing, "settle_start", _give_up_at_once),
        (starting, "check_other_tries", _look_away),
    ),
    "way-to-a-request-not-repaired": ((Upkeep, "_mend_request", _no_repair),),
    "next-try-ignored": ((abandoning, "_next_try", _for_nobody),),
    "starts-left-unfinished": ((service, "finish", _finish_nothing),),
    "abandoned-run-left": (
        (delivering, "cancel_abandoned", _cancel_nothing),
        (watching, "cancel_abandoned", _cancel_nothing),
    ),
}
