"""Airflow's REST API, version 2, as the demo and the tests use it.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import requests

Found = TypeVar("Found")

_TIMEOUT = (5.0, 30.0)
_ATTEMPTS = 5
_WAIT = timedelta(seconds=60)


class AirflowApiError(Exception):
    """Airflow refused a call. `status` is HTTP's; the message holds Airflow's own words."""

    def __init__(self, call: str, status: int, body: str) -> None:
        """Keep what was called and what was answered."""
        super().__init__(f"{call} → {status} {body[:2000]}")
        self.status = status
        self.body = body


class AirflowRest:
    """One person's view of one Airflow. Tokens are fetched and renewed as needed; one thread at a time."""

    root = "/api/v2"

    def __init__(self, url: str, username: str, password: str) -> None:
        """Nothing is called yet."""
        self.url = url
        self._username = username
        self._password = password
        self._session = requests.Session()
        self._session.trust_env = False  # this machine's Airflow, whatever proxy there is

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def api(self, method: str, path: str, json: object = None, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Call `root` + path and return the JSON answered, None where there is none. Raises AirflowApiError.

        On SQLite, Airflow answers 500 now and then when two calls write at once: such a call is repeated.
        """
        response = self.send(method, path, json, params)
        for attempt in range(1, _ATTEMPTS):
            if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                break
            time.sleep(0.2 * attempt)
            response = self.send(method, path, json, params)
        if not response.ok:
            raise AirflowApiError(f"{method} {path}", response.status_code, response.text)
        return response.json() if response.content else None

    def send(
        self, method: str, path: str, json: object = None, params: Mapping[str, Any] | None = None
    ) -> requests.Response:
        """Call `root` + path once, with a fresh token if the old one is no longer taken, and return the response."""
        if "Authorization" not in self._session.headers:
            self._log_in()
        response = self._send(method, path, json, params)
        if response.status_code == HTTPStatus.UNAUTHORIZED or "Invalid JWT" in response.text[:200]:
            self._log_in()
            response = self._send(method, path, json, params)
        return response

    def _send(self, method: str, path: str, json: object, params: Mapping[str, Any] | None) -> requests.Response:
        return self._session.request(
            method, f"{self.url}{self.root}{path}", json=json, params=params, timeout=_TIMEOUT, allow_redirects=False
        )

    def _log_in(self) -> None:
        self._session.headers.pop("Authorization", None)
        response = self._session.post(
            f"{self.url}/auth/token", json={"username": self._username, "password": self._password}, timeout=_TIMEOUT
        )
        if not response.ok:
            raise AirflowApiError("POST /auth/token", response.status_code, response.text)
        self._session.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    # ---- reading

    def wait_for_dags(self, dag_ids: Collection[str], timeout: timedelta = _WAIT) -> None:
        """Wait until all these DAGs can be triggered. Raises TimeoutError with Airflow's import errors."""

        def missing() -> set[str]:
            known = {dag["dag_id"] for dag in self.api("GET", "/dags", params={"limit": 500})["dags"]}
            return set(dag_ids) - known

        try:
            self.wait_for(lambda: not missing(), timeout, what="the DAGs")
        except TimeoutError:
            errors = "\n".join(one["stack_trace"] for one in self.api("GET", "/importErrors")["import_errors"])
            raise TimeoutError(f"Airflow does not know {', '.join(sorted(missing()))}. {errors}") from None

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One DAG run, as Airflow shows it (state: queued, running, success, failed)."""
        return _object(self.api("GET", _run(dag_id, run_id)))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a DAG run, as they are now, in order of name and map index."""
        found = self.api("GET", f"{_run(dag_id, run_id)}/taskInstances", params={"limit": 1000})["task_instances"]
        return sorted(found, key=lambda ti: (ti["task_id"], ti["map_index"]))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """One task instance, as it is now. A mapped one that has not been expanded yet is an AirflowApiError (404)."""
        return _object(self.api("GET", _task(dag_id, run_id, task_id, map_index)))

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """All tries of a task instance, first to last, each with its own state, start_date and end_date."""
        answer = self.api("GET", f"{_task(dag_id, run_id, task_id, map_index)}/tries")
        return sorted(answer["task_instances"], key=lambda ti: ti["try_number"])

    def hitl(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any] | None:
        """What a parked task waits for and what it was answered; None if it never parked."""
        response = self.send("GET", f"{_task(dag_id, run_id, task_id, map_index)}/hitlDetails")
        return _object(response.json()) if response.ok else None

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """What one try wrote into its log, one line an event, with the exceptions that it tells of."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/logs/{try_number}"
        content = self.api("GET", path, params={"map_index": map_index, "full_content": "true"})["content"]
        return "\n".join(_line(event) for event in content) if isinstance(content, list) else str(content)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:  # noqa: ANN401
        """The value of one XCom, None if it does not exist."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/xcomEntries/{quote(key, safe='')}"
        response = self.send("GET", path, params={"map_index": map_index})
        return response.json()["value"] if response.ok else None

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """The extra links of a task instance: name → address."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/links"
        found: dict[str, str | None] = self.api("GET", path, params={"map_index": map_index})["extra_links"]
        return found

    # ---- doing

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a DAG run and return its id. A start that Airflow did in spite of a 500 counts."""
        run_id = run_id or f"run-{uuid.uuid4()}"
        body = {"logical_date": None, "dag_run_id": run_id, "conf": dict(conf or {})}
        try:
            self.api("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body)
        except AirflowApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        return run_id

    def clear(self, dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> None:
        """Clear one task (all its mapped instances, or one), as a person does who wants it run again."""
        task: object = task_id if map_index is None else [task_id, map_index]
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.api("POST", f"/dags/{quote(dag_id, safe='')}/clearTaskInstances", body)

    def make_pool(self, name: str, slots: int) -> None:
        """Make a pool, from which so many tasks can run at a time."""
        self.api("POST", "/pools", {"name": name, "slots": slots})

    def resize_pool(self, name: str, slots: int) -> None:
        """Have another number of tasks run at a time; with 0 none begins any more."""
        self.api("PATCH", f"/pools/{quote(name, safe='')}", {"pool": name, "slots": slots, "include_deferred": False})

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Set a task instance's state (success, failed or skipped), as a person does in the UI."""
        self.api("PATCH", _task(dag_id, run_id, task_id, map_index), {"new_state": state})

    def answer(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        option: str,
        *,
        map_index: int = -1,
        params_input: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer a parked task, as a person does in Required Actions."""
        body = {"chosen_options": [option], "params_input": dict(params_input or {})}
        return _object(self.api("PATCH", f"{_task(dag_id, run_id, task_id, map_index)}/hitlDetails", body))

    # ---- waiting

    @staticmethod
    def wait_for(
        predicate: Callable[[], Found],
        timeout: timedelta = _WAIT,
        *,
        every: timedelta = timedelta(milliseconds=250),
        what: str = "it",
    ) -> Found:
        """Ask until the answer is true, and return it. Raises TimeoutError with the last answer."""
        deadline = time.monotonic() + timeout.total_seconds()
        while not (found := predicate()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout.total_seconds():g} s for {what}; the last answer was {found!r}")
            time.sleep(every.total_seconds())
        return found

    def wait_for_state(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Sequence[str],
        *,
        map_index: int = -1,
        try_number: int = 0,
        timeout: timedelta = _WAIT,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of these states, in this try or a later one, and return it."""
        seen: list[tuple[str | None, int]] = []

        def reached() -> dict[str, Any] | None:
            try:
                ti = self.task_instance(dag_id, run_id, task_id, map_index)
            except AirflowApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return None
            seen[:] = [*seen, (ti["state"], ti["try_number"])] if (ti["state"], ti["try_number"]) not in seen else seen
            return ti if ti["state"] in states and ti["try_number"] >= try_number else None

        try:
            ti = self.wait_for(reached, timeout)
        except TimeoutError:
            raise TimeoutError(f"{task_id} of {run_id} was not {' or '.join(states)} in time; seen: {seen}") from None
        if ti is None:
            raise TimeoutError(task_id)
        return ti


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _task(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/{map_index}"


def _object(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise TypeError(f"Airflow answered {answer!r} instead of an object")
    return answer


def _line(event: object) -> str:
    if not isinstance(event, dict):
        return str(event)
    raised = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in event.get("error_detail") or ()]
    level = str(event.get("level", "")).upper()
    return "\n".join([f"{level} {event.get('event', '')}".strip(), *raised])
