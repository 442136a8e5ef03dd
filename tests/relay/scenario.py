"""Many runs, all services of the local Azure, and an Airflow that keeps count of what it was told."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests

from local.local_azure import FACTORY_ALIAS, AirflowTarget, LocalAzure
from tests.component.hosted_bridge import token_of, wait_of
from tests.component.stand_ins import Control, activity, write_pipeline
from tests.fakes_http.airflow import USER, FakeAirflow, running_airflows
from tests.fakes_http.airflow_task import AirflowTask

TARGET = "team"
PIPELINE = "held"
PARAMETER_CANARY = "canary-parameter"
ENDS = ("Succeeded", "Failed", "Cancelled")
_AT_ONCE = 8
_NOT_NOW = 503
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Ended:
    """A run that somebody waits for, how it was told to end, and the task that waits."""

    run_id: str
    token: str
    status: str
    task: AirflowTask


@dataclass(frozen=True)
class Stage:
    """The bridge and everything around it. Its run events come from diagnostic records only."""

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

    def hub(self) -> dict[str, Any]:
        """How the relay stands: messages that came, that are not done with, and failures."""
        hub, key = "adf-run-logs", {"x-functions-key": self.azure.master_key}
        shown = requests.get(f"{self.azure.functions.url}/_local/event_hubs/{hub}", headers=key, timeout=10).json()
        return dict(shown["functions"]["relay"])

    def start(self, number: int, status: str) -> Ended:
        """Start a run with a wait for it, and park the task."""
        task = self.airflow.task(task_id=f"copy_{number}")
        wait = wait_of(self.airflow, task)
        body = {
            "factory": FACTORY_ALIAS,
            "pipeline": PIPELINE,
            "parameters": {"secret": f"{PARAMETER_CANARY}-{number}"},
            "wait": wait,
        }
        answer = self.call("POST", "/runs", json=body, headers={"Idempotency-Key": token_of(wait)})
        assert answer.status_code == 202, answer.text
        task.park()
        return Ended(answer.json()["run"]["run_id"], token_of(wait), status, task)

    def end(self, run: Ended) -> None:
        """End a run in Data Factory."""
        self.adf.post(f"runs/{run.run_id}/finish", {"status": run.status, "message": f"{PARAMETER_CANARY}-message"})

    def tick(self) -> None:
        """Run the timer once, now."""
        url, key = f"{self.azure.functions.url}/admin/functions/tick", {"x-functions-key": self.azure.master_key}
        requests.post(url, headers=key, json={}, timeout=10).raise_for_status()

    def count(self, operation: str) -> int:
        """How often ADF was asked for something."""
        return int(self.adf.get("calls")["by_operation"].get(operation, 0))

    def published(self) -> list[dict[str, Any]]:
        """Every event that the topic took."""
        return [one["event"] for one in self.event_grid.get("events")["events"]]

    def wait_of(self, run: Ended) -> dict[str, Any]:
        """A wait with its story."""
        return dict(self.call("GET", f"/waits/{run.token}").json()["wait"])

    def logs(self) -> str:
        """What the Functions host and Event Grid have logged."""
        names = ("functions_host", "event_grid")
        return "".join(self.azure.logs[name].read_text(encoding="utf-8", errors="replace") for name in names)


@dataclass(frozen=True)
class Outcome:
    """What a storm of records came to."""

    runs: list[Ended]
    wrong: list[str]
    by: Counter[str]
    calls: Counter[str]
    calls_per_run: Counter[int]
    records: int
    lost: int
    lost_ends: int
    hub_messages: int
    events: int
    took: timedelta


@contextmanager
def running_stage(folder: Path, **settings: str) -> Iterator[Stage]:
    """Start everything; runs last until they are told to end."""
    pipelines = folder / "pipelines"
    pipelines.mkdir()
    parameters = {"secret": {"type": "string", "defaultValue": ""}}
    held = [activity("Load", localSeconds="held")]
    write_pipeline(pipelines, PIPELINE, {"activities": held, "parameters": parameters})
    with running_airflows([TARGET]) as airflows:
        airflow = airflows[TARGET]
        target = AirflowTarget(airflow.url, USER, airflow.password)
        own = {f"BRIDGE_AIRFLOW__{TARGET.upper()}__HOLD_SECONDS": "0", "BRIDGE_SWEEP_SECONDS": "10", **settings}
        azure = LocalAzure(
            pipelines=pipelines, state=folder / "state", airflow={TARGET: target}, settings=own, diagnostics=True
        )
        with azure:
            yield Stage(azure, airflow, Control(azure.adf.url), Control(azure.event_grid.url))


def storm(stage: Stage, runs: int, *, seed: int, lose_percent: float, within: timedelta) -> Outcome:
    """Let many runs end, whose records come late, shuffled, doubled, and some not at all; wait until all tasks know.

    They end right after a sweep, so that the next one, which finds what no record told, comes after the records.
    """
    stage.adf.post(
        "diagnostics", {"delay_s": 1.5, "shuffle": True, "copies": 2, "lose_percent": lose_percent, "seed": seed}
    )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        started = list(pool.map(stage.start, range(runs), itertools.islice(itertools.cycle(ENDS), runs)))
        _sweep(stage)
        began = time.monotonic()
        list(pool.map(stage.end, started))
    _until_all_know(started, began + within.total_seconds())
    took = timedelta(seconds=time.monotonic() - began)
    _until_all_is_relayed(stage, began + within.total_seconds())
    return _outcome(stage, started, took)


def _sweep(stage: Stage) -> None:
    """Run the timer until the factory has been swept."""
    swept, deadline = stage.count("queryPipelineRuns"), time.monotonic() + 30
    while stage.count("queryPipelineRuns") == swept:
        assert time.monotonic() < deadline, "there is no sweep"
        stage.tick()
        time.sleep(0.25)


def _until_all_know(runs: list[Ended], deadline: float) -> None:
    while not all(run.task.question and run.task.question.answered for run in runs):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _until_all_is_relayed(stage: Stage, deadline: float) -> None:
    while stage.adf.get("diagnostics")["pending"] or stage.hub()["pending"]:
        assert time.monotonic() < deadline, "the records are not relayed yet"
        time.sleep(0.05)


def _outcome(stage: Stage, runs: list[Ended], took: timedelta) -> Outcome:
    calls, diagnostics = stage.adf.get("calls"), stage.adf.get("diagnostics")
    return Outcome(
        runs=runs,
        wrong=[f"{run.run_id}: {found}" for run in runs if (found := _told(run)) != run.status],
        by=Counter(_by(stage.wait_of(run)) for run in runs),
        calls=Counter(calls["by_operation"]),
        calls_per_run=Counter(calls["by_run"].get(run.run_id, {}).get("getRun", 0) for run in runs),
        records=len(diagnostics["written"]),
        lost=len(diagnostics["lost"]),
        lost_ends=sum(one["status"] in ENDS for one in diagnostics["lost"]),
        hub_messages=stage.hub()["messages"],
        events=len(stage.published()),
        took=took,
    )


def _told(run: Ended) -> str:
    """What the task was told, and how often."""
    question = run.task.question
    options = (question.chosen_options if question else None) or ["nothing"]
    return " ".join(options)


def _by(wait: dict[str, Any]) -> str:
    """What made the bridge ask about a run's end first: an event, or the sweep."""
    said = [line["detail"] for line in wait["timeline"] if line["what"] == "event"]
    return "event" if any(word in detail for detail in said for word in ENDS) else "sweep"
