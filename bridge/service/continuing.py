"""Going on from what a task's previous try has asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from bridge import decide, policy
from bridge.commands import DropRequest, FindChild, ListRequests, Now, Point, Put, ReadTask, SaveRequest, UseCase, do
from bridge.errors import AdfRefused, AirflowUnavailable, Problem, RequestInFlight, TryOver
from bridge.model import (
    Mode,
    RecoveryMode,
    Run,
    RunKey,
    RunReading,
    StartedHow,
    StartRequest,
    StartState,
    TaskRef,
    TriggerRequest,
    same_pipeline,
)
from bridge.policy import Rules
from bridge.ports import Refusal, RefusalKind
from bridge.service.asking import Asked, ask, unanswered
from bridge.service.breakers import enter, leave, target_breaker
from bridge.service.checking import check_run
from bridge.service.searching import settle_start


@dataclass(frozen=True, slots=True)
class Planned:
    """The record of a new request as the previous try leaves it, and that try's record as it was then."""

    record: StartRequest
    decided_by: StartRequest | None = None


def go_on(request: TriggerRequest, reserve: StartRequest, rules: Rules) -> UseCase[Planned]:
    """Plan a new request as the previous try leaves it: with its run, to run that again, or with neither.

    What is not known of the previous try yet is found out first. Nothing is written for the new request.
    """
    place = reserve.place
    if place is None or request.previous is None:
        return Planned(reserve)
    earlier = decide.earlier_try(request, (yield from do(ListRequests(place, policy.EARLIER_TRIES))))
    if earlier is None:
        return Planned(reserve)
    if (other := decide.differs(request, earlier)) is not None:
        return Planned(replace(reserve, why=other), earlier)
    if earlier.state is not StartState.STARTED:
        earlier = yield from settle_start(earlier, request.parameters, rules)
    if earlier.state is StartState.UNKNOWN:
        return Planned(replace(reserve, why=decide.unsettled(earlier)), earlier)
    if earlier.key is None:
        raise (yield from _being_found_out(earlier))
    checked = yield from check_run(earlier.key, rules)
    if checked.refusal is not None and checked.refusal.kind is not RefusalKind.NOT_FOUND:
        raise _unreadable(checked.refusal)
    plan = decide.go_on(request.previous, earlier, checked.run if checked.refusal is None else None)
    if plan.attach is not None and checked.run is not None:
        yield from _claim(earlier, checked.run)
        return Planned(decide.attached(reserve, earlier, plan), earlier)
    if plan.recover is not None:
        recovering = yield from to_recover(request, reserve, plan.recover)
        if isinstance(recovering, str):
            return Planned(replace(reserve, why=decide.not_recovered(plan.recover, recovering)), earlier)
        # From the failed activity on, whatever the first try was asked to run again.
        again = replace(recovering, recovery_mode=RecoveryMode.FROM_FAILURE, recovery_activity=None, why=plan.why)
        return Planned(again, earlier)
    return Planned(replace(reserve, why=plan.why), earlier)


def check_other_tries(
    request: TriggerRequest, reserved: StartRequest, decided_by: StartRequest | None, rules: Rules
) -> UseCase[None]:
    """With the key reserved, look at the task's other tries again: of two that ask at once, one sees the other.

    Raises, and takes the reservation back, when the one before has come meanwhile, or when this one is over.
    """
    wait, place = request.wait, reserved.place
    if wait is None or place is None:
        return
    records = yield from do(ListRequests(place, policy.EARLIER_TRIES))
    problem: Problem | None = None
    if decide.has_changed(decided_by, decide.earlier_try(request, records)):
        msg = "The previous try is asking for a run as well. Send the request again a little later."
        problem = RequestInFlight(msg, retry_after=timedelta(seconds=2))
    elif decide.is_overtaken(reserved, records):
        if Mode.RESUME in rules.targets[wait.task.target].modes:
            problem = yield from _overtaken(wait.task)
        else:  # there is no Airflow to ask
            problem = decide.may_be_overtaken(reserved, records, (yield from do(Now())))
    if problem is not None:
        yield from do(DropRequest(reserved, point=Point.START_REFUSED))
        raise problem


