"""Why a run failed: which of its failed activities counts, and the way down to the innermost one."""

import json
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import count, pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

from bridge.adapters import adf_causes, rows
from bridge.adapters.adf import DataFactory
from bridge.adapters.adf_causes import Failure, find_cause, judge
from bridge.config import Secret
from bridge.model import FailedActivity, OtherFailure, Run, RunStatus
from bridge.ports import Refusal, RefusalKind
from tests.fakes.clock import START
from tests.fakes.samples import KEY, SECOND, a_reading, an_ended_run
from tests.fakes.transport import Answer as Reply
from tests.fakes.transport import ScriptedTransport

INNER = "Activity failed because an inner activity failed"
ERROR = {"error": {"code": "Nope", "message": "the reason"}}


class Factory:
    """Failed activities by run, at the other end of the wire; a run may have another reply."""

    def __init__(self) -> None:
        self.adf = DataFactory(endpoint="https://management.azure.com", token=Secret("canary-adf-token"))
        self.activities: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.replies: dict[str, Reply] = {}
        self.transport = ScriptedTransport(self._reply)
        self._seconds = count()

    def fail(self, run_id: str, name: str, message: str = "why", child: str | None = None, **changes: Any) -> None:
        """Have an activity fail, a second after the one before; with a child, it executed that run."""
        code, kind = ("2200", "Copy") if child is None else ("BadRequest", "ExecutePipeline")
        self.activities[run_id].append(
            {
                "activityName": name,
                "activityType": kind,
                "status": "Failed",
                "activityRunStart": START.isoformat(),
                "activityRunEnd": (START + next(self._seconds) * SECOND).isoformat(),
                "pipelineName": f"pipeline of {run_id}",
                "error": {"errorCode": code, "message": message, "failureType": "UserError", "target": name},
                "output": {} if child is None else {"pipelineRunId": child, "pipelineName": "another"},
                **changes,
            }
        )

    def cause(self, message: str | None = None) -> FailedActivity | None:
        """Ask the adapter why the run failed."""
        return self.adf.failed_activity(KEY, a_reading(message=message))

    def asked(self) -> list[str]:
        """The runs whose activities were asked for, in order."""
        return [urlsplit(request.url or "").path.split("/")[-2] for request in self.transport.sent]

    def _reply(self, request: requests.PreparedRequest) -> Reply:
        run_id = self.asked()[-1]
        return self.replies.get(run_id, (200, {"value": self.activities[run_id]}))


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Factory:
    """A Data Factory that the SDK reaches."""
    factory = Factory()

    def send(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return factory.transport.send(request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return factory


# --- the way down -----------------------------------------------------------------------------------------------------


def test_three_levels_deep(factory: Factory) -> None:
    """The innermost activity is told with its own code and message, where it is, and the way down to it."""
    factory.fail("inner", "Copy orders", "No such table.")
    factory.fail("middle", "Run inner", "Operation on target Copy orders failed: No such table.", child="inner")
    factory.fail(KEY.run_id, "Run middle", "Operation on target Run inner failed: …", child="middle")
    assert (
        FailedActivity(
            "Copy orders",
            "Copy",
            "2200",
            "No such table.",
            path=("Run middle", "Run inner"),
            pipeline="pipeline of inner",
            run_id="inner",
        )
        == factory.cause()
    )
    assert [KEY.run_id, "middle", "inner"] == factory.asked()


def test_each_run_is_judged_by_its_own_message(factory: Factory) -> None:
    """In a child run that counts which its own message names, told by the activity that executed it."""
    factory.fail("inner", "Healed")
    factory.fail("inner", "Copy")
    factory.fail(KEY.run_id, "Run", "Operation on target Copy failed: why", child="inner")
    cause = factory.cause("Operation on target Run failed: it did not end well")
    assert cause is not None
    assert ("Copy", ["Healed"]) == (cause.name, [other.name for other in cause.others])


def test_the_run_itself_needs_no_way(factory: Factory) -> None:
    """Where the run's own activity failed, one query is sent, and no other run is named."""
    factory.fail(KEY.run_id, "Copy orders")
    assert FailedActivity("Copy orders", "Copy", "2200", "why") == factory.cause()
    assert [KEY.run_id] == factory.asked()


def test_what_is_asked(factory: Factory) -> None:
    """Only failed activities are asked for, those first that ended first: one page is enough."""
    factory.fail(KEY.run_id, "Copy orders")
    factory.cause()
    body = json.loads(factory.transport.sent[0].body or "")
    assert [{"operand": "Status", "operator": "Equals", "values": ["Failed"]}] == body["filters"]
    assert [{"orderBy": "ActivityRunEnd", "order": "ASC"}] == body["orderBy"]


def test_the_way_down_has_an_end(factory: Factory) -> None:
    """Runs that execute runs without end are followed five times; the last one that was read is told."""
    runs = [KEY.run_id, *(f"level-{depth}" for depth in range(1, 9))]
    for run_id, child in pairwise(runs):
        factory.fail(run_id, f"Run {child}", child=child)
    cause = factory.cause()
    assert cause is not None
    assert ("Run level-6", "level-5", 5) == (cause.name, cause.run_id, len(cause.path))
    assert runs[:6] == factory.asked()


def test_a_circle_has_an_end(factory: Factory) -> None:
    """A run that seems to have started itself is asked about once."""
    factory.fail(KEY.run_id, "Run", child=KEY.run_id)
    assert factory.cause() is not None
    assert [KEY.run_id] == factory.asked()


def test_no_query_begins_late() -> None:
    """A slow Data Factory is not asked again after seven seconds: what is known by then is told."""
    ticks = iter((0.0, 3.0, adf_causes.BEGIN_WITHIN_SECONDS))
    asked: list[str] = []

    def read(run_id: str) -> list[Failure]:
        asked.append(run_id)
        return [Failure(f"Run in {run_id}", "ExecutePipeline", child=f"{run_id}+")]

    cause = find_cause("a", None, read, clock=lambda: next(ticks))
    assert cause is not None
    assert ("Run in a+", ["a", "a+"]) == (cause.name, asked)


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"value": []}),
        (200, b"<html>"),
        (200, {"value": [{"status": "Failed", "error": [], "activityRunEnd": "yesterday"}]}),
        (403, ERROR),
        (404, ERROR),
        (429, ERROR, {"Retry-After": "60"}),
        (503, ERROR),
        requests.exceptions.ReadTimeout(),
    ],
)
def test_a_level_that_cannot_be_read(factory: Factory, reply: Reply) -> None:
    """S12: where a child run cannot be read or says nothing, the activity that executed it is told, and no call is sent
    twice.
    """
    factory.fail("middle", "Run inner", "Operation on target Copy failed: no", child="inner")
    factory.fail(KEY.run_id, "Run middle", child="middle")
    factory.replies["inner"] = reply
    cause = factory.cause()
    assert cause is not None
    told = (cause.name, cause.error_code, cause.message, cause.path, cause.run_id)
    assert ("Run inner", "BadRequest", "Operation on target Copy failed: no", ("Run middle",), "middle") == told
    assert [KEY.run_id, "middle", "inner"] == factory.asked()


