"""From bytes to run events. Parsing never raises and never does I/O: what cannot be used becomes a value that says why.

Two envelopes carry the same data: CloudEvents 1.0 (the default) and the Event Grid schema.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
https://learn.microsoft.com/azure/event-grid/event-schema
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Never

from bridge.model import FactoryId, RunEvent, RunStatus, Verdict, is_run_id

TYPE_PREFIX: Final = "AdfBridge.PipelineRun."
SPEC_VERSION: Final = "1.0"
DATA_VERSION: Final = "1.0"
MAX_EVENT_BYTES: Final = 1_048_576  # Event Grid's own limit for one event
_SHOWN_CHARS: Final = 200
_BY_NAME: Final = "factories/"
_TEXT_CHARS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Unusable:
    """An event that completes nothing: the verdict, the reason, what could be read of it (cut to 200 characters)."""

    verdict: Verdict
    reason: str
    id: str = ""
    source: str = ""
    type: str = ""
    factory: str = ""
    run_id: str = ""
    status: str = ""


class _Unusable(Exception):  # noqa: N818 - becomes a value before anyone sees it
    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The parts of either schema that we need, before they are judged."""

    id: str
    source: str
    type: str
    factory: str
    data: Mapping[str, object]


def parse(raw: str | bytes, factories: Collection[FactoryId] = ()) -> list[RunEvent | Unusable]:
    """Parse one delivery: an event, or an array of events, of which one bad one does not spoil the others.

    A source `factories/NAME`, which is all that an expression in a pipeline can tell, is looked up in `factories`.
    """
    try:
        document = _load(raw)
    except _Unusable as problem:
        return [Unusable(problem.verdict, problem.reason)]
    if isinstance(document, list):
        parsed = [_parse_one(item, factories) for item in document]
        return parsed or [Unusable(Verdict.MALFORMED, "an empty array")]
    return [_parse_one(document, factories)]


def _load(raw: str | bytes) -> object:
    size = len(raw.encode("utf-8", "surrogatepass")) if isinstance(raw, str) else len(raw)
    if size > MAX_EVENT_BYTES:
        raise _Unusable(Verdict.MALFORMED, f"{size} bytes; an event has at most {MAX_EVENT_BYTES}")
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except RecursionError:
        raise _Unusable(Verdict.MALFORMED, "nested too deeply") from None
    except UnicodeDecodeError:
        raise _Unusable(Verdict.MALFORMED, "not UTF-8") from None
    except ValueError as error:
        # JSONDecodeError's message has positions, never content.
        reason = error.args[0] if isinstance(error, json.JSONDecodeError) else str(error)
        raise _Unusable(Verdict.MALFORMED, f"not JSON: {reason}") from None


def _no_constant(name: str) -> Never:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _parse_one(item: object, factories: Collection[FactoryId]) -> RunEvent | Unusable:
    if not isinstance(item, dict):
        return Unusable(Verdict.MALFORMED, f"an event is a JSON object, not {_kind(item)}")
    try:
        return _run_event(_envelope(item), factories)
    except _Unusable as problem:
        data = item.get("data")
        fields = data if isinstance(data, dict) else {}
        return Unusable(
            verdict=problem.verdict,
            reason=problem.reason,
            id=_shown(item.get("id")),
            source=_shown(item.get("source", item.get("topic"))),
            type=_shown(item.get("type", item.get("eventType"))),
            factory=_shown(item.get("source", fields.get("factory"))),
            run_id=_shown(fields.get("runId")) or _shown(fields.get("parentRunId")),
            status=_shown(fields.get("status")),
        )


def _envelope(item: Mapping[str, object]) -> _Envelope:
    if "specversion" in item:
        if item["specversion"] != SPEC_VERSION:
            raise _Unusable(
                Verdict.UNKNOWN_STATUS, f"CloudEvents specversion {_shown(item['specversion'])!r} is not spoken here"
            )
        source = _text(item, "source")
        return _Envelope(
            id=_text(item, "id"), source=source, type=_text(item, "type"), factory=source, data=_data(item)
        )
    if "eventType" in item:
        version = item.get("dataVersion", DATA_VERSION)
        if version not in ("", DATA_VERSION):
            raise _Unusable(Verdict.UNKNOWN_STATUS, f"dataVersion {_shown(version)!r} is not spoken here")
        data = _data(item)
        # The Event Grid schema's `topic` is set by Event Grid to the topic's own id, so the factory stands in the data.
        return _Envelope(
            id=_text(item, "id"),
            source=_shown(item.get("topic")),
            type=_text(item, "eventType"),
            factory=_text(data, "factory", at="data."),
            data=data,
        )
    raise _Unusable(Verdict.MALFORMED, "neither a CloudEvent (no specversion) nor an Event Grid event (no eventType)")