def _overtaken(task: TaskRef) -> UseCase[Problem | None]:
    """Ask Airflow whether a try is over that has been overtaken; one of a new DAG run of the same name is not."""
    breaker = yield from enter(target_breaker(task.target))
    if isinstance(breaker, Refusal):
        return _unproven(breaker)
    seen = yield from do(ReadTask(task, point=Point.TASK_READ))
    yield from leave(breaker, seen if isinstance(seen, Refusal) else None)
    if isinstance(seen, Refusal):
        return None if seen.kind in decide.ABOUT_ONE_THING else _unproven(seen)
    over = decide.try_over(task, seen)
    msg = f"A later try of the task has asked for a run already, and this one is over: {over}. Nothing was started."
    return TryOver(msg) if over is not None else None


def _unproven(refusal: Refusal) -> AirflowUnavailable:
    msg = "A later try of the task has asked for a run already, and whether this one is over cannot be read."
    return AirflowUnavailable(f"{msg} {refusal.detail}", retry_after=refusal.retry_after or timedelta(seconds=10))


def _claim(earlier: StartRequest, run: Run) -> UseCase[None]:
    """Have the run answer to the previous try, which may have died before it had said so; nobody adopts it then.

    One that another request has adopted is that one's: what the previous try has started is looked for again.
    """
    if run.started_by is None:
        yield from do(Put(replace(run, started_by=earlier.idempotency_key), point=Point.RUN_CLAIMED))
    elif run.started_by != earlier.idempotency_key and earlier.how is not StartedHow.REATTACHED:
        lost = yield from do(SaveRequest(decide.searching(earlier), point=Point.START_RECORDED))
        raise (yield from _being_found_out(lost))


def _being_found_out(earlier: StartRequest) -> UseCase[RequestInFlight]:
    again = decide.in_flight(earlier, (yield from do(Now())))
    msg = "It is being found out whether the previous try has started a run. Send the request again a little later."
    return RequestInFlight(msg, retry_after=again.retry_after)


def to_recover(request: TriggerRequest, reserve: StartRequest, run_id: str) -> UseCase[StartRequest | str]:
    """Return the record of a request that runs a run again, or why that run cannot be.

    Of a wrapper's run it is the one that this has started.
    """
    key = RunKey(request.factory, run_id)
    reading = yield from _read(key)
    if isinstance(reading, str):
        return reading
    if policy.is_wrapper(reading.pipeline) and not same_pipeline(reading.pipeline, request.pipeline):
        child = yield from do(FindChild(key, reading, point=Point.CHILD_FOUND))
        if isinstance(child, Refusal) and child.kind is RefusalKind.NOT_FOUND:
            return f"ADF does not know what run {run_id} started."
        if isinstance(child, Refusal):
            raise _unreadable(child)
        if child is None:
            return f"Run {run_id} never got as far as starting {request.pipeline!r}."
        run_id = child
        reading = yield from _read(RunKey(request.factory, child))
        if isinstance(reading, str):
            return reading
    return decide.to_recover(reserve, request, run_id, reading)


def _read(key: RunKey) -> UseCase[RunReading | str]:
    reading = yield from ask(key, Asked())
    if not isinstance(reading, Refusal):
        return reading
    if reading.kind is RefusalKind.NOT_FOUND:
        return f"ADF does not know run {key.run_id} in this factory."
    raise _unreadable(reading)


def _unreadable(refusal: Refusal) -> Problem:
    """Return the error for an earlier run that ADF could not be asked about."""
    detail = "The earlier run could not be read, and nothing was started."
    if refusal.kind in (RefusalKind.INVALID, RefusalKind.CONFLICT):
        return AdfRefused(f"{detail} {refusal.detail}")
    if refusal.kind is RefusalKind.FORBIDDEN:
        wanted = "Give the bridge's identity the permission to read runs in this factory"
        return AdfRefused(
            f"{detail} {refusal.detail} {wanted} (Microsoft.DataFactory/factories/pipelineruns/read).", status=403
        )
    return unanswered(refusal, detail)
