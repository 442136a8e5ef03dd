"""An app whose settings are missing or wrong: everything that is wrong is told, nothing is promised."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.hosted_bridge import SALES, Hosted, hosted_bridge, run_event

CANARY = "canary-in-a-wrong-setting"


@pytest.fixture(scope="module")
def unset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """The app without any setting."""
    with hosted_bridge(tmp_path_factory.mktemp("unset"), {}) as hosted:
        yield hosted


def test_health_lists_every_error(unset: Hosted) -> None:
    """S41: without settings, /health is 503 and lists each one that is missing."""
    answer = unset.call("GET", "/health")
    assert (503, "config-invalid") == (answer.status_code, answer.json()["status"])
    assert ["BRIDGE_FACTORIES: has to be set", "BRIDGE_STORE: has to be set"] == answer.json()["errors"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/runs"),
        ("POST", "/waits"),
        ("GET", "/waits"),
        ("GET", "/waits/t"),
        ("GET", "/runs/r"),
        ("GET", "/events"),
    ],
)
def test_calls_say_what_is_wrong(unset: Hosted, method: str, path: str) -> None:
    """S41: without settings, a call is 503 `config-invalid` and names what an operator has to correct."""
    answer = unset.call(method, path, json={}, headers={"Idempotency-Key": "k"})
    assert (503, "config-invalid") == (answer.status_code, answer.json()["code"])
    assert ["BRIDGE_FACTORIES", "BRIDGE_STORE"] == [error["field"] for error in answer.json()["errors"]]


def test_no_event_is_lost(unset: Hosted) -> None:
    """S41: without settings, an event is answered 5xx: Event Grid keeps it and delivers it again."""
    assert 500 == unset.deliver(run_event("some-run")).status_code


def test_errors_are_logged_once(unset: Hosted) -> None:
    """S41: what is wrong stands in the log once, not once per call."""
    unset.health()
    unset.health()
    text = unset.process.log.read_text(encoding="utf-8")
    assert 1 == text.count("config.invalid")


def test_every_error_at_once(tmp_path: Path) -> None:
    """S37, S41: all wrong settings are told together, none of them with a secret: http is for loopback only."""
    settings = {
        "BRIDGE_FACTORIES": f"demo={SALES}/../other",
        "BRIDGE_STORE": "postgres://db",
        "BRIDGE_ADF_ENDPOINT": "https://management.example",
        "BRIDGE_ADF_TOKEN": CANARY,
        "BRIDGE_SWEEPS_SECONDS": "60",
        "BRIDGE_INLINE_SECONDS": "a while",
        "BRIDGE_AIRFLOW__ONE__URL": "http://airflow.example",
        "BRIDGE_AIRFLOW__ONE__PASSWORD": CANARY,
        "BRIDGE_AIRFLOW__TWO__URL": f"https://user:{CANARY}@airflow.example",
        "BRIDGE_AIRFLOW__TWO__AUTH": "magic",
        "BRIDGE_AIRFLOW__TWO__CALLER_SECRT": CANARY,
    }
    with hosted_bridge(tmp_path, settings) as hosted:
        answer = hosted.call("GET", "/health")
        hosted.deliver(run_event("some-run"))
        log = hosted.process.log.read_text(encoding="utf-8")
    errors = dict(error.split(": ", 1) for error in answer.json()["errors"])
    assert {*settings, "BRIDGE_AIRFLOW__ONE__USERNAME"} - {
        "BRIDGE_ADF_ENDPOINT",
        "BRIDGE_AIRFLOW__ONE__PASSWORD",
    } == set(errors)
    assert "has to be https: http is for loopback only" == errors["BRIDGE_AIRFLOW__ONE__URL"]
    assert CANARY not in answer.text + log


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    """S23: a store that cannot be used answers 5xx to Event Grid, 503 to callers, and /health says which part it is."""
    (tmp_path / "file").write_text("not a folder")
    settings = {"BRIDGE_FACTORIES": f"sales={SALES}", "BRIDGE_STORE": f"sqlite:///{tmp_path / 'file' / 'db'}"}
    settings |= {"BRIDGE_ADF_ENDPOINT": "http://127.0.0.1:9", "BRIDGE_ADF_TOKEN": "t"}
    with hosted_bridge(tmp_path, settings) as hosted:
        assert 500 == hosted.deliver(run_event("some-run")).status_code
        listed = hosted.call("GET", "/events")
        assert (503, "store-unavailable", "5") == (
            listed.status_code,
            listed.json()["code"],
            listed.headers["Retry-After"],
        )
        health = hosted.call("GET", "/health")
    assert (503, "failed", False) == (
        health.status_code,
        health.json()["status"],
        health.json()["store"]["reachable"],
    )
