"""The HTTP API: every call, and every way of refusing one."""

import json
from datetime import timedelta
from typing import Any

import pytest

from bridge import http_api
from bridge.callers import CALLER_HEADER
from bridge.config import load
from bridge.errors import ConfigInvalid
from bridge.http_api import Request, Response
from bridge.model import RunKey, RunStatus
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench
from tests.fakes.samples import (
    ARM_ID,
    FACTORY,
    KEY,
    MINUTE,
    OTHER_FACTORY,
    SECOND,
    STRANGE_ARM_ID,
    TASK,
    a_task,
    run_body,
    wait_body,
)


@pytest.fixture
def bench() -> Bench:
    """A bridge, with a run that goes on and a task that runs."""
    bench = Bench()
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    return bench


def document(response: Response) -> dict[str, Any]:
    """Return a response's document."""
    read: dict[str, Any] = json.loads(response.body)
    return read


def post_run(bench: Bench, body: object = None, **headers: str) -> Response:
    """Send a trigger request, as the operator does."""
    sent = {"idempotency-key": TASK.token, **headers}
    return bench.call(http_api.post_run, body=run_body() if body is None else body, headers=sent)


def post_wait(bench: Bench, **changes: Any) -> Response:
    """Register a wait for the sample run."""
    body = {"factory": "demo", "run_id": KEY.run_id, **wait_body(), **changes}
    return bench.call(http_api.post_wait, body=body)


def refused(response: Response) -> tuple[int, str]:
    """Return a problem's status and code, having checked its shape."""
    problem = document(response)
    assert {"type", "title", "status", "code", "detail", "errors"} == set(problem)
    assert ("application/problem+json", response.status, f"urn:adf-bridge:problem:{problem['code']}") == (
        response.content_type,
        problem["status"],
        problem["type"],
    )
    return response.status, problem["code"]


def test_starting_a_run(bench: Bench) -> None:
    """A run is started with 202, its run and its wait; the repetition is the same document, marked as a replay."""
    first = post_run(bench)
    again = post_run(bench)
    assert (202, {}, 202, {"Idempotent-Replay": "true"}) == (first.status, first.headers, again.status, again.headers)
    assert first.body == again.body
    answer = document(first)
    assert ("run-1", "demo", "open", TASK.token, None) == (
        answer["run"]["run_id"],
        answer["run"]["factory_alias"],
        answer["wait"]["state"],
        answer["wait"]["token"],
        answer["completed"],
    )


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        pytest.param(run_body(), {"idempotency-key": ""}, (400, "missing-idempotency-key"), id="no-key"),
        pytest.param(b"{", {}, (400, "bad-json"), id="bad-json"),
        pytest.param(b"x" * 1_048_577, {}, (413, "body-too-large"), id="too-large"),
        pytest.param(run_body(pipeline=7), {}, (422, "invalid-fields"), id="bad-field"),
        pytest.param(run_body(factory="strange"), {}, (403, "factory-not-allowed"), id="strange-factory"),
        pytest.param(run_body(wait=wait_body(target="x")), {}, (403, "target-unknown"), id="unknown-target"),
        pytest.param(run_body(), {"idempotency-key": "x"}, (422, "token-mismatch"), id="not-the-token"),
        pytest.param(
            run_body(wait=wait_body(deadline="2026-03-01T11:00:00+00:00")), {}, (422, "invalid-fields"), id="too-late"
        ),
    ],
)
def test_refused_requests(bench: Bench, body: object, headers: dict[str, str], expected: tuple[int, str]) -> None:
    """S38: a request that cannot be taken is refused with its own status and code, and starts nothing."""
    assert expected == refused(post_run(bench, body, **headers))
    assert ([], None) == (bench.adf.creates, bench.store.inner.request(TASK.token))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (RefusalKind.NOT_FOUND, (404, "pipeline-not-found")),
        (RefusalKind.INVALID, (422, "adf-refused")),
        (RefusalKind.FORBIDDEN, (403, "adf-refused")),
        (RefusalKind.THROTTLED, (503, "adf-throttled")),
        (RefusalKind.UNREACHABLE, (503, "adf-unavailable")),
    ],
)
def test_what_adf_refuses(bench: Bench, kind: RefusalKind, expected: tuple[int, str]) -> None:
    """What ADF refuses is told with a status and a code that say whether to send it again."""
    bench.adf.create_script.append(Refusal(kind, "ADF answered no"))
    response = post_run(bench)
    assert (expected, expected[0] == 503) == (refused(response), "Retry-After" in response.headers)


