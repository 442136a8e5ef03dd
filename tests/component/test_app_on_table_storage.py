"""The app with its state in Table Storage (Azurite), and what that survives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    Bridge,
    adf_arguments,
    adf_settings,
    hosted_bridge,
    run_event,
    settings_of,
)
from tests.component.stand_ins import Control
from tests.fakes_http.airflow import running_airflows


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """The bridge on Table Storage, with one Airflow."""
    folder = tmp_path_factory.mktemp("on-tables")
    with (
        running_airflows(["prod"]) as airflows,
        LocalProcess("local.azurite", log=folder / "azurite.log") as azurite,
        LocalProcess("local.adf", adf_arguments(folder / "pipelines"), log=folder / "adf.log") as adf,
    ):
        tables = {"BRIDGE_STORE": "table", "BRIDGE_TABLES__tableServiceUri": azurite.url}
        settings = {**adf_settings(adf.url, folder), **tables, **settings_of(airflows["prod"])}
        with hosted_bridge(folder, settings) as hosted:
            yield Bridge(hosted.process, airflows=airflows, adf=Control(adf.url), folder=folder)


def test_a_completion(bridge: Bridge) -> None:
    """A task that waits for a run is completed when its event arrives, and everything can be looked up."""
    airflow = bridge.airflows["prod"]
    _, token, run_id = bridge.parked(airflow)
    assert "delivered" == bridge.complete(token, run_id)["state"]
    assert [1, ["matched"]] == [len(airflow.patches), bridge.verdicts(run_id)]
    assert "Succeeded" == bridge.call("GET", f"/runs/{run_id}").json()["run"]["status"]
    assert {"reachable": True, "detail": ""} == bridge.health()["store"]
    assert token in [wait["token"] for wait in bridge.call("GET", "/waits").json()["waits"]]


def test_a_killed_app(bridge: Bridge) -> None:
    """S24: what was registered before the app was killed is completed after it was started again."""
    airflow = bridge.airflows["prod"]
    airflow.forget()
    _, token, run_id = bridge.parked(airflow)
    bridge.process.kill()
    bridge.end_run(run_id)
    bridge.process.start()
    assert 202 == bridge.deliver(run_event(run_id)).status_code
    assert "delivered" == bridge.until(token, "delivered")["state"]
    assert 1 == len(airflow.patches)
