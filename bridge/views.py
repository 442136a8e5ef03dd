"""The JSON documents that leave the bridge: `completion/v1`, and runs, waits and events as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from bridge.model import Completion, EventRecord, FailedActivity, Match, OtherFailure, Run, StartRequest, TaskRef, Wait
from bridge.policy import Rules

COMPLETION_SCHEMA: Final = "completion/v1"

Document = dict[str, Any]


def timestamp(value: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return value.astimezone(UTC).isoformat() if value is not None else None


def failed_activity_document(activity: FailedActivity | None) -> Document | None:
    """Return the activity that made a run fail, where it is, and what else failed."""
    if activity is None:
        return None
    return {
        **_failure_document(activity),
        "pipeline": activity.pipeline,
        "run_id": activity.run_id,
        "others": [_failure_document(other) for other in activity.others],
    }


def _failure_document(failure: FailedActivity | OtherFailure) -> Document:
    return {
        "name": failure.name,
        "type": failure.type,
        "error_code": failure.error_code,
        "message": failure.message,
        "path": list(failure.path),
    }


def completion_document(completion: Completion) -> Document:
    """Return a completion as `completion/v1`: the same in Airflow's `params_input` and in the API.

    A wait by match that found no run has neither a run id nor a link.
    """
    found = completion.key.is_found
    return {
        "schema": COMPLETION_SCHEMA,
        "token": completion.token,
        "status": completion.status.value,
        "factory": completion.key.factory.arm_id,
        "run_id": completion.key.run_id if found else None,
        "watched_run_id": completion.watched_run_id,
        "pipeline": completion.pipeline,
        "run_start": timestamp(completion.run_start),
        "run_end": timestamp(completion.run_end),
        "message": completion.message,
        "failed_activity": failed_activity_document(completion.failed_activity),
        "monitor_url": completion.watched_key.monitor_url if found else None,
    }


def task_document(task: TaskRef) -> Document:
    """Return a task reference without its nonce, which is the caller's."""
    return {
        "target": task.target,
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "try_number": task.try_number,
        "task_instance_id": task.task_instance_id,
    }


def run_document(run: Run, rules: Rules) -> Document:
    """Return a run as the API shows it. `status` is what ADF said last, None before it was asked.

    `run_id` is None, and there is no link, as long as no run that matches has been found.
    """
    found = run.watched_run_id if run.match is not None else run.key.run_id
    return {
        "factory": run.key.factory.arm_id,
        "factory_alias": rules.alias(run.key.factory),
        "run_id": found,
        "watched_run_id": run.watched_run_id if run.match is None else None,
        "pipeline": run.pipeline,
        "status": run.status.value if run.status is not None else None,
        "read_at": timestamp(run.read_at),
        "run_start": timestamp(run.run_start),
        "run_end": timestamp(run.run_end),
        "message": run.message,
        "failed_activity": failed_activity_document(run.failed_activity),
        "monitor_url": run.watched_key.monitor_url if found is not None else None,
    }


def match_document(match: Match) -> Document:
    """Return which run is waited for."""
    return {
        "pipeline": match.pipeline,
        "since": timestamp(match.since),
        "statuses": [status.value for status in match.statuses],
    }


def wait_document(wait: Wait) -> Document:
    """Return a wait as the API lists it."""
    return {
        "token": wait.token,
        "state": wait.state.value,
        "target": wait.task.target,
        "mode": wait.mode.value,
        "task": task_document(wait.task),
        "factory": wait.key.factory.arm_id,
        "run_id": wait.key.run_id if wait.match is None else None,
        "match": match_document(wait.match) if wait.match is not None else None,
        "deadline": timestamp(wait.deadline),
        "on_abandon": wait.on_abandon.value,
        "registered_at": timestamp(wait.registered_at),
        "attempts": wait.attempts,
        "due_at": timestamp(wait.due_at),
    }


def timeline_document(wait: Wait) -> list[Document]:
    """Return a wait's story, in order."""
    return [{"at": timestamp(entry.at), "what": entry.what, "detail": entry.detail} for entry in wait.timeline]


def event_document(record: EventRecord) -> Document:
    """Return what became of an event."""
    return {
        "id": record.id,
        "received_at": timestamp(record.received_at),
        "source": record.source,
        "type": record.type,
        "factory": record.factory,
        "run_id": record.run_id,
        "status": record.status,
        "verdict": record.verdict.value,
        "reason": record.reason,
    }


def registration_document(run: Run, wait: Wait | None, rules: Rules) -> Document:
    """Return the answer to `POST /waits`."""
    completed = wait.answer if wait is not None else None
    return {
        "run": run_document(run, rules),
        "wait": wait_document(wait) if wait is not None else None,
        "completed": completion_document(completed) if completed is not None else None,
    }


def start_document(run: Run, wait: Wait | None, start: StartRequest, rules: Rules) -> Document:
    """Return the answer to `POST /runs`: as to `POST /waits`, and how the run came to answer to it."""
    return {**registration_document(run, wait, rules), "start": {"how": start.how.value, "why": start.why}}