def test_what_adf_does_not_answer(bench: Bench) -> None:
    """S19: a createRun without an answer is in flight for as long as its run is looked for, and then unknown."""
    bench.adf.create_script.append(Refusal(RefusalKind.UNAVAILABLE, "ADF answered no"))
    response = post_run(bench)
    assert ((409, "request-in-flight"), "5") == (refused(response), response.headers["Retry-After"])
    bench.clock.advance(5 * MINUTE)
    assert (409, "unknown-outcome") == refused(post_run(bench))


def test_another_body(bench: Bench) -> None:
    """S21: the same key with another body is a 422 of its own."""
    post_run(bench)
    assert (422, "idempotency-mismatch") == refused(post_run(bench, run_body(pipeline="other")))


def test_in_flight(bench: Bench) -> None:
    """S21: a request that is under way is a 409 that says when to come back."""
    answers: list[Response] = []
    bench.store.before("save_request", lambda: answers.append(post_run(bench)), nth=2)
    post_run(bench)
    assert [((409, "request-in-flight"), {"Retry-After": "2"})] == [(refused(one), one.headers) for one in answers]


def test_the_store_is_down(bench: Bench) -> None:
    """S23: a store that is down is a 503, and nothing was promised."""
    bench.store.go_down()
    assert (503, "store-unavailable") == refused(post_run(bench))


@pytest.mark.parametrize(
    ("given", "allowed"), [({}, False), ({CALLER_HEADER: "wrong"}, False), ({CALLER_HEADER: "s3cret-ü"}, True)]
)
def test_a_targets_secret(given: dict[str, str], allowed: bool) -> None:
    """S46: waits of a target with a caller secret are taken only from those who send it; its value is never shown."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__CALLER_SECRET="s3cret-ü")
    response = post_run(bench, **given)
    assert (202 if allowed else 403, allowed) == (response.status, "caller-not-allowed" not in response.body)
    assert (1 if allowed else 0, False) == (len(bench.adf.creates), "s3cret" in response.body)
    body = {"factory": "demo", "run_id": "run-1", **wait_body()}
    bench.adf.begin(RunKey(FACTORY, "run-1"))
    assert (200 if allowed else 403) == bench.call(http_api.post_wait, body=body, headers=given).status


def test_registering_a_wait(bench: Bench) -> None:
    """A wait for a run that goes on is open, and registering it again changes nothing."""
    first, again = post_wait(bench), post_wait(bench)
    assert (200, first.body) == (first.status, again.body)
    answer = document(first)
    assert ("InProgress", "open", None) == (answer["run"]["status"], answer["wait"]["state"], answer["completed"])


def test_registering_for_a_run_that_has_ended(bench: Bench) -> None:
    """S01: a wait for a run that has ended is answered with the completion."""
    bench.adf.end(KEY, RunStatus.CANCELLED)
    answer = document(post_wait(bench))
    assert ("inline", "Cancelled", "completion/v1") == (
        answer["wait"]["state"],
        answer["completed"]["status"],
        answer["completed"]["schema"],
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run_id": "unknown"}, (404, "not-found")),
        ({"run_id": "../x"}, (422, "invalid-fields")),
        ({"factory": STRANGE_ARM_ID}, (403, "factory-not-allowed")),
        ({"target": "staging"}, (403, "target-unknown")),
        ({"misspelt": 1}, (422, "invalid-fields")),
    ],
)
def test_waits_that_are_refused(bench: Bench, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    """A wait that cannot be taken is refused with its own status and code."""
    assert expected == refused(post_wait(bench, **changes))


def test_a_token_that_waits_for_another_run(bench: Bench) -> None:
    """A token that waits for one run cannot wait for another: 409."""
    post_wait(bench)
    bench.adf.begin(RunKey(FACTORY, "other"))
    assert (409, "wait-conflict") == refused(post_wait(bench, run_id="other"))


def test_showing_a_wait(bench: Bench) -> None:
    """A wait is shown with its run, its story and, once it is told, its completion."""
    post_wait(bench)
    bench.airflow.park(TASK)
    bench.clock.advance(timedelta(minutes=1))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    shown = document(bench.call(http_api.get_wait, path={"token": TASK.token}))
    assert ("delivered", "Succeeded", "Succeeded") == (
        shown["wait"]["state"],
        shown["run"]["status"],
        shown["completed"]["status"],
    )
    assert ["registered", "event", "decided", "delivered"] == [line["what"] for line in shown["wait"]["timeline"]]
    assert (404, "not-found") == refused(bench.call(http_api.get_wait, path={"token": "x"}))


def test_showing_a_run(bench: Bench) -> None:
    """A run is shown with its waits; one that nobody waits for is not known, and neither is a strange factory's."""
    post_wait(bench)
    shown = document(bench.call(http_api.get_run, path={"run_id": KEY.run_id}))
    assert ("InProgress", [TASK.token]) == (shown["run"]["status"], [wait["token"] for wait in shown["waits"]])
    assert (404, "not-found") == refused(bench.call(http_api.get_run, path={"run_id": "x"}))


