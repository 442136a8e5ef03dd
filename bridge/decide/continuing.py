"""How a try goes on from the one before: with its run, from where that failed, or with a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bridge import policy
from bridge.errors import RequestInFlight
from bridge.model import (
    Continuation,
    NewTry,
    PreviousTry,
    Run,
    RunStatus,
    StartedHow,
    StartRequest,
    StartState,
    TriggerRequest,
    same_pipeline,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the earlier run: it is waited for, it is run again, or it is left, and why."""

    attach: str | None = None
    recover: str | None = None
    why: str | None = None


def earlier_try(request: TriggerRequest, records: Sequence[StartRequest]) -> StartRequest | None:
    """Return the request of the try before: the last one of its task that was received, if there is one."""
    wait = request.wait
    if wait is None or request.previous is None or request.previous.do is PreviousTry.RERUN:
        return None
    others = (one for one in records if one.idempotency_key != request.idempotency_key)
    since = request.previous.since_try if request.previous.after is NewTry.RETRY else 0
    earlier = (one for one in others if since <= one.try_number < wait.task.try_number)
    return max(earlier, key=lambda one: (one.received_at, one.try_number), default=None)


def has_changed(decided_by: StartRequest | None, earlier: StartRequest | None) -> bool:
    """Whether the try before has come, or has got on, since it was decided how to go on from it."""
    return _stand(decided_by) != _stand(earlier)


def _stand(record: StartRequest | None) -> tuple[str, StartState, str | None] | None:
    return (record.idempotency_key, record.state, record.run_id) if record is not None else None


def is_overtaken(reserved: StartRequest, records: Sequence[StartRequest]) -> bool:
    """Whether a later try of the task has asked already; or one of a DAG run that was deleted and made again."""
    return any(one.try_number > reserved.try_number for one in records)


def may_be_overtaken(reserved: StartRequest, records: Sequence[StartRequest], now: datetime) -> RequestInFlight | None:
    """Return the refusal of a try that is likely over, where Airflow cannot be asked; None if it is not held to be.

    A later try that has asked a short time ago means that this request is late. One of long ago is that of a DAG run
    which was deleted and made again: that DAG run's first try is put off until then, and starts.
    """
    later = [one.received_at for one in records if one.try_number > reserved.try_number]
    until = max(later, default=now) + policy.OVERTAKEN_FOR
    if not later or now >= until:
        return None
    msg = "A later try of the task has asked for a run already. Nothing was started."
    return RequestInFlight(msg, retry_after=min(until - now, policy.OVERTAKEN_AGAIN))


def differs(request: TriggerRequest, earlier: StartRequest) -> str | None:
    """Say what a request asks for that the earlier one did not. ADF would silently run the earlier one's."""
    if earlier.factory != request.factory:
        return "The previous try ran in another factory."
    if not same_pipeline(earlier.pipeline, request.pipeline):
        return f"The previous try ran another pipeline, {earlier.pipeline!r}."
    if earlier.parameters_hash != request.parameters_hash:
        return "The previous try ran with other parameters."
    return None


def go_on(previous: Continuation, earlier: StartRequest, run: Run | None) -> Plan:
    """Decide by what ADF says of the earlier run; None when ADF does not know it (any more)."""
    run_id = earlier.run_id
    if run is None or run_id is None:
        return Plan(why=f"The previous try's run {run_id} is not known to ADF any more.")
    if run.cancelled_at is not None and not run.has_ended:
        return Plan(why=f"The previous try's run {run_id} is being cancelled.")
    match run.status:
        case RunStatus.QUEUED | RunStatus.IN_PROGRESS | None:
            return Plan(attach=run_id, why=f"The previous try's run {run_id} goes on.")
        case RunStatus.SUCCEEDED if previous.after is NewTry.RETRY:
            return Plan(attach=run_id, why=f"The previous try's run {run_id} has succeeded meanwhile.")
        case RunStatus.FAILED if previous.do is PreviousTry.RECOVER:
            return _recover(earlier, run)
        case RunStatus.CANCELING:
            return Plan(why=f"The previous try's run {run_id} is being cancelled.")
        case _:
            return Plan(why=f"The previous try's run {run_id} ended as {run.status}.")


def _recover(earlier: StartRequest, run: Run) -> Plan:
    failed = run.watched_key.run_id
    if run.watched_run_id is None and policy.is_wrapper(earlier.started_pipeline):
        return Plan(why=f"The previous try's run {failed} failed before its pipeline began.")
    return Plan(recover=failed, why=f"The previous try's run {failed} failed: it is run again from there.")


def not_recovered(run_id: str, reason: str) -> str:
    """Say why the earlier run is left, and all of it runs anew, although it failed and was to be run again."""
    return f"The previous try's run {run_id} failed, and cannot be run again from there: {reason}"


def attached(reserve: StartRequest, earlier: StartRequest, plan: Plan) -> StartRequest:
    """Return the record of a request that goes on with the earlier run; nothing is started for it."""
    return replace(
        reserve,
        state=StartState.STARTED,
        run_id=plan.attach,
        started_pipeline=earlier.started_pipeline,
        correlation=None,
        how=StartedHow.REATTACHED,
        why=plan.why,
    )


def unsettled(earlier: StartRequest) -> str:
    """Say why a try has a run of its own although the one before may have one, too."""
    return (
        f"It could not be found out whether the previous try, at {earlier.received_at:%Y-%m-%d %H:%M:%SZ}, started a "
        "run: look in ADF's monitor."
    )
