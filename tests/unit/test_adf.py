"""Azure Data Factory through the SDK: what is sent, how often, and what is made of each answer."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, SSLError

from bridge.adapters.adf import DataFactory
from bridge.config import Secret
from bridge.model import FailedActivity, Match, OtherFailure, Recovery, RecoveryMode, RunReading, RunStatus
from bridge.ports import Accepted, FoundRun, NotRunning, PipelineDeclaration, Refusal, RefusalKind, RunsPage, Started
from tests.fakes.samples import ARM_ID, FACTORY, KEY, MINUTE, OTHER_FACTORY, a_reading
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


def _tls(error: ssl.SSLError) -> requests.exceptions.SSLError:
    """Return trouble with TLS, as requests tells it."""
    return requests.exceptions.SSLError(MaxRetryError(HTTPConnectionPool("adf"), "/", SSLError(error)))


UNTRUSTED = _tls(ssl.SSLCertVerificationError(1, "certificate verify failed"))
BROKEN_TLS = _tls(ssl.SSLError(1, "decryption failed or bad record mac"))


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
    ("recovery", "asked"),
    [
        (Recovery(RUN_ID), {"startFromFailure": "true"}),
        (Recovery(RUN_ID, RecoveryMode.FROM_ACTIVITY, "Load & check"), {"startActivityName": "Load & check"}),
        (Recovery(RUN_ID, RecoveryMode.ALL), {}),
    ],
)
def test_running_a_run_again(wire: Wire, recovery: Recovery, asked: dict[str, str]) -> None:
    """A recovery names the run and from where on; no parameters are sent, which ADF would ignore."""
    wire.answers((200, {"runId": "r-2"}))
    assert Started("r-2") == wire.adf.create_run(FACTORY, "copy_orders", {"day": "2026-03-01"}, recovery)
    (request,) = wire.transport.sent
    url = urlsplit(request.url or "")
    expected = {"referencePipelineRunId": RUN_ID, "isRecovery": "true", "api-version": "2018-06-01", **asked}
    assert (f"{ARM_ID}/pipelines/copy_orders/createRun", expected) == (url.path, dict(parse_qsl(url.query)))
    assert request.body is None


@pytest.mark.parametrize("reply", [(503, ERROR), (429, ERROR, {"Retry-After": "0"}), requests.exceptions.ReadTimeout()])
def test_a_recovery_leaves_once(wire: Wire, reply: Reply) -> None:
    """S20: a createRun that runs a run again is sent exactly once, too."""
    wire.answers(*[reply] * 5)
    assert isinstance(wire.adf.create_run(FACTORY, "copy_orders", {}, Recovery(RUN_ID)), Refusal)
    assert 1 == len(wire.transport.sent)


QUEUE_FULL = (
    "Pipeline execution throttled. If the concurrency value is set for a pipeline, "
    "a maximum of 100 runs will be queued for execution."
)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((400, {"error": {"code": "BadRequest", "message": QUEUE_FULL}}), RefusalKind.THROTTLED),
        ((409, {"error": {"code": "Other", "message": QUEUE_FULL.upper()}}), RefusalKind.THROTTLED),
        ((400, {"error": {"message": f"ErrorCode=Busy, ErrorMessage={QUEUE_FULL}"}}), RefusalKind.THROTTLED),
        (
            (400, {"error": {"code": "BadRequest", "message": f"The value '{QUEUE_FULL}' is no date"}}),
            RefusalKind.INVALID,
        ),
        ((400, {"error": {"code": "BadRequest", "message": None}}), RefusalKind.INVALID),
        ((500, {"error": {"code": "BadRequest", "message": QUEUE_FULL}}), RefusalKind.UNAVAILABLE),
    ],
)
def test_too_many_runs_wait(wire: Wire, reply: Reply, kind: RefusalKind) -> None:
    """A pipeline whose queue is full starts nothing now and may later: it is told by ADF's own words, in a 4xx only."""
    wire.answers(reply)
    refusal = wire.create()
    assert isinstance(refusal, Refusal)
    assert (kind, 1) == (refusal.kind, len(wire.transport.sent))


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
        (requests.exceptions.SSLError(), RefusalKind.UNAVAILABLE),
        (BROKEN_TLS, RefusalKind.UNAVAILABLE),
        (UNTRUSTED, RefusalKind.UNREACHABLE),
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


