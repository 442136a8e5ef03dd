"""The local Azure with the bridge in it, and an Airflow that keeps count of what it was told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient
from azure.mgmt.datafactory import DataFactoryManagementClient

from bridge.model import FactoryId
from local.local_azure import FACTORY_ALIAS, FACTORY_ID, AirflowTarget, LocalAzure
from tests.component.hosted_bridge import token_of, wait_of
from tests.component.stand_ins import Control, adf_client, write_pipeline
from tests.fakes_http.airflow import USER, FakeAirflow, running_airflows
from tests.fakes_http.airflow_task import AirflowTask

TARGET = "team"
_FACTORY = FactoryId.parse(FACTORY_ID)
_NOT_NOW = 503
_PATIENCE_SECONDS = 60

Json = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """A parked task, its wait's token, and the run that was started for it; none where somebody else starts it."""

    token: str
    task: AirflowTask
    run_id: str = ""

    @property
    def told(self) -> str | None:
        """What the task was told, None while it waits."""
        question = self.task.question
        return question.chosen_options[0] if question is not None and question.chosen_options else None


@dataclass(frozen=True)
class Stage:
    """The bridge and everything around it."""

    azure: LocalAzure
    airflow: FakeAirflow
    adf: Control
    event_grid: Control

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the bridge, and again while it is not there (503), as the operator does."""
        headers = {"x-functions-key": self.azure.function_key, **options.pop("headers", {})}
        url, deadline = f"{self.azure.functions.url}/api{path}", time.monotonic() + _PATIENCE_SECONDS
        while True:
            answer = requests.request(method, url, headers=headers, timeout=_PATIENCE_SECONDS, **options)
            if answer.status_code != _NOT_NOW or time.monotonic() > deadline:
                return answer
            time.sleep(0.2)

    def start_run(self, pipeline: str, *, task_id: str, **body: object) -> Waiting:
        """Start a run with a wait for it, and park the task."""
        task = self.airflow.task(task_id=task_id)
        wait = wait_of(self.airflow, task)
        token, document = token_of(wait), {"factory": FACTORY_ALIAS, "pipeline": pipeline, "wait": wait, **body}
        answer = self.call("POST", "/runs", json=document, headers={"Idempotency-Key": token})
        assert answer.status_code == 202, answer.text
        task.park()
        return Waiting(token, task, answer.json()["run"]["run_id"])

    def wait_for_match(self, pipeline: str, *, task_id: str, since: str, **match: object) -> Waiting:
        """Wait for the next run of a pipeline that somebody else starts, and park the task."""
        task = self.airflow.task(task_id=task_id)
        wait = wait_of(self.airflow, task)
        sought = {"factory": FACTORY_ALIAS, "pipeline": pipeline, "since": since, **match}
        answer = self.call("POST", "/waits", json={"match": sought, **wait})
        assert (200, None) == (answer.status_code, answer.json().get("completed")), answer.text
        task.park()
        return Waiting(token_of(wait), task)

    def wait(self, token: str) -> Json:
        """A wait with its story."""
        return dict(self.call("GET", f"/waits/{token}").json()["wait"])

    def events(self, run_id: str) -> list[Json]:
        """What the bridge made of a run's events, the oldest first."""
        return list(reversed(self.call("GET", "/events", params={"run_id": run_id}).json()["events"]))

    def tick(self) -> None:
        """Run the timer once, now."""
        url, key = f"{self.azure.functions.url}/admin/functions/tick", {"x-functions-key": self.azure.master_key}
        requests.post(url, headers=key, json={}, timeout=10).raise_for_status()

    def sweep(self) -> None:
        """Run the timer until the factory has been swept."""
        swept, deadline = self.count("queryPipelineRuns"), time.monotonic() + _PATIENCE_SECONDS * 2
        while self.count("queryPipelineRuns") == swept:
            assert time.monotonic() < deadline, "there is no sweep"
            self.tick()
            time.sleep(0.25)

    def count(self, operation: str) -> int:
        """How often ADF was asked for something."""
        return int(self.adf.get("calls")["by_operation"].get(operation, 0))

    def runs(self) -> dict[str, Json]:
        """Every run of the factory, as ARM shows it, with its activities."""
        return {run["runId"]: run for run in self.adf.get("runs")["runs"]}

    def child_of(self, run_id: str) -> str | None:
        """The run that a run has started, if it has started one."""
        started = (one["runId"] for one in self.runs().values() if one["invokedBy"].get("pipelineRunId") == run_id)
        return next(started, None)

    def end(self, run_id: str, status: str, message: str | None = None) -> None:
        """End a run in Data Factory."""
        self.adf.post(f"runs/{run_id}/finish", {"status": status, **({"message": message} if message else {})})

    def create_run(self, pipeline: str) -> str:
        """Start a run as somebody does who knows nothing of the bridge."""
        with self._data_factory() as client:
            answer = client.pipelines.create_run(_FACTORY.resource_group, _FACTORY.name, pipeline)
        return str(answer.run_id)

    def cancel(self, run_id: str) -> None:
        """Cancel a run, and those that it started, as somebody does who knows nothing of the bridge."""
        with self._data_factory() as client:
            client.pipeline_runs.cancel(_FACTORY.resource_group, _FACTORY.name, run_id, is_recursive=True)

    def publish(self, event: CloudEvent[Json]) -> None:
        """Publish an event as a third party does, by Microsoft's own client."""
        endpoint, key = self.azure.ready["topic_endpoint"], AzureKeyCredential(self.azure.topic_key)
        with closing(EventGridPublisherClient(endpoint, key)) as publisher:
            publisher.send(event)

    def published(self) -> list[Json]:
        """Every event that the topic took."""
        return [one["event"] for one in self.event_grid.get("events")["events"]]

    def logs(self) -> str:
        """What the Functions host and Event Grid have logged."""
        names = ("functions_host", "event_grid")
        return "".join(self.azure.logs[name].read_text(encoding="utf-8", errors="replace") for name in names)

    def _data_factory(self) -> DataFactoryManagementClient:
        return adf_client(self.azure.adf.url, token=self.azure.adf_token, subscription=_FACTORY.subscription_id)


