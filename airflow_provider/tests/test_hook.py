"""The hook against a bridge that answers over HTTP."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from bridge_stand_in import BridgeStandIn
from conftest import Clock

from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRefusedError, AdfBridgeUnreachableError
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.patience import Patience
from airflow_adf_bridge.token import TaskTry

Connect = Callable[..., AdfBridgeHook]
BODY = {"factory": "sales", "pipeline": "ingest"}
MINUTE = timedelta(minutes=1)
TASK_TRY = TaskTry("demo", "nightly", "manual__1", "wait", -1, 1, None, "nonce")
WAIT = {
    "match": {"factory": "sales", "pipeline": "ingest", "since": "2026-01-01T00:00:00+00:00"},
    "target": "demo",
    "task": TASK_TRY.as_request(),
}


def test_a_start_carries_key_and_secrets_in_headers_only(bridge: BridgeStandIn, connect: Connect) -> None:
    """S34: the function key and the caller secret travel in headers, never in the address."""
    connect({"caller_secret": "caller-canary"}).start_run(BODY, key="k1", patience=MINUTE)
    (call,) = bridge.calls
    sent = [call.headers[name] for name in ("idempotency-key", "x-functions-key", "x-adf-bridge-caller-secret")]
    assert ("/api/runs", ["k1", "function-key-canary", "caller-canary"]) == (call.path, sent)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, {}), (502, b"<html>"), (503, {"code": "adf-throttled"}), (429, {}), (409, {"code": "request-in-flight"})],
)
def test_a_passing_trouble_is_retried_with_the_same_key(
    bridge: BridgeStandIn, connect: Connect, clock: Clock, status: int, body: Any
) -> None:
    """S48: what may pass is tried again under the same key, after the time that the bridge asked for."""
    bridge.refuse(status, body, Retry_After="7")
    answer = connect().start_run(BODY, key="k1", patience=MINUTE)
    keys = [call.headers["idempotency-key"] for call in bridge.calls]
    assert ("run-1", ["k1", "k1"], [7.0]) == (answer["run"]["run_id"], keys, clock.pauses)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {}),
        (502, b"<html>"),
        (503, {"code": "store-unavailable"}),
        (429, {}),
        (409, {"code": "request-in-flight"}),
    ],
)
def test_a_wait_is_registered_once_however_often_it_is_asked_for(
    bridge: BridgeStandIn, connect: Connect, clock: Clock, status: int, body: Any
) -> None:
    """S48: what may pass is tried again with the same body, whose token names one wait."""
    bridge.refuse(status, body, Retry_After="7")
    hook = connect()
    for _ in range(2):
        answer = hook.register_wait(WAIT, patience=MINUTE)
    assert (None, [WAIT] * 3, [7.0], 1) == (
        answer["run"]["run_id"],
        [call.body for call in bridge.calls],
        clock.pauses,
        len(bridge.waits),
    )


def test_a_bridge_out_of_reach_fails_a_wait_after_its_patience(connect: Connect, clock: Clock) -> None:
    """S48: a wait that could not be registered in time fails and says what was asked for."""
    with pytest.raises(AdfBridgeUnreachableError, match="to wait for a run of pipeline 'ingest' in 60 s"):
        connect(port=1).register_wait(WAIT, patience=MINUTE)
    assert 60.0 == clock.now


HOUR = timedelta(hours=1)
BUSY = {"code": "adf-throttled", "detail": "Too many runs of this pipeline are queued."}


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_queue_delays_a_start_beyond_its_patience(
    bridge: BridgeStandIn, connect: Connect, clock: Clock, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """S48: while Data Factory has too many runs queued, a start is asked for again under its key, as long as it may."""
    for _ in range(20):
        bridge.refuse(status, BUSY, Retry_After="60")
    answer = connect().start_run(BODY, key="k1", patience=MINUTE, queue_patience=HOUR)
    said = capsys.readouterr().out.count("The start is delayed")
    assert ("run-1", {"k1"}, [60.0] * 20, 2) == (
        answer["run"]["run_id"],
        {call.headers["idempotency-key"] for call in bridge.calls},
        clock.pauses,
        said,
    )


def test_a_full_queue_without_a_word_about_when_is_asked_ever_less_often(clock: Clock) -> None:
    """A queue that is full for a week is asked about every few minutes in the end."""
    patience = Patience(clock.read, MINUTE, timedelta(days=7))
    while (seconds := patience.failed(None, queued=True)) is not None:
        clock.pause(seconds)
    assert (True, True, True) == (
        clock.pauses[0] < 2,
        all(225 <= pause <= 375 for pause in clock.pauses[10:]),
        patience.attempts > 1_500,
    )


def test_a_queue_that_stays_full_fails_the_start_before_the_deadline(
    bridge: BridgeStandIn, connect: Connect, clock: Clock
) -> None:
    """S48: a start that was delayed up to its deadline fails with Data Factory's reason, and asks no further."""
    for _ in range(20):
        bridge.refuse(429, BUSY, Retry_After="250")
    with pytest.raises(AdfBridgeRefusedError, match="Too many runs of this pipeline are queued") as raised:
        connect().start_run(BODY, key="k1", patience=MINUTE, queue_patience=timedelta(minutes=10))
    assert ("adf-throttled", 500.0, []) == (raised.value.code, clock.now, list(bridge.runs))


