"""The bridge as it is deployed, with what it works with: each a process of its own on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.airflows import PASSWORD
from local.local_azure import AirflowTarget, LocalAzure
from local.process import LocalProcess
from tests.fakes_http.airflow import USER

PIPELINE = "held"
_HELD = [{"name": "Load", "type": "Copy", "userProperties": [{"name": "localSeconds", "value": "held"}]}]


@dataclass(frozen=True)
class Stage:
    """Where everything is."""

    azure: LocalAzure
    airflows: str
    """The address of the control calls of both Airflows."""

    @property
    def webhook(self) -> str:
        """Where Event Grid delivers to."""
        key = self.azure.event_grid_key
        return f"{self.azure.functions.url}/runtime/webhooks/EventGrid?functionName=run_event&code={key}"

    @property
    def api(self) -> str:
        """The bridge's HTTP API."""
        return f"{self.azure.functions.url}/api"

    @property
    def api_headers(self) -> dict[str, str]:
        """What opens the API."""
        return {"x-functions-key": self.azure.function_key}


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Start everything, with the settings of the bridge that it has by default but for addresses and keys.

    The folder is made anew, and stays with its logs. The local Data Factory tells Event Grid nothing by itself.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pipelines = folder / "pipelines"
    pipelines.mkdir(parents=True)
    pipeline = {"name": PIPELINE, "properties": {"activities": _HELD}}
    (pipelines / f"{PIPELINE}.json").write_text(json.dumps(pipeline), encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        del os.environ[name]
    with LocalProcess("benchmarks.airflows", log=folder / "logs" / "airflows.log") as airflows:
        targets = {name: AirflowTarget(url, USER, PASSWORD) for name, url in airflows.ready["airflows"].items()}
        with LocalAzure(pipelines=pipelines, state=folder, airflow=targets) as azure:
            yield Stage(azure, airflows.url)