@pytest.mark.parametrize("output", [None, {}, {"pipelineRunId": "../x"}, {"pipelineRunId": 7}, "text"])
def test_a_child_that_is_not_named(factory: Factory, output: object) -> None:
    """An activity that started no run, or hides its output, is told as it failed, and no made-up run is asked for."""
    factory.fail(KEY.run_id, "Run", "no place", child="x", output=output)
    assert FailedActivity("Run", "ExecutePipeline", "BadRequest", "no place") == factory.cause()
    assert [KEY.run_id] == factory.asked()


def test_only_an_execute_pipeline_is_followed(factory: Factory) -> None:
    """A Web activity whose answer has a field `pipelineRunId` leads nowhere."""
    factory.fail(KEY.run_id, "Call", output={"pipelineRunId": "other"})
    factory.cause()
    assert [KEY.run_id] == factory.asked()


def test_a_level_at_length(factory: Factory) -> None:
    """S32: of a megabyte of innermost message 4,000 characters are kept, of other messages 300, of a code 200."""
    factory.fail("inner", "Copy", "💥" * 250_000)
    factory.fail("inner", "Other", "💥" * 250_000)
    factory.activities["inner"][0]["error"]["errorCode"] = "9" * 1_000_000
    factory.fail(KEY.run_id, "Run", "ü" * 1_000_000, child="inner")
    cause = factory.cause()
    assert cause is not None
    assert (4_000, 300, 200) == tuple(
        len(text or "") for text in (cause.message, cause.others[0].message, cause.error_code)
    )