@pytest.mark.parametrize(
    "none", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "1601-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"]
)
def test_times_that_are_none(wire: Wire, none: str) -> None:
    """What stands for no time is none: a run with it can be asked about like any other."""
    wire.answers((200, {"runId": RUN_ID, "status": "Failed", "runStart": none, "runEnd": none}), (200, {"value": []}))
    reading = wire.adf.read_run(KEY)
    assert RunReading(RunStatus.FAILED, "Failed") == reading
    assert wire.adf.failed_activity(KEY, reading) is None


def test_why_a_run_failed(wire: Wire) -> None:
    """S30: the activity that failed first is the cause; one that failed later is told beside it."""

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
    others = (OtherFailure("Later", "Copy", "2200", "why Later failed"),)
    expected = FailedActivity("Cause", "Copy", "2200", "why Cause failed", others=others)
    assert expected == wire.adf.failed_activity(KEY, a_reading())


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


@pytest.mark.parametrize("before", range(430, 500, 7))
def test_a_refusal_that_is_cut_in_a_secret(wire: Wire, before: int) -> None:
    """S34: of a parameter that stands where ADF's words are cut, nothing is told, not its beginning either."""
    secret = "canary-of-a-parameter"
    wire.answers((400, {"error": {"code": "Bad", "message": f"{'x' * before}{secret}{'y' * 500}"}}))
    refusal = wire.adf.create_run(FACTORY, "copy", {"sas": secret})
    assert isinstance(refusal, Refusal)
    assert (RefusalKind.INVALID, True, False) == (refusal.kind, "(cut" in refusal.detail, "xcan" in refusal.detail)


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


def test_what_a_pipeline_declares(wire: Wire) -> None:
    """A pipeline's parameters are read once; what was read stands for a while, until it is wanted fresh."""
    first = {"name": "copy_orders", "properties": {"parameters": {"day": {"type": "string"}}}}
    second = {"name": "copy_orders", "properties": {"parameters": {"Day": {}, "bridge_key": {}}}}
    wire.answers((200, first), (200, second))
    fresh = [False, False, True, False]
    old, new = (PipelineDeclaration("copy_orders", frozenset(one)) for one in ({"day"}, {"Day", "bridge_key"}))
    assert [old, old, new, new] == [wire.adf.pipeline(FACTORY, "copy_orders", fresh=one) for one in fresh]
    assert [f"GET {ENDPOINT}{ARM_ID}/pipelines/copy_orders?{VERSION}"] * 2 == wire.transport.calls()


def test_defaults_of_a_pipeline(wire: Wire) -> None:
    """What a pipeline's parameters are where they are not given is read with it, and shown nowhere."""
    parameters = {"day": {"type": "string"}, "full": {"type": "bool", "defaultValue": False}, "n": {"defaultValue": 1}}
    wire.answers((200, {"properties": {"parameters": parameters}}))
    found = wire.adf.pipeline(FACTORY, "copy_orders", fresh=False)
    assert isinstance(found, PipelineDeclaration)
    assert ({"full": False, "n": 1}, False) == (found.defaults, "defaults" in repr(found))


def test_what_is_remembered_of_pipelines(wire: Wire) -> None:
    """Pipelines of two factories, and a pipeline and its wrapper, are not mistaken for each other."""
    wire.answers(*[(200, {"properties": {"parameters": {name: {}}}}) for name in "abc"])
    asked = [(FACTORY, "x"), (FACTORY, "x__notified"), (OTHER_FACTORY, "x")] * 2
    found = [wire.adf.pipeline(factory, name, fresh=False) for factory, name in asked]
    expected = [PipelineDeclaration(name, frozenset(one)) for (_, name), one in zip(asked, "abcabc", strict=True)]
    assert (expected, 3) == (found, len(wire.transport.sent))