def test_listing_waits(bench: Bench) -> None:
    """Waits are listed by state, target and factory, the newest first, page by page."""
    tasks = [a_task(map_index=index) for index in range(5)]
    for task in tasks:
        bench.register(task)
        bench.clock.advance(SECOND)
    dev = a_task(target="dev")
    there = RunKey(OTHER_FACTORY, "r")
    bench.adf.begin(there)
    bench.register(dev, there)

    def tokens(**query: str) -> list[str]:
        listed = document(bench.call(http_api.list_waits, query=query))
        return [wait["token"] for wait in listed["waits"]]

    newest_first = [task.token for task in reversed(tasks)]
    assert [dev.token, *newest_first] == tokens()
    assert (newest_first, [dev.token], newest_first) == (
        tokens(target="PROD"),
        tokens(factory="other"),
        tokens(factory=ARM_ID),
    )
    assert (6, 0) == (len(tokens(state="open")), len(tokens(state="due")))
    page = document(bench.call(http_api.list_waits, query={"limit": "4"}))
    rest = tokens(limit="4", cursor=page["next"])
    assert [dev.token, *newest_first] == [wait["token"] for wait in page["waits"]] + rest


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "asleep"}, (422, "invalid-fields")),
        ({"limit": "0"}, (422, "invalid-fields")),
        ({"limit": "501"}, (422, "invalid-fields")),
        ({"limit": "0000000010000000000"}, (422, "invalid-fields")),
        ({"limit": "ten"}, (422, "invalid-fields")),
        ({"factory": "strange"}, (403, "factory-not-allowed")),
    ],
)
def test_lists_that_make_no_sense(bench: Bench, query: dict[str, str], expected: tuple[int, str]) -> None:
    """A list is refused when its filter makes no sense, rather than shown as empty."""
    assert expected == refused(bench.call(http_api.list_waits, query=query))


def test_stopping_to_wait(bench: Bench) -> None:
    """A wait can be withdrawn, and is shown as such."""
    post_wait(bench)
    withdrawn = document(bench.call(http_api.delete_wait, path={"token": TASK.token}))
    assert "withdrawn" == withdrawn["wait"]["state"]
    assert (404, "not-found") == refused(bench.call(http_api.delete_wait, path={"token": "x"}))


def test_listing_events(bench: Bench) -> None:
    """Events are listed by verdict and run, with what became of each."""
    bench.event()
    bench.app.receive("{")
    bench.event(source=STRANGE_ARM_ID, key=RunKey(FACTORY, "r2"))

    def verdicts(**query: str) -> list[str]:
        listed = document(bench.call(http_api.list_events, query=query))
        return [event["verdict"] for event in listed["events"]]

    assert ["rejected", "malformed", "parked"] == verdicts()
    assert (["malformed"], ["rejected"], ["rejected"]) == (
        verdicts(verdict="malformed"),
        verdicts(run_id="r2"),
        verdicts(limit="1"),
    )
    assert (422, "invalid-fields") == refused(bench.call(http_api.list_events, query={"verdict": "odd"}))


def test_health(bench: Bench) -> None:
    """Health tells of every target and factory whether it can be reached, and why a paused one is paused."""
    response = http_api.health(lambda: bench.app, Request())
    shown = document(response)
    assert (200, "ok", ["dev", "prod"], ["demo", "other"]) == (
        response.status,
        shown["status"],
        sorted(shown["targets"]),
        sorted(shown["factories"]),
    )
    bench.airflow.down["dev"] = Refusal(RefusalKind.FORBIDDEN, "Airflow answered 403")
    shown = document(http_api.health(lambda: bench.app, Request()))
    assert ("degraded", False, True) == (
        shown["status"],
        shown["targets"]["dev"]["reachable"],
        shown["targets"]["prod"]["reachable"],
    )
    bench.store.go_down()
    assert (503, "failed") == (
        http_api.health(lambda: bench.app, Request()).status,
        document(http_api.health(lambda: bench.app, Request()))["status"],
    )


def test_wrong_settings() -> None:
    """S41: with wrong settings every call answers 503 config-invalid, and health lists every error."""

    def get_app() -> Any:
        return load({"BRIDGE_STORE": "x", "BRIDGE_TYPO": "y"})

    response = http_api.answer(http_api.post_run, get_app, Request())
    assert (503, "config-invalid") == refused(response)
    health = http_api.health(get_app, Request())
    assert (503, "config-invalid") == (health.status, document(health)["status"])
    assert [
        "BRIDGE_TYPO: is no setting of the bridge: misspelt?",
        "BRIDGE_FACTORIES: has to be set",
        "BRIDGE_STORE: has to be table or sqlite:///path",
    ] == document(health)["errors"]
    assert ["BRIDGE_TYPO", "BRIDGE_FACTORIES", "BRIDGE_STORE"] == [
        error["field"] for error in document(response)["errors"]
    ]
    with pytest.raises(ConfigInvalid):
        get_app()


