"""Publishing to the topic through azure-eventgrid: what is sent, in which batches, and what is made of each answer."""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from bridge.adapters.event_grid import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventGridTopic
from bridge.config import Secret
from bridge.model import RunStatus
from bridge.topic import Refused, RunNotice, TopicUnavailable
from tests.fakes.samples import ARM_ID, FACTORY
from tests.fakes.transport import Answer, ScriptedTransport

ENDPOINT = "https://topic.westeurope-1.eventgrid.azure.net/api/events"
KEY = "canary-topic-key"
LIMIT = 1_000_000  # of Event Grid
OK: Answer = (200, b"")

Reply = Callable[[list[dict[str, Any]]], Answer]


class Wire:
    """The adapter under test; `reply` answers a request by the events in it, `transport` keeps what was sent."""

    def __init__(self, **limits: int) -> None:
        self.topic = EventGridTopic(endpoint=ENDPOINT, key=Secret(KEY), **limits)
        self.reply: Reply = lambda events: OK
        self.transport = ScriptedTransport(lambda request: self.reply(json.loads(request.body or "")))

    @property
    def batches(self) -> list[list[str]]:
        """The ids in each request."""
        return [[event["id"] for event in json.loads(request.body or "")] for request in self.transport.sent]

    def refuses(self, *run_ids: str, status: int = 400) -> None:
        """Refuse every request with an event of these runs in it."""
        refused = {f"{run_id}/Succeeded" for run_id in run_ids}
        self.reply = lambda events: (status, {}) if refused & {event["id"] for event in events} else OK


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The adapter, with every request of the SDK answered."""
    return scripted(monkeypatch)


def scripted(monkeypatch: pytest.MonkeyPatch, **limits: int) -> Wire:
    """An adapter with these limits, with every request of the SDK answered."""
    wire = Wire(**limits)

    def send(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return wire.transport.send(request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return wire


def notices(*run_ids: str, pipeline: str = "copy_orders", **data: Any) -> list[RunNotice]:
    """A notice for each run."""
    time = datetime(2026, 3, 1, 12, 3, 0, 123456, tzinfo=UTC)
    return [
        RunNotice(FACTORY, pipeline, run_id, RunStatus.SUCCEEDED, time, {"runId": run_id, **data}) for run_id in run_ids
    ]


def ids(*run_ids: str) -> list[str]:
    """The ids of the events about these runs."""
    return [f"{run_id}/Succeeded" for run_id in run_ids]


def test_what_is_sent(wire: Wire) -> None:
    """Events go as an array of CloudEvents to the topic, signed with its key, and the SDK says nothing of it."""
    published = wire.topic.publish(notices("r-1", pipeline="Käufe"))
    (request,) = wire.transport.sent
    expected = {
        "specversion": "1.0",
        "id": "r-1/Succeeded",
        "source": ARM_ID,
        "type": "AdfBridge.PipelineRun.Succeeded",
        "subject": "pipelines/Käufe/runs/r-1",
        "time": "2026-03-01T12:03:00.123456Z",
        "datacontenttype": "application/json",
        "data": {"runId": "r-1"},
    }
    assert [f"POST {ENDPOINT}?api-version=2018-01-01"] == wire.transport.calls()
    assert ([expected], KEY, "application/cloudevents-batch+json; charset=utf-8") == (
        json.loads(request.body or ""),
        request.headers["aeg-sas-key"],
        request.headers["Content-Type"],
    )
    assert (1, 1, ()) == (published.taken, published.requests, published.refused)


def test_every_option_is_taken(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A request has time limits, and the log has no line for each event and option."""
    with caplog.at_level(logging.WARNING):
        wire.topic.publish(notices("a", "b"))
    (options,) = wire.transport.options
    assert ((5, 20), []) == (options["timeout"], caplog.messages)


