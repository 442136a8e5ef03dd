"""Subscriptions: where a topic's events go, which of them, and how patiently.

See https://learn.microsoft.com/azure/event-grid/event-filtering and
https://learn.microsoft.com/azure/event-grid/manage-event-delivery
"""

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from local.event_grid.schema import Schema, event_type, subject
from local.json_value import FieldError, JsonObject, flag, optional_text, reject_unknown, text, texts, whole_number

_FIELDS = frozenset(
    {
        "name",
        "topic",
        "endpoint_type",
        "endpoint_url",
        "event_delivery_schema",
        "included_event_types",
        "subject_begins_with",
        "subject_ends_with",
        "is_subject_case_sensitive",
        "max_delivery_attempts",
        "event_time_to_live_in_minutes",
        "max_events_per_batch",
    }
)
_NAME = re.compile(r"[A-Za-z0-9-]{3,64}")


class EndpointType(StrEnum):
    """What receives the events."""

    AZURE_FUNCTION = "AzureFunction"
    WEBHOOK = "WebHook"
    SERVICE_BUS_QUEUE = "ServiceBusQueue"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription, with the names that Azure's templates use for its parts."""

    name: str
    topic: str
    endpoint_type: EndpointType
    endpoint_url: str
    event_delivery_schema: Schema
    included_event_types: tuple[str, ...]
    subject_begins_with: str
    subject_ends_with: str
    is_subject_case_sensitive: bool
    max_delivery_attempts: int
    event_time_to_live_in_minutes: int
    max_events_per_batch: int

    def wants(self, event: JsonObject, schema: Schema) -> bool:
        """Whether the filters let this event pass. Types are compared without regard to case."""
        wanted_types = {wanted.lower() for wanted in self.included_event_types}
        if wanted_types and event_type(event, schema).lower() not in wanted_types:
            return False
        about, begin, end = subject(event), self.subject_begins_with, self.subject_ends_with
        if not self.is_subject_case_sensitive:
            about, begin, end = about.lower(), begin.lower(), end.lower()
        return about.startswith(begin) and about.endswith(end)

    def to_json(self) -> JsonObject:
        """The subscription as the control calls show it; a key in the endpoint's query is left out, as Azure
        does.
        """
        shown: JsonObject = {**asdict(self), "endpoint_url": self.endpoint_url.partition("?")[0]}
        return {**shown, "included_event_types": [*self.included_event_types]}


def parse_subscription(body: JsonObject, *, input_schema: Schema) -> Subscription:
    """Read a subscription to a topic that takes events of `input_schema`. Raises FieldError."""
    reject_unknown(body, _FIELDS)
    schema = Schema(_one_of(body, "event_delivery_schema", input_schema, tuple(Schema)))
    if schema is Schema.EVENT_GRID and input_schema is Schema.CLOUD_EVENTS:
        raise FieldError(
            "event_delivery_schema: a topic that takes CloudEvents delivers CloudEvents only; "
            "Event Grid does not convert them to its own schema"
        )
    name, url = text(body, "name"), text(body, "endpoint_url")
    if not _NAME.fullmatch(name):
        raise FieldError("name must be 3 to 64 letters, digits and hyphens")
    endpoint_type = EndpointType(_one_of(body, "endpoint_type", EndpointType.WEBHOOK, tuple(EndpointType)))
    most = _between(body, "max_events_per_batch", 1, 1, 5000)
    if endpoint_type is EndpointType.SERVICE_BUS_QUEUE:
        if urlsplit(url).scheme != "sb" or not urlsplit(url).hostname or not urlsplit(url).path.strip("/"):
            raise FieldError("endpoint_url must be sb://HOST:PORT/QUEUE, a queue of this machine")
        if most > 1:
            raise FieldError("max_events_per_batch: a queue is given each event as a message of its own")
    elif urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise FieldError("endpoint_url must be an http or https address")
    return Subscription(
        name=name,
        topic=text(body, "topic"),
        endpoint_type=endpoint_type,
        endpoint_url=url,
        event_delivery_schema=schema,
        included_event_types=texts(body, "included_event_types"),
        subject_begins_with=optional_text(body, "subject_begins_with") or "",
        subject_ends_with=optional_text(body, "subject_ends_with") or "",
        is_subject_case_sensitive=flag(body, "is_subject_case_sensitive"),
        max_delivery_attempts=_between(body, "max_delivery_attempts", 30, 1, 30),
        event_time_to_live_in_minutes=_between(body, "event_time_to_live_in_minutes", 1440, 1, 1440),
        max_events_per_batch=most,
    )


def _one_of(body: JsonObject, field: str, default: str, allowed: tuple[str, ...]) -> str:
    value = optional_text(body, field) or default
    if value not in allowed:
        raise FieldError(f"{field} must be one of {', '.join(allowed)}")
    return value


def _between(body: JsonObject, field: str, default: int, low: int, high: int) -> int:
    value = whole_number(body, field, default)
    if not low <= value <= high:
        raise FieldError(f"{field} must be between {low} and {high}")
    return value