Kind = TypeVar("Kind", bound=Stage)


@contextmanager
def running_stage(
    kind: type[Kind],
    folder: Path,
    pipelines: Mapping[str, object],
    *,
    settings: Mapping[str, str],
    adf: Sequence[str] = (),
    diagnostics: bool = False,
) -> Iterator[Kind]:
    """Start everything, with these pipelines: the activities of each, or its properties. No task is held."""
    directory = folder / "pipelines"
    directory.mkdir()
    for name, properties in pipelines.items():
        write_pipeline(directory, name, properties)
    with running_airflows([TARGET]) as airflows:
        airflow = airflows[TARGET]
        target = AirflowTarget(airflow.url, USER, airflow.password)
        azure = LocalAzure(
            pipelines=directory,
            state=folder / "state",
            airflow={TARGET: target},
            settings={f"BRIDGE_AIRFLOW__{TARGET.upper()}__HOLD_SECONDS": "0", **settings},
            diagnostics=diagnostics,
            adf=adf,
        )
        with azure:
            yield kind(azure, airflow, Control(azure.adf.url), Control(azure.event_grid.url))


def until(stage: Stage, *waiting: Waiting, within: timedelta, ticks: bool = True) -> None:
    """Return when every task was told something; meanwhile run the timer, or leave that to its schedule.

    Fails with the stories of those that were not.
    """
    deadline = time.monotonic() + within.total_seconds()
    while left := [one for one in waiting if one.told is None]:
        assert time.monotonic() < deadline, [stage.wait(one.token) for one in left]
        if ticks:
            stage.tick()
        time.sleep(0.25)