@pytest.mark.parametrize(
    ("body", "recursive"), [({}, True), ({"factory": "demo"}, True), ({"factory": "demo", "recursive": False}, False)]
)
def test_cancelling_a_run(bench: Bench, body: dict[str, Any], recursive: bool) -> None:
    """S30: a run is cancelled for whoever asks, the runs that it started with it unless that is not wanted."""
    post_wait(bench)
    response = bench.call(http_api.cancel_run, path={"run_id": KEY.run_id}, body=body)
    assert (202, "accepted") == (response.status, json.loads(response.body)["cancel"])
    assert [(KEY, recursive)] == bench.adf.cancels
    assert ("cancelled", "a caller had the run cancelled") == (
        bench.wait().timeline[-1].what,
        bench.wait().timeline[-1].detail,
    )


def test_cancelling_without_a_body(bench: Bench) -> None:
    """S30: a cancel needs no body; a run that does not run any more is an answer, with its status, and no error."""
    post_wait(bench)
    bench.adf.end(KEY, RunStatus.FAILED)
    response = bench.call(http_api.cancel_run, path={"run_id": KEY.run_id})
    document = json.loads(response.body)
    assert (202, "not-running", "Failed") == (response.status, document["cancel"], document["run"]["status"])


@pytest.mark.parametrize(
    ("run_id", "body", "expected"),
    [
        ("no-such-run", {}, (404, "not-found")),
        ("no-such-run", {"factory": "demo"}, (404, "not-found")),
        ("../x", {"factory": "demo"}, (422, "invalid-fields")),
        (KEY.run_id, {"factory": "strange"}, (403, "factory-not-allowed")),
        (KEY.run_id, {"recursive": "yes"}, (422, "invalid-fields")),
        (KEY.run_id, {"recursiv": True}, (422, "invalid-fields")),
    ],
)
def test_cancels_that_are_refused(bench: Bench, run_id: str, body: object, expected: tuple[int, str]) -> None:
    """S30: a cancel of a run that nobody knows, or in another form, is refused, and nothing is cancelled."""
    post_wait(bench)
    assert expected == refused(bench.call(http_api.cancel_run, path={"run_id": run_id}, body=body))
    assert RunStatus.IN_PROGRESS is bench.adf.runs[KEY].status


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (RefusalKind.FORBIDDEN, (403, "adf-refused")),
        (RefusalKind.INVALID, (422, "adf-refused")),
        (RefusalKind.CONFLICT, (422, "adf-refused")),
        (RefusalKind.THROTTLED, (503, "adf-throttled")),
        (RefusalKind.UNAVAILABLE, (503, "adf-unavailable")),
        (RefusalKind.UNREACHABLE, (503, "adf-unavailable")),
        (RefusalKind.UNAUTHENTICATED, (503, "adf-unavailable")),
    ],
)
def test_cancels_that_adf_refuses(bench: Bench, kind: RefusalKind, expected: tuple[int, str]) -> None:
    """S30: what ADF says to a cancel is passed on."""
    post_wait(bench)
    bench.adf.cancel_script.append(Refusal(kind, "ADF said no"))
    assert expected == refused(bench.call(http_api.cancel_run, path={"run_id": KEY.run_id}))


@pytest.mark.parametrize(("asked", "told"), [(MINUTE, "60"), (None, "30")])
@pytest.mark.parametrize("kind", [RefusalKind.THROTTLED, RefusalKind.UNAVAILABLE])
def test_when_to_cancel_again(bench: Bench, kind: RefusalKind, asked: timedelta | None, told: str) -> None:
    """S30: a cancel that may be sent again comes with a time: what ADF has asked for, or half a minute."""
    post_wait(bench)
    bench.adf.cancel_script.append(Refusal(kind, "ADF said later", asked))
    assert told == bench.call(http_api.cancel_run, path={"run_id": KEY.run_id}).headers["Retry-After"]


@pytest.mark.parametrize(
    ("given", "allowed"), [({}, False), ({CALLER_HEADER: "wrong"}, False), ({CALLER_HEADER: "s3cret"}, True)]
)
def test_cancelling_what_others_wait_for(given: dict[str, str], allowed: bool) -> None:
    """S46: a run that tasks of a target with a caller secret wait for is cancelled only by those who send it."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__CALLER_SECRET="s3cret")
    bench.adf.begin(KEY)
    bench.register()
    response = bench.call(http_api.cancel_run, path={"run_id": KEY.run_id}, headers=given)
    assert (202 if allowed else 403, 1 if allowed else 0) == (response.status, len(bench.adf.cancels))
