"""The rows of the table: what is done to a run, and, written down independently, what has to come of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any

from tests.component.adf_stage import control, execute, held
from tests.component.stand_ins import activity

NOTICE_ACTIVITY = Path(__file__).resolve().parents[2] / "infra/adf/notice-activity.json"
WHY = 'Operation on target Load failed: The table "sales" is locked.'


class Source(StrEnum):
    """What made the bridge find out that a run had ended."""

    NOTICE = "notice"
    LOOK = "second look"
    SWEEP = "sweep"


class End(Enum):
    """How a run is brought to its end."""

    SUCCEEDS = auto()
    FAILS = auto()
    WRAPPER_CANCELLED = auto()
    CHILD_CANCELLED = auto()
    BY_ITSELF = auto()


class Topic(Enum):
    """How the topic is when the run ends."""

    UP = auto()
    BACK = auto()  # down for the first try, up for the second
    DOWN = auto()


@dataclass(frozen=True)
class Expected:
    """What has to come of a row: what the task is told, by what source, and how both runs stand in Data Factory.

    `message` is the whole message that the task is told, or None; `wrapper_says` stands in the wrapper's own message.
    """

    told: str | None
    source: Source | None
    wrapper: str | None
    child: str | None
    message: str | None = None
    wrapper_says: str | None = None


@dataclass(frozen=True)
class Row:
    """One row. The innermost of the runs is the one that is brought to its end."""

    name: str
    expected: Expected
    end: End = End.BY_ITSELF
    pipeline: str = "load"
    topic: Topic = Topic.UP


@dataclass(frozen=True)
class Seen:
    """What came of a row. `message` is what the task was told; without that, what became of the event."""

    row: Row
    told: str | None
    source: Source | None
    wrapper: str | None
    child: str | None
    message: str | None
    wrapper_says: str | None
    after: timedelta | None = None
    too_late: bool = False

    @property
    def wrong(self) -> list[str]:
        """What is not as it has to be."""
        expected = self.row.expected
        pairs = {
            "told": (expected.told, self.told),
            "source": (expected.source, self.source),
            "wrapper": (expected.wrapper, self.wrapper),
            "child": (expected.child, self.child),
            "message": (expected.message, self.message),
        }
        found = [f"{name}: {seen!r}, not {wanted!r}" for name, (wanted, seen) in pairs.items() if wanted != seen]
        if expected.wrapper_says is not None and expected.wrapper_says not in (self.wrapper_says or ""):
            found.append(f"wrapper says {self.wrapper_says!r}")
        if self.too_late:
            found.append("too late")
        return found


PIPELINES: dict[str, Any] = {
    "load": [held("Load")],
    "outer": [execute("middle")],
    "middle": [execute("inner")],
    "inner": [held("Load")],
    "slow": [{**held("Load"), "policy": {"timeout": "0.00:00:02"}}],
    "strict": [held("Load")],
    "busy": {"activities": [held("Load")], "concurrency": 1},
}
# `strict`, changed after its wrapper was made: it needs a parameter that the wrapper does not know.
STRICT = {"activities": [held("Load")], "parameters": {"region": {"type": "string"}}}


def telling(topic: str) -> list[dict[str, Any]]:
    """The activities of `tells`: it has no wrapper, but the notice of docs/wrap.md, and goes on after it."""
    text = NOTICE_ACTIVITY.read_text(encoding="utf-8")
    filled = text.replace("https://TOPIC.REGION-1.eventgrid.azure.net/api/events", topic)
    notice = json.loads(filled.replace("LAST_ACTIVITY", "Load"))
    tidying = control("Tidy up", "Wait", {notice["name"]: "Succeeded"}, waitTimeInSeconds=1)
    return [activity("Load", localSeconds=2), notice, tidying]


_NOTICE, _LOOK, _SWEEP = Source.NOTICE, Source.LOOK, Source.SWEEP
_RUN_FAILED = "Operation on target Run failed: "
_TIMED_OUT = "Operation on target Load failed: The activity Load did not end within its timeout of 0.00:00:02."
_NO_REGION = "The value for the pipeline parameter 'region' is not provided and it has no default value."
_THROTTLED = (
    "Pipeline execution throttled. If the concurrency value is set for a pipeline, a maximum of 1 runs will be queued "
    "for execution."
)


def _of_the_wrapper(why: str) -> str:
    """What a wrapper says whose child could not start, of both activities that made it fail."""
    return f"Operation on target Fail failed: {why}; Operation on target Run failed: {why}"


SUCCESS = Row("success", Expected("Succeeded", _NOTICE, "Succeeded", "Succeeded"), End.SUCCEEDS)
FORGED = Row(
    "forged notice, another run's success",
    Expected(
        *(None, None, "InProgress", "InProgress"),
        "unconfirmed: run … is not the one that this run wraps: nothing is completed",
    ),
)
AFTER_FORGED = Row(
    "forged notice, then its own failure", Expected("Failed", _NOTICE, "Failed", "Failed", WHY, WHY), End.FAILS
)
ROWS = (
    SUCCESS,
    Row("failure", Expected("Failed", _NOTICE, "Failed", "Failed", WHY, WHY), End.FAILS),
    Row(
        "failure, three pipelines deep",
        Expected("Failed", _NOTICE, "Failed", "Failed", _RUN_FAILED + _RUN_FAILED + WHY, WHY),
        End.FAILS,
        "outer",
    ),
    Row("cancel of the wrapper", Expected("Cancelled", _SWEEP, "Cancelled", "Cancelled"), End.WRAPPER_CANCELLED),
    Row(
        "cancel of the child",
        Expected("Cancelled", _NOTICE, "Failed", "Cancelled", wrapper_says="was cancelled"),
        End.CHILD_CANCELLED,
    ),
    Row(
        "topic down, back for the retry",
        Expected("Succeeded", _NOTICE, "Succeeded", "Succeeded"),
        End.SUCCEEDS,
        topic=Topic.BACK,
    ),
    Row(
        "topic down, success notice lost",
        Expected("Succeeded", _SWEEP, "Succeeded", "Succeeded"),
        End.SUCCEEDS,
        topic=Topic.DOWN,
    ),
    Row(
        "topic down, failure notice lost",
        Expected("Failed", _SWEEP, "Failed", "Failed", WHY, WHY),
        End.FAILS,
        topic=Topic.DOWN,
    ),
    Row("child times out", Expected("Failed", _NOTICE, "Failed", "Failed", _TIMED_OUT, _TIMED_OUT), pipeline="slow"),
    Row(
        "child cannot start: bad parameter",
        Expected("Failed", _LOOK, "Failed", None, _of_the_wrapper(_NO_REGION), _NO_REGION),
        pipeline="strict",
    ),
    Row(
        "child cannot start: queue limit",
        Expected("Failed", _LOOK, "Failed", None, _of_the_wrapper(_THROTTLED), _THROTTLED),
        pipeline="busy",
    ),
    Row("no wrapper, notice inside the run", Expected("Succeeded", _LOOK, None, "Succeeded"), pipeline="tells"),
    FORGED,
    AFTER_FORGED,
)
