"""`POST /waits/batch` and the fields of mode queue: each wait for itself, in order, and nothing lost."""

import json
from datetime import timedelta
from typing import Any

import pytest

from bridge import http_api
from bridge.app import BATCH_BUDGET
from bridge.http_api import Response
from bridge.model import RunKey, RunStatus, TaskRef, WaitState
from tests.fakes import bench as benches
from tests.fakes.bench import Bench
from tests.fakes.listener import EDGE
from tests.fakes.samples import FACTORY, KEY, TASK, a_task, run_body, wait_body

LISTENER = "triggerer-1.example-77-a1b2"


@pytest.fixture
def bench() -> Bench:
    """A bridge with the target `edge`; a run goes on."""
    settings: dict[str, Any] = {**benches.EDGE, "BRIDGE_AIRFLOW__EDGE__CALLER_SECRET": "s3cret"}
    bench = Bench(**settings)
    bench.adf.begin(KEY)
    return bench


def body(task: TaskRef = EDGE, **changes: Any) -> dict[str, Any]:
    """Return the body of `POST /waits` of a listener."""
    listening = {"mode": "queue", "reply_to": LISTENER}
    return {"factory": "demo", "run_id": KEY.run_id, **wait_body(task), **listening, **changes}


def call(bench: Bench, document: object, *, secret: str = "s3cret") -> Response:
    """Send a batch."""
    headers = {"x-adf-bridge-caller-secret": secret}
    return bench.call(http_api.post_waits, body=json.dumps(document).encode(), headers=headers)


def answers(response: Response) -> list[dict[str, Any]]:
    """Return the answers of a batch."""
    assert 200 == response.status
    found: list[dict[str, Any]] = json.loads(response.body)["waits"]
    return found


def test_a_batch_is_answered_in_its_order(bench: Bench) -> None:
    """Each wait of a batch is answered as by itself, in the order of the batch; one that is refused fails no other."""
    over = RunKey(FACTORY, "run-over")
    bench.adf.begin(over)
    bench.adf.end(over, RunStatus.FAILED)
    second, third = (a_task(target="edge", map_index=index, nonce=f"n{index}") for index in (1, 2))
    bad = body(second, deadline="yesterday")
    first, refused, unknown, ended = answers(
        call(bench, {"waits": [body(), bad, body(second, run_id="none"), body(third, run_id="run-over")]})
    )
    assert ("open", None) == (first["wait"]["state"], first["completed"])
    assert (second.token, "invalid-fields", ["deadline"]) == (
        refused["token"],
        refused["problem"]["code"],
        [error["field"] for error in refused["problem"]["errors"]],
    )
    assert (second.token, "not-found", 404) == (
        unknown["token"],
        unknown["problem"]["code"],
        unknown["problem"]["status"],
    )
    assert ("delivered", "Failed", third.token) == (
        ended["wait"]["state"],
        ended["completed"]["status"],
        ended["completed"]["token"],
    )


def test_an_answer_is_that_of_a_single_call(bench: Bench) -> None:
    """What a batch answers for a wait is what `POST /waits` answers."""
    single = bench.call(http_api.post_wait, body=body(), headers={"x-adf-bridge-caller-secret": "s3cret"})
    assert [json.loads(single.body)] == answers(call(bench, {"waits": [body()]}))


@pytest.mark.parametrize("entry", [None, 7, "x", [], {}, {"task": 1}])
def test_entries_that_are_no_waits(bench: Bench, entry: object) -> None:
    """S26: an entry that is none is answered with a problem and without a token; the others are handled."""
    odd, good = answers(call(bench, {"waits": [entry, body()]}))
    assert (None, "invalid-fields", "open") == (odd["token"], odd["problem"]["code"], good["wait"]["state"])


@pytest.mark.parametrize(
    "document", [{}, {"waits": None}, {"waits": {}}, {"waits": []}, {"waits": [{}] * 501}, {"waits": [{}], "more": 1}]
)
def test_what_is_no_batch(bench: Bench, document: object) -> None:
    """A body that is no list of 1 to 500 waits is refused as a whole."""
    response = call(bench, document)
    assert (422, "invalid-fields") == (response.status, json.loads(response.body)["code"])


def test_callers_of_a_batch(bench: Bench) -> None:
    """S46: a batch is checked wait by wait: a caller of one target registers none of another's."""
    mine, theirs = answers(call(bench, {"waits": [body(TASK, mode="resume", reply_to=None), body()]}, secret="x"))
    assert ("open", "caller-not-allowed") == (mine["wait"]["state"], theirs["problem"]["code"])


