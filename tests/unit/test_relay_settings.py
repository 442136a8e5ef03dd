"""The relay's settings: all optional, needed together, and checked with all others."""

import pytest

from bridge import config
from bridge.config import Config, TopicAccess
from bridge.errors import ConfigInvalid
from tests.fakes.bench import ENVIRONMENT

ENDPOINT = "https://topic.westeurope-1.eventgrid.azure.net/api/events"
LOCAL = "http://127.0.0.1:8080/runs/api/events"
NAMESPACE = "BRIDGE_DIAGNOSTICS__fullyQualifiedNamespace"
RELAY = {
    "BRIDGE_TOPIC_ENDPOINT": ENDPOINT,
    "BRIDGE_DIAGNOSTICS_HUB": "run-logs",
    NAMESPACE: "demo.servicebus.windows.net",
}


def loaded(**settings: str) -> Config:
    """Load settings."""
    return config.load({**ENVIRONMENT, **settings})


def topic(**settings: str) -> TopicAccess:
    """Load settings with a topic."""
    found = loaded(**settings).topic
    assert found is not None
    return found


def errors(**settings: str) -> dict[str, str]:
    """Load settings that are wrong; return what is said about each."""
    with pytest.raises(ConfigInvalid) as caught:
        loaded(**settings)
    return {error.field: error.message for error in caught.value.errors}


def test_without_a_relay() -> None:
    """Without the relay's settings, or with empty ones, there is no topic and nothing wrong."""
    assert (None, None) == (loaded().topic, loaded(**dict.fromkeys(RELAY, "")).topic)


def test_a_relay() -> None:
    """With its settings there is a topic; the managed identity signs in where there is no key."""
    assert (ENDPOINT, False) == (topic(**RELAY).endpoint, bool(topic(**RELAY).key))


def test_a_user_assigned_identity() -> None:
    """The trigger's connection may name a user-assigned identity."""
    identity = {"BRIDGE_DIAGNOSTICS__credential": "managedidentity", "BRIDGE_DIAGNOSTICS__clientId": "guid"}
    assert ENDPOINT == topic(**RELAY, **identity).endpoint


def test_a_topic_on_loopback() -> None:
    """The local topic is spoken to in the clear, with a key that no log line shows."""
    settings = loaded(**RELAY | {"BRIDGE_TOPIC_ENDPOINT": LOCAL, "BRIDGE_TOPIC_KEY": "canary-key"})
    assert (LOCAL, True, False) == (
        settings.topic.endpoint if settings.topic else None,
        "canary-key" in settings.secrets(),
        "canary" in repr(settings),
    )


def test_a_hub_needs_the_rest() -> None:
    """S41: a hub without its namespace and without a topic is told at once, setting by setting."""
    found = errors(BRIDGE_DIAGNOSTICS_HUB="run-logs")
    assert {"BRIDGE_TOPIC_ENDPOINT", NAMESPACE} == set(found)
    assert all("for the relay" in message for message in found.values())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BRIDGE_TOPIC_ENDPOINT", "http://topic.example.com/api/events", "https"),
        ("BRIDGE_TOPIC_ENDPOINT", "https://topic.westeurope-1.eventgrid.azure.net", "/api/events"),
        ("BRIDGE_TOPIC_ENDPOINT", f"{ENDPOINT}?api-version=2018-01-01", "query"),
        ("BRIDGE_TOPIC_KEY", "two\nlines", "line break"),
        ("BRIDGE_TOPIC_KEY", "schlüssel", "ASCII"),
        ("BRIDGE_DIAGNOSTICS__credential", "key", "has to be managedidentity"),
        ("BRIDGE_DIAGNOSTICS__clientId", "guid", "BRIDGE_DIAGNOSTICS__credential"),
        ("BRIDGE_DIAGNOSTICS__clientid", "guid", "no setting"),
    ],
)
def test_wrong_settings(name: str, value: str, said: str) -> None:
    """S41: a setting that is wrong is named, with what it has to be."""
    assert any(said in f"{field} {message}" for field, message in errors(**RELAY | {name: value}).items())


def test_an_identity_over_http() -> None:
    """No token is sent in the clear: a topic on loopback needs a key."""
    assert ["BRIDGE_TOPIC_KEY"] == list(errors(**RELAY | {"BRIDGE_TOPIC_ENDPOINT": LOCAL}))


@pytest.mark.parametrize(
    ("environment", "hub"),
    [({}, ""), ({"BRIDGE_DIAGNOSTICS_HUB": " "}, ""), ({"BRIDGE_DIAGNOSTICS_HUB": " x "}, "x")],
)
def test_the_hub(environment: dict[str, str], hub: str) -> None:
    """Which hub is read can be asked for whatever the other settings are."""
    assert hub == config.relay_hub({**environment, "BRIDGE_STORE": "nonsense", "BRIDGE_NO_SUCH_SETTING": "1"})
