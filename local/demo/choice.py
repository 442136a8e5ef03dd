"""What the demo is shown with: a version of Airflow, and the way in which its tasks are completed."""

import argparse
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.airflow import Airflow, Airflow2, bridge_connection
from local.local_azure import COMPLETIONS_QUEUE, FACTORY_ALIAS, AirflowTarget, LocalAzure

_ROOT = Path(__file__).resolve().parents[2]
_DAGS = _ROOT / "examples" / "dags"
_VERSIONS = ((3, 3), (2, 11))
_TARGET = "demo"
_OF_AIRFLOW_2 = {
    "from airflow.sdk import DAG, task": "from airflow import DAG\nfrom airflow.decorators import task",
    "from airflow.sdk import DAG": "from airflow import DAG",
    "dag_run.run_after": "dag_run.execution_date",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """`queue`: by a Service Bus queue, and the bridge has no address of Airflow. Else: by Airflow's REST API."""

    version: tuple[int, int]
    queue: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "Choice":
        """Read a command line. Ends the process, with the reason, when it is wrong."""
        parser = argparse.ArgumentParser(prog="python -m local.demo", description=cls.__doc__)
        parser.add_argument("--mode", choices=["resume", "queue"], default="resume", help="how tasks are completed")
        parser.add_argument("--airflow", type=_version, default=(3, 3), metavar="VERSION", help="3.3 or 2.11")
        options = parser.parse_args(arguments)
        queue = options.mode == "queue"
        if options.airflow < (3, 3) and not queue:
            parser.error("before Airflow 3.3 there is mode queue alone: make demo MODE=queue AIRFLOW=2.11")
        return cls(options.airflow, queue=queue)

    def airflow(self, state: Path) -> Airflow:
        """The Airflow, not started."""
        venv = _ROOT / ".venv-airflow-{}.{}".format(*self.version)
        if self.version >= (3, 0):
            return Airflow(venv, state / "airflow", _DAGS)
        return Airflow2(venv, state / "airflow", _for_airflow_2(state / "dags"))

    def azure(self, state: Path, airflow: Airflow) -> LocalAzure:
        """The local Azure, not started, for this Airflow."""
        target = AirflowTarget(queue=COMPLETIONS_QUEUE)
        if not self.queue:
            target = AirflowTarget(airflow.url, "bridge", airflow.passwords["bridge"])
        return LocalAzure(
            pipelines=_ROOT / "examples" / "pipelines",
            state=state / "azure",
            airflow={_TARGET: target},
            service_bus=() if self.queue else None,
        )

    def connection(self, ready: dict[str, Any]) -> dict[str, Any]:
        """Airflow's connection to the bridge that runs."""
        extra = {"factory": FACTORY_ALIAS}
        if self.queue:
            extra |= {
                "mode": "queue",
                "servicebus_connection_string": ready["service_bus"],
                "completions_queue": COMPLETIONS_QUEUE,
            }
        return bridge_connection(ready["functions_url"], ready["function_key"], _TARGET, **extra)


def _for_airflow_2(folder: Path) -> Path:
    """Copy the example DAGs, with what has another name in Airflow 2."""
    shutil.copytree(_DAGS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, other in _OF_AIRFLOW_2.items():
            text = text.replace(name, other)
        path.write_text(text, encoding="utf-8")
    return folder


def _version(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", text)
    if match is None or (version := (int(match[1]), int(match[2]))) not in _VERSIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 3.3 nor 2.11, which make sets up")
    return version
