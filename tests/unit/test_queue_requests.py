"""Trigger requests and run events by queue: taken once; what makes no sense is written down, what may pass held."""

import json
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest

from bridge import azure_bus, http_api, queue_events, queue_requests
from bridge.errors import AdfUnavailable, CallerNotAllowed, MissingIdempotencyKey, Problem, StoreUnavailable
from bridge.model import RunStatus, Verdict, WaitState
from bridge.ports import Refusal, RefusalKind
from bridge.queue_requests import RequestMessage
from tests.fakes.bench import Bench
from tests.fakes.samples import KEY, SECOND, TASK, event_json, run_body


@pytest.fixture
def bench() -> Bench:
    """A bridge."""
    return Bench()


def a_message(**changes: Any) -> RequestMessage:
    """Return a request for a run with a wait, in a message."""
    given = {"id": TASK.token, "body": json.dumps(run_body()).encode(), **changes}
    return RequestMessage(**given)


def rejected(bench: Bench) -> list[tuple[str, str]]:
    """Return what stands among the rejected events: id and reason."""
    events = bench.store.inner.events(verdict=Verdict.REJECTED, run_id=None, limit=10)
    return [(one.id, one.reason.partition(":")[0]) for one in events]


def test_a_request_by_queue(bench: Bench) -> None:
    """A message starts the run that its body asks for, and registers the wait, as a call would."""
    queue_requests.take(bench.app, a_message())
    assert (1, WaitState.OPEN) == (len(bench.adf.creates), bench.wait().state)


def test_a_message_that_comes_again_starts_nothing(bench: Bench) -> None:
    """S25, S36: a message that is delivered again, or captured and sent again, is answered from the record."""
    for deliveries in (1, 2, 3):
        queue_requests.take(bench.app, a_message(deliveries=deliveries))
    assert 1 == len(bench.adf.creates)


def test_a_call_and_a_message(bench: Bench) -> None:
    """S36: the same request by call and by queue is one request: one run."""
    queue_requests.take(bench.app, a_message())
    answer = bench.call(http_api.post_run, body=run_body(), headers={"idempotency-key": TASK.token})
    assert (202, {"Idempotent-Replay": "true"}, 1) == (answer.status, answer.headers, len(bench.adf.creates))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"body": b"{"}, "bad-json"),
        ({"body": b"\xff"}, "bad-json"),
        ({"body": b"[]"}, "bad-json"),
        ({"body": b'{"factory": NaN}'}, "bad-json"),
        ({"body": b'{"factory": 7}'}, "invalid-fields"),
        ({"body": b"{" * 100_000}, "bad-json"),
        ({"body": b" " * 1_048_577}, "body-too-large"),
        ({"id": "another-key"}, "token-mismatch"),
        ({"body": json.dumps(run_body(factory="strange")).encode()}, "factory-not-allowed"),
    ],
)
def test_a_request_that_makes_no_sense(bench: Bench, changes: dict[str, Any], code: str) -> None:
    """S26: a request that will never pass is raised, so that it becomes a dead letter, and written down once."""
    for deliveries in (1, 2):
        with pytest.raises(Problem) as caught:
            queue_requests.take(bench.app, a_message(deliveries=deliveries, **changes))
        assert code == caught.value.code
    assert ([(changes.get("id", TASK.token), code)], 0) == (rejected(bench), len(bench.adf.creates))


def test_a_request_that_is_refused_after_an_outage(bench: Bench) -> None:
    """S26: a request whose first delivery an outage ended, and that is refused later for good, is written down once."""
    bench.adf.create_script.append(Refusal(RefusalKind.UNREACHABLE, "Data Factory could not be reached"))
    with pytest.raises(AdfUnavailable):
        queue_requests.take(bench.app, a_message())
    for deliveries in (2, 3):
        with pytest.raises(Problem):
            queue_requests.take(bench.app, a_message(body=b"{", deliveries=deliveries))
    assert [(TASK.token, "bad-json")] == rejected(bench)


def test_a_refusal_that_could_not_be_written_down(bench: Bench) -> None:
    """S26: a bad request whose first delivery came while the store was down is written down at a later one."""
    bench.store.fail("record_event")
    for deliveries in (1, 2, 3):
        with pytest.raises(Problem):
            queue_requests.take(bench.app, a_message(body=b"{", deliveries=deliveries))
    assert [(TASK.token, "bad-json")] == rejected(bench)