def test_a_batch_that_takes_too_long(bench: Bench) -> None:
    """What there was no time for is answered with when to send it again, and nothing was done about it."""
    read_run = bench.adf.read_run

    def slow(key: RunKey) -> Any:
        bench.clock.advance(BATCH_BUDGET / 2)
        return read_run(key)

    bench.adf.read_run = slow  # type: ignore[method-assign]
    keys = [RunKey(FACTORY, f"run-{number}") for number in range(6)]
    for key in keys:
        bench.adf.begin(key)
    tasks = [a_task(target="edge", map_index=number) for number in range(6)]
    bodies = [body(task, run_id=key.run_id) for task, key in zip(tasks, keys, strict=True)]
    found = answers(call(bench, {"waits": bodies}))
    late = [one for one in found if "problem" in one]
    assert 0 < len(late) < 6
    assert {("try-again", 503, 1)} == {
        (one["problem"]["code"], one["problem"]["status"], one["problem"]["retry_after"]) for one in late
    }
    assert [None] * len(late) == [bench.store.inner.find_wait(one["token"]) for one in late]


def test_a_store_that_fails_for_one(bench: Bench) -> None:
    """S23: a wait that could not be written is answered with a problem; sending it again registers it."""
    bench.store.fail("put")
    (refused,) = answers(call(bench, {"waits": [body()]}))
    assert "store-unavailable" == refused["problem"]["code"]
    (again,) = answers(call(bench, {"waits": [body()]}))
    assert "open" == again["wait"]["state"]


def test_a_completion_is_answered_again(bench: Bench) -> None:
    """S14: a listener that takes over is answered with what was sent to the one before."""
    call(bench, {"waits": [body()]})
    bench.clock.advance(timedelta(minutes=1))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    assert WaitState.DELIVERED is bench.wait(EDGE).state
    (taken,) = answers(call(bench, {"waits": [body(reply_to="the-heir")]}))
    assert ("Succeeded", "delivered", "the-heir") == (
        taken["completed"]["status"],
        taken["wait"]["state"],
        bench.wait(EDGE).reply_to,
    )


@pytest.mark.parametrize("reply_to", ["", "x" * 129, "a b", "a/b", "ü", 7])
def test_names_of_listeners(bench: Bench, reply_to: object) -> None:
    """The name of a listener has 1 to 128 plain characters."""
    (refused,) = answers(call(bench, {"waits": [body(reply_to=reply_to)]}))
    assert ["reply_to"] == [error["field"] for error in refused["problem"]["errors"]]


def test_a_parked_task_has_no_listener(bench: Bench) -> None:
    """A listener is named in mode queue alone."""
    (refused,) = answers(call(bench, {"waits": [body(TASK, mode="resume")]}))
    assert ["reply_to"] == [error["field"] for error in refused["problem"]["errors"]]


def run(bench: Bench, **changes: Any) -> Response:
    """Start a run for a task of the target `edge`."""
    document = run_body(EDGE, wait={**wait_body(EDGE), "mode": "queue", **changes})
    headers = {"idempotency-key": EDGE.token, "x-adf-bridge-caller-secret": "s3cret"}
    return bench.call(http_api.post_run, body=document, headers=headers)


def test_a_run_has_no_listener_yet(bench: Bench) -> None:
    """A request for a run names no listener; without one it registers a wait in mode queue."""
    refused = run(bench, reply_to=LISTENER)
    assert (422, ["wait.reply_to"]) == (
        refused.status,
        [error["field"] for error in json.loads(refused.body)["errors"]],
    )
    started = run(bench)
    assert (202, "queue") == (started.status, json.loads(started.body)["wait"]["mode"])


@pytest.mark.parametrize(
    ("task", "mode", "missing"),
    [(EDGE, "resume", "BRIDGE_AIRFLOW__EDGE__URL"), (TASK, "queue", "BRIDGE_AIRFLOW__PROD__QUEUE")],
)
def test_modes_of_a_target(bench: Bench, task: TaskRef, mode: str, missing: str) -> None:
    """A mode whose setting the target lacks is refused, and the setting named."""
    document = run_body(task, wait={**wait_body(task), "mode": mode})
    headers = {"idempotency-key": task.token, "x-adf-bridge-caller-secret": "s3cret"}
    refused = bench.call(http_api.post_run, body=document, headers=headers)
    (error,) = json.loads(refused.body)["errors"]
    assert (422, "wait.mode", True) == (refused.status, error["field"], missing in error["message"])