def _run_event(envelope: _Envelope, factories: Collection[FactoryId]) -> RunEvent:
    if not envelope.type.startswith(TYPE_PREFIX):
        raise _Unusable(Verdict.REJECTED, f"not a run event: type {_shown(envelope.type)!r}")
    spelled = envelope.type.removeprefix(TYPE_PREFIX)
    status = RunStatus.spelled(spelled)
    if status is None:
        raise _Unusable(Verdict.UNKNOWN_STATUS, f"ADF has no run status {_shown(spelled)!r} that is known here")
    stated = _optional(envelope.data, "status")
    if stated is not None and RunStatus.spelled(stated) is not status:
        raise _Unusable(Verdict.MALFORMED, f"the type says {status}, data.status says {_shown(stated)!r}")
    factory = _factory(envelope.factory, factories)
    run_id, parent_run_id = (_optional_run_id(envelope.data, name) for name in ("runId", "parentRunId"))
    if run_id is None and parent_run_id is None:
        _text(envelope.data, "runId", at="data.")
    return RunEvent(
        id=envelope.id,
        source=envelope.source,
        type=envelope.type,
        factory=factory,
        run_id=run_id,
        status=status,
        parent_run_id=parent_run_id,
        pipeline=_optional(envelope.data, "pipelineName"),
    )


def _factory(text: str, factories: Collection[FactoryId]) -> FactoryId:
    """Read an ARM id, or look up `factories/NAME` among the factories that are known."""
    if text.startswith(_BY_NAME):
        name = text.removeprefix(_BY_NAME)
        found = [factory for factory in factories if factory.name.lower() == name.lower()]
        if len(found) == 1:
            return found[0]
        many = "several allowed factories have" if found else "no allowed factory has"
        raise _Unusable(Verdict.REJECTED, f"{many} the name {_shown(name)!r} (BRIDGE_FACTORIES)")
    try:
        return FactoryId.parse(text)
    except ValueError as error:
        raise _Unusable(Verdict.MALFORMED, f"the event's factory is {error}") from None


def _data(item: Mapping[str, object]) -> Mapping[str, object]:
    data = item.get("data")
    if not isinstance(data, dict):
        raise _Unusable(Verdict.MALFORMED, f"data has to be an object, not {_kind(data)}")
    return data


def _text(fields: Mapping[str, object], name: str, *, at: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _Unusable(Verdict.MALFORMED, f"{at}{name} has to be a text, not {_kind(value)}")
    if len(value) > _TEXT_CHARS:
        raise _Unusable(Verdict.MALFORMED, f"{at}{name} has {len(value)} characters; {_TEXT_CHARS} are read")
    _check_unicode(value, at + name)
    return value


def _optional(data: Mapping[str, object], name: str) -> str | None:
    value = data.get(name)
    if value is None or value == "":
        return None
    return _text(data, name, at="data.")


def _optional_run_id(data: Mapping[str, object], name: str) -> str | None:
    value = _optional(data, name)
    return None if value is None else _run_id(value, f"data.{name}")


def _run_id(text: str, name: str) -> str:
    if not is_run_id(text):
        raise _Unusable(Verdict.MALFORMED, f"{name} {_shown(text)!r} is no run id")
    return text


def _check_unicode(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unusable(Verdict.MALFORMED, f"{name} holds half a surrogate pair") from None


def _kind(value: object) -> str:
    kinds: Mapping[type, str] = {
        type(None): "nothing",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "an empty text" if value == "" else "a text",
        list: "an array",
        dict: "an object",
    }
    return kinds[type(value)]


def _shown(value: object) -> str:
    """Return a text fit to be shown and stored: no half surrogates, at most 200 characters; '' for anything else."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode()[:_SHOWN_CHARS]