def test_what_was_read_of_a_pipeline_is_read_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of a pipeline stands for five minutes and no longer."""
    seconds = [1_000.0]
    monkeypatch.setattr("bridge.adapters.adf.time.monotonic", lambda: seconds[0])
    wire.answers((200, {"properties": {}}), (404, ERROR))
    declared = PipelineDeclaration("x", frozenset())
    assert declared == wire.adf.pipeline(FACTORY, "x", fresh=False)
    seconds[0] += 299
    assert declared == wire.adf.pipeline(FACTORY, "x", fresh=False)
    seconds[0] += 2
    assert wire.adf.pipeline(FACTORY, "x", fresh=False) is None


def a_wrapper(*parameters: str, label: str = "adf-bridge", key: str = "bridge_key") -> dict[str, Any]:
    """Return a wrapper's definition, as ADF shows it."""
    declared = {name: {"type": "string"} for name in (*parameters, key)}
    return {"name": "copy_orders__notified", "properties": {"parameters": declared, "annotations": ["team", label]}}


def test_finding_a_wrapper(wire: Wire) -> None:
    """The wrapper's parameters are read once; what was read stands for a while."""
    wire.answers((200, a_wrapper("day")))
    expected = PipelineDeclaration("copy_orders__notified", frozenset({"day", "bridge_key"}), is_wrapper=True)
    assert [expected] * 2 == [wire.adf.pipeline(FACTORY, expected.name, fresh=False) for _ in range(2)]
    assert [f"GET {ENDPOINT}{ARM_ID}/pipelines/copy_orders__notified?{VERSION}"] == wire.transport.calls()


def test_no_wrapper(wire: Wire) -> None:
    """That a pipeline has no wrapper stands for a while, too, until it is wanted fresh."""
    wire.answers((404, ERROR), (200, {"properties": {}}))
    assert [None] * 2 == [wire.adf.pipeline(FACTORY, "copy_orders__notified", fresh=False) for _ in range(2)]
    assert 1 == len(wire.transport.sent)
    assert wire.adf.pipeline(FACTORY, "copy_orders__notified", fresh=True) is not None


def test_no_pipeline(wire: Wire) -> None:
    """That there is no such pipeline is asked anew each time: whoever misses it deploys it and tries again."""
    wire.answers((200, {"properties": {}}), (404, ERROR), (200, {"properties": {"parameters": {"day": {}}}}))
    asked = [wire.adf.pipeline(FACTORY, "copy_orders", fresh=fresh) for fresh in (True, True, False)]
    declared = [PipelineDeclaration("copy_orders", frozenset(names)) for names in (set[str](), {"day"})]
    assert [declared[0], None, declared[1]] == asked


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
    found = wire.adf.pipeline(FACTORY, "copy_orders__notified", fresh=False)
    assert False is (found.is_wrapper if isinstance(found, PipelineDeclaration) else None)


def test_a_wrapper_that_has_gone(wire: Wire) -> None:
    """A wrapper that ADF does not know any more when it is started is looked for anew."""
    wire.answers((200, a_wrapper()), (404, ERROR), (404, ERROR))
    wrapper = PipelineDeclaration("x__notified", frozenset({"bridge_key"}), is_wrapper=True)
    assert wrapper == wire.adf.pipeline(FACTORY, "x__notified", fresh=False)
    refused = wire.adf.create_run(FACTORY, "x__notified", {})
    assert isinstance(refused, Refusal)
    assert wire.adf.pipeline(FACTORY, "x__notified", fresh=False) is None


def test_a_pipeline_that_may_not_be_read(wire: Wire) -> None:
    """A refusal other than 404 is no answer, and is not remembered; what was known before still stands."""
    wire.answers((403, ERROR), (404, ERROR), (503, ERROR))
    assert isinstance(wire.adf.pipeline(FACTORY, "x__notified", fresh=False), Refusal)
    assert wire.adf.pipeline(FACTORY, "x__notified", fresh=False) is None
    assert isinstance(wire.adf.pipeline(FACTORY, "x__notified", fresh=True), Refusal)
    assert wire.adf.pipeline(FACTORY, "x__notified", fresh=False) is None


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


