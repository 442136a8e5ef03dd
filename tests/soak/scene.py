"""The scene of a soak: the bridge in the Functions host with everything that it works with, all but Airflow real parts.

What differs from an installation, so that the soak waits for its kills and not for the clock:

- the fake Airflow has no worker that reports late, so a parked task is held for half a second (`HOLD_SECONDS`);
- the factory is swept every 10 s (`BRIDGE_SWEEP_SECONDS`, the least there is);
- Event Grid's clock goes two thousand times as fast: it leaves an endpoint that was down alone for a few seconds, not
  for hours;
- in a hurry only: what a killed process leaves behind is taken up after three seconds, not after sixty.

Every run is started through its pipeline's wrapper, which tells how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from bridge.cli.story import tell
from local.local_azure import APP, AirflowTarget, LocalAzure
from local.process import LocalProcess
from tests.component.stand_ins import Control
from tests.fakes_http.airflow import USER, FakeAirflow, running_airflows
from tests.soak.plan import Pipeline, Plan

TARGET = "soak"

_HURRIED_APP = Path(__file__).resolve().parent / "app"
_RETENTION = timedelta(days=30)
_TABLE = "soak"
_SETTINGS = {
    f"BRIDGE_AIRFLOW__{TARGET.upper()}__HOLD_SECONDS": "0.5",
    "BRIDGE_SWEEP_SECONDS": "10",
    "SOAK_LEASE_SECONDS": "3",
}
_EVENT_GRID = ("--clock-factor", "0.0005")
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Scene:
    """What a soak works with. `store` is the bridge's memory, opened a second time: what it holds is on disk."""

    azure: LocalAzure
    airflow: FakeAirflow
    store: SqliteStore | TableStore
    adf: Control
    event_grid: Control

    def own_run(self, started: str) -> str:
        """The run of the pipeline itself that a wrapper's run has started."""
        return next(child for child, parent in self.wrapped().items() if parent == started)

    def wrapped(self) -> dict[str, str]:
        """Every run that a wrapper's run has started, with that one."""
        runs = self.adf.get("runs")["runs"]
        return {run["runId"]: parent for run in runs if (parent := run["invokedBy"].get("pipelineRunId"))}

    def tick(self) -> None:
        """Have the host run its timer function now. Raises requests.RequestException when there is no host."""
        headers = {"x-functions-key": self.azure.master_key}
        url = f"http://127.0.0.1:{self.azure.functions.port}/admin/functions/tick"
        requests.post(url, headers=headers, json={}, timeout=_PATIENCE_SECONDS)

    def wait(self, token: str) -> dict[str, Any]:
        """What the bridge says of a wait."""
        headers = {"x-functions-key": self.azure.function_key}
        url = f"{self.azure.functions.url}/api/waits/{token}"
        return dict(requests.get(url, headers=headers, timeout=_PATIENCE_SECONDS).json())

    def story(self, token: str) -> str:
        """What the bridge says of a wait, for a person."""
        try:
            return tell(self.wait(token), datetime.now(UTC))
        except (requests.RequestException, ValueError) as error:
            return f"The bridge could not be asked ({type(error).__name__})."


@contextmanager
def running_scene(plan: Plan, folder: Path) -> Iterator[Scene]:
    """Everything, running; all logs are in `folder`."""
    with ExitStack() as stack:
        airflow = stack.enter_context(running_airflows([TARGET]))[TARGET]
        store: SqliteStore | TableStore
        if plan.store == "table":
            azurite = stack.enter_context(LocalProcess("local.azurite", log=folder / "logs" / "azurite.log"))
            tables = {
                "BRIDGE_STORE": "table",
                "BRIDGE_TABLES__tableServiceUri": azurite.url,
                "BRIDGE_TABLES__tableName": _TABLE,
            }
            store = TableStore(connect(azurite.url, _TABLE))
        else:
            tables = {"BRIDGE_STORE": f"sqlite:///{folder / 'bridge.sqlite3'}"}
            store = SqliteStore(folder / "bridge.sqlite3", retention=_RETENTION)
        stack.callback(store.close)
        azure = stack.enter_context(
            LocalAzure(
                pipelines=_write_pipelines(folder / "pipelines"),
                state=folder,
                airflow={TARGET: AirflowTarget(airflow.url, USER, airflow.password)},
                settings={**_SETTINGS, **tables},
                app=_HURRIED_APP if plan.hurry else APP,
                event_grid=_EVENT_GRID,
            )
        )
        yield Scene(azure, airflow, store, Control(azure.adf.url), Control(azure.event_grid.url))


def _write_pipelines(folder: Path) -> Path:
    """Write three pipelines, which end in three ways. A run's parameter says whose it is."""
    folder.mkdir(parents=True)
    seconds = {"value": "@pipeline().parameters.seconds", "type": "Expression"}
    behaviour: dict[Pipeline, dict[str, object]] = {
        Pipeline.SUCCEEDS: {"localSeconds": seconds},
        Pipeline.FAILS: {
            "localSeconds": seconds,
            "localErrorCode": "2200",
            "localErrorMessage": "The source is not there.",
        },
        Pipeline.HELD: {"localSeconds": "held"},
    }
    for name, declared in behaviour.items():
        activity = {
            "name": "Load",
            "type": "Copy",
            "dependsOn": [],
            "userProperties": [{"name": key, "value": value} for key, value in declared.items()],
        }
        parameters = {"token": {"type": "string"}, "seconds": {"type": "float"}}
        document = {"name": name, "properties": {"activities": [activity], "parameters": parameters}}
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
