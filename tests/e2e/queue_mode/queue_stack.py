"""The same with a Service Bus: completions come by a queue, and the bridge has no address of Airflow."""

from collections.abc import Sequence
from pathlib import Path

import requests

from local.airflow import Airflow, Airflow2
from local.local_azure import COMPLETIONS_QUEUE, EVENTS_QUEUE, REQUESTS_QUEUE, AirflowTarget, LocalAzure
from tests.e2e.dag_run import DagRun
from tests.e2e.report import tell
from tests.e2e.stack import FOLDER, ROOT, TARGET, Json, Stack

CROWD = 50
"""Tasks that wait at once."""

_DAGS = Path(__file__).resolve().parent / "dags"
_MANY_AT_ONCE = {
    "3.3": {"AIRFLOW__CORE__PARALLELISM": "8"},
    "2.11": {
        # Airflow's own switch for its tests. Else it takes one task at a time on SQLite.
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "6",
    },
}
"""By Airflow's version: what lets it start fifty tasks in a quarter of a minute."""


class QueueStack(Stack):
    """One Airflow, of a version, and one bridge without a way to it; `prepare_all` has tasks wait."""

    dag_ids: Sequence[str] = ("crowd", "cleared", "early")

    def __init__(self, folder: Path, version: str) -> None:
        """Describe it, in a folder for its state and logs; nothing is started."""
        self.version = version
        super().__init__(folder)

    def _airflow(self) -> Airflow:
        kind = Airflow2 if self.version.startswith("2.") else Airflow
        venv = ROOT / f".venv-airflow-{self.version}"
        return kind(venv, self.folder / "airflow", _DAGS, settings=self._airflow_settings())

    def _airflow_settings(self) -> dict[str, str]:
        return {**super()._airflow_settings(), **_MANY_AT_ONCE[self.version], "E2E_CROWD": str(CROWD)}

    def _azure(self) -> LocalAzure:
        return LocalAzure(
            pipelines=FOLDER / "pipelines",
            state=self.folder / "azure",
            airflow={TARGET: AirflowTarget(queue=COMPLETIONS_QUEUE)},
            service_bus=(),
        )

    def _extra(self, ready: Json) -> dict[str, str]:
        return {
            **super()._extra(ready),
            "mode": "queue",
            "servicebus_connection_string": ready["service_bus"],
            "completions_queue": COMPLETIONS_QUEUE,
        }

    def prepare_all(self) -> None:
        """Have a crowd wait; one task that was cleared, in its second try; and one whose run has ended before it."""
        self.airflow.make_pool("cleared", 1)
        early, cleared = (DagRun(self, dag_id, self.airflow.trigger_dag(dag_id)) for dag_id in ("early", "cleared"))
        cleared.until("deferred")
        cleared.until_told("listening")
        cleared.clear_deferred("cleared")
        crowd = DagRun(self, "crowd", self.airflow.trigger_dag("crowd"))
        early.end_run("Succeeded")
        early.until_told("decided")
        assert "running" == early.task()["state"]
        self.open_gate(early)
        self.until(lambda: CROWD == len(crowd.tasks()) and crowd.has_settled(), "the crowd to wait")
        cleared.until("deferred", try_number=2)
        for dag_run in (crowd, cleared, early):
            self._waiting[dag_run.dag_id].append(dag_run)

    def full(self, dag_run: DagRun) -> list[Json]:
        """The waits of a DAG run, each with its story."""
        return [Json(self.bridge(f"waits/{wait['token']}")["wait"]) for wait in dag_run.waits()]

    def tell(self, what: str) -> None:
        """Have this said in the report of the tests."""
        tell(f"mode queue, Airflow {self.airflow.version}: {what}")

    # ---- Service Bus

    def triggerer_s_connections(self) -> list[Json]:
        """The connections to Service Bus that are neither the Functions host's listeners nor anybody's senders."""
        return [one for one in self._service_bus("connections")["connections"] if not _is_of_azure(one)]

    def completions_in_queue(self) -> int:
        """The messages that nobody has taken out of the queue of completions yet."""
        return len(self._service_bus(f"messages?queue={COMPLETIONS_QUEUE}")["messages"])

    def _service_bus(self, path: str) -> Json:
        assert self.azure.service_bus is not None
        answer = requests.get(f"{self.azure.service_bus.url}/_local/{path}", timeout=30)
        answer.raise_for_status()
        return Json(answer.json())


def sessions(connections: list[Json]) -> list[str]:
    """The sessions that these connections receive from."""
    return [link["session_id"] for one in connections for link in one["links"] if link.get("session_id")]


def _is_of_azure(connection: Json) -> bool:
    """Whether a connection listens for functions, or sends."""
    return any(
        link["kind"].endswith("Publisher") or link["address"].rpartition("/")[2] in {EVENTS_QUEUE, REQUESTS_QUEUE}
        for link in connection["links"]
    )
