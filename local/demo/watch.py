"""Looks at Airflow, the bridge and Data Factory, and puts what it sees together, one attempt of one task at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

from local.airflow import Airflow
from local.demo.scenario import TASKS, Expected

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_PARKED = frozenset({"awaiting_input", "deferred"})


@dataclass(slots=True)
class Attempt:
    """One try of one task: everything that is known of it so far. Times are those of the system that told them."""

    task: Expected
    try_number: int
    requested: datetime | None = None
    token: str = ""
    run_id: str = ""
    watched_run_id: str = ""
    pipeline: str = ""
    started: datetime | None = None
    parked: datetime | None = None
    run_ended: datetime | None = None
    run_status: str = ""
    run_seconds: float = 0.0
    event: datetime | None = None
    verdict: str = ""
    delivered: datetime | None = None
    inline: bool = False
    done: datetime | None = None
    state: str = ""
    adf_calls: int = 0

    @property
    def latency(self) -> float | None:
        """Seconds from the run's end in Data Factory to the task's end in Airflow."""
        return seconds(self.run_ended, self.done)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to an attempt, once."""

    at: datetime
    attempt: Attempt
    what: str
    detail: str


class Watch:
    """Follows the demo's DAG runs. `dag_runs` maps DAG ids to run ids; `ready` is the local Azure's READY line."""

    def __init__(self, airflow: Airflow, ready: Mapping[str, Any], dag_runs: Mapping[str, str]) -> None:
        """Nothing is asked yet."""
        self._airflow = airflow
        self._ready = ready
        self._dag_runs = dag_runs
        self._session = requests.Session()
        self._session.trust_env = False
        self._told: set[tuple[str, int, str]] = set()
        self.attempts: dict[tuple[str, int], Attempt] = {}

    def look(self) -> list[Moment]:
        """Ask everyone, and return what is new, in order."""
        self._look_at_airflow()
        self._look_at_bridge()
        self._look_at_data_factory()
        new = [moment for moment in self._moments() if self._is_new(moment)]
        return sorted(new, key=lambda moment: moment.at)

    def finished(self) -> bool:
        """Whether every task has ended for good."""
        return all((last := self.last(task)) is not None and self._is_over(task, last) for task in TASKS)

    def settled(self, dag_id: str) -> bool:
        """Whether every task of a DAG has parked, or ended without parking."""
        last = [self.last(task) for task in TASKS if task.dag_id == dag_id]
        return all(one is not None and (one.parked is not None or one.state in _ENDED) for one in last)

    def last(self, task: Expected) -> Attempt | None:
        """The newest attempt of a task."""
        own = [attempt for attempt in self.attempts.values() if attempt.task == task]
        return max(own, key=lambda attempt: attempt.try_number, default=None)

    def _is_over(self, task: Expected, last: Attempt) -> bool:
        return last.state in _ENDED and (last.state == "success" or last.try_number >= task.tries)

    def _is_new(self, moment: Moment) -> bool:
        key = (moment.attempt.task.label, moment.attempt.try_number, moment.what)
        new = key not in self._told
        self._told.add(key)
        return new

    def _attempt(self, task: Expected, try_number: int) -> Attempt:
        return self.attempts.setdefault((task.label, try_number), Attempt(task, try_number))

    # ---- who is asked

    def _look_at_airflow(self) -> None:
        now = datetime.now(UTC)
        for dag_id, run_id in self._dag_runs.items():
            instances = {(ti["task_id"], ti["map_index"]): ti for ti in self._airflow.task_instances(dag_id, run_id)}
            for task in (one for one in TASKS if one.dag_id == dag_id):
                current = instances.get((task.task_id, task.map_index))
                if current is None or not current["try_number"]:
                    continue
                tries = [current]
                if task.tries > 1:
                    tries = self._airflow.tries(dag_id, run_id, task.task_id, task.map_index)
                for one in tries:
                    previous = self.attempts.get((task.label, one["try_number"] - 1))
                    self._note_try(self._attempt(task, one["try_number"]), one, now, previous)

    @staticmethod
    def _note_try(attempt: Attempt, ti: Mapping[str, Any], now: datetime, previous: Attempt | None) -> None:
        started = _time(ti["start_date"])
        if started is not None and (previous is None or previous.done is None or started > previous.done):
            attempt.requested = started  # a new try shows the start of the one before, until it runs
        if ti["state"] in _PARKED and attempt.parked is None:
            attempt.parked = now
        if ti["state"] in _ENDED and ti["end_date"]:
            attempt.state, attempt.done = ti["state"], _time(ti["end_date"])

    def _look_at_bridge(self) -> None:
        by_task = {(task.dag_id, task.task_id, task.map_index): task for task in TASKS}
        for wait in self._bridge("waits?limit=200")["waits"]:
            reference = wait["task"]
            task = by_task.get((reference["dag_id"], reference["task_id"], reference["map_index"]))
            if task is not None and reference["run_id"] == self._dag_runs[task.dag_id]:
                attempt = self._attempt(task, reference["try_number"])
                attempt.token, attempt.run_id = wait["token"], wait["run_id"]
                if wait["state"] in {"delivered", "inline"} and attempt.delivered is None:
                    self._note_delivery(attempt, wait["state"])
        by_run = {attempt.watched_run_id: attempt for attempt in self.attempts.values() if attempt.watched_run_id}
        for event in self._bridge("events?limit=500")["events"]:
            attempt_of_run = by_run.get(event["run_id"])
            if attempt_of_run is not None and event["status"] not in {"Queued", "InProgress", "Canceling"}:
                attempt_of_run.event, attempt_of_run.verdict = _time(event["received_at"]), event["verdict"]

    def _note_delivery(self, attempt: Attempt, state: str) -> None:
        story = self._bridge(f"waits/{attempt.token}")["wait"]["timeline"]
        attempt.delivered = _time(story[-1]["at"])
        attempt.inline = state == "inline"

    def _look_at_data_factory(self) -> None:
        calls = self._get(f"{self._ready['adf_url']}/_local/calls")["by_run"]
        runs = {run["runId"]: run for run in self._get(f"{self._ready['adf_url']}/_local/runs")["runs"]}
        by_wrapper = {run["invokedBy"].get("pipelineRunId"): run for run in runs.values()}
        for attempt in self.attempts.values():
            run = runs.get(attempt.watched_run_id) or by_wrapper.get(attempt.run_id)
            if run is None:
                continue
            attempt.watched_run_id = run["runId"]
            attempt.pipeline, attempt.started = run["pipelineName"], _time(run["runStart"])
            own = {attempt.run_id, attempt.watched_run_id}
            attempt.adf_calls = sum(calls.get(run_id, {}).get("total", 0) for run_id in own)
            if run["runEnd"] and run["status"] in {"Succeeded", "Failed", "Cancelled"}:
                attempt.run_ended, attempt.run_status = _time(run["runEnd"]), run["status"]
                attempt.run_seconds = seconds(attempt.started, attempt.run_ended) or 0.0

    def _bridge(self, path: str) -> Any:  # noqa: ANN401 (a JSON document)
        return self._get(f"{self._ready['functions_url']}/api/{path}", {"x-functions-key": self._ready["function_key"]})

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        response = self._session.get(url, headers=headers, timeout=10)
        response.raise_for_status()
        return response.json()

    # ---- what is told

    def _moments(self) -> Iterator[Moment]:
        for attempt in self.attempts.values():
            for at, what, detail in _story(attempt):
                if at is not None:
                    yield Moment(at, attempt, what, detail)


def _story(one: Attempt) -> Iterable[tuple[datetime | None, str, str]]:
    """The moments of an attempt, each with its time once it is known."""
    again = f", try {one.try_number}" if one.task.tries > 1 else ""
    yield one.requested, "requested", f"the task asks the bridge for a run{again}"
    yield one.started, "started", f"run {one.watched_run_id[:8]} of pipeline {one.pipeline}"
    yield one.parked, "parked", "Airflow's worker is free; nothing polls"
    yield one.run_ended, "ADF ended", f"{one.run_status} after {one.run_seconds:.1f} s"
    if one.run_ended:
        lag = _plus(one.run_ended, one.event)
        yield one.event, "event", f"received {lag}: {one.verdict}"
        how = "told in the answer" if one.inline else "the parked task is answered"
        yield one.delivered, "delivered", f"{how} {_plus(one.run_ended, one.delivered)}"
        yield one.done, "done", f"{one.state} {_plus(one.run_ended, one.done)} after ADF's end"


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    """The seconds between two times, None while one of them is unknown."""
    return None if start is None or end is None else (end - start).total_seconds()


def _plus(start: datetime, end: datetime | None) -> str:
    passed = seconds(start, end)
    return "" if passed is None else f"{passed:+.2f} s"


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
