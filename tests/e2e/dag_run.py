"""One DAG run with its task `load`, as Airflow, the bridge and Data Factory see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local.airflow import AirflowApiError, AirflowRest

if TYPE_CHECKING:
    from tests.e2e.stack import Stack

TASK = "load"
PARKED = frozenset({"awaiting_input", "deferred"})
ENDED = frozenset({"success", "failed", "skipped"})
LINK = "ADF pipeline run"

Json = dict[str, Any]


def is_wrapper(run: Json) -> bool:
    """Whether a run is that of a wrapper: a pipeline that runs another one and tells how it ended."""
    return str(run["pipelineName"]).endswith("__notified")


def is_started(run: Json) -> bool:
    """Whether createRun started a run, and no other run did."""
    return bool(run["invokedBy"]["invokedByType"] == "Manual")


@dataclass(frozen=True)
class DagRun:
    """A DAG run. Where there is no map index, its task is not mapped."""

    stack: Stack
    dag_id: str
    run_id: str

    @property
    def _airflow(self) -> AirflowRest:
        return self.stack.airflow

    # ---- Airflow

    def tasks(self) -> list[Json]:
        """The task instances as they are now, one for each map index."""
        return self._airflow.task_instances(self.dag_id, self.run_id)

    def has_settled(self) -> bool:
        """Whether every task instance has parked, or has ended without parking."""
        return self._are_all(PARKED | ENDED)

    def has_ended(self) -> bool:
        """Whether every task instance has ended."""
        return self._are_all(ENDED)

    def _are_all(self, states: frozenset[str]) -> bool:
        tasks = self.tasks()
        return bool(tasks) and all(ti["state"] in states for ti in tasks)

    def task(self, map_index: int = -1) -> Json:
        """The task instance as it is now."""
        return self._airflow.task_instance(self.dag_id, self.run_id, TASK, map_index)

    def tries(self) -> list[Json]:
        """Every try of every task instance."""
        return [
            one for ti in self.tasks() for one in self._airflow.tries(self.dag_id, self.run_id, TASK, ti["map_index"])
        ]

    def until(self, state: str, *, try_number: int = 1, map_index: int = -1) -> Json:
        """The task instance, once it is in this state; an end of another kind fails at once."""

        def look() -> Json | None:
            ti = self.task(map_index)
            if ti["state"] == state and ti["try_number"] >= try_number:
                return ti
            over = ti["state"] in ENDED and ti["try_number"] >= try_number
            assert not over, (
                f"{TASK} ended as {ti['state']} instead of {state}:\n{self.log(ti['try_number'], map_index)}"
            )
            return None

        found = self.stack.until(look, f"{self.dag_id} to be {state}")
        assert found is not None
        return found

    def answered(self, map_index: int = -1) -> Json:
        """What was asked for in Required Actions, with who answered what."""
        found = self._airflow.hitl(self.dag_id, self.run_id, TASK, map_index)
        assert found is not None, f"{self.dag_id} never parked"
        return found

    def never_parked(self) -> bool:
        """Whether nothing was ever asked for in Required Actions."""
        return self._airflow.hitl(self.dag_id, self.run_id, TASK) is None

    def log(self, try_number: int = 1, map_index: int = -1) -> str:
        """What one try wrote."""
        return self._airflow.task_log(self.dag_id, self.run_id, TASK, try_number, map_index)

    def xcom(self, key: str = "return_value", map_index: int = -1) -> Any:
        """What the task left, None if nothing."""
        return self._airflow.xcom(self.dag_id, self.run_id, TASK, key, map_index)

    def link(self, map_index: int = -1) -> str | None:
        """Where the task's button leads."""
        return self._airflow.links(self.dag_id, self.run_id, TASK, map_index).get(LINK)

    def clear(self) -> None:
        """Clear the task, as a person does."""
        self._airflow.clear(self.dag_id, self.run_id, TASK)

    def clear_deferred(self, pool: str) -> None:
        """Clear the task that is deferred. It begins anew, from its pool, once the triggerer has let go of its trigger.

        In Airflow 2 a try that begins in that very moment fails: it writes down a trigger that is not there any more.
        """
        self._airflow.resize_pool(pool, 0)
        self.clear()
        self.stack.until(lambda: self.task()["trigger"] is None, f"{self.dag_id} to have no trigger any more")
        self._airflow.resize_pool(pool, 1)

    def mark(self, state: str) -> None:
        """Mark the task, as a person does."""
        self._airflow.mark(self.dag_id, self.run_id, TASK, state)

    def answer(self, option: str) -> None:
        """Answer in Required Actions, as the person `admin`."""
        self._airflow.answer(self.dag_id, self.run_id, TASK, option)

    # ---- Data Factory

    def adf_runs(self) -> list[Json]:
        """The runs of the pipelines that this DAG run's tasks wait for, the oldest first."""
        return [run for run in self._own_runs() if not is_wrapper(run)]

    def wrapper_runs(self) -> list[Json]:
        """The runs that the bridge has started for this DAG run's tasks, the oldest first."""
        return [run for run in self._own_runs() if is_wrapper(run)]

    def run_below(self, above: Json) -> Json:
        """The run that an activity of another run executes, once its own activities are under way."""

        def look() -> list[Json]:
            runs = [one for one in self.stack.adf_runs() if one["invokedBy"].get("pipelineRunId") == above["runId"]]
            return [one for one in runs if one["activities"]]

        [run] = self.stack.until(look, f"a run below {above['pipelineName']}")
        return run

    def _own_runs(self) -> list[Json]:
        own = [run for run in self.stack.adf_runs() if run["parameters"]["dag_run"] == self.run_id]
        return sorted(own, key=lambda run: run["runStart"])

    def adf_run(self, number: int = 1) -> Json:
        """The so-manieth run, once it is there."""
        return self.stack.until(self.adf_runs, f"run {number}")[number - 1]

    def until_run(self, status: str, number: int = 1) -> None:
        """Wait until the so-manieth run has this status."""
        self.stack.until(lambda: self.adf_run(number)["status"] == status, f"run {number} to be {status}")

    def started_run_id(self, number: int = 1) -> str:
        """The id of the run that the bridge started: the wrapper of the so-manieth run."""
        return str(self.adf_run(number)["invokedBy"]["pipelineRunId"])

    def end_run(self, status: str, number: int = 1, **why: str) -> str:
        """End the so-manieth run, and return its id."""
        run = self.adf_run(number)
        self.stack.end_run(run, status, **why)
        return str(run["runId"])

    def calls_of_adf(self) -> int:
        """How often Data Factory was called for this DAG run's runs, createRun included."""
        by_run = self.stack.adf("GET", "calls")["by_run"]
        return sum(by_run.get(run["runId"], {"total": 0})["total"] for run in self._own_runs())

    def calls_to_cancel(self) -> int:
        """How often Data Factory was asked to cancel one of this DAG run's runs."""
        by_run = self.stack.adf("GET", "calls")["by_run"]
        return sum(by_run.get(run["runId"], {}).get("cancelRun", 0) for run in self._own_runs())

    def check_one_run_per_try(self) -> None:
        """Fail unless every try has had exactly one run, and no createRun was sent beside those."""
        self.stack.check_every_create_run()
        started = [run for run in self._own_runs() if is_started(run)]
        assert len(self.tries()) == len(self.adf_runs()) == len(started)

    def check_one_run(self) -> None:
        """Fail unless all tries have had one run together, and no createRun was sent beside that."""
        self.stack.check_every_create_run()
        [started] = [run for run in self._own_runs() if is_started(run)]
        assert 1 == len(self.adf_runs())
        assert {started["runId"]} == {wait["run_id"] for wait in self.waits()}

    # ---- the bridge

    def waits(self) -> list[Json]:
        """The bridge's waits of this DAG run, by map index and try."""
        own = [wait for wait in self.stack.waits() if wait["task"]["run_id"] == self.run_id]
        return sorted(own, key=lambda wait: (wait["task"]["map_index"], wait["task"]["try_number"]))

    def wait(self, try_number: int = 1, map_index: int = -1) -> Json:
        """The wait of one try, with its story, once it is there."""

        def look() -> list[Json]:
            return [
                wait
                for wait in self.waits()
                if (wait["task"]["try_number"], wait["task"]["map_index"]) == (try_number, map_index)
            ]

        [wait] = self.stack.until(look, f"the wait of try {try_number}")
        return Json(self.stack.bridge(f"waits/{wait['token']}")["wait"])

    def story(self, try_number: int = 1, map_index: int = -1) -> list[str]:
        """The words of a wait's story, in order."""
        return [line["what"] for line in self.wait(try_number, map_index)["timeline"]]

    def until_told(self, what: str) -> None:
        """Wait until the first try's story has this word."""
        self.stack.until(lambda: what in self.story(), f"the wait's story to have {what!r}")

    def until_wait(self, state: str, *, try_number: int = 1, map_index: int = -1, ticking: bool = False) -> Json:
        """The wait, once it is in this state. `ticking` runs the timer again and again instead of at its times."""

        def look() -> Json | None:
            wait = self.wait(try_number, map_index)
            if wait["state"] == state:
                return wait
            if ticking:
                self.stack.tick()
            return None

        found = self.stack.until(look, f"the wait to be {state}", every=timedelta(seconds=0.5))
        assert found is not None
        return found

    def verdicts(self, event_id: str) -> list[str]:
        """What the bridge made of an event of this DAG run's runs, each time that it was delivered."""
        run_ids = [run["runId"] for run in self.adf_runs()]
        events = [event for run_id in run_ids for event in self.stack.events(run_id)]
        return [event["verdict"] for event in events if event["id"] == event_id]

    # ---- a failed test

    def describe(self) -> str:
        """Everything that helps to understand what went wrong."""
        lines = [f"{self.dag_id} / {self.run_id}"]
        for ti in self.tasks():
            index = ti["map_index"]
            lines.append(f"  task[{index}] {ti['state']}, try {ti['try_number']}, id {ti['id']}")
            hitl = self._airflow.hitl(self.dag_id, self.run_id, TASK, index) or {}
            lines.append(f"    answered by {hitl.get('responded_by_user')}: {hitl.get('chosen_options')}")
            for try_number in range(1, ti["try_number"] + 1):
                lines.append(f"    log of try {try_number}:")
                lines += [f"      {line[:300]}" for line in self._log_tail(try_number, index)]
        for wait in self.waits():
            full = self.stack.bridge(f"waits/{wait['token']}")["wait"]
            lines.append(f"  wait of try {wait['task']['try_number']} [{wait['task']['map_index']}]: {wait['state']}")
            lines += [f"    {line['at']} {line['what']}: {line['detail']}" for line in full["timeline"]]
        for run in self.adf_runs():
            lines.append(f"  run {run['runId']} {run['status']} {run['runStart']} {run['runEnd']}")
            lines += [f"    event {json.dumps(event)}" for event in self.stack.events(run["runId"])]
        return "\n".join(lines)

    def _log_tail(self, try_number: int, map_index: int) -> list[str]:
        try:
            return self.log(try_number, map_index).splitlines()[-12:]
        except AirflowApiError as error:
            return [str(error)]