def test_batches_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request holds more events than the limit, and their order is kept."""
    wire = scripted(monkeypatch, max_batch_events=2)
    published = wire.topic.publish(notices("a", "b", "c", "d", "e"))
    assert ([ids("a", "b"), ids("c", "d"), ids("e")], 5, 3) == (wire.batches, published.taken, published.requests)


@pytest.mark.parametrize("pipeline", ["p" * 100, "ü💥" * 80])
def test_batches_by_size(wire: Wire, pipeline: str) -> None:
    """No request is larger than the limit, measured in bytes as they are sent, and none is smaller than need be."""
    run_ids = [f"run-{number:04}" for number in range(3_000)]
    wire.topic.publish(notices(*run_ids, pipeline=pipeline))
    sizes = [len(request.body or "") for request in wire.transport.sent]
    assert ids(*run_ids) == [one for batch in wire.batches for one in batch]
    assert max(sizes) <= MAX_BATCH_BYTES < LIMIT
    assert all(
        size > MAX_BATCH_BYTES - 5_000 or len(batch) == MAX_BATCH_EVENTS
        for size, batch in zip(sizes, wire.batches[:-1], strict=False)
    )


def test_the_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that fill the limit to the byte go together; with one byte less they do not."""
    whole = scripted(monkeypatch)
    whole.topic.publish(notices("a", "b", pipeline="ü"))
    size = len(whole.transport.sent[0].body or "")
    fits = scripted(monkeypatch, max_batch_bytes=size + 12)  # `Z` is shorter than `+00:00`, and a comma comes last
    fits.topic.publish(notices("a", "b", pipeline="ü"))
    tight = scripted(monkeypatch, max_batch_bytes=size - 1)
    tight.topic.publish(notices("a", "b", pipeline="ü"))
    assert ([2], [1, 1]) == ([len(one) for one in fits.batches], [len(one) for one in tight.batches])


def test_an_event_that_is_too_large(wire: Wire) -> None:
    """An event that is larger than a request may be goes alone, so that it costs no other one."""
    wire.topic.publish([*notices("a"), *notices("b", more="x" * MAX_BATCH_BYTES), *notices("c")])
    assert [ids("a"), ids("b"), ids("c")] == wire.batches


def test_a_batch_that_is_too_large_after_all(wire: Wire) -> None:
    """A batch that Event Grid finds too large is halved until it is not."""
    wire.reply = lambda events: (413, {}) if len(events) > 2 else OK
    published = wire.topic.publish(notices("a", "b", "c", "d", "e"))
    assert (5, ()) == (published.taken, published.refused)
    assert [5, 2, 3, 1, 2] == [len(batch) for batch in wire.batches]


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("bad", [0, 3, 6])
def test_one_event_is_refused(wire: Wire, status: int, bad: int) -> None:
    """S26: an event that is refused for itself is named; all others arrive, once each and in order."""
    run_ids = [f"r-{number}" for number in range(7)]
    wire.refuses(run_ids[bad], status=status)
    published = wire.topic.publish(notices(*run_ids))
    arrived = [one for batch in wire.batches for one in batch if ids(run_ids[bad])[0] not in batch]
    good = [run_id for run_id in run_ids if run_id != run_ids[bad]]
    refused = (Refused(f"{run_ids[bad]}/Succeeded", f"the topic answered {status}"),)
    assert (ids(*good), 6, refused) == (arrived, published.taken, published.refused)


def test_a_topic_that_takes_nothing(wire: Wire) -> None:
    """A topic that refuses whatever it is sent is misconfigured: nothing is given up, and few requests show it."""
    wire.reply = lambda events: (400, {})
    with pytest.raises(TopicUnavailable, match="input schema"):
        wire.topic.publish(notices(*map(str, range(500))))
    assert len(wire.batches) < 40


def test_a_lone_event_is_refused(wire: Wire) -> None:
    """A single event is given up by a topic that has taken others, and not before it has taken any."""
    wire.refuses("bad")
    with pytest.raises(TopicUnavailable):
        wire.topic.publish(notices("bad"))
    wire.topic.publish(notices("good"))
    assert ("bad/Succeeded",) == tuple(one.id for one in wire.topic.publish(notices("bad")).refused)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_other_answers(wire: Wire, status: int) -> None:
    """Every other answer is sent once, and left to the trigger, which hands over everything again."""
    wire.reply = lambda events: (status, {"error": {"code": "x", "message": "canary"}}, {"Retry-After": "60"})
    with pytest.raises(TopicUnavailable) as raised:
        wire.topic.publish(notices("a", "b"))
    assert ([ids("a", "b")], False) == (wire.batches, "canary" in str(raised.value))


def test_a_failure_after_some_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that fails after the first of several batches has not taken everything, and that is said."""
    wire = scripted(monkeypatch, max_batch_events=1)
    answers: Sequence[Answer] = [OK, (503, {})]
    wire.reply = lambda events: answers[len(wire.transport.sent) - 1]
    with pytest.raises(TopicUnavailable):
        wire.topic.publish(notices("a", "b", "c"))
    assert [ids("a"), ids("b")] == wire.batches


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("refused"), requests.ReadTimeout("late"), requests.ConnectTimeout("late")]
)
def test_no_answer(wire: Wire, error: Exception) -> None:
    """A topic that does not answer is left to the trigger, too."""
    wire.reply = lambda events: error
    with pytest.raises(TopicUnavailable, match="could not be asked"):
        wire.topic.publish(notices("a"))


def test_nothing_to_publish(wire: Wire) -> None:
    """No events are no request."""
    assert (0, []) == (wire.topic.publish([]).requests, wire.batches)
