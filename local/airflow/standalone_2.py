"""Airflow 2 in the same hands: `airflow standalone` and the REST API, version 1, of 2.11.

https://airflow.apache.org/docs/apache-airflow/2.11.0/stable-rest-api-ref.html
"""

import secrets
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local.airflow.rest import AirflowApiError
from local.airflow.standalone import Airflow


class Airflow2(Airflow):
    """An Airflow 2.11 on SQLite, which takes no other executor there than one that runs a task at a time.

    Its people are not `ROLES`: there is `admin` alone, whose password Airflow thinks of itself. Of the REST API it has
    what the demo needs; answers to parked tasks, say, are Airflow 3's.
    """

    root = "/api/v1"
    health_path = "/health"
    healthy_parts = ("metadatabase", "scheduler", "triggerer")

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """All tries of a task instance, first to last, each with its own state, start_date and end_date."""
        found = self.api("GET", f"{_task(dag_id, run_id, task_id, map_index)}/tries")["task_instances"]
        return sorted(found, key=lambda ti: int(ti["try_number"]))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """One task instance, as it is now. A mapped one that has not been expanded yet is an AirflowApiError (404)."""
        return dict(self.api("GET", _task(dag_id, run_id, task_id, map_index)))

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """What one try wrote into its log, as text."""
        path = f"{_task(dag_id, run_id, task_id)}/logs/{try_number}"
        response = self.send("GET", path, params={"map_index": map_index, "full_content": "true"})
        if not response.ok:
            raise AirflowApiError(f"GET {path}", response.status_code, response.text)
        return response.text

    def resize_pool(self, name: str, slots: int) -> None:
        """Have another number of tasks run at a time; with 0 none begins any more."""
        self.api("PATCH", f"/pools/{quote(name, safe='')}", {"name": name, "slots": slots})

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a DAG run and return its id. A start that Airflow did in spite of a 500 counts."""
        run_id = run_id or f"run-{uuid.uuid4()}"
        body = {"dag_run_id": run_id, "conf": dict(conf or {})}
        try:
            self.api("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body)
        except AirflowApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        return run_id

    def _log_in(self) -> None:
        password = self.home / "standalone_admin_password.txt"
        self.passwords["admin"] = password.read_text(encoding="utf-8").strip()
        self._session.auth = ("admin", self.passwords["admin"])
        self._session.headers["Authorization"] = ""  # says that this was done; requests puts the real one in its place

    def _environment(self, passwords: Path) -> dict[str, str]:
        return {
            **super()._environment(passwords),
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
            # It looks that often whether the one place for tasks is free again; a task would wait a second each time.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(self.port),
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            **self.settings,
        }


def _task(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    dag, run, task = (quote(name, safe="") for name in (dag_id, run_id, task_id))
    mapped = "" if map_index < 0 else f"/{map_index}"
    return f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}{mapped}"
