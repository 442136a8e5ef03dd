"""Azure Data Factory through the SDK: what is sent, how often, and what is made of each answer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from bridge.adapters.adf import DataFactory
from bridge.config import Secret
from bridge.model import FailedActivity, Match, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, Refusal, RefusalKind, Started, WrapperPipeline
from tests.fakes.samples import ARM_ID, FACTORY, KEY, MINUTE, a_reading
from tests.fakes.transport import Answer as Reply
from tests.fakes.transport import ScriptedTransport

ENDPOINT = "https://management.azure.com"
VERSION = "api-version=2018-06-01"
RUN_ID = KEY.run_id
RUN = {
    "runId": RUN_ID,
    "pipelineName": "copy_orders",
    "status": "Failed",
    "runStart": "2026-03-01T12:00:00.123Z",
    "runEnd": "2026-03-01T12:03:00Z",
    "message": "Operation on target Copy failed",
}
ERROR = {"error": {"code": "Nope", "message": "the reason"}}


NO_CONNECTION = requests.exceptions.ConnectionError(
    MaxRetryError(HTTPConnectionPool("adf"), "/", NewConnectionError(HTTPConnection("adf"), "refused"))
)


class Wire:
    """The adapter under test; `script` holds the answers, `transport` what was sent."""

    def __init__(self) -> None:
        self.adf = DataFactory(endpoint=ENDPOINT, token=Secret("canary-adf-token"))
        self.script: Iterator[Reply] = iter(())
        self.transport = ScriptedTransport(lambda request: next(self.script))

    def answers(self, *replies: Reply) -> None:
        """Set what the next requests are answered."""
        self.script = iter(replies)

    def create(self, **parameters: Any) -> Started | Refusal:
        """Start a run."""
        return self.adf.create_run(FACTORY, "copy_orders", parameters)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """The adapter, with every request of the SDK answered from a script."""
    wire = Wire()

    def send(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return wire.transport.send(request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return wire


def test_starting_a_run(wire: Wire) -> None:
    """A start is a POST of the parameters to the factory's pipeline, signed in the header."""
    wire.answers((200, {"runId": "r-1"}))
    assert Started("r-1") == wire.create(day="2026-03-01")
    (request,) = wire.transport.sent
    assert f"POST {ENDPOINT}{ARM_ID}/pipelines/copy_orders/createRun?{VERSION}" == wire.transport.calls()[0]
    assert ({"day": "2026-03-01"}, "Bearer canary-adf-token") == (
        json.loads(request.body or ""),
        request.headers["Authorization"],
    )


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((400, ERROR), RefusalKind.INVALID),
        ((401, ERROR), RefusalKind.UNAUTHENTICATED),
        ((403, ERROR), RefusalKind.FORBIDDEN),
        ((404, ERROR), RefusalKind.NOT_FOUND),
        ((408, ERROR), RefusalKind.UNAVAILABLE),
        ((409, ERROR), RefusalKind.CONFLICT),
        ((429, ERROR), RefusalKind.THROTTLED),
        ((500, ERROR), RefusalKind.UNAVAILABLE),
        ((502, b"<html>"), RefusalKind.UNAVAILABLE),
        ((503, ERROR), RefusalKind.UNAVAILABLE),
        ((504, ERROR), RefusalKind.UNAVAILABLE),
        ((302, {}, {"Location": "https://evil.example.com/"}), RefusalKind.UNAVAILABLE),
        ((307, {}, {"Location": "https://evil.example.com/"}), RefusalKind.UNAVAILABLE),
        ((200, b'{"runId": "r-'), RefusalKind.UNAVAILABLE),
        ((200, b"\xff\xfe"), RefusalKind.UNAVAILABLE),
        ((200, b"<html>"), RefusalKind.UNAVAILABLE),
        ((200, b""), RefusalKind.UNAVAILABLE),
        ((200, {}), RefusalKind.UNAVAILABLE),
        ((200, {"runId": None}), RefusalKind.UNAVAILABLE),
        ((200, {"runId": "../x"}), RefusalKind.UNAVAILABLE),
        ((200, b"[]"), RefusalKind.UNAVAILABLE),
        ((202, {"runId": "r-1"}), RefusalKind.UNAVAILABLE),
        (requests.exceptions.ConnectTimeout(), RefusalKind.UNREACHABLE),
        (requests.exceptions.ReadTimeout(), RefusalKind.UNAVAILABLE),
        (NO_CONNECTION, RefusalKind.UNREACHABLE),
        (requests.exceptions.SSLError(), RefusalKind.UNREACHABLE),
        (requests.exceptions.ConnectionError(), RefusalKind.UNAVAILABLE),
        (requests.exceptions.ConnectionError(ProtocolError("reset by peer")), RefusalKind.UNAVAILABLE),
    ],
)
def test_create_run_leaves_once(wire: Wire, reply: Reply, kind: RefusalKind) -> None:
    """S20: whatever ADF answers or does not, exactly one createRun leaves the process."""
    wire.answers(*[reply] * 5)
    refusal = wire.create()
    assert isinstance(refusal, Refusal)
    assert (kind, 1) == (refusal.kind, len(wire.transport.sent))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_reads_leave_once(wire: Wire, status: int) -> None:
    """S12: a read that is refused is not sent again by the SDK: the bridge decides when."""
    wire.answers(*[(status, ERROR, {"Retry-After": "86400"})] * 5)
    refusal = wire.adf.read_run(KEY)
    assert isinstance(refusal, Refusal)
    assert (15 * MINUTE, 1) == (refusal.retry_after, len(wire.transport.sent))