@pytest.mark.parametrize(
    ("invoked_by", "expected"),
    [
        ({"invokedByType": "Manual", "name": "Manual"}, True),
        ({"invokedByType": "manual", "name": "whatever"}, True),
        ({"name": "Manual", "id": "1"}, True),
        (None, True),
        ({}, True),
        ({"invokedByType": "ScheduleTrigger", "name": "Manual"}, False),
        ({"invokedByType": "PipelineActivity", "pipelineRunId": "parent-1"}, False),
        ({"name": "nightly"}, False),
    ],
)
def test_runs_that_create_run_started(wire: Wire, invoked_by: object, expected: bool) -> None:
    """A run that createRun started is told from those that triggers and other runs started."""
    wire.answers((200, {**RUN, "invokedBy": invoked_by}))
    reading = wire.adf.read_run(KEY)
    assert isinstance(reading, RunReading)
    assert expected is reading.by_hand


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"day": "2026-03-01", "empty": ""}, {"day": "2026-03-01", "empty": ""}),
        ({"rows": 3, "dry": True, "none": None}, {"rows": "3", "dry": "true", "none": "null"}),
        ({"list": [1, "a"], "object": {"a": 1}}, {"list": '[1, "a"]', "object": '{"a": 1}'}),
        ({}, {}),
        (None, {}),
        ("text", {}),
        ([1], {}),
    ],
)
def test_parameters_of_a_run(wire: Wire, parameters: object, expected: dict[str, str]) -> None:
    """A run's parameters are text; should ADF show something else, it is its JSON, and the run is read all the same."""
    wire.answers((200, {**RUN, "parameters": parameters}))
    reading = wire.adf.read_run(KEY)
    assert isinstance(reading, RunReading)
    assert expected == reading.parameters


def test_parameters_are_not_printed(wire: Wire) -> None:
    """S34: a reading that ends up in a log tells no parameter's value."""
    wire.answers((200, {**RUN, "parameters": {"password": "canary-parameter"}}))
    assert "canary-parameter" not in repr(wire.adf.read_run(KEY))


def test_the_group_of_a_run(wire: Wire) -> None:
    """A run that runs another one again says in whose group it is."""
    wire.answers((200, {**RUN, "runGroupId": "first-1"}))
    reading = wire.adf.read_run(KEY)
    assert isinstance(reading, RunReading)
    assert "first-1" == reading.group


def test_searching_runs(wire: Wire) -> None:
    """One pipeline's runs are asked for by ADF's clock, page by page, the oldest first, each with its parameters."""
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    run = {**RUN, "runGroupId": RUN_ID, "invokedBy": {"invokedByType": "Manual"}, "parameters": {"bridge_key": "k"}}
    date = {"Date": "Sun, 01 Mar 2026 12:30:00 GMT"}
    wire.answers((200, {"value": [run], "continuationToken": "more"}, date))
    page = wire.adf.search_runs(FACTORY, "copy_orders", since=since, until=since + timedelta(hours=1), continuation="t")
    assert isinstance(page, RunsPage)
    assert (["k"], "more", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)) == (
        [one.parameters["bridge_key"] for one in page.readings.values()],
        page.continuation,
        page.told_at,
    )
    assert [f"POST {ENDPOINT}{ARM_ID}/queryPipelineRuns?{VERSION}"] == wire.transport.calls()
    expected = {
        "lastUpdatedAfter": "2026-03-01T12:00:00Z",
        "lastUpdatedBefore": "2026-03-01T13:00:00Z",
        "continuationToken": "t",
        "filters": [{"operand": "PipelineName", "operator": "Equals", "values": ["copy_orders"]}],
        "orderBy": [{"orderBy": "RunStart", "order": "ASC"}],
    }
    assert expected == json.loads(wire.transport.sent[0].body or "")


@pytest.mark.parametrize("status", [403, 429, 500])
def test_a_search_that_is_refused(wire: Wire, status: int) -> None:
    """A search is sent once, and a refusal of it is no answer: nothing follows from it about the run."""
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    wire.answers(*[(status, ERROR)] * 3)
    found = wire.adf.search_runs(FACTORY, "x", since=since, until=since + timedelta(hours=1), continuation=None)
    assert (True, 1) == (isinstance(found, Refusal), len(wire.transport.sent))


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


def test_a_run_that_cannot_have_begun(wire: Wire) -> None:
    """A run since next week is not asked for: the window would end before it begins."""
    match = Match("copy_orders", datetime.now(UTC) + timedelta(days=7), (RunStatus.SUCCEEDED,))
    wire.answers((400, ERROR))
    assert wire.adf.find_run(FACTORY, match) is None
    assert [] == wire.transport.sent