# --- what else failed -------------------------------------------------------------------------------------------------


def test_others(factory: Factory) -> None:
    """What else failed is told, the innermost run's first, four at most; what is no failure of its own is not."""
    for name in ("Copy", "Second", "Second", "Third"):
        factory.fail("inner", name, f"why {name}")
    factory.fail("inner", "Stopped", status="Cancelled")
    factory.fail("inner", "Each", f"{INNER}; Inner activity name: Copy, Error: why", activityType="ForEach")
    factory.fail(KEY.run_id, "Run", child="inner")
    for name in ("Beside", "Tell", "Too many"):
        factory.fail(KEY.run_id, name, f"why {name}")
    cause = factory.cause("Operation on target Run failed: Operation on target Each failed: …")
    assert cause is not None
    assert ("Copy", ("Run",)) == (cause.name, cause.path)
    inner = [OtherFailure(name, "Copy", "2200", f"why {name}", ("Run",)) for name in ("Second", "Third")]
    outer = [OtherFailure(name, "Copy", "2200", f"why {name}") for name in ("Beside", "Tell")]
    assert (*inner, *outer) == cause.others


# --- which failure counts ---------------------------------------------------------------------------------------------


def a_failure(name: str, kind: str = "Copy", message: str | None = None, *, at: int = 0, **changes: Any) -> Failure:
    """A failure that lasted a second."""
    end = START + timedelta(seconds=at)
    return Failure(name, kind, message=message, start=end - SECOND, end=end, **changes)


def named(failures: list[Failure], message: str | None = None) -> tuple[str, list[str]]:
    """The name of the failure that counts, and those of the others."""
    cause, others = judge(failures, message)
    return cause.name, [one.name for one in others]


def test_without_a_message_the_first_counts() -> None:
    """S30: of a run whose message names nothing the activity that failed first is the cause."""
    assert ("A", ["B"]) == named([a_failure("B", at=2), a_failure("A", at=1)])
    assert ("A", ["B"]) == named([a_failure("B", at=2), a_failure("A", at=1)], "something went wrong")


def test_what_the_message_names_counts() -> None:
    """A failure that was made up for, by a retry or on a path of its own, is not why a run failed later."""
    failures = [a_failure("Copy", at=1), a_failure("Copy all", at=2), a_failure("Load", at=3)]
    assert ("Load", ["Copy", "Copy all"]) == named(failures, "Operation on target Load failed: no such table")


def test_the_first_name_in_the_message_counts() -> None:
    """Names further on in a message may be those of other runs' activities."""
    failures = [a_failure("Copy", at=1), a_failure("Run", at=2)]
    assert ("Run", ["Copy"]) == named(failures, "Operation on target Run failed: Operation on target Copy failed: no")


@pytest.mark.parametrize("kind", ["ForEach", "IfCondition", "Switch", "Until"])
@pytest.mark.parametrize("words", [INNER, f"{INNER}; Inner activity name: Copy, Error: no"])
def test_an_inner_activity_counts(kind: str, words: str) -> None:
    """Of an activity that failed because of one inside it, that one is the cause, in newer and older words."""
    outer = a_failure("Outer", kind, words, at=3, code="ActionFailed")
    outer = Failure(outer.name, outer.type, outer.code, outer.message, start=START, end=outer.end)
    failures = [a_failure("Healed", at=0), outer, a_failure("Copy", at=2)]
    assert ("Copy", ["Healed"]) == named(failures, "Operation on target Outer failed: " + words)
    assert ("Healed", ["Copy"]) == named(failures)


def test_an_inner_activity_counts_in_other_words() -> None:
    """The code alone says that an inner activity failed."""
    outer = a_failure("Outer", "ForEach", "Eine innere Aktivität schlug fehl", at=2, code="ActionFailed")
    assert ("Copy", []) == named([outer, a_failure("Copy", at=2)], "Operation on target Outer failed")


def test_inner_activities_of_inner_activities() -> None:
    """The way inside goes on as long as the inner activity failed because of another one."""
    failures = [
        a_failure("Beside", at=1),
        a_failure("Copy", at=2),
        a_failure("If", "IfCondition", f"{INNER}; Inner activity name: Copy, Error: no", at=3),
        a_failure("Each", "ForEach", f"{INNER}; Inner activity name: If, Error: {INNER}", at=4),
    ]
    assert ("Copy", ["Beside"]) == named(failures, f"Operation on target Each failed: {INNER}")


