"""The settings that say who may call: all checked, and none that leaves a door open by mistake."""

import pytest

from bridge import config, wiring
from bridge.adapters.entra_tokens import EntraTokens
from bridge.config import EntraTrust
from bridge.errors import ConfigInvalid
from tests.fakes.bench import ENVIRONMENT
from tests.fakes.samples import FACTORY, OTHER_FACTORY
from tests.fakes_http.entra import APP, BRIDGE_APP, OTHER_APP, TENANT

APPS, FACTORIES = "BRIDGE_AIRFLOW__PROD__CALLER_APPS", "BRIDGE_AIRFLOW__PROD__FACTORIES"
GOOD = {APPS: APP, "BRIDGE_ENTRA_TENANT": TENANT, "BRIDGE_ENTRA_AUDIENCE": BRIDGE_APP}


def loaded(**changes: str) -> config.Config:
    """Load changed settings."""
    return config.load({**ENVIRONMENT, **changes})


def errors(**changes: str) -> dict[str, str]:
    """Load settings that are wrong; return what is said about each."""
    with pytest.raises(ConfigInvalid) as caught:
        loaded(**changes)
    return {error.field: error.message for error in caught.value.errors}


def test_apps_of_a_target() -> None:
    """The apps of a target are a list, in any case and with either separator; the tenant's keys have one address."""
    settings = loaded(
        **{**GOOD, APPS: f" {APP.upper()} ;, {OTHER_APP}"}, BRIDGE_ENTRA_AUTHORITY="https://login.microsoftonline.us/"
    )
    assert [frozenset({APP, OTHER_APP}), frozenset()] == [
        settings.targets["prod"].caller_apps,
        settings.targets["dev"].caller_apps,
    ]
    assert EntraTrust(TENANT, frozenset({BRIDGE_APP}), "https://login.microsoftonline.us") == settings.entra
    assert settings.entra is not None
    assert f"https://login.microsoftonline.us/{TENANT}/discovery/v2.0/keys" == settings.entra.keys_url


def test_several_audiences() -> None:
    """The bridge may have a client id and an app id URI."""
    settings = loaded(
        **{**GOOD, "BRIDGE_ENTRA_AUDIENCE": f"{BRIDGE_APP}; api://bridge", "BRIDGE_ENTRA_TENANT": TENANT.upper()}
    )
    assert settings.entra is not None
    assert (frozenset({BRIDGE_APP, "api://bridge"}), TENANT) == (settings.entra.audiences, settings.entra.tenant)


def test_without_apps() -> None:
    """Where no target names an app, no token counts, whatever is said of Entra."""
    assert [None, None] == [loaded().entra, loaded(**{**GOOD, APPS: " "}).entra]


def test_factories_of_a_target() -> None:
    """A target's factories are given by their aliases; without a list it may use all."""
    rules = loaded(**{FACTORIES: "OTHER, demo;"}).rules.targets
    assert (True, True, True) == tuple(rules["dev"].may_use(one) for one in (FACTORY, OTHER_FACTORY, FACTORY))
    assert {FACTORY, OTHER_FACTORY} == rules["prod"].factories
    assert (True, False) == tuple(
        loaded(**{FACTORIES: "demo"}).rules.targets["prod"].may_use(one) for one in (FACTORY, OTHER_FACTORY)
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (APPS, ";", "names nothing"),
        (APPS, "my-app", "'my-app' is no id"),
        (APPS, f"{APP};{APP}x", "is no id"),
        (FACTORIES, ",", "names nothing"),
        (FACTORIES, "demo;strange", "'strange' is no alias of BRIDGE_FACTORIES"),
        ("BRIDGE_ENTRA_TENANT", "", f"has to be set for {APPS}"),
        ("BRIDGE_ENTRA_TENANT", "contoso.onmicrosoft.com", "is no id"),
        ("BRIDGE_ENTRA_TENANT", f"{TENANT},{APP}", "several tenants"),
        ("BRIDGE_ENTRA_TENANT", "common", "is no id"),
        ("BRIDGE_ENTRA_AUDIENCE", " ", f"has to be set for {APPS}"),
        ("BRIDGE_ENTRA_AUDIENCE", ";", "names nothing"),
        ("BRIDGE_ENTRA_AUTHORITY", "http://login.microsoftonline.com", "http is for loopback only"),
        ("BRIDGE_ENTRA_AUTHORITY", f"https://login.microsoftonline.com/{TENANT}", "a host alone"),
        ("BRIDGE_ENTRA_AUTHORITY", "login.microsoftonline.com", "https URL"),
    ],
)
def test_wrong_settings(name: str, value: str, said: str) -> None:
    """S41: a setting about callers that is wrong or missing is named, with what is wrong about it."""
    found = errors(**{**GOOD, name: value})
    assert ([name], True) == (list(found), said in found[name])


def test_all_errors_at_once() -> None:
    """S41: every wrong setting about callers is listed, not just the first; bad factories hide none of them."""
    wrong = {APPS: "x", FACTORIES: "strange", "BRIDGE_ENTRA_AUTHORITY": "x"}
    needed = ["BRIDGE_ENTRA_AUDIENCE", "BRIDGE_ENTRA_TENANT"]
    assert sorted([*wrong, *needed]) == sorted(errors(**wrong))
    assert sorted(["BRIDGE_FACTORIES", *needed]) == sorted(
        errors(BRIDGE_FACTORIES="x", **{APPS: APP, FACTORIES: "demo"})
    )


def test_http_on_loopback() -> None:
    """A stand-in for Entra on this machine may be asked over http."""
    settings = loaded(**GOOD, BRIDGE_ENTRA_AUTHORITY="http://127.0.0.1:8000")
    assert f"http://127.0.0.1:8000/{TENANT}/discovery/v2.0/keys" == (settings.entra.keys_url if settings.entra else "")


def test_wiring() -> None:
    """Tokens are checked where a target names apps, and Entra is left alone where none does."""
    assert isinstance(wiring.build(loaded(**GOOD, BRIDGE_STORE="sqlite:///:memory:")).tokens, EntraTokens)
    assert wiring.build(loaded(BRIDGE_STORE="sqlite:///:memory:")).tokens is None