def test_no_redirect_is_followed(wire: Wire) -> None:
    """S37: a redirect is a refusal: nothing is sent to where it points, and no credential with it."""
    wire.answers((302, {}, {"Location": "http://169.254.169.254/metadata"}), (200, RUN))
    assert isinstance(wire.adf.read_run(KEY), Refusal)
    assert 1 == len(wire.transport.sent)


def test_reading_a_run(wire: Wire) -> None:
    """A run is read with its status, pipeline, times and message."""
    wire.answers((200, RUN))
    start = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    end = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
    message = "Operation on target Copy failed"
    assert RunReading(RunStatus.FAILED, "Failed", "copy_orders", start, end, message) == wire.adf.read_run(KEY)
    assert [f"GET {ENDPOINT}{ARM_ID}/pipelineruns/{RUN_ID}?{VERSION}"] == wire.transport.calls()


@pytest.mark.parametrize(
    ("status", "known"),
    [("Canceled", RunStatus.CANCELLED), ("Canceling", RunStatus.CANCELING), ("Paused", None), ("", None), (None, None)],
)
def test_statuses(wire: Wire, status: str | None, known: RunStatus | None) -> None:
    """S06: a status in another spelling is known, and an unknown one stays unknown."""
    wire.answers((200, {"runId": RUN_ID, "status": status}))
    assert RunReading(known, status or "") == wire.adf.read_run(KEY)


def test_why_a_run_failed(wire: Wire) -> None:
    """S30: the activity that failed first is the cause; one that failed because of it is not."""

    def activity(name: str, end: str, status: str = "Failed") -> dict[str, Any]:
        error = {"errorCode": "2200", "message": f"why {name} failed", "failureType": "UserError"}
        return {
            "activityName": name,
            "activityType": "Copy",
            "status": status,
            "activityRunEnd": end,
            "error": error,
        }

    found = [
        activity("Later", "2026-03-01T12:02:00Z"),
        activity("Cause", "2026-03-01T12:01:00Z"),
        activity("Fine", "2026-03-01T12:00:00Z", "Succeeded"),
    ]
    wire.answers((200, {"value": found}))
    assert FailedActivity("Cause", "Copy", "2200", "why Cause failed") == wire.adf.failed_activity(KEY, a_reading())


def test_why_a_run_failed_at_length(wire: Wire) -> None:
    """S32: of an activity's error of a megabyte 4,000 characters are kept."""
    error = {"errorCode": "2200", "message": "ü" * 1_000_000}
    wire.answers((200, {"value": [{"activityName": "Copy", "status": "Failed", "error": error}]}))
    cause = wire.adf.failed_activity(KEY, a_reading())
    assert cause is not None
    assert 4_000 == len(cause.message or "")


@pytest.mark.parametrize("reply", [(200, {"value": []}), (429, ERROR), (200, {"value": [{"status": "Failed"}]})])
def test_why_a_run_failed_is_not_known(wire: Wire, reply: Reply) -> None:
    """A run whose failure ADF does not explain, or cannot be asked about, is told without a cause."""
    wire.answers(reply)
    cause = wire.adf.failed_activity(KEY, a_reading())
    assert cause in (None, FailedActivity("", "", None, None))


def test_refusals_tell_adfs_words(wire: Wire) -> None:
    """S34: a refusal tells ADF's own code and words, and no credential."""
    wire.answers((403, ERROR))
    assert Refusal(RefusalKind.FORBIDDEN, "ADF answered 403 Nope: the reason") == wire.create()


