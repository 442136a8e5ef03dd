"""The documents that leave the bridge."""

import json
from datetime import timedelta, timezone

from bridge import views
from bridge.model import EventRecord, FailedActivity, OtherFailure, Outcome, RunStatus, Verdict, WaitState
from tests.fakes.clock import START
from tests.fakes.samples import (
    ARM_ID,
    DEADLINE,
    KEY,
    RULES,
    TASK,
    a_completion,
    a_due_wait,
    a_run,
    a_wait,
    an_ended_run,
)

CAUSE = FailedActivity("Copy orders", "Copy", "2200", "Source not found")


def test_completion_v1() -> None:
    """A completion is told as completion/v1: these names, these types, and nothing else."""
    completion = a_completion(
        status=Outcome.FAILED,
        pipeline="copy_orders",
        run_start=START,
        run_end=START + timedelta(minutes=3),
        message="Operation on target Copy orders failed",
        failed_activity=CAUSE,
    )
    assert {
        "schema": "completion/v1",
        "token": TASK.token,
        "status": "Failed",
        "factory": ARM_ID,
        "run_id": KEY.run_id,
        "watched_run_id": None,
        "pipeline": "copy_orders",
        "run_start": "2026-03-01T12:00:00+00:00",
        "run_end": "2026-03-01T12:03:00+00:00",
        "message": "Operation on target Copy orders failed",
        "failed_activity": {
            "name": "Copy orders",
            "type": "Copy",
            "error_code": "2200",
            "message": "Source not found",
            "path": [],
            "pipeline": None,
            "run_id": None,
            "others": [],
        },
        "monitor_url": KEY.monitor_url,
    } == views.completion_document(completion)


def test_where_a_run_failed() -> None:
    """A cause in another run is told with the way to it, that run, and what else failed, in plain JSON."""
    other = OtherFailure("Tell", "WebActivity", "2108", "no answer")
    cause = FailedActivity("Copy", "Copy", "2200", "no", ("Run",), "inner", "run-7", (other,))
    document = views.failed_activity_document(cause)
    assert document == json.loads(json.dumps(document))
    assert {
        "name": "Copy",
        "type": "Copy",
        "error_code": "2200",
        "message": "no",
        "path": ["Run"],
        "pipeline": "inner",
        "run_id": "run-7",
        "others": [
            {"name": "Tell", "type": "WebActivity", "error_code": "2108", "message": "no answer", "path": []},
        ],
    } == document


def test_a_completion_with_little_in_it() -> None:
    """What is not known is null, and stays there."""
    document = views.completion_document(a_completion())
    names = [name for name, value in document.items() if value is None]
    assert ["watched_run_id", "pipeline", "run_start", "run_end", "message", "failed_activity"] == names


def test_a_run() -> None:
    """A run is shown by its ids, its alias, what ADF said last, and its link."""
    document = views.run_document(an_ended_run(RunStatus.CANCELLED, pipeline="copy_orders"), RULES)
    expected = (ARM_ID, "demo", KEY.run_id, "copy_orders", "Cancelled", KEY.monitor_url)
    names = ("factory", "factory_alias", "run_id", "pipeline", "status", "monitor_url")
    assert expected == tuple(document[name] for name in names)


def test_a_hint_is_no_status() -> None:
    """S05: what an event claimed is never shown as a run's status."""
    document = views.run_document(a_run(hint=RunStatus.SUCCEEDED), RULES)
    assert (None, True) == (document["status"], "Succeeded" not in json.dumps(document))


def test_a_wait() -> None:
    """A wait is shown with its task, its state and its times."""
    document = views.wait_document(a_due_wait(attempts=3))
    expected = {"token": TASK.token, "state": "due", "target": "prod", "mode": "resume", "attempts": 3}
    assert expected == {name: document[name] for name in expected}
    assert (DEADLINE.isoformat(), START.isoformat()) == (document["deadline"], document["due_at"])


def test_the_nonce_stays_inside() -> None:
    """S34: a task's nonce, with which its token could be made, is shown to nobody."""
    assert TASK.nonce not in json.dumps([views.wait_document(a_wait()), views.completion_document(a_completion())])


def test_a_story() -> None:
    """A wait's story is told in order."""
    wait = a_wait().told(START, "registered", "a").told(START + timedelta(seconds=1), "event", "b")
    assert [
        {"at": "2026-03-01T12:00:00+00:00", "what": "registered", "detail": "a"},
        {"at": "2026-03-01T12:00:01+00:00", "what": "event", "detail": "b"},
    ] == views.timeline_document(wait)


def test_an_event() -> None:
    """An event is shown with its verdict and the reason."""
    record = EventRecord("e", START, Verdict.PARKED, "nobody waits", run_id="r", status="Succeeded")
    document = views.event_document(record)
    assert ("e", "2026-03-01T12:00:00+00:00", "parked", "nobody waits", "r") == tuple(
        document[name] for name in ("id", "received_at", "verdict", "reason", "run_id")
    )


def test_a_completion_is_told_once_it_is_settled() -> None:
    """A registration answers with the completion when the wait is over, and not while it is being delivered."""
    over = a_due_wait(state=WaitState.INLINE)
    told = [
        views.registration_document(a_run(), wait, RULES)["completed"] for wait in (over, a_due_wait(), a_wait(), None)
    ]
    assert [views.completion_document(a_completion()), None, None, None] == told


def test_times_are_told_in_utc() -> None:
    """A time is told in UTC, wherever it was taken."""
    at = START.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert ("2026-03-01T12:00:00+00:00", None) == (views.timestamp(at), views.timestamp(None))
