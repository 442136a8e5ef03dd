"""A Service Bus message as the worker takes it.

The metadata is that of the real host's extension: texts as they are, everything else as JSON, and what a message does
not have is left out.
https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger#message-metadata
"""

import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.functions_host.messages import TypedData
from local.functions_host.worker import InvocationInput

if TYPE_CHECKING:  # the SDK takes a second to import: only where a function has this trigger
    from azure.servicebus import ServiceBusReceivedMessage


def message_input(trigger: Mapping[str, Any], message: "ServiceBusReceivedMessage") -> InvocationInput:
    """A message that was received: bytes where the trigger's data type is binary, else text; and its metadata."""
    properties = {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}
    facts: dict[str, object] = {
        "ApplicationProperties": properties,
        "ContentType": message.content_type,
        "CorrelationId": message.correlation_id,
        "DeadLetterErrorDescription": message.dead_letter_error_description,
        "DeadLetterReason": message.dead_letter_reason,
        "DeadLetterSource": message.dead_letter_source,
        "DeliveryCount": (message.delivery_count or 0) + 1,  # on the wire it is the number of earlier deliveries
        "EnqueuedSequenceNumber": message.enqueued_sequence_number,
        "EnqueuedTimeUtc": message.enqueued_time_utc,
        "ExpiresAtUtc": message.expires_at_utc,
        "Label": message.subject,
        "LockToken": str(message.lock_token),
        "LockedUntil": message.locked_until_utc,
        "MessageId": message.message_id,
        "PartitionKey": message.partition_key,
        "ReplyTo": message.reply_to,
        "ReplyToSessionId": message.reply_to_session_id,
        "SequenceNumber": message.sequence_number,
        "SessionId": message.session_id,
        "Subject": message.subject,
        "TimeToLive": message.time_to_live,
        "To": message.to,
        "UserProperties": properties,
    }
    return _input(trigger, b"".join(message.body), facts)


def text_input(trigger: Mapping[str, Any], text: str) -> InvocationInput:
    """A text that somebody has the function run with, as a message that never was in a queue."""
    facts: dict[str, object] = {"MessageId": uuid.uuid4().hex, "DeliveryCount": 1}
    return _input(trigger, text.encode(), {**facts, "ApplicationProperties": {}, "UserProperties": {}})


def _input(trigger: Mapping[str, Any], body: bytes, facts: Mapping[str, object]) -> InvocationInput:
    binary = str(trigger.get("dataType", "")).lower() == "binary"
    data = TypedData(bytes=body) if binary else TypedData(string=body.decode("utf-8", "replace"))
    return InvocationInput(data, {name: _typed(value) for name, value in facts.items() if value is not None})


def _typed(value: object) -> TypedData:
    return TypedData(string=value) if isinstance(value, str) else TypedData(json=json.dumps(value, default=_in_words))


def _in_words(value: object) -> str:
    """A time as .NET writes it, any other value of AMQP in Python's words."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        hours, seconds = divmod(int(value.total_seconds()), 3600)
        return f"{hours:02}:{seconds // 60:02}:{seconds % 60:02}"
    return str(value)


def _text(value: Any) -> Any:  # noqa: ANN401 - whatever a sender set
    """A text of an application property, which the SDK leaves as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
