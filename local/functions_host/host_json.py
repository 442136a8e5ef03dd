"""The settings in `host.json` that concern the local host."""

import json
import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

_TIME_SPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?")
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}


class HostJsonError(Exception):
    """`host.json` cannot be used. The message says why."""


@dataclass(frozen=True)
class ServiceBusSettings:
    """How messages are taken.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#hostjson-settings
    """

    max_concurrent_calls: int = 16
    max_auto_lock_renewal: timedelta = timedelta(minutes=5)


@dataclass(frozen=True)
class HostSettings:
    """What the host reads from `host.json`. A `function_timeout` of None means none.

    Defaults are those of the Flex Consumption plan, see
    https://learn.microsoft.com/azure/azure-functions/functions-host-json#functiontimeout
    """

    route_prefix: str = "api"
    function_timeout: timedelta | None = timedelta(minutes=30)
    log_level: int = logging.INFO
    event_batch_size: int = 100
    service_bus: ServiceBusSettings = ServiceBusSettings()


def read_host_json(path: Path) -> HostSettings:
    """Read `host.json`. Raises HostJsonError when it is missing or wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise HostJsonError(f"{path} does not exist: is this the folder of a Functions app?") from None
    except ValueError as error:
        raise HostJsonError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("version") != "2.0":
        raise HostJsonError(f'{path} must say "version": "2.0"')
    default = HostSettings()
    return HostSettings(
        route_prefix=str(_at(content, "extensions", "http", "routePrefix", default=default.route_prefix)).strip("/"),
        function_timeout=_timeout(_at(content, "functionTimeout", default=None), default.function_timeout),
        log_level=_LEVELS.get(
            str(_at(content, "logging", "logLevel", "default", default="")).lower(), default.log_level
        ),
        event_batch_size=_count(content, "eventHubs", "maxEventBatchSize", default.event_batch_size),
        service_bus=_service_bus(content),
    )


def parse_time_span(text: str) -> timedelta | None:
    """Read .NET's `[d.]hh:mm[:ss]`; None when the text is nothing of the kind."""
    match = _TIME_SPAN.fullmatch(text.strip())
    if match is None:
        return None
    return timedelta(**{unit: int(value) for unit, value in match.groupdict(default="0").items()})


def _timeout(text: object, default: timedelta | None) -> timedelta | None:
    if text is None:
        return default
    if text == "-1":
        return None
    span = parse_time_span(str(text))
    if not span:
        raise HostJsonError(f'functionTimeout is {text!r}; write "hh:mm:ss", or "-1" for none')
    return span


def _service_bus(content: dict[str, Any]) -> ServiceBusSettings:
    default = ServiceBusSettings()
    if _at(content, "extensions", "serviceBus", "autoCompleteMessages", default=True) is not True:
        raise HostJsonError("extensions.serviceBus.autoCompleteMessages has to be true: this host settles messages")
    renewal = _at(content, "extensions", "serviceBus", "maxAutoLockRenewalDuration", default=None)
    span = default.max_auto_lock_renewal if renewal is None else parse_time_span(str(renewal))
    if span is None:
        raise HostJsonError(f'extensions.serviceBus.maxAutoLockRenewalDuration is {renewal!r}; write "hh:mm:ss"')
    return ServiceBusSettings(
        _count(content, "serviceBus", "maxConcurrentCalls", default.max_concurrent_calls), max_auto_lock_renewal=span
    )


def _count(content: dict[str, Any], extension: str, name: str, default: int) -> int:
    """A setting of an extension that counts something.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs#hostjson-settings
    """
    value = _at(content, "extensions", extension, name, default=default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HostJsonError(f"extensions.{extension}.{name} is {value!r}; write a whole number, 1 or more")
    return value


def _at(content: dict[str, Any], *keys: str, default: object) -> object:
    value: object = content
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value
