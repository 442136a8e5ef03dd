"""The settings of queues: what belongs together, what excludes each other, and no secret shown."""

import pytest

from bridge import config
from bridge.errors import ConfigInvalid
from bridge.model import Mode
from tests.fakes.bench import EDGE, ENVIRONMENT

BUS = "BRIDGE_SERVICEBUS"
HOST = f"{BUS}__fullyQualifiedNamespace"
STRING = "Endpoint=sb://bus.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey=canary-key="


def errors(**changes: str) -> dict[str, str]:
    """Load changed settings that are wrong; return what is said about each."""
    with pytest.raises(ConfigInvalid) as caught:
        config.load({**ENVIRONMENT, **changes})
    assert "canary" not in str(caught.value)
    return {error.field: error.message for error in caught.value.errors}


def test_a_target_with_a_queue_alone() -> None:
    """A target with a queue needs no Airflow: neither its URL nor a way to sign in."""
    settings = config.load({**ENVIRONMENT, **EDGE})
    assert ("", "completions", frozenset({Mode.QUEUE}), frozenset({Mode.RESUME})) == (
        settings.targets["edge"].url,
        settings.targets["edge"].queue,
        settings.rules.targets["edge"].modes,
        settings.rules.targets["prod"].modes,
    )
    assert settings.bus is not None
    assert "bus.servicebus.windows.net" == settings.bus.namespace


def test_a_target_with_both() -> None:
    """A target may be reached both ways."""
    settings = config.load({**ENVIRONMENT, **EDGE, "BRIDGE_AIRFLOW__PROD__QUEUE": "completions"})
    assert frozenset({Mode.QUEUE, Mode.RESUME}) == settings.rules.targets["prod"].modes


def test_a_target_with_neither() -> None:
    """S41: a target that cannot be reached at all is an error."""
    assert "QUEUE" in errors(BRIDGE_AIRFLOW__EDGE__HOLD_SECONDS="3")["BRIDGE_AIRFLOW__EDGE__URL"]


@pytest.mark.parametrize("name", ["BRIDGE_AIRFLOW__PROD__QUEUE", "BRIDGE_REQUESTS_QUEUE", "BRIDGE_EVENTS_QUEUE"])
def test_queues_need_a_namespace(name: str) -> None:
    """S41: as soon as a queue is named, Service Bus has to be."""
    assert [HOST] == list(errors(**{name: "q"}))
    assert name in errors(**{name: "q"})[HOST]
    config.load({**ENVIRONMENT, name: "q", BUS: STRING})


@pytest.mark.parametrize(
    "changes",
    [
        {BUS: "canary"},
        {BUS: STRING + ";EntityPath=q"},
        {BUS: STRING + ";UseDevelopmentEmulator=true"},
        {BUS: STRING.replace("sb://", "http://")},
        {HOST: "https://bus.servicebus.windows.net"},
        {HOST: "bus"},
        {HOST: "bus.servicebus.windows.net", BUS: STRING},
        {f"{BUS}__credential": "managedidentity", BUS: STRING},
        {f"{BUS}__credential": "password", f"{BUS}__clientId": "id", BUS: STRING},
        {"BRIDGE_REQUESTS_QUEUE": "q", "BRIDGE_EVENTS_QUEUE": "q", BUS: STRING},
        {"BRIDGE_REQUESTS_QUEUE": "q", "BRIDGE_AIRFLOW__PROD__QUEUE": "Q", BUS: STRING},
        {"BRIDGE_AIRFLOW__PROD__QUEUE": "-", BUS: STRING},
    ],
)
def test_settings_that_are_wrong(changes: dict[str, str]) -> None:
    """S41: each setting that cannot be meant is told, once, and nothing of a connection string."""
    assert 1 == len(errors(**changes))


def test_an_emulator_on_this_machine() -> None:
    """A connection string may name an emulator on loopback, which is spoken to without TLS."""
    local = STRING.replace("bus.servicebus.windows.net/", "127.0.0.1:5672") + ";UseDevelopmentEmulator=true;"
    settings = config.load({**ENVIRONMENT, BUS: local, "BRIDGE_EVENTS_QUEUE": "q"})
    assert {local, "canary-key="} <= set(settings.secrets())
    assert "canary" not in repr(settings)


def test_what_decides_on_functions() -> None:
    """Which functions there are is read without a look at any other setting."""
    assert ("a", "b") == (
        config.requests_queue({"BRIDGE_REQUESTS_QUEUE": " a "}),
        config.events_queue({"BRIDGE_EVENTS_QUEUE": "b", "BRIDGE_NONSENSE": "1"}),
    )