@pytest.mark.parametrize("name", ["../x y?#%💥", "käse", "a;b=c"])
def test_names_in_paths(wire: Wire, name: str) -> None:
    """S33: a pipeline's name is one segment of the path, whatever characters it has."""
    wire.answers((200, {"runId": "r"}))
    wire.adf.create_run(FACTORY, name, {})
    path = (wire.transport.sent[0].url or "").removeprefix(ENDPOINT + ARM_ID)
    assert f"/pipelines/{quote(name, safe='')}/createRun?{VERSION}" == path


def test_checking_a_factory(wire: Wire) -> None:
    """A factory's health is one call that needs the permission to read runs."""
    wire.answers((200, {"value": []}), (403, ERROR))
    assert wire.adf.check(FACTORY) is None
    refusal = wire.adf.check(FACTORY)
    assert refusal is not None
    assert (RefusalKind.FORBIDDEN, 2) == (refusal.kind, len(wire.transport.sent))


def test_every_call_has_a_time_limit(wire: Wire) -> None:
    """S42: a read may last 5 seconds, a start 25."""
    wire.answers((200, {"runId": "r"}), (200, RUN))
    wire.create()
    wire.adf.read_run(KEY)
    assert [(3, 25), (3, 5)] == [options["timeout"] for options in wire.transport.options]


@pytest.mark.parametrize("recursive", [True, False])
def test_cancelling(wire: Wire, recursive: bool) -> None:
    """S30: a cancel is one POST for the run, with the runs that it started if that is wanted."""
    wire.answers((200, {}))
    assert Accepted() == wire.adf.cancel_run(KEY, recursive=recursive)
    (call,) = wire.transport.calls()
    asked = f"isRecursive={str(recursive).lower()}"
    assert (True, True) == (call.startswith(f"POST {ENDPOINT}{ARM_ID}/pipelineruns/{RUN_ID}/cancel?"), asked in call)


def test_cancelling_what_does_not_run(wire: Wire) -> None:
    """S30: that a run does not run any more is ADF's answer to a cancel, and no error."""
    wire.answers((400, {"error": {"code": "PipelineRunNotRunning", "message": "already completed"}}))
    assert NotRunning() == wire.adf.cancel_run(KEY, recursive=True)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((400, ERROR), RefusalKind.INVALID),
        ((403, ERROR), RefusalKind.FORBIDDEN),
        ((404, ERROR), RefusalKind.NOT_FOUND),
        ((429, ERROR, {"Retry-After": "7"}), RefusalKind.THROTTLED),
        ((500, ERROR), RefusalKind.UNAVAILABLE),
        (NO_CONNECTION, RefusalKind.UNREACHABLE),
    ],
)
def test_cancels_that_fail(wire: Wire, reply: Reply, kind: RefusalKind) -> None:
    """S30: a cancel that ADF refuses is sorted like any other call, and sent once."""
    wire.answers(reply)
    refused = wire.adf.cancel_run(KEY, recursive=True)
    assert isinstance(refused, Refusal)
    assert (kind, 1) == (refused.kind, len(wire.transport.sent))


def a_wrapper(*parameters: str, label: str = "adf-bridge", key: str = "bridge_key") -> dict[str, Any]:
    """Return a wrapper's definition, as ADF shows it."""
    declared = {name: {"type": "string"} for name in (*parameters, key)}
    return {"name": "copy_orders__notified", "properties": {"parameters": declared, "annotations": ["team", label]}}


def test_finding_a_wrapper(wire: Wire) -> None:
    """The wrapper's parameters are read once; what was read stands for a while."""
    wire.answers((200, a_wrapper("day")))
    expected = WrapperPipeline("copy_orders__notified", frozenset({"day", "bridge_key"}))
    assert [expected] * 2 == [wire.adf.wrapper(FACTORY, "copy_orders") for _ in range(2)]
    assert [f"GET {ENDPOINT}{ARM_ID}/pipelines/copy_orders__notified?{VERSION}"] == wire.transport.calls()


def test_no_wrapper(wire: Wire) -> None:
    """A pipeline without a wrapper is told as such, and that stands for a while, too."""
    wire.answers((404, ERROR))
    assert [None] * 2 == [wire.adf.wrapper(FACTORY, "copy_orders") for _ in range(2)]
    assert 1 == len(wire.transport.sent)


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(a_wrapper("day", label="another"), id="no-label"),
        pytest.param(a_wrapper("day", key="other"), id="no-key"),
        pytest.param({"name": "copy_orders__notified", "properties": {}}, id="nothing"),
        pytest.param({"name": "copy_orders__notified"}, id="no-properties"),
    ],
)
def test_a_pipeline_of_a_wrappers_name(wire: Wire, definition: dict[str, Any]) -> None:
    """A pipeline that only has a wrapper's name is none: it is never started in the place of another one."""
    wire.answers((200, definition))
    assert [None] * 2 == [wire.adf.wrapper(FACTORY, "copy_orders") for _ in range(2)]
    assert 1 == len(wire.transport.sent)