def test_a_bridge_that_is_lost_while_a_start_is_delayed_has_its_patience_anew(
    bridge: BridgeStandIn, connect: Connect, clock: Clock
) -> None:
    """S48: start_timeout counts from the last time that the bridge was there."""
    for _ in range(3):
        bridge.refuse(429, BUSY, Retry_After="100")
    for _ in range(3):
        bridge.refuse(502, b"<html>", Retry_After="15")
    answer = connect().start_run(BODY, key="k1", patience=MINUTE, queue_patience=HOUR)
    assert ("run-1", 345.0) == (answer["run"]["run_id"], clock.now)


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({}, {"recursive": True}),
        ({"factory": "sales", "recursive": False}, {"factory": "sales", "recursive": False}),
    ],
)
def test_a_run_can_be_cancelled(
    bridge: BridgeStandIn, connect: Connect, arguments: dict[str, Any], body: dict[str, Any]
) -> None:
    """S30: the hook cancels a run, with the runs that it started unless told otherwise."""
    answer = connect().cancel_run("a b", **arguments)
    (call,) = bridge.calls
    assert ("accepted", "/api/runs/a%20b/cancel", body) == (answer["cancel"], call.path, call.body)


@pytest.mark.parametrize("retry_after", ["86400", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_an_absurd_retry_after_is_cut(bridge: BridgeStandIn, connect: Connect, clock: Clock, retry_after: str) -> None:
    """S12: however long the bridge asks to wait, the next attempt follows within half a minute."""
    bridge.refuse(503, {}, Retry_After=retry_after)
    connect().start_run(BODY, key="k1", patience=MINUTE)
    assert [30.0] == clock.pauses


def test_a_bridge_out_of_reach_fails_the_start_after_its_patience(
    bridge: BridgeStandIn, connect: Connect, clock: Clock
) -> None:
    """S48: when start_timeout is over, the failure says how long, how often and where to look, and shows no key."""
    hook = connect(port=1)
    with pytest.raises(AdfBridgeUnreachableError) as raised:
        hook.start_run(BODY, key="k1", patience=MINUTE)
    message = str(raised.value)
    assert (60.0, True, True, False) == (
        clock.now,
        "in 60 s" in message,
        "/api/health" in message,
        "canary" in message,
    )
    assert [] == bridge.calls


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"", "function key"),
        (403, {"code": "target-unknown", "detail": "No target 'x'."}, "Set target in the connection's extra"),
        (403, {"code": "factory-not-allowed", "detail": "Not allowed."}, "BRIDGE_FACTORIES"),
        (404, {"code": "pipeline-not-found", "detail": "No such pipeline."}, "must be published"),
        (409, {"code": "unknown-outcome", "detail": "It may run."}, "Data Factory's monitor"),
        (409, {"code": "wait-conflict", "detail": "It was withdrawn."}, "a new try registers"),
        (302, b"", "Redirects are not followed"),
        (200, b"<html>", "no answer of the bridge"),
    ],
)
def test_a_final_refusal_says_what_to_do(
    bridge: BridgeStandIn, connect: Connect, status: int, body: Any, said: str
) -> None:
    """A refusal that will not pass is not repeated, and its message says what to do."""
    bridge.refuse(status, body, Location="http://169.254.169.254/")
    with pytest.raises(AdfBridgeRefusedError, match=said):
        connect().start_run(BODY, key="k1", patience=MINUTE)
    assert 1 == len(bridge.calls)


