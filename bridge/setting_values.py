"""What the text of a setting may be: each reads one kind of text, or raises ValueError with what it has to be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from bridge.model import FactoryId

_TABLE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_PARAMETER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,259}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS: Final = 12
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False, "": False}
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


def factories(text: str) -> dict[str, FactoryId]:
    """Read `alias=ARM id`, separated by `;`."""
    found: dict[str, FactoryId] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        alias, equals, arm_id = (part.strip() for part in entry.partition("="))
        if not equals or not _ALIAS.fullmatch(alias):
            raise ValueError(f"{entry!r} is not of the form alias=ARM id")
        if alias.lower() in found:
            raise ValueError(f"the alias {alias!r} stands there twice")
        try:
            found[alias.lower()] = FactoryId.parse(arm_id)
        except ValueError as error:
            raise ValueError(f"{alias!r} is {error}") from None
    if not found:
        raise ValueError("names no factory")
    return found


def known(factories: Mapping[str, FactoryId]) -> Callable[[str], FactoryId]:
    """Return how the alias of one of these factories is read."""

    def convert(text: str) -> FactoryId:
        if text.lower() not in factories:
            raise ValueError(f"{text!r} is no alias of BRIDGE_FACTORIES")
        return factories[text.lower()]

    return convert


def words(text: str) -> list[str]:
    """Split a list at `;` and `,`."""
    found = [word for part in re.split("[;,]", text) if (word := part.strip())]
    if not found:
        raise ValueError("names nothing")
    return found


def guid(text: str) -> str:
    """Read an id of Entra's, in lower case."""
    if not _GUID.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is no id of the form 00000000-0000-0000-0000-000000000000")
    return text.lower()


def store(text: str) -> str:
    """Read where rows are kept."""
    if text == "table":
        return text
    if not text.startswith("sqlite:///") or text == "sqlite:///":
        raise ValueError("has to be table or sqlite:///path")
    return text


def table(text: str) -> str:
    """Read the name of a table."""
    # https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#table-names
    if not _TABLE_NAME.fullmatch(text):
        raise ValueError("has to be 3 to 63 letters and digits, a letter first")
    return text


def url(text: str) -> str:
    """Read an https URL; http for loopback."""
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("has to be an https URL")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is none") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("has to be a plain URL: no user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(text):
        raise ValueError("has to be https: http is for loopback only")
    return text.rstrip("/")


def origin(text: str) -> str:
    """Read a URL without a path."""
    found = url(text)
    if urlsplit(found).path:
        raise ValueError("has to be a host alone: the tenant has a setting of its own")
    return found


def topic(text: str) -> str:
    """Read the endpoint of an Event Grid topic."""
    found = url(text)
    if not found.endswith("/api/events"):
        raise ValueError("has to be the topic's endpoint, which ends in /api/events")
    return found


def is_loopback(address: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return how one of these words is read, in whatever case."""

    def convert(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"has to be {' or '.join(allowed)}")
        return text.lower()

    return convert


def truth(text: str) -> bool:
    """Read true or false."""
    if text.lower() not in _TRUTH:
        raise ValueError("has to be true or false")
    return _TRUTH[text.lower()]


def parameter_name(text: str) -> str:
    """Read the name of a pipeline's parameter."""
    if _PARAMETER_NAME.fullmatch(text) is None:
        raise ValueError("has to be the name of a pipeline's parameter: letters, digits and underscores")
    return text


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return how a whole number in these bounds is read."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and low <= int(text) <= high):
            raise ValueError(f"has to be a whole number from {low} to {high}")
        return int(text)

    return convert


def seconds(low: int, high: int) -> Callable[[str], timedelta]:
    """Return how a number of seconds in these bounds is read."""

    def convert(text: str) -> timedelta:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not low <= number <= high:
            raise ValueError(f"has to be a number of seconds from {low} to {high}")
        return timedelta(seconds=number)

    return convert


def queue(text: str) -> str:
    """Read the name of a Service Bus queue.

    https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftservicebus
    """
    if _QUEUE_NAME.fullmatch(text) is None:
        raise ValueError("has to be a queue's name: letters, digits, '.', '-', '_' and '/', at most 260")
    return text


def namespace(text: str) -> str:
    """Read the host name of a Service Bus namespace."""
    if _HOST.fullmatch(text) is None:
        raise ValueError("has to be a host name alone, NAME.servicebus.windows.net")
    return text


def connection_string(text: str) -> str:
    """Read a connection string of a whole namespace. No message repeats any of it.

    https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas#use-the-shared-access-signature-with-service-bus
    """
    parts = {name.lower(): value for name, value in _pairs(text)}
    endpoint = urlsplit(parts.get("endpoint", ""))
    if endpoint.scheme != "sb" or not endpoint.hostname or not parts.get("sharedaccesskey"):
        raise ValueError("has to be a connection string, Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…")
    if "entitypath" in parts:
        raise ValueError("has to be the namespace's connection string: without EntityPath")
    if parts.get("usedevelopmentemulator", "").lower() == "true" and not is_loopback(parts["endpoint"]):
        raise ValueError("names an emulator that is not on loopback: it would be spoken to in the clear")
    return text


def keys_in(connection: str) -> list[str]:
    """Return the secrets inside a connection string."""
    return [value for name, value in _pairs(connection) if name.lower() == "sharedaccesskey" and value]


def _pairs(connection: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in connection.split(";"))
    return [(name.strip(), value.strip()) for name, _, value in parts]
