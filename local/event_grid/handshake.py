"""How an endpoint shows, before anything is delivered to it, that it wants a topic's events.

See https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema (Event Grid
schema) and https://learn.microsoft.com/azure/event-grid/end-point-validation-cloud-events-schema
(CloudEvents)
"""

import json
import uuid
from datetime import UTC, datetime
from enum import StrEnum

import aiohttp

from local.event_grid.grid_error import GridError
from local.event_grid.schema import METADATA_VERSION, Schema
from local.event_grid.subscription import EndpointType, Subscription
from local.event_grid.topic import Topic
from local.json_value import JsonObject

ORIGIN = "eventgrid.azure.net"

_OK = 200
_VALIDATION_TYPE = "Microsoft.EventGrid.SubscriptionValidationEvent"


class Consent(StrEnum):
    """What an endpoint said, in the words of a subscription's provisioning state."""

    GIVEN = "Succeeded"
    TO_BE_GIVEN = "AwaitingManualAction"


async def ask(http: aiohttp.ClientSession, subscription: Subscription, topic: Topic, validation_url: str) -> Consent:
    """Ask an endpoint for its consent.

    It is still to be given where a webhook answered well but did not consent: it may do so by a GET of
    `validation_url` within ten minutes. Raises GridError (400) when the endpoint did not answer well.
    """
    if subscription.endpoint_type is EndpointType.SERVICE_BUS_QUEUE:
        return Consent.GIVEN  # whoever may write to an Azure resource need not ask it
    try:
        if subscription.endpoint_type is EndpointType.AZURE_FUNCTION:
            consent = await _ask_for_code(http, subscription, topic, validation_url)
            if consent is Consent.TO_BE_GIVEN:
                raise _refused(subscription, "the answer does not hold the validation code")
            return consent
        if subscription.event_delivery_schema is Schema.EVENT_GRID:
            return await _ask_for_code(http, subscription, topic, validation_url)
        return await _ask_for_origin(http, subscription, validation_url)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _refused(subscription, f"there was no answer ({type(error).__name__})") from error


async def _ask_for_code(
    http: aiohttp.ClientSession, subscription: Subscription, topic: Topic, validation_url: str
) -> Consent:
    """Send a validation event, and expect its code back."""
    code = str(uuid.uuid4()).upper()
    body, content_type = _validation_event(
        subscription, topic, {"validationCode": code, "validationUrl": validation_url}
    )
    headers = {
        "aeg-event-type": "SubscriptionValidation",
        "aeg-subscription-name": subscription.name.upper(),
        "aeg-delivery-count": "0",
        "aeg-data-version": "2",
        "aeg-metadata-version": METADATA_VERSION,
        "Content-Type": content_type,
    }
    async with http.post(subscription.endpoint_url, data=body, headers=headers, allow_redirects=False) as answer:
        if answer.status != _OK:
            raise _refused(subscription, f"the endpoint answered {answer.status}, not 200")
        try:
            content = json.loads(await answer.read())
        except ValueError:
            return Consent.TO_BE_GIVEN
    given = content.get("validationResponse") if isinstance(content, dict) else None
    if given is None:
        return Consent.TO_BE_GIVEN
    if given != code:
        raise _refused(subscription, "the answer holds another validation code")
    return Consent.GIVEN


async def _ask_for_origin(http: aiohttp.ClientSession, subscription: Subscription, validation_url: str) -> Consent:
    """Ask as the CloudEvents specification says: OPTIONS, and the origin must be allowed in the answer.

    See https://github.com/cloudevents/spec/blob/v1.0/http-webhook.md#4-abuse-protection
    """
    headers = {"WebHook-Request-Origin": ORIGIN, "WebHook-Request-Callback": validation_url}
    async with http.options(subscription.endpoint_url, headers=headers, allow_redirects=False) as answer:
        if answer.status != _OK:
            raise _refused(subscription, f"the endpoint answered {answer.status} to OPTIONS, not 200")
        allowed = answer.headers.get("WebHook-Allowed-Origin")
    if allowed is None:
        return Consent.TO_BE_GIVEN
    if allowed.lower() not in {"*", ORIGIN}:
        raise _refused(subscription, f"WebHook-Allowed-Origin is {allowed!r}, neither {ORIGIN!r} nor '*'")
    return Consent.GIVEN


def _validation_event(subscription: Subscription, topic: Topic, data: JsonObject) -> tuple[str, str]:
    """The validation event and its content type. As a CloudEvent it holds its data as a text of JSON."""
    identifier, time = str(uuid.uuid4()), datetime.now(UTC).isoformat()
    if subscription.event_delivery_schema is Schema.CLOUD_EVENTS:
        cloud_event = {
            "specversion": "1.0",
            "id": identifier,
            "source": topic.id,
            "type": _VALIDATION_TYPE,
            "time": time,
            "data": json.dumps(data),
        }
        return json.dumps(cloud_event), "application/cloudevents+json; charset=utf-8"
    event = {
        "id": identifier,
        "topic": topic.id,
        "subject": "",
        "eventType": _VALIDATION_TYPE,
        "eventTime": time,
        "data": data,
        "dataVersion": "2",
        "metadataVersion": METADATA_VERSION,
    }
    return json.dumps([event]), "application/json; charset=utf-8"


def _refused(subscription: Subscription, reason: str) -> GridError:
    """The error of a subscription that cannot be made; the address is shown without its query, which holds a
    key.
    """
    address = subscription.endpoint_url.partition("?")[0]
    message = (
        f"The attempt to validate the provided endpoint {address} failed: {reason}. "
        "For more details, visit https://aka.ms/esvalidation."
    )
    return GridError(400, message, code="Url validation")