def test_an_outer_activity_counts_alone() -> None:
    """An outer activity whose inner one is not listed, or that failed by itself, is the cause."""
    assert ("If", []) == named([a_failure("If", "IfCondition", INNER)], "Operation on target If failed")
    assert ("If", []) == named([a_failure("If", "IfCondition", INNER)])
    wrong = a_failure("If", "IfCondition", "The expression must be a boolean.", code="InvalidTemplate")
    assert ("If", ["Copy"]) == named([wrong, a_failure("Copy", at=2)], "Operation on target If failed")


def test_a_circle_of_inner_activities() -> None:
    """Outer activities that name each other end in one of them."""
    failures = [
        a_failure("A", "ForEach", f"{INNER}; Inner activity name: B, Error: no", at=1),
        a_failure("B", "ForEach", f"{INNER}; Inner activity name: A, Error: no", at=1),
    ]
    assert named(failures, "Operation on target A failed")[0] in ("A", "B")


def test_a_fail_activity_tells_of_an_earlier_one() -> None:
    """A Fail activity at the end of a failure path is not the cause, and is one where nothing failed before."""
    message = "Operation on target Raise failed: see above"
    assert ("Copy", ["Raise"]) == named([a_failure("Raise", "Fail", at=2), a_failure("Copy", at=1)], message)
    assert ("Raise", ["Copy"]) == named([a_failure("Raise", "Fail", at=2), a_failure("Copy", at=3)], message)
    assert ("Raise", []) == named([a_failure("Raise", "Fail", at=2)], message)


def test_the_last_attempt_counts() -> None:
    """Of an activity that was tried again the last attempt is told; of a loop's the first that failed."""
    attempts = [a_failure("Copy", message=f"attempt {number}", at=number, attempt=number) for number in range(3)]
    assert "attempt 2" == judge(attempts, None)[0].message
    turns = [a_failure("Copy", message=f"turn {number}", at=number) for number in (2, 1)]
    assert "turn 1" == judge(turns, None)[0].message


def test_a_refusal_is_no_cause() -> None:
    """A run that cannot be asked about at all is told without a cause."""
    assert find_cause("a", None, lambda run_id: Refusal(RefusalKind.THROTTLED, run_id)) is None


def test_a_retry_is_read(factory: Factory) -> None:
    """ADF's `retryAttempt` tells attempts apart."""
    factory.fail(KEY.run_id, "Copy", "first", retryAttempt=None)
    factory.fail(KEY.run_id, "Copy", "second", retryAttempt=1)
    cause = factory.cause()
    assert cause is not None
    assert ("second", ()) == (cause.message, cause.others)


def test_a_summary() -> None:
    """A cause is told in one line: the activity, its type, its code, the way down to it."""
    plain = FailedActivity("Copy", "Copy", "2200", "secret words")
    deep = FailedActivity("Copy", "", None, None, path=("A", "B"))
    assert "activity 'Copy' (Copy) failed with error 2200" == plain.summary
    assert "activity 'Copy' failed, by way of 'A' > 'B'" == deep.summary


def test_times_without_a_zone(factory: Factory) -> None:
    """A time that lacks its zone is UTC, and an activity without a time comes last."""
    for name, at in (("Never", None), ("Later", START + SECOND), ("First", START)):
        factory.fail(KEY.run_id, name, activityRunEnd=at and at.replace(tzinfo=None).isoformat())
    cause = factory.cause()
    assert cause is not None
    assert ("First", ["Later", "Never"]) == (cause.name, [other.name for other in cause.others])


def test_rows_of_both_versions() -> None:
    """S43: a cause is kept with all that is known of it, and one that an earlier version has written is read."""
    other = OtherFailure("Tell", "WebActivity", "2108", "no answer 💥", ("Run",))
    cause = FailedActivity("Copy", "Copy", "2200", "no", ("Run",), "inner", "run-7", (other,))
    run = replace(an_ended_run(RunStatus.FAILED), failed_activity=cause, version="")
    assert run == rows.decode(rows.encode(run), Run, version="")
    document = json.loads(rows.encode(run))
    for name in ("path", "pipeline", "run_id", "others"):
        del document["failed_activity"][name]
    earlier = FailedActivity("Copy", "Copy", "2200", "no")
    assert earlier == rows.decode(json.dumps(document), Run, version="").failed_activity
