"""The settings: all checked, all errors at once, no secret shown."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from bridge import config, wiring
from bridge.config import Config, Secret, Tables
from bridge.errors import ConfigInvalid
from tests.fakes.bench import ENVIRONMENT
from tests.fakes.samples import ARM_ID, FACTORY, OTHER_FACTORY

PROD = "BRIDGE_AIRFLOW__PROD__"


def errors(**changes: str) -> dict[str, str]:
    """Load changed settings that are wrong; return what is said about each."""
    with pytest.raises(ConfigInvalid) as caught:
        config.load({**ENVIRONMENT, **changes})
    return {error.field: error.message for error in caught.value.errors}


def loaded(**changes: str) -> Config:
    """Load changed settings."""
    return config.load({**ENVIRONMENT, **changes})


def test_tables_are_a_store() -> None:
    """Table Storage is named by its URI, and the table has a default; a URI that is not needed is passed over."""
    uri = "https://adfbridge.table.core.windows.net"
    assert Tables(uri, "adfbridge") == loaded(BRIDGE_STORE="table", BRIDGE_TABLES__tableServiceUri=uri + "/").store
    local = {"BRIDGE_TABLES__tableServiceUri": "http://127.0.0.1:10002/devstoreaccount1"}
    assert "other" == loaded(BRIDGE_STORE="table", BRIDGE_TABLES__tableName="other", **local).store.name  # type: ignore[union-attr]
    assert ENVIRONMENT["BRIDGE_STORE"] == loaded(**local).store


@pytest.mark.parametrize("uri", ["", "http://adfbridge.table.core.windows.net", "adfbridge", "https://a/?sig=secret"])
def test_tables_need_a_safe_uri(uri: str) -> None:
    """S41: Table Storage needs an https URI without a signature; plain http is for this machine only."""
    found = errors(BRIDGE_STORE="table", BRIDGE_TABLES__tableServiceUri=uri)
    assert ["BRIDGE_TABLES__tableServiceUri"] == list(found)


def test_good_settings() -> None:
    """Settings become targets, factories and rules; what is not set has its documented default."""
    settings = loaded(PATH="/usr/bin")
    assert {"demo": FACTORY, "other": OTHER_FACTORY} == settings.rules.factories
    assert (["dev", "prod"], "password", "https://airflow.example.com") == (
        sorted(settings.targets),
        settings.targets["prod"].auth,
        settings.targets["prod"].url,
    )
    rules = settings.rules
    assert (timedelta(seconds=60), timedelta(seconds=12), timedelta(days=30), timedelta(seconds=8), False) == (
        rules.sweep,
        rules.inline,
        rules.retention,
        rules.targets["prod"].hold,
        rules.targets["prod"].observe,
    )
    assert ("https://management.azure.com", 1_048_576) == (settings.adf_endpoint, settings.max_body_bytes)


def test_other_settings() -> None:
    """What is set counts."""
    settings = loaded(
        **{
            PROD + "URL": "https://airflow.example.com/team/",
            PROD + "HOLD_SECONDS": "0",
            PROD + "OBSERVE": "TRUE",
            PROD + "CALLER_SECRET": "s3cret",
            "BRIDGE_SWEEP_SECONDS": "30",
            "BRIDGE_INLINE_SECONDS": "2.5",
            "BRIDGE_RETENTION_DAYS": "7",
            "BRIDGE_MAX_BODY_BYTES": "2048",
        }
    )
    target, rules = settings.targets["prod"], settings.rules
    assert ("https://airflow.example.com/team", "s3cret") == (target.url, target.caller_secret.reveal())
    assert (timedelta(0), True) == (rules.targets["prod"].hold, rules.targets["prod"].observe)
    assert (timedelta(seconds=30), timedelta(seconds=2.5), timedelta(days=7), 2048) == (
        rules.sweep,
        rules.inline,
        rules.retention,
        settings.max_body_bytes,
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BRIDGE_FACTORIES", "", "has to be set"),
        ("BRIDGE_FACTORIES", ";", "names no factory"),
        ("BRIDGE_FACTORIES", ARM_ID, "not of the form alias=ARM id"),
        ("BRIDGE_FACTORIES", f"a b={ARM_ID}", "not of the form alias=ARM id"),
        ("BRIDGE_FACTORIES", "demo=adf-demo", "not the ARM id"),
        ("BRIDGE_FACTORIES", f"demo={ARM_ID};DEMO={ARM_ID}", "stands there twice"),
        ("BRIDGE_STORE", "", "has to be set"),
        ("BRIDGE_STORE", "postgres://x", "sqlite:///path"),
        ("BRIDGE_STORE", "sqlite:///", "sqlite:///path"),
        ("BRIDGE_TABLES__tableName", "9lives", "letters and digits"),
        ("BRIDGE_TABLES__tableName", "no-dashes", "letters and digits"),
        (PROD + "URL", "", "has to be set"),
        (PROD + "URL", "airflow.example.com", "https URL"),
        (PROD + "URL", "ftp://airflow.example.com", "https URL"),
        (PROD + "API", "v1", "has to be v2"),
        (PROD + "AUTH", "magic", "password or bearer or basic"),
        (PROD + "PASSWORD", "", "has to be set for AUTH=password"),
        (PROD + "USERNAME", " ", "has to be set for AUTH=password"),
        ("BRIDGE_AIRFLOW__DEV__TOKEN", "", "has to be set for AUTH=bearer"),
        (PROD + "HOLD_SECONDS", "61", "from 0 to 60"),
        (PROD + "HOLD_SECONDS", "nan", "from 0 to 60"),
        (PROD + "HOLD_SECONDS", "soon", "from 0 to 60"),
        (PROD + "OBSERVE", "maybe", "true or false"),
        ("BRIDGE_SWEEP_SECONDS", "1", "from 10 to 3600"),
        ("BRIDGE_INLINE_SECONDS", "inf", "from 0 to 25"),
        ("BRIDGE_RETENTION_DAYS", "0", "from 1 to 365"),
        ("BRIDGE_MAX_BODY_BYTES", "1e6", "whole number"),
        ("BRIDGE_MAX_BODY_BYTES", "9" * 30, "whole number"),
        ("BRIDGE_ADF_TOKEN", "t0ken", "endpoint on loopback"),
        ("BRIDGE_FACTORYS", "x", "misspelt?"),
        (PROD + "CALLER_SECRETT", "x", "has no setting 'CALLER_SECRETT'"),
        ("BRIDGE_AIRFLOW__prod__URL", "https://x.example.com", "upper-case letters"),
        ("BRIDGE_AIRFLOW__URL", "https://x.example.com", "upper-case letters"),
        ("BRIDGE_AIRFLOW__A__B__URL", "https://x.example.com", "single underscores"),
    ],
)
def test_wrong_settings(name: str, value: str, said: str) -> None:
    """S41: a setting that is wrong, missing or misspelt is named, with what is wrong about it."""
    assert said in errors(**{name: value})[name]


def test_all_errors_at_once() -> None:
    """S41: every wrong setting is listed, not just the first."""
    found = errors(
        **{
            "BRIDGE_STORE": "",
            "BRIDGE_FACTORIES": "x",
            PROD + "URL": "http://example.com",
            PROD + "PASSWORD": "",
            "BRIDGE_AIRFLOW__DEV__TOKEN": "",
            "BRIDGE_TYPO": "x",
        }
    )
    assert {
        "BRIDGE_STORE",
        "BRIDGE_FACTORIES",
        PROD + "URL",
        PROD + "PASSWORD",
        "BRIDGE_AIRFLOW__DEV__TOKEN",
        "BRIDGE_TYPO",
    } == set(found)


def test_no_settings_at_all() -> None:
    """S41: without any setting, those that have to be set are listed."""
    with pytest.raises(ConfigInvalid) as caught:
        config.load({})
    assert ["BRIDGE_FACTORIES", "BRIDGE_STORE"] == [error.field for error in caught.value.errors]
    assert (503, "config-invalid") == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    "url",
    [
        "http://airflow.example.com",
        "http://169.254.169.254/metadata/identity",
        "http://10.0.0.5:8080",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:8080",
        "https://user:pass@airflow.example.com",
        "https://airflow.example.com?x=1",
        "https://airflow.example.com#x",
        "file:///etc/passwd",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    """S37: a URL is https, or http to this very machine, and holds no credentials or query."""
    assert {PROD + "URL"} == set(errors(**{PROD + "URL": url}))
    assert {"BRIDGE_ADF_ENDPOINT"} == set(errors(BRIDGE_ADF_ENDPOINT=url))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080", "https://x.example.com"]
)
def test_urls_that_are_taken(url: str) -> None:
    """S37: plain http is for loopback only."""
    assert url == loaded(**{PROD + "URL": url}).targets["prod"].url


def test_a_fixed_token_on_loopback() -> None:
    """A fixed token for ADF is taken for an endpoint on loopback only."""
    settings = loaded(BRIDGE_ADF_ENDPOINT="http://127.0.0.1:1", BRIDGE_ADF_TOKEN="t0ken")
    assert ("t0ken", "http://127.0.0.1:1") == (settings.adf_token.reveal(), settings.adf_endpoint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("BRIDGE_ADF_TOKEN", "canary\nwrapped", id="wrapped"),
        pytest.param(PROD + "PASSWORD", "canary\twith-tab", id="control"),
        pytest.param(PROD + "TOKEN", "canary-ü", id="not-for-a-header"),
    ],
)
def test_secrets_that_cannot_be_sent(name: str, value: str) -> None:
    """S34: a secret that was pasted with its wrapping is refused and not shown: it would end up in errors."""
    found = errors(**{name: value})
    assert (True, False) == (name in str(found), "canary" in str(found))


@pytest.mark.parametrize("url", ["https://x:99999", "https://x:port"])
def test_ports_that_are_none(url: str) -> None:
    """S41: an address with a port that cannot be one is refused."""
    assert "port" in str(errors(**{PROD + "URL": url}))


def test_no_error_shows_a_secret() -> None:
    """S34: what is said about wrong settings holds no secret."""
    found = errors(**{"BRIDGE_ADF_TOKEN": "canary-adf", PROD + "AUTH": "magic"})
    assert "canary" not in str(found)


@pytest.mark.parametrize("show", [repr, str, "{}".format, copy.copy, lambda secret: f"{secret!r:>5}"])
def test_a_secret_shows_itself_to_nobody(show: Any) -> None:
    """S34: a secret prints as ***, wherever it stands."""
    assert "canary" not in str(show(Secret("canary")))


def test_a_target_shows_no_secret() -> None:
    """S34: printing the settings prints no secret."""
    assert "canary" not in repr(loaded(**{PROD + "CALLER_SECRET": "canary-caller"}))


def test_all_secrets_are_known() -> None:
    """S34: the log is told every secret there is."""
    settings = loaded(
        **{
            PROD + "CALLER_SECRET": "canary-caller",
            "BRIDGE_ADF_ENDPOINT": "http://localhost:1",
            "BRIDGE_ADF_TOKEN": "canary-adf",
        }
    )
    expected = ["canary-adf", "canary-caller", "canary-password", "canary-token"]
    assert expected == sorted(settings.secrets())


def test_a_corrected_setting_is_taken_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """S41: a call after the settings were corrected works; nothing remembers that they were wrong."""
    monkeypatch.setattr(wiring, "_app", None)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BRIDGE_STORE", "wrong")
    for _ in range(2):
        with pytest.raises(ConfigInvalid):
            wiring.get_app()
    monkeypatch.setenv("BRIDGE_STORE", f"sqlite:///{tmp_path}/bridge.db")
    app = wiring.get_app()
    assert (["dev", "prod"], app) == (sorted(app.rules.targets), wiring.get_app())
    assert "canary-password" == app.config.targets["prod"].password.reveal()