def test_a_request_without_an_id(bench: Bench) -> None:
    """S26: a message without an id has no key: nothing is started."""
    with pytest.raises(MissingIdempotencyKey):
        queue_requests.take(bench.app, a_message(id=""))
    assert 0 == len(bench.adf.creates)


def test_a_request_that_may_pass(bench: Bench) -> None:
    """A request that cannot be taken yet is held for as long as is asked for, then raised; it is no bad one."""
    refusal = Refusal(RefusalKind.UNREACHABLE, "Data Factory could not be reached", retry_after=timedelta(seconds=20))
    bench.adf.create_script.append(refusal)
    before = bench.clock.now()
    with pytest.raises(AdfUnavailable):
        queue_requests.take(bench.app, a_message())
    assert (20 * SECOND, []) == (bench.clock.now() - before, rejected(bench))
    queue_requests.take(bench.app, a_message(deliveries=2))
    assert WaitState.OPEN is bench.wait().state


def test_callers_of_a_target() -> None:
    """A target that asks who calls asks whoever sends messages, too: by the message's application properties."""
    bench = Bench(BRIDGE_AIRFLOW__PROD__CALLER_SECRET="s3cret")
    with pytest.raises(CallerNotAllowed):
        queue_requests.take(bench.app, a_message())
    queue_requests.take(bench.app, a_message(properties={"x-adf-bridge-caller-secret": "s3cret"}))
    assert 1 == len(bench.adf.creates)


def test_the_hosts_message() -> None:
    """The host's message becomes the bridge's: its id, its body, its count, and those properties that are texts."""

    class Message(func.ServiceBusMessage):
        message_id = "key-1"
        delivery_count = 3
        application_properties = {"X-Adf-Bridge-Caller-Secret": "s", "number": 7}  # noqa: RUF012 - a double

        def get_body(self) -> bytes:
            return b"{}"

    expected = RequestMessage("key-1", b"{}", {"x-adf-bridge-caller-secret": "s"}, 3)
    assert expected == azure_bus.request_message(Message())


def test_an_event_by_queue(bench: Bench) -> None:
    """An event that comes by a queue, with a byte order mark or without, is handled as any other."""
    bench.adf.begin(KEY)
    bench.register()
    bench.clock.advance(timedelta(minutes=1))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    queue_events.take(bench.app, event_json().encode("utf-8-sig"))
    assert WaitState.DUE is bench.wait().state or bench.wait().state.is_final


def test_a_dead_letter_that_is_resubmitted(bench: Bench) -> None:
    """S40: an event that is taken out of the dead letters and sent again, twice or late, is like any other."""
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(timedelta(hours=1))
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    for _ in range(3):
        queue_events.take(bench.app, event_json().encode())
        bench.pass_time(timedelta(minutes=1))
    events = bench.store.inner.events(verdict=None, run_id=None, limit=10)
    assert [Verdict.DUPLICATE, Verdict.DUPLICATE, Verdict.MATCHED] == [one.verdict for one in events]
    assert (WaitState.DELIVERED, {"ti-1": 1}) == (bench.wait().state, bench.airflow.resumed)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"{}", b"NaN", b"[" * 100_000])
def test_an_event_that_makes_no_sense(bench: Bench, body: bytes) -> None:
    """S26: an event that makes no sense is taken out of the queue and written down: it comes no second time."""
    queue_events.take(bench.app, body)
    events = bench.store.inner.events(verdict=None, run_id=None, limit=10)
    assert [Verdict.MALFORMED] == [one.verdict for one in events]


def test_events_wait_for_the_store(bench: Bench) -> None:
    """S23: while the store is down an event stays in its queue: it is held for a while, and comes again."""
    bench.adf.begin(KEY)
    bench.register()
    bench.store.fail(*["run"] * 1)
    before = bench.clock.now()
    with pytest.raises(StoreUnavailable):
        queue_events.take(bench.app, event_json().encode())
    assert queue_events.PAUSE <= bench.clock.now() - before
