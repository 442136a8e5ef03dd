"""Between encoded messages and what the queue knows of them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from proton import int32, symbol, timestamp, ubyte, uint

from local.service_bus.amqp.sections import Part, Section, batch, split
from local.service_bus.amqp.value import described
from local.service_bus.errors import MalformedError
from local.service_bus.message import Message, Submission

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS_AT_EPOCH = 621_355_968_000_000_000
_MILLISECOND = timedelta(milliseconds=1)

_SCHEDULED_FOR = "x-opt-scheduled-enqueue-time"
_PRIORITY, _TTL, _MESSAGE_ID, _GROUP_ID = 1, 2, 0, 10
_LONGEST_UINT = 2**32 - 1
_LONGEST_UBYTE = 2**8 - 1


def milliseconds(at: datetime) -> timestamp:
    """A time as AMQP has it."""
    return timestamp((at - _EPOCH) // _MILLISECOND)


def ticks(at: datetime) -> int:
    """A time as .NET has it: tenths of microseconds since the year 1."""
    return _TICKS_AT_EPOCH + (at - _EPOCH) // timedelta(microseconds=1) * 10


def from_milliseconds(value: int) -> datetime:
    """The time of an AMQP timestamp."""
    return _EPOCH + _MILLISECOND * value


def submissions(encoded: bytes) -> list[Submission]:
    """What a sender hands in by one transfer: a message, or a batch of them. Raises MalformedError."""
    parts = split(encoded)
    return [submission(inner) for inner in batch(parts)] or [submission(encoded, parts)]


def submission(encoded: bytes, parts: list[Part] | None = None) -> Submission:
    """What of a message concerns the queue. Raises MalformedError."""
    found = {part.section: part.decode() for part in parts or split(encoded) if part.section in _READ}
    if not all(isinstance(content, _READ[section]) for section, content in found.items()):
        raise MalformedError("A section of the message is not of its type.")
    header, properties = _fields(found.get(Section.HEADER)), _fields(found.get(Section.PROPERTIES))
    annotations = found.get(Section.MESSAGE_ANNOTATIONS)
    scheduled = annotations.get(_SCHEDULED_FOR) if isinstance(annotations, Mapping) else None
    ttl, message_id, session_id = header.get(_TTL), properties.get(_MESSAGE_ID), properties.get(_GROUP_ID)
    if session_id is not None and not isinstance(session_id, str):
        raise MalformedError("The session id must be a string.")
    priority = header.get(_PRIORITY, 0)
    if not isinstance(priority, int) or not 0 <= priority <= _LONGEST_UBYTE:
        raise MalformedError("The priority must be an unsigned byte.")
    return Submission(
        encoded,
        None if message_id is None else str(message_id),
        session_id,
        timedelta(milliseconds=ttl) if isinstance(ttl, int) and ttl else None,
        from_milliseconds(scheduled) if isinstance(scheduled, int) else None,
    )


def delivered(message: Message) -> bytes:
    """A message as receivers get it: with the broker's header and annotations, and a dead letter's reason."""
    parts = {part.section: part for part in split(message.content)}
    rest = b"".join(
        _application_properties(message, part) if part.section is Section.APPLICATION_PROPERTIES else part.encoded
        for part in split(message.content)
        if part.section not in _REPLACED
    )
    if Section.APPLICATION_PROPERTIES not in parts:
        rest = _insert(message, rest)
    return _header(message, parts.get(Section.HEADER)) + _annotations(message, parts) + rest


_READ = {
    Section.HEADER: list,
    Section.MESSAGE_ANNOTATIONS: Mapping,
    Section.PROPERTIES: list,
    Section.APPLICATION_PROPERTIES: Mapping,
}
"""What is read, here or when the message is handed out, and the type of each."""
_REPLACED = frozenset({Section.HEADER, Section.DELIVERY_ANNOTATIONS, Section.MESSAGE_ANNOTATIONS})


def _header(message: Message, sent: Part | None) -> bytes:
    fields = _fields(sent.decode() if sent is not None else None)
    ttl = None if message.time_to_live is None else message.time_to_live // _MILLISECOND
    return described(
        Section.HEADER,
        [
            bool(fields.get(0, False)),
            ubyte(fields.get(_PRIORITY) or 4),
            fields.get(_TTL) or (None if ttl is None else uint(min(ttl, _LONGEST_UINT))),
            False,
            uint(message.delivery_count),
        ],
    )


def _annotations(message: Message, parts: Mapping[Section, Part]) -> bytes:
    sent = parts.get(Section.MESSAGE_ANNOTATIONS)
    decoded = sent.decode() if sent is not None else {}
    annotations: dict[symbol, object] = dict(decoded) if isinstance(decoded, Mapping) else {}
    annotations |= {
        symbol("x-opt-sequence-number"): message.sequence_number,
        symbol("x-opt-enqueued-time"): milliseconds(message.enqueued_at),
        symbol("x-opt-message-state"): int32(message.state),
    }
    if message.lock is not None:
        annotations[symbol("x-opt-locked-until")] = milliseconds(message.lock.until)
    return described(Section.MESSAGE_ANNOTATIONS, annotations)


def _application_properties(message: Message, sent: Part) -> bytes:
    reasons = _reasons(message)
    decoded = sent.decode()
    if not reasons or not isinstance(decoded, Mapping):
        return sent.encoded
    return described(Section.APPLICATION_PROPERTIES, {**decoded, **reasons})


def _insert(message: Message, rest: bytes) -> bytes:
    """Put a dead letter's reason between the properties and the body."""
    reasons = _reasons(message)
    if not reasons:
        return rest
    parts = split(rest)
    added = described(Section.APPLICATION_PROPERTIES, reasons)
    before = [part.encoded for part in parts if part.section is Section.PROPERTIES]
    after = [part.encoded for part in parts if part.section is not Section.PROPERTIES]
    return b"".join([*before, added, *after])


def _reasons(message: Message) -> dict[str, str]:
    """The application properties by which a dead letter tells why it is one."""
    told = {
        "DeadLetterReason": message.dead_letter_reason,
        "DeadLetterErrorDescription": message.dead_letter_description,
    }
    return {name: value for name, value in told.items() if value is not None}


def _fields(decoded: object) -> dict[int, Any]:
    """The fields of a list section that are there, by position."""
    return {at: value for at, value in enumerate(decoded) if value is not None} if isinstance(decoded, list) else {}
