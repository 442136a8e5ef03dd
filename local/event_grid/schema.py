"""The two schemas of events, what each requires, and the one way in which Event Grid converts between them.

See https://learn.microsoft.com/azure/event-grid/event-schema,
https://learn.microsoft.com/azure/event-grid/cloud-event-schema and
https://learn.microsoft.com/azure/event-grid/input-mappings
"""

from enum import StrEnum

from local.json_value import JsonObject, JsonValue

METADATA_VERSION = "1"


class Schema(StrEnum):
    """How an event is written, in the words of Azure's templates."""

    CLOUD_EVENTS = "CloudEventSchemaV1_0"
    EVENT_GRID = "EventGridSchema"


_REQUIRED = {
    Schema.CLOUD_EVENTS: ("id", "source", "type", "specversion"),
    Schema.EVENT_GRID: ("id", "subject", "eventType", "eventTime", "dataVersion"),
}
_MAY_BE_EMPTY = {"dataVersion"}


def problem_with(event: JsonValue, schema: Schema) -> str | None:
    """Why this is no event of that schema, or None."""
    if not isinstance(event, dict):
        return "An event must be a JSON object."
    for field in _REQUIRED[schema]:
        value = event.get(field)
        if not isinstance(value, str) or not (value or field in _MAY_BE_EMPTY):
            return f"The required property '{field}' is missing or is not text."
    if schema is Schema.CLOUD_EVENTS and event["specversion"] != "1.0":
        return "The property 'specversion' must be '1.0'."
    return None


def event_type(event: JsonObject, schema: Schema) -> str:
    """The type of a valid event."""
    return str(event["type" if schema is Schema.CLOUD_EVENTS else "eventType"])


def subject(event: JsonObject) -> str:
    """The subject of a valid event; a CloudEvent may have none."""
    return str(event.get("subject") or "")


def data_version(event: JsonObject, schema: Schema) -> str:
    """What the header aeg-data-version says of a valid event. CloudEvents have no such thing."""
    return str(event["dataVersion"]) if schema is Schema.EVENT_GRID else ""


def to_cloud_event(event: JsonObject) -> JsonObject:
    """An event of the Event Grid schema as a CloudEvent. There is no way back."""
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": event.get("topic"),
        "type": event["eventType"],
        "subject": event["subject"],
        "time": event["eventTime"],
        "datacontenttype": "application/json",
        "data": event.get("data"),
    }
