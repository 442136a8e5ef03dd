"""Trigger requests and run events by queue: the app in Microsoft's worker library, the queues in the local broker."""

import json
import time
import uuid
from typing import Any

import pytest

from tests.component.hosted_bridge import CALLER_HEADER, FINAL, Json, run_event
from tests.component.queued_bridge import CALLER_SECRET, DELIVERIES, EVENTS, REQUESTS, Queued
from tests.component.stand_ins import eventually

PARAMETER = "canary-parameter-by-queue"
IN_FLIGHT_SECONDS = 1.5  # how long Data Factory takes to answer where a test needs the time


@pytest.fixture
def stage(queued: Queued) -> Queued:
    """The bridge, and no dead letters."""
    queued.forget_dead_letters()
    return queued


def test_the_functions_of_the_queues(stage: Queued) -> None:
    """The worker finds a function for each queue that is named, bound to it."""
    triggers = stage.functions()
    assert [
        ("serviceBusTrigger", "%BRIDGE_REQUESTS_QUEUE%"),
        ("serviceBusTrigger", "%BRIDGE_EVENTS_QUEUE%"),
    ] == [(triggers[name]["type"], triggers[name]["queueName"]) for name in ("run_request", "run_event_queued")]


def test_a_request_by_queue(stage: Queued) -> None:
    """S36: a request by queue starts one run and registers its wait under the message's id; the same message sent
    again, and the same request by call, start nothing.
    """
    task, wait, token = stage.new_wait()
    before = stage.count("createRun")
    stage.request(key=token, wait=wait)
    run_id = stage.waiting(token)["run_id"]
    stage.request(key=token, wait=wait)
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    answer = stage.start(wait, headers={CALLER_HEADER: CALLER_SECRET})
    assert (202, "true", run_id) == (
        answer.status_code,
        answer.headers["Idempotent-Replay"],
        answer.json()["run"]["run_id"],
    )
    assert before + 1 == stage.count("createRun")
    assert [False, True] == [line["replay"] for line in stage.told("request.taken", token)]
    task.park()
    assert "delivered" == stage.complete(token, run_id)["state"]


def in_flight(stage: Queued) -> tuple[Json, str]:
    """A request whose run was started and whose Function still runs: the wait, its token."""
    _, wait, token = stage.new_wait()
    stage.adf.post("faults", {"op": "createRun", "effect": "after", "delay_s": IN_FLIGHT_SECONDS})
    before = len(stage.adf.get("runs")["runs"])
    stage.request(key=token, wait=wait)
    eventually(lambda: len(stage.adf.get("runs")["runs"]) > before)
    return wait, token


def test_a_lost_lock(stage: Queued) -> None:
    """S25: a request whose lock is lost while its run is started comes again, and is answered from its record."""
    before = stage.count("createRun")
    _, token = in_flight(stage)
    stage.bus.control("DELETE", "connections?abort=1")
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    stage.drained(REQUESTS)
    assert before + 1 == stage.count("createRun")
    assert [(1, False), (2, True)] == [
        (line["deliveries"], line["replay"]) for line in stage.told("request.taken", token)
    ]


def test_a_host_that_is_killed_after_the_start(stage: Queued) -> None:
    """S24, S25: what was started and not settled when the host died starts nothing again; the wait stands."""
    before = stage.count("createRun")
    _, token = in_flight(stage)
    stage.bus.control("PUT", "mode", json={"stalled": True})  # so that nothing can be settled
    eventually(lambda: stage.told("request.taken", token))
    stage.process.kill()
    stage.bus.control("PUT", "mode", json={"stalled": False})
    stage.process.start()
    eventually(lambda: len(stage.told("request.taken", token)) == 2)
    stage.drained(REQUESTS)
    assert (before + 1, "open") == (stage.count("createRun"), stage.waiting(token)["state"])
    assert [(1, False), (2, True)] == [
        (line["deliveries"], line["replay"]) for line in stage.told("request.taken", token)
    ]


def test_a_bad_request(stage: Queued) -> None:
    """S26: a request that will never pass is a dead letter when its deliveries are used up, and stands once among the
    events with its reason; a good one behind it is taken.
    """
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    stage.request(key=bad, factory="nobody", parameters={"secret": PARAMETER})
    stage.request(key=good, parameters={"secret": PARAMETER})
    eventually(lambda: stage.dead_letters(REQUESTS))
    eventually(lambda: stage.told("request.taken", good))
    assert [(bad, "MaxDeliveryCountExceeded")] == stage.dead_letters(REQUESTS)
    assert list(range(1, DELIVERIES + 1)) == [line["deliveries"] for line in stage.told("request.refused", bad)]
    (reason,) = stage.rejected(bad)
    assert reason.startswith("factory-not-allowed: ")