def test_every_bad_field_is_named(bridge: BridgeStandIn, connect: Connect) -> None:
    """A refusal lists every field that the bridge found wrong."""
    errors = [{"field": "pipeline", "message": "is empty"}, {"field": "wait.deadline", "message": "is past"}]
    bridge.refuse(422, {"code": "invalid-fields", "detail": "Two fields are wrong.", "errors": errors})
    with pytest.raises(AdfBridgeRefusedError) as raised:
        connect().start_run(BODY, key="k1", patience=MINUTE)
    assert (
        "The bridge refused to start pipeline 'ingest': invalid-fields (422). Two fields are wrong.\n"
        "  pipeline: is empty\n"
        "  wait.deadline: is past"
    ) == str(raised.value)


@pytest.mark.parametrize(
    ("extra", "factory_name", "group", "factory"),
    [
        ({}, None, None, "sales"),
        ({}, "other", None, "other"),
        (
            {"subscription_id": "s"},
            "f",
            "g",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/f",
        ),
        (
            {"subscription_id": "s", "resource_group_name": "g"},
            "f",
            None,
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/f",
        ),
        ({"subscription_id": "s"}, "/subscriptions/x/y", "g", "/subscriptions/x/y"),
    ],
)
def test_a_factory_is_named_as_the_bridge_knows_it(
    connect: Connect, extra: dict[str, str], factory_name: str | None, group: str | None, factory: str
) -> None:
    """An ARM id is built where its parts are known; anything else is the bridge's alias."""
    assert factory == connect(extra).factory(factory_name, group)


@pytest.mark.parametrize(
    ("extra", "factory_name", "group"), [({"factory": ""}, None, None), ({}, "f", "g"), ({}, None, "g")]
)
def test_a_factory_that_cannot_be_told_is_refused(
    connect: Connect, extra: dict[str, str], factory_name: str | None, group: str | None
) -> None:
    """A factory named by half is refused before anything is sent."""
    with pytest.raises(AdfBridgeConfigurationError):
        connect(extra).factory(factory_name, group)


@pytest.mark.parametrize("target", ["", "two words", "a-b"])
def test_a_connection_without_a_usable_target_is_refused(connect: Connect, target: str) -> None:
    """A target is a name of letters, digits and underscores; the error says where it goes."""
    with pytest.raises(AdfBridgeConfigurationError, match="needs target in its extra"):
        _ = connect({"target": target}).target


@pytest.mark.parametrize(
    ("status", "health", "expected"),
    [
        (200, {"status": "ok", "version": "1.2.3", "targets": {"demo": {}}}, (True, "adf-bridge 1.2.3 is ok")),
        (200, {"status": "ok", "targets": {"prod": {}}}, (False, "The bridge has no target 'demo'. It has: prod")),
        (
            503,
            {"status": "config-invalid", "errors": ["A is bad"]},
            (False, "The bridge answered 503 config-invalid: A is bad"),
        ),
        (401, {}, (False, "The bridge answered 401 : the function key was not accepted")),
    ],
)
def test_the_connection_test_tells_what_is_wrong(
    bridge: BridgeStandIn, connect: Connect, status: int, health: dict[str, Any], expected: tuple[bool, str]
) -> None:
    """Airflow's connection test tells a bridge that works from one that is misconfigured or of another Airflow."""
    bridge.health_status, bridge.health = status, health
    assert expected == connect().test_connection()


def test_the_connection_test_survives_a_bridge_out_of_reach(connect: Connect) -> None:
    """A connection test of a bridge that is down answers instead of raising."""
    works, why = connect(port=1).test_connection()
    assert (False, True) == (works, "cannot be reached" in why)


@pytest.mark.parametrize("answered", [{"waits": []}, {"waits": "two"}, {"other": 1}])
def test_a_batch_that_is_not_answered_one_by_one_is_no_answer(
    bridge: BridgeStandIn, connect: Connect, answered: dict[str, Any]
) -> None:
    """Registrations whose answers cannot be told apart count as not answered, and are asked for again later."""
    hook = connect()
    bridge.refuse(200, answered)
    with pytest.raises(AdfBridgeUnreachableError, match="to wait for 2 runs"):
        hook.register_waits([{}, {}], patience=timedelta(0))


def test_one_attempt_tells_when_the_next_is_welcome(bridge: BridgeStandIn, connect: Connect, clock: Clock) -> None:
    """S12: a caller that makes one attempt is told at once what the bridge asked for."""
    hook = connect()
    bridge.refuse(503, {"detail": "Busy."}, Retry_After="17")
    with pytest.raises(AdfBridgeUnreachableError) as raised:
        hook.register_waits([{}], patience=timedelta(0))
    assert (timedelta(seconds=17), [], 1) == (raised.value.retry_after, clock.pauses, len(bridge.calls))