def test_a_wrapper_that_has_gone(wire: Wire) -> None:
    """A wrapper that ADF does not know any more when it is started is looked for anew."""
    wire.answers((200, a_wrapper()), (404, ERROR), (404, ERROR))
    assert WrapperPipeline("x__notified", frozenset({"bridge_key"})) == wire.adf.wrapper(FACTORY, "x")
    refused = wire.adf.create_run(FACTORY, "x__notified", {})
    assert isinstance(refused, Refusal)
    assert wire.adf.wrapper(FACTORY, "x") is None


def test_a_wrapper_that_may_not_be_read(wire: Wire) -> None:
    """A refusal other than 404 is no answer, and is not remembered."""
    wire.answers((403, ERROR), (404, ERROR))
    assert isinstance(wire.adf.wrapper(FACTORY, "x"), Refusal)
    assert wire.adf.wrapper(FACTORY, "x") is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [({"pipelineRunId": "child-1"}, "child-1"), ({"pipelineRunId": "../x"}, None), ({}, None), (None, None)],
)
def test_finding_a_child(wire: Wire, output: object, expected: str | None) -> None:
    """The child is what the ExecutePipeline activity says that it started; nothing, if it did not get that far."""
    wire.answers((200, {"value": [{"activityType": "ExecutePipeline", "output": output}]}))
    assert expected == wire.adf.child(KEY, a_reading())
    (request,) = wire.transport.sent
    assert [{"operand": "ActivityType", "operator": "Equals", "values": ["ExecutePipeline"]}] == (
        json.loads(request.body or "")["filters"]
    )


def test_finding_the_last_child(wire: Wire) -> None:
    """Of several the one that was started last counts: the activity was retried."""
    started = [("2026-03-01T12:00:05Z", "second"), ("2026-03-01T12:00:00Z", "first")]
    runs = [{"activityRunStart": at, "output": {"pipelineRunId": child}} for at, child in started]
    wire.answers((200, {"value": runs}))
    assert "second" == wire.adf.child(KEY, a_reading())


def test_who_started_a_run(wire: Wire) -> None:
    """A run that another run started says so."""
    parent = {"invokedByType": "PipelineActivity", "pipelineName": "x__notified", "pipelineRunId": "parent-1"}
    wire.answers((200, {**RUN, "invokedBy": parent}))
    reading = wire.adf.read_run(KEY)
    assert isinstance(reading, RunReading)
    assert ("parent-1", "x__notified") == (reading.parent_run_id, reading.parent_pipeline)


def test_finding_a_run(wire: Wire) -> None:
    """The runs of one pipeline are asked for in the order in which they began, until one is what is waited for."""
    match = Match("copy_orders", datetime(2026, 3, 1, 12, tzinfo=UTC), (RunStatus.SUCCEEDED,))
    before = {**RUN, "runId": "before", "runStart": "2026-03-01T11:59:59Z", "status": "Succeeded"}
    failed = {**RUN, "runId": "failed"}
    goes_on = {**RUN, "runId": "goes-on", "runStart": "2026-03-01T12:05:00Z", "status": "InProgress"}
    later = {**RUN, "runId": "later", "runStart": "2026-03-01T12:06:00Z", "status": "Succeeded"}
    wire.answers((200, {"value": [before, failed], "continuationToken": "t"}), (200, {"value": [goes_on, later]}))
    found = wire.adf.find_run(FACTORY, match)
    assert isinstance(found, FoundRun)
    assert "goes-on" == found.run_id
    sent = json.loads(wire.transport.sent[0].body or "")
    assert [{"operand": "PipelineName", "operator": "Equals", "values": ["copy_orders"]}] == sent["filters"]
    assert [{"orderBy": "RunStart", "order": "ASC"}] == sent["orderBy"]


def test_finding_no_run(wire: Wire) -> None:
    """No run yet is an answer; a refusal is none."""
    match = Match("copy_orders", datetime(2026, 3, 1, 12, tzinfo=UTC), (RunStatus.SUCCEEDED,))
    wire.answers((200, {"value": []}), (429, ERROR))
    assert wire.adf.find_run(FACTORY, match) is None
    assert isinstance(wire.adf.find_run(FACTORY, match), Refusal)
