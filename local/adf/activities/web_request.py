"""What a Web activity sends.

See https://learn.microsoft.com/azure/data-factory/control-flow-web-activity
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from local.adf.activities.attempt import ActivityFailedError
from local.adf.expressions.values import as_text
from local.adf.managed_identity import ManagedIdentity
from local.adf.time_span import parse_time_span
from local.json_value import JsonObject, JsonValue

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_DEFAULT_TIMEOUT = "00:01:00"


@dataclass(frozen=True, slots=True)
class WebRequest:
    """One request, ready to be sent. Unless `follows_async`, an answer 202 is the last one."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: timedelta
    follows_async: bool

    @classmethod
    def of(cls, properties: JsonObject, identity: ManagedIdentity) -> "WebRequest":
        """Read type properties whose expressions were evaluated. Raises ActivityFailedError."""
        url = as_text(_required(properties, "url"))
        method = as_text(_required(properties, "method")).upper()
        if method not in _METHODS:
            raise _wrong("method")
        body = _required(properties, "body") if method in _WITH_BODY else properties.get("body")
        return cls(
            method=method,
            url=url,
            headers=_headers(properties.get("headers")) | _authorization(properties.get("authentication"), identity),
            body=None if body is None else _bytes(body),
            timeout=_timeout(properties.get("httpRequestTimeout")),
            follows_async=properties.get("turnOffAsync") is not True,
        )


def _required(properties: JsonObject, name: str) -> JsonValue:
    value = properties.get(name)
    if value is None or value == "":
        raise ActivityFailedError("2103", f"Please provide value for the required property '{name}'.")
    return value


def _wrong(name: str) -> ActivityFailedError:
    return ActivityFailedError("2104", f"The type of the property '{name}' is incorrect.")


def _headers(given: JsonValue) -> dict[str, str]:
    """The headers; JSON is what is sent unless they say otherwise."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise _wrong("headers")
    headers = {name: as_text(value) for name, value in given.items()}
    named = any(name.lower() == "content-type" for name in headers)
    return headers if named else {**headers, "Content-Type": "application/json"}


def _bytes(body: JsonValue) -> bytes:
    """A text as it is, everything else as JSON."""
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()


def _authorization(given: JsonValue, identity: ManagedIdentity) -> dict[str, str]:
    """The header that the factory's managed identity signs in with. This stand-in knows no other way."""
    if given is None:
        return {}
    if not isinstance(given, dict) or given.get("type") != "MSI":
        raise ActivityFailedError("LocalNotSupported", "This stand-in authenticates Web activities with MSI only.")
    resource = as_text(given.get("resource"))
    token = identity.token(resource)
    if token is None:
        message = f"The managed identity of the factory got no token for the resource '{resource}'."
        raise ActivityFailedError("2108", message)
    return {"Authorization": f"Bearer {token}"}


def _timeout(given: JsonValue) -> timedelta:
    try:
        return parse_time_span(as_text(given or _DEFAULT_TIMEOUT))
    except ValueError as error:
        raise _wrong("httpRequestTimeout") from error
