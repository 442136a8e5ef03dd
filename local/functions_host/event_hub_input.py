"""A batch of event hub messages as the worker takes it.

The metadata is that of the real host's extension; arrays of texts, of whole numbers and of bytes have a form of their
own on the way to the worker, everything else is JSON.
https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script.Grpc/MessageExtensions/GrpcMessageConversionExtensions.cs
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from local.functions_host.event_hub_log import HubMessage
from local.functions_host.messages import Message, RetryContext, TypedData
from local.functions_host.worker import InvocationInput


def batch_input(
    trigger: Mapping[str, Any], namespace: str, batch: Sequence[HubMessage], retry: RetryContext
) -> InvocationInput:
    """The messages of one partition: bytes where the trigger's data type is binary, else text; and their metadata."""
    if str(trigger.get("dataType", "")).lower() == "binary":
        data = TypedData(collection_bytes=Message(bytes=[message.body for message in batch]))
    else:
        data = _texts([message.body.decode("utf-8", "replace") for message in batch])
    context = {
        "FullyQualifiedNamespace": namespace,
        "EventHubName": trigger.get("eventHubName"),
        "ConsumerGroup": trigger.get("consumerGroup") or "$Default",
        "PartitionId": str(batch[0].partition),
    }
    metadata = {
        "PartitionContext": _json(context),
        "PartitionKeyArray": _texts([message.key for message in batch if message.key]),  # empty texts are left out
        "OffsetArray": _texts([str(message.sequence) for message in batch]),
        "SequenceNumberArray": TypedData(collection_sint64=Message(sint64=[message.sequence for message in batch])),
        "EnqueuedTimeUtcArray": _json([_utc(message.enqueued_at) for message in batch]),
        "PropertiesArray": _json([{} for _ in batch]),
        "SystemPropertiesArray": _json([_system_properties(message) for message in batch]),
    }
    return InvocationInput(data=data, metadata=metadata, retry=retry)


def _system_properties(message: HubMessage) -> dict[str, object]:
    return {
        "SequenceNumber": message.sequence,
        "Offset": str(message.sequence),
        "PartitionKey": message.key,
        "EnqueuedTimeUtc": _utc(message.enqueued_at),
    }


def _utc(moment: datetime) -> str:
    """A time as .NET writes one whose zone it does not know."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _texts(texts: Sequence[str]) -> TypedData:
    return TypedData(collection_string=Message(string=list(texts)))


def _json(content: object) -> TypedData:
    return TypedData(json=json.dumps(content))
