"""From Data Factory's diagnostic records to notices for the topic. Reading never raises and never does I/O.

A message of the event hub holds several records, of whatever categories its diagnostic setting names. A record of the
category PipelineRuns tells of one status of one run, with the run's parameters in clear text: they stay here.
https://learn.microsoft.com/azure/data-factory/monitor-schema-logs-events#pipeline-run-log-attributes
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from bridge import policy
from bridge.model import FactoryId, RunStatus, is_run_id
from bridge.topic import RunNotice

CATEGORY: Final = "PipelineRuns"
_NEVER: Final = 1601  # the year of an end that has not come
_TEXT_CHARS: Final = 1_024
_SHOWN_CHARS: Final = 60
_INVOKER: Final = ("name", "id", "invokedByType", "pipelineName", "pipelineRunId")


class Reason(StrEnum):
    """Why nothing is published of a record."""

    OTHER_CATEGORY = "other-category"
    FACTORY_NOT_ALLOWED = "factory-not-allowed"
    UNKNOWN_STATUS = "unknown-status"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record of which nothing is published. `detail` holds names and kinds, never a payload."""

    reason: Reason
    detail: str


class _Skip(Exception):  # noqa: N818 - becomes a value before anyone sees it
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.skipped = Skipped(reason, detail)


class _Record:
    """A JSON object whose names are looked up in whatever case they come."""

    def __init__(self, value: object) -> None:
        """Take an object, or the JSON text of one; anything else is an empty one."""
        found = _parsed(value) if isinstance(value, str) else value
        fields = found if isinstance(found, Mapping) else {}
        self._fields = {str(name).lower(): inner for name, inner in fields.items()}

    def value(self, name: str) -> object:
        return self._fields.get(name.lower())

    def text(self, name: str) -> str | None:
        """Return a text that is fit to be published, or None."""
        value = self.value(name)
        if not isinstance(value, str) or not 0 < len(value) <= _TEXT_CHARS:
            return None
        return None if any("\ud800" <= sign <= "\udfff" for sign in value) else value

    def run_id(self, name: str) -> str | None:
        text = self.text(name)
        return text if text is not None and is_run_id(text) else None

    def time(self, name: str) -> datetime | None:
        """Return a time with its zone, in UTC, or None where there is none or it has not come."""
        try:
            found = datetime.fromisoformat(self.text(name) or "")
            return None if found.tzinfo is None or found.year <= _NEVER else found.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def read(body: bytes, factories: Collection[FactoryId], *, now: datetime) -> list[RunNotice | Skipped]:
    """Read one message of the event hub: a notice, or the reason why there is none, for each of its records.

    One bad record does not spoil the others. `now` is the time of a record that tells none.
    """
    try:
        records = _records(body)
    except _Skip as skip:
        return [skip.skipped]
    return [_read_one(record, factories, now) for record in records]


def _records(body: bytes) -> list[object]:
    """Return the records of `{"records": […]}`, or of a bare array."""
    document = _parsed(body)
    records = document.get("records") if isinstance(document, Mapping) else document
    if not isinstance(records, list):
        raise _Skip(Reason.MALFORMED, "the message is no JSON object with an array of records")
    return records


def _parsed(text: str | bytes) -> object:
    """Parse JSON; None for what is none."""
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        return None


def _read_one(value: object, factories: Collection[FactoryId], now: datetime) -> RunNotice | Skipped:
    if not isinstance(value, Mapping):
        return Skipped(Reason.MALFORMED, "a record is no JSON object")
    try:
        return _notice(_Record(value), factories, now)
    except _Skip as skip:
        return skip.skipped


def _notice(record: _Record, factories: Collection[FactoryId], now: datetime) -> RunNotice:
    category = record.text("category")
    if category is None:
        raise _Skip(Reason.MALFORMED, "the record has no category")
    if category.lower() != CATEGORY.lower():
        raise _Skip(Reason.OTHER_CATEGORY, _shown(category))
    factory = _factory(record, factories)
    run_id, pipeline = record.run_id("runId"), record.text("pipelineName")
    if run_id is None or pipeline is None or "/" in pipeline:
        raise _Skip(Reason.MALFORMED, f"{'runId' if run_id is None else 'pipelineName'} is missing or cannot be one")
    status = _status(record)
    return RunNotice(
        factory=factory,
        pipeline=pipeline,
        run_id=run_id,
        status=status,
        time=record.time("time") or record.time("timestamp") or now,
        data={
            "runId": run_id,
            **_parent(record, pipeline),
            "pipelineName": pipeline,
            "status": status.value,
            "runGroupId": record.run_id("groupId"),
            "runStart": _stamp(record.time("start")),
            "runEnd": _stamp(record.time("end")),
        },
    )


def _factory(record: _Record, factories: Collection[FactoryId]) -> FactoryId:
    """Find the factory on the allow-list; Azure Monitor writes resource ids in upper case."""
    text = record.text("resourceId") or ""
    try:
        named = FactoryId.parse(text)
    except ValueError:
        raise _Skip(Reason.MALFORMED, "resourceId is no factory's ARM id") from None
    for factory in factories:
        if factory == named:
            return factory
    raise _Skip(Reason.FACTORY_NOT_ALLOWED, _shown(named.name.lower()))


def _status(record: _Record) -> RunStatus:
    text = record.text("status")
    if text is None:
        raise _Skip(Reason.MALFORMED, "the record has no status")
    status = RunStatus.spelled(text)
    if status is None:
        raise _Skip(Reason.UNKNOWN_STATUS, _shown(text))
    return status


def _parent(record: _Record, pipeline: str) -> dict[str, object]:
    """Return who started the run, and the parent's id where that is the wrapper of this very pipeline.

    Another pipeline that happens to execute this one is no wrapper: nobody waits for it by its child.
    """
    predecessors = _Record(record.value("properties")).value("Predecessors")
    found = _parsed(predecessors) if isinstance(predecessors, str) else predecessors
    first = _Record(found[0]) if isinstance(found, list) and found else _Record({})
    invoker = {name: text for name in _INVOKER if (text := first.text(name)) is not None}
    if not invoker:
        return {}
    wrapper = policy.wrapper_of(pipeline).lower()
    by_wrapper = "pipeline" in (first.text("InvokedByType") or "").lower() and (
        (first.text("PipelineName") or "").lower() == wrapper
    )
    parent = first.run_id("PipelineRunId") if by_wrapper else None
    return {"invokedBy": invoker} | ({"parentRunId": parent} if parent is not None else {})


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _shown(text: str) -> str:
    return text[:_SHOWN_CHARS]
