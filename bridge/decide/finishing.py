"""What becomes of a trigger request whose caller has died: the bridge finishes what was begun, or leaves it, and why.

It looks for a run by what its record holds. The parameters of a request are not stored, so a run that nothing but its
parameters tells from others can be found by the request itself alone, or by the task's next try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from bridge import policy
from bridge.decide.searching import correlation_of
from bridge.model import StartRequest, StartState, Wait, WaitState


def is_to_be_finished(record: StartRequest, now: datetime) -> bool:
    """Whether the bridge goes on with a request by itself now."""
    return record.due_at is not None and record.due_at <= now


def not_to_be_found(record: StartRequest) -> str | None:
    """Say why the bridge itself cannot find out whether a request has started a run; None when it can."""
    if record.state is StartState.STARTED or record.recovers is not None or correlation_of(record) is not None:
        return None
    return (
        f"Its caller died before ADF's answer was written down, and a run of {record.pipeline!r} can be told from "
        "others by its parameters alone, which the bridge does not store: send the request again, or look in ADF's "
        "monitor."
    )


def not_to_be_waited_for(record: StartRequest, taken: Wait | None, requests: Sequence[StartRequest]) -> str | None:
    """Say why no wait is registered for a request that has its run; None when one is.

    `taken` is the wait that has its token already, `requests` are the last ones of its task.
    """
    if taken is not None and taken.state is WaitState.WITHDRAWN:
        return "Its wait was withdrawn."
    if taken is not None and taken.key != record.key:
        return f"Its token names a wait for another run, {taken.key.run_id}."
    if taken is None and any(has_the_run(one, record) for one in requests):
        return "The task's next try waits for the run."
    return None


def has_the_run(later: StartRequest, record: StartRequest) -> bool:
    """Whether a later request of the same task has the run of an earlier one now: it was answered with it."""
    is_later = later.idempotency_key != record.idempotency_key and later.received_at >= record.received_at
    return is_later and later.key == record.key and later.answer is not None


def put_off(record: StartRequest, now: datetime) -> StartRequest:
    """Return the record of a request that cannot be finished yet; after days it is left."""
    if now >= record.received_at + policy.FINISH_FOR:
        return leave(record, f"For {policy.FINISH_FOR.days} days it could not be found out what became of it.")
    return replace(record, finish_at=policy.finish_again(record.received_at, now))


def leave(record: StartRequest, reason: str) -> StartRequest:
    """Return the record of a request that the bridge does not finish; its caller still may."""
    return replace(record, left=reason)
