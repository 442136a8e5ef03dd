"""Everything that an end-to-end test works with: one real Airflow, and the local Azure with the bridge in it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import requests

from local.airflow import Airflow, bridge_connection
from local.local_azure import FACTORY_ALIAS, AirflowTarget, LocalAzure
from tests.e2e.dag_run import DagRun, is_started

TARGET = "e2e"
PATIENCE = timedelta(seconds=90)


FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
_DAGS = (
    "brief_load",
    "changed_load",
    "gated_load",
    "guarded_load",
    "held_load",
    "impatient_load",
    "kept_load",
    "killed_load",
    "mapped_load",
    "nested_load",
    "recovered_load",
    "retried_load",
    "skippable_load",
    "stopped_load",
)
_TIMEOUT_SECONDS = 30

Json = dict[str, Any]
Found = TypeVar("Found")


class Stack:
    """One Airflow and one bridge for all tests. Every test uses DAG runs of its own.

    Here the bridge completes tasks by Airflow's REST API.
    """

    dag_ids: Sequence[str] = _DAGS

    def __init__(self, folder: Path) -> None:
        """Describe it, in a folder for its state and logs; nothing is started."""
        self.folder = folder
        self.gates = folder / "gates"
        self.gates.mkdir()
        self.airflow = self._airflow()
        self.azure = self._azure()
        self.taken: list[DagRun] = []
        self.cleared_at = datetime.max.replace(tzinfo=UTC)
        self._waiting: defaultdict[str, list[DagRun]] = defaultdict(list)
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        """Start everything, and wait until the DAGs are there."""
        try:
            ready = self.azure.start()
            self.airflow.connections["adf_bridge_default"] = bridge_connection(
                ready["functions_url"], ready["function_key"], TARGET, **self._extra(ready)
            )
            self.airflow.start()
            self.airflow.wait_for_dags(self.dag_ids)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything."""
        self._stop()

    def _stop(self) -> None:
        self.airflow.stop()
        self.azure.stop()
        self._session.close()

    # ---- what is started

    def _airflow(self) -> Airflow:
        return Airflow(
            ROOT / ".venv-airflow-3.3", self.folder / "airflow", FOLDER / "dags", settings=self._airflow_settings()
        )

    def _airflow_settings(self) -> dict[str, str]:
        """This checkout's provider, whichever the environment has; and what the DAGs look for."""
        return {"E2E_GATES": str(self.gates), "PYTHONPATH": str(ROOT / "airflow_provider")}

    def _azure(self) -> LocalAzure:
        target = AirflowTarget(self.airflow.url, "bridge", self.airflow.passwords["bridge"])
        return LocalAzure(pipelines=FOLDER / "pipelines", state=self.folder / "azure", airflow={TARGET: target})

    def _extra(self, ready: Json) -> dict[str, str]:
        """What Airflow's connection to the bridge that runs says besides its address and key."""
        del ready
        return {"factory": FACTORY_ALIAS}

    # ---- DAG runs

    def start(self, dag_id: str) -> DagRun:
        """Start a DAG run now."""
        dag_run = DagRun(self, dag_id, self.airflow.trigger_dag(dag_id))
        self.taken.append(dag_run)
        return dag_run

    def prepare(self, dag_ids: Collection[str]) -> None:
        """Start these DAG runs for tests to come, and wait until the tasks of each have parked, or ended, once."""
        prepared = [DagRun(self, dag_id, self.airflow.trigger_dag(dag_id)) for dag_id in dag_ids]
        for dag_run in prepared:
            self._waiting[dag_run.dag_id].append(dag_run)
        unsettled = list(prepared)

        def settled() -> bool:
            unsettled[:] = [dag_run for dag_run in unsettled if not dag_run.has_settled()]
            return not unsettled

        self.until(settled, "every DAG run to park")

    def clear_prepared(self, dag_ids: Collection[str]) -> None:
        """Clear the prepared runs' tasks of these DAGs. What comes of it takes two sweeps; tests go on meanwhile."""
        self.cleared_at = datetime.now(UTC)
        for dag_id in dag_ids:
            for dag_run in self._waiting[dag_id]:
                dag_run.clear()

    def take(self, dag_id: str) -> DagRun:
        """A DAG run that nobody else uses: one that was prepared, else a new one."""
        if not self._waiting[dag_id]:
            return self.start(dag_id)
        dag_run = self._waiting[dag_id].pop(0)
        self.taken.append(dag_run)
        return dag_run

    def open_gate(self, dag_run: DagRun) -> None:
        """Let the task of a `gated_load`, or of a `stopped_load`, park."""
        (self.gates / dag_run.run_id).touch()

    def airflow_api(self) -> str:
        """The version of Airflow's API that the bridge speaks with this Airflow, which it finds reachable."""
        health = self.health()
        assert health["targets"][TARGET]["reachable"], health
        return ", ".join(health["airflow_api"])

    # ---- Data Factory

    def adf(self, method: str, path: str, json: object = None) -> Json:
        """Control the local Data Factory."""
        return self._call(method, f"{self.azure.ready['adf_url']}/_local/{path}", json=json)

    def adf_runs(self) -> list[Json]:
        """Every run that Data Factory has, the oldest first, as ARM shows it."""
        return list(self.adf("GET", "runs")["runs"])

    def end_run(self, adf_run: Json, status: str, **why: str) -> None:
        """End a run that is held; it tells Event Grid."""
        self.adf("POST", f"runs/{adf_run['runId']}/finish", {"status": status, **why})

    def check_every_create_run(self) -> None:
        """Fail unless createRun has started one run each time; another DAG run's retry may be sending one now."""

        def balanced() -> bool:
            sent = self.adf("GET", "calls")["by_operation"]["createRun"]
            return bool(sent == sum(is_started(run) for run in self.adf_runs()))

        self.until(balanced, "every createRun to have one run")

    # ---- Event Grid

    def redeliver(self, event_id: str) -> None:
        """Have Event Grid deliver an event once more."""
        self._call("POST", f"{self.azure.event_grid.url}/_local/redeliver", json={"event_id": event_id})

    def publish(self, event: Json) -> None:
        """Publish a CloudEvent to the topic."""
        url = f"{self.azure.ready['topic_endpoint']}?api-version=2018-01-01"
        headers = {
            "aeg-sas-key": self.azure.ready["topic_key"],
            "Content-Type": "application/cloudevents+json; charset=utf-8",
        }
        self._session.post(url, json=event, headers=headers, timeout=_TIMEOUT_SECONDS).raise_for_status()

    def published(self, event_id: str) -> Json:
        """An event as it was published."""
        shown = self._call("GET", f"{self.azure.event_grid.url}/_local/events")["events"]
        return next(Json(one["event"]) for one in shown if one["event"]["id"] == event_id)

    # ---- the bridge

    def bridge(self, path: str) -> Json:
        """Ask the bridge's API."""
        headers = {"x-functions-key": self.azure.function_key}
        return self._call("GET", f"{self.azure.functions.url}/api/{path}", headers=headers)

    def waits(self) -> list[Json]:
        """Every wait that the bridge has."""
        return list(self.bridge("waits?limit=200")["waits"])

    def events(self, run_id: str) -> list[Json]:
        """What the bridge made of a run's events, the oldest first."""
        return list(reversed(self.bridge(f"events?run_id={run_id}&limit=100")["events"]))

    def health(self) -> Json:
        """What the bridge says about itself."""
        return self.bridge("health")

    def tick(self) -> None:
        """Run the bridge's timer once more than its schedule does."""
        url = f"{self.azure.functions.url}/admin/functions/tick"
        answer = self._session.post(
            url, headers={"x-functions-key": self.azure.master_key}, json={}, timeout=_TIMEOUT_SECONDS
        )
        assert HTTPStatus.ACCEPTED == answer.status_code, answer.text

    # ---- all of them

    def until(self, probe: Callable[[], Found], what: str, *, every: timedelta = timedelta(seconds=0.2)) -> Found:
        """Ask until the answer is true, and return it. Raises TimeoutError."""
        return self.airflow.wait_for(probe, PATIENCE, every=every, what=what)

    def log_tails(self) -> str:
        """The end of every log."""
        tails = {name: log.read_text("utf-8", "replace").splitlines()[-15:] for name, log in self.azure.logs.items()}
        tails["airflow"] = self.airflow.log_tail(25).splitlines()
        return "\n".join(f"--- {name}\n" + "\n".join(line[:400] for line in lines) for name, lines in tails.items())

    def _call(self, method: str, url: str, **options: Any) -> Json:
        answer = self._session.request(method, url, timeout=_TIMEOUT_SECONDS, **options)
        assert answer.ok, f"{method} {url} → {answer.status_code} {answer.text}"
        return Json(answer.json())
