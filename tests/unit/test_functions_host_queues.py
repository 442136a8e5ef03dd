"""What the local Functions host reads of Service Bus: settings of connections and of host.json."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.functions_host.bindings import BindingError
from local.functions_host.host_json import HostJsonError, ServiceBusSettings, read_host_json
from local.functions_host.service_bus_connection import BusConnection, bus_connection


def read(folder: Path, settings: dict[str, Any]) -> ServiceBusSettings:
    """The settings, read from a file."""
    content = {"version": "2.0", "extensions": {"serviceBus": settings}}
    (folder / "host.json").write_text(json.dumps(content), encoding="utf-8")
    return read_host_json(folder / "host.json").service_bus


def test_defaults(tmp_path: Path) -> None:
    """Without settings, sixteen messages at once, and locks are renewed for five minutes."""
    assert ServiceBusSettings(16, timedelta(minutes=5)) == read(tmp_path, {})


def test_settings(tmp_path: Path) -> None:
    """What host.json says counts; what does not concern this host is passed over."""
    settings = {"maxConcurrentCalls": 2, "maxAutoLockRenewalDuration": "00:01:30", "prefetchCount": 0}
    assert ServiceBusSettings(2, timedelta(seconds=90)) == read(tmp_path, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"maxConcurrentCalls": 0},
        {"maxConcurrentCalls": "16"},
        {"maxAutoLockRenewalDuration": "soon"},
        {"autoCompleteMessages": False},
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    """S41: a setting that makes no sense, or asks for what this host does not do, is named."""
    with pytest.raises(HostJsonError, match=f"extensions.serviceBus.{next(iter(settings))}"):
        read(tmp_path, settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"BUS": "Endpoint=sb://a/"}, BusConnection("Endpoint=sb://a/", None), id="a connection string"),
        pytest.param({"BUS__fullyQualifiedNamespace": "a.net"}, BusConnection(None, "a.net"), id="an identity"),
        pytest.param(
            {"BUS": "Endpoint=sb://a/", "BUS__fullyQualifiedNamespace": "b.net"},
            BusConnection("Endpoint=sb://a/", "b.net"),
            id="both",
        ),
    ],
)
def test_connections(settings: dict[str, str], expected: BusConnection) -> None:
    """A connection is an app setting of its name, or one that names a namespace."""
    assert expected == bus_connection("take", "BUS", settings)


def test_connection_that_is_not_there() -> None:
    """S41: a connection without settings is named, with both settings that would do."""
    with pytest.raises(BindingError, match=r"take uses the connection BUS.* BUS nor BUS__fullyQualifiedNamespace"):
        bus_connection("take", "BUS", {"BUS": ""})


def test_a_connection_hides_its_key() -> None:
    """A connection string does not get into a log."""
    assert "secret" not in repr(BusConnection("SharedAccessKey=secret", None))
