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

from tests import stage as stages
from tests.component.stand_ins import activity

PIPELINE = "held"
PARAMETER_CANARY = "canary-parameter"
ENDS = ("Succeeded", "Failed", "Cancelled")
_AT_ONCE = 8


@dataclass(frozen=True)
class Ended:
    """A run that somebody waits for, and how it was told to end."""

    waiting: stages.Waiting
    status: str

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.waiting.run_id


@dataclass(frozen=True)
class Stage(stages.Stage):
    """The bridge and everything around it. Its run events come from diagnostic records only."""

    def hub(self) -> dict[str, Any]:
        """How the relay stands: messages that came, that are not done with, and failures."""
        hub, key = "adf-run-logs", {"x-functions-key": self.azure.master_key}
        shown = requests.get(f"{self.azure.functions.url}/_local/event_hubs/{hub}", headers=key, timeout=10).json()
        return dict(shown["functions"]["relay"])

    def start(self, number: int, status: str) -> Ended:
        """Start a run with a wait for it, and park the task."""
        parameters = {"secret": f"{PARAMETER_CANARY}-{number}"}
        return Ended(self.start_run(PIPELINE, task_id=f"copy_{number}", parameters=parameters), status)

    def finish(self, run: Ended) -> None:
        """End a run in Data Factory."""
        self.end(run.run_id, run.status, f"{PARAMETER_CANARY}-message")


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
    parameters = {"secret": {"type": "string", "defaultValue": ""}}
    held = {"activities": [activity("Load", localSeconds="held")], "parameters": parameters}
    own = {"BRIDGE_SWEEP_SECONDS": "10", **settings}
    with stages.running_stage(Stage, folder, {PIPELINE: held}, settings=own, diagnostics=True) as stage:
        yield stage


def storm(stage: Stage, runs: int, *, seed: int, lose_percent: float, within: timedelta) -> Outcome:
    """Let many runs end, whose records come late, shuffled, doubled, and some not at all; wait until all tasks know.

    They end right after a sweep, so that the next one, which finds what no record told, comes after the records.
    """
    stage.adf.post(
        "diagnostics", {"delay_s": 1.5, "shuffle": True, "copies": 2, "lose_percent": lose_percent, "seed": seed}
    )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        started = list(pool.map(stage.start, range(runs), itertools.islice(itertools.cycle(ENDS), runs)))
        stage.sweep()
        began = time.monotonic()
        list(pool.map(stage.finish, started))
    _until_all_know(started, began + within.total_seconds())
    took = timedelta(seconds=time.monotonic() - began)
    _until_all_is_relayed(stage, began + within.total_seconds())
    return _outcome(stage, started, took)


def _until_all_know(runs: list[Ended], deadline: float) -> None:
    while not all(run.waiting.told for run in runs):
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
        wrong=[f"{run.run_id}: {run.waiting.told or 'nothing'}" for run in runs if run.waiting.told != run.status],
        by=Counter(_by(stage.wait(run.waiting.token)) for run in runs),
        calls=Counter(calls["by_operation"]),
        calls_per_run=Counter(calls["by_run"].get(run.run_id, {}).get("getRun", 0) for run in runs),
        records=len(diagnostics["written"]),
        lost=len(diagnostics["lost"]),
        lost_ends=sum(one["status"] in ENDS for one in diagnostics["lost"]),
        hub_messages=stage.hub()["messages"],
        events=len(stage.published()),
        took=took,
    )


def _by(wait: dict[str, Any]) -> str:
    """What made the bridge ask about a run's end first: an event, or the sweep."""
    said = [line["detail"] for line in wait["timeline"] if line["what"] == "event"]
    return "event" if any(word in detail for detail in said for word in ENDS) else "sweep"