def test_a_caller_without_the_secret(stage: Queued) -> None:
    """S46: a request for a target that asks who calls has to say so by queue, too: without its secret, no run."""
    _, wait, token = stage.new_wait()
    before = stage.count("createRun")
    document = {"factory": "sales", "pipeline": "held", "wait": wait}
    stage.send(REQUESTS, json.dumps(document).encode(), message_id=token)
    eventually(lambda: token in [name for name, _ in stage.dead_letters(REQUESTS)])
    (reason,) = stage.rejected(token)
    assert ("caller-not-allowed", before) == (reason.partition(":")[0], stage.count("createRun"))


def test_data_factory_throttles(stage: Queued) -> None:
    """A request that Data Factory throttles comes again, after as long as it asks for, and then starts its run."""
    _, wait, token = stage.new_wait()
    stage.adf.post("faults", {"op": "createRun", "status": 429, "retry_after": 1})
    began = time.monotonic()
    stage.request(key=token, wait=wait)
    assert "open" == stage.waiting(token)["state"]
    assert time.monotonic() - began >= 1
    assert [("adf-throttled", 1)] == [
        (line["code"], line["deliveries"]) for line in stage.told("request.refused", token)
    ]
    assert ([], [2]) == (stage.rejected(token), [line["deliveries"] for line in stage.told("request.taken", token)])


def test_an_event_by_queue(stage: Queued) -> None:
    """A run's end that Event Grid puts into the queue completes the task that waits for it."""
    token, run_id = stage.parked_by_queue()
    stage.end_run(run_id)
    stage.publish(run_id)
    assert "delivered" == stage.until(token, *FINAL)["state"]
    assert (["matched"], []) == (stage.verdicts(run_id), stage.dead_letters(EVENTS))


def test_an_event_while_the_host_is_down(stage: Queued) -> None:
    """S25: an event that comes while the app is down waits in its queue, and completes the task when the app is back;
    the same event again is a duplicate.
    """
    token, run_id = stage.parked_by_queue()
    stage.drained(REQUESTS)
    stage.process.kill()
    stage.end_run(run_id)
    stage.publish(run_id)
    eventually(lambda: stage.messages(EVENTS))
    stage.process.start()
    assert "delivered" == stage.until(token, *FINAL)["state"]
    stage.publish(run_id)
    eventually(lambda: len(stage.verdicts(run_id)) == 2)
    assert ["matched", "duplicate"] == stage.verdicts(run_id)
    assert 1 == stage.story(token).count("delivered")


def test_events_that_make_no_sense(stage: Queued) -> None:
    """S26: of ten events, the nine that make no sense are taken out of the queue and shown as malformed, and the good
    one among them completes its task.
    """
    token, run_id = stage.parked_by_queue()
    stage.end_run(run_id)
    names = [f"bad-{number}-{uuid.uuid4().hex[:8]}" for number in range(6)]
    shapes: list[Any] = [run_event(run_id, id=name, data={"status": number}) for number, name in enumerate(names)]
    raw = [b"{", b"\xff\xfe", b"NaN", *(json.dumps(shape).encode() for shape in shapes)]
    before = len(stage.call("GET", "/events?verdict=malformed&limit=500").json()["events"])
    stage.send(EVENTS, *raw[:5], json.dumps(run_event(run_id)).encode(), *raw[5:])
    assert "delivered" == stage.until(token, *FINAL)["state"]
    stage.drained(EVENTS)
    events = stage.call("GET", "/events?verdict=malformed&limit=500").json()["events"]
    assert (9, set(names), []) == (
        len(events) - before,
        {event["id"] for event in events} - {""},
        stage.dead_letters(EVENTS),
    )


def test_nothing_is_given_away(stage: Queued) -> None:
    """S34: after all that, neither the log nor an answer holds a secret of a message, a parameter, or a key."""
    stage.call("GET", "/events?limit=500")
    key = stage.bus.connection_string.partition("SharedAccessKey=")[2].partition(";")[0]
    shown = "\n".join([*stage.answers, *(log.read_text(encoding="utf-8") for log in stage.folder.glob("*.log"))])
    assert (True, []) == (len(key) > 3, [one for one in (CALLER_SECRET, PARAMETER, key) if one in shown])
