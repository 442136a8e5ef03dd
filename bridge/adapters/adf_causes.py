"""Why a run failed: from its failed activities down to the innermost one, in a bounded number of reads.

What Data Factory says, and where that is known from:

- An Execute Pipeline activity that fails has `pipelineRunId` in its output, and `BadRequest` with its child's message.
  https://learn.microsoft.com/azure/data-factory/control-flow-execute-pipeline-activity
  https://github.com/MicrosoftDocs/azure-docs/issues/35314
- Activities inside a ForEach, If Condition, Switch or Until are listed with the run's other activities. The outer one
  fails with the code `ActionFailed` and "Activity failed because an inner activity failed; Inner activity name: X,
  Error: …" (public captures; in older ones the words end after "failed").
- A run's message begins with "Operation on target X failed", X being an activity for which it failed.
  https://learn.microsoft.com/azure/data-factory/tutorial-pipeline-failure-error-handling
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bridge import policy
from bridge.model import FailedActivity, OtherFailure, is_run_id
from bridge.ports import Refusal

if TYPE_CHECKING:
    from azure.mgmt.datafactory.models import ActivityRun

FOLLOWED_AT_MOST: Final = 5
"""How many runs below the first one are asked about, each with one query."""
BEGIN_WITHIN_SECONDS: Final = 7.0
"""No query begins later than this after the first one; a query takes 8 seconds at most."""
OTHERS_AT_MOST: Final = 4

_OTHERS_CHARS: Final = 300
_WORDS_CHARS: Final = 200  # of names and codes: those of a Fail activity are its author's, of any length
_MESSAGE_SEARCHED: Final = 100_000
_CONTAINERS: Final = frozenset({"ForEach", "IfCondition", "Switch", "Until"})
_INNER_FAILED: Final = "Activity failed because an inner activity failed"
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed execution of an activity. `child` is the run that it started, `attempt` 0 unless it is a retry."""

    name: str
    type: str
    code: str | None = None
    message: str | None = None
    pipeline: str | None = None
    child: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    attempt: int = 0

    @property
    def is_by_inner(self) -> bool:
        """Whether it failed only because an activity inside it did."""
        said = self.code == "ActionFailed" or (self.message or "").startswith(_INNER_FAILED)
        return self.type in _CONTAINERS and said


@dataclass(frozen=True, slots=True)
class _Level:
    """What is known of one run: its id, the failure that counts, and what else failed in it by itself."""

    run_id: str
    cause: Failure
    others: Sequence[Failure]


Read = Callable[[str], Sequence[Failure] | Refusal]


def find_cause(
    run_id: str, message: str | None, read: Read, *, clock: Callable[[], float] = time.monotonic
) -> FailedActivity | None:
    """Return the innermost failure for which a run failed; `message` is the run's, `read` asks for a run's failures.

    What cannot be read, or says nothing, ends the way down: what led there is told then.
    """
    levels: list[_Level] = []
    begin_until = clock() + BEGIN_WITHIN_SECONDS
    following: str | None = run_id
    while following is not None:
        failures = read(following)
        if isinstance(failures, Refusal) or not failures:
            break
        cause, others = judge(failures, message)
        levels.append(_Level(following, cause, others))
        message, following = cause.message, cause.child
        known = {level.run_id for level in levels}
        if following in known or len(levels) > FOLLOWED_AT_MOST or clock() >= begin_until:
            break
    return _told(levels) if levels else None


def judge(failures: Sequence[Failure], message: str | None) -> tuple[Failure, Sequence[Failure]]:
    """Return which of a run's failures counts, and the others that failed by themselves; `message` is the run's.

    It counts what the message names first, or what failed inside that. A Fail activity that tells of an earlier failure
    does not count; without a message, what failed first does. Of several attempts the last one does.
    """
    in_order = sorted(failures, key=_end)
    own = [one for one in in_order if not one.is_by_inner] or in_order
    named = _named("Operation on target {} failed", in_order, message)
    blamed = _innermost(named, in_order, own) if named is not None else None
    if blamed is None or blamed.type == "Fail":
        blamed = own[0]
    cause = max((one for one in own if one.name == blamed.name), key=lambda one: one.attempt)
    return cause, list({one.name: one for one in reversed(own) if one.name != cause.name}.values())[::-1]


def _innermost(outer: Failure, failures: Sequence[Failure], own: Sequence[Failure]) -> Failure | None:
    """Return what failed inside an activity: what its message names, else what failed first while it went on."""
    seen: list[Failure] = []
    while outer.is_by_inner:
        seen.append(outer)
        left = [one for one in failures if one not in seen]
        inner = _named("Inner activity name: {},", left, outer.message)
        if inner is None:
            return next((one for one in own if one not in seen and _is_during(one, outer)), None)
        outer = inner
    return outer


def _named(words: str, failures: Sequence[Failure], message: str | None) -> Failure | None:
    """Return the failure whose activity a message names first, in these words."""
    text = (message or "")[:_MESSAGE_SEARCHED]
    places = [(text.find(words.format(one.name)), one) for one in failures if one.name]
    return min((found for found in places if found[0] >= 0), key=lambda found: found[0], default=(0, None))[1]


def _is_during(one: Failure, other: Failure) -> bool:
    begins = one.start is None or other.start is None or one.start >= other.start
    return begins and _end(one) <= _end(other)


def _end(one: Failure) -> datetime:
    return one.end or _LAST


def _told(levels: Sequence[_Level]) -> FailedActivity:
    *outer, last = levels
    cause = last.cause
    return FailedActivity(
        name=cause.name,
        type=cause.type,
        error_code=cause.code,
        message=policy.cut(cause.message),
        path=tuple(level.cause.name for level in outer),
        pipeline=cause.pipeline if outer else None,
        run_id=last.run_id if outer else None,
        others=tuple(_others(levels))[:OTHERS_AT_MOST],
    )


def _others(levels: Sequence[_Level]) -> Iterator[OtherFailure]:
    """Tell what else failed, the innermost run's failures first."""
    for depth in reversed(range(len(levels))):
        path = tuple(level.cause.name for level in levels[:depth])
        for one in levels[depth].others:
            yield OtherFailure(one.name, one.type, one.code, policy.cut(one.message, _OTHERS_CHARS), path)


def failure(activity: ActivityRun) -> Failure:
    """Return a failed execution as ADF tells it. Raises what the SDK raises for another shape."""
    error = activity.error if isinstance(activity.error, dict) else {}
    attempt = activity.get("retryAttempt")
    return Failure(
        name=_word(activity.activity_name) or "",
        type=_word(activity.activity_type) or "",
        code=_word(error.get("errorCode")),
        message=_text(error.get("message")),
        pipeline=_word(activity.pipeline_name),
        child=child_run_id(activity) if activity.activity_type == "ExecutePipeline" else None,
        start=_utc(activity.activity_run_start),
        end=_utc(activity.activity_run_end),
        attempt=attempt if isinstance(attempt, int) else 0,
    )


def child_run_id(activity: ActivityRun) -> str | None:
    """Return the run that an Execute Pipeline activity started, if it got that far."""
    output = activity.output if isinstance(activity.output, dict) else {}
    child = output.get("pipelineRunId")
    return child if isinstance(child, str) and is_run_id(child) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(value: object) -> str | None:
    return policy.cut(_text(value), _WORDS_CHARS)


def _utc(value: datetime | None) -> datetime | None:
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)
