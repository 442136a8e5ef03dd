"""What `make outages` reads off Airflow and Data Factory, and which runs it ends when."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from tests.e2e.dag_run import DagRun, Json
from tests.e2e.stack import Stack
from tests.outages.crowd import Crowd
from tests.outages.verdict import Seen

DONE = Seen("run-1[0]", "success", own_outcome=True, runs=1, resumed=(1,), took=timedelta(seconds=2))


class Endings(Stack):
    """Takes note of the runs that are ended. Nothing is started."""

    def __init__(self) -> None:
        """Begin without any."""
        self.ended: list[str] = []

    def end_run(self, adf_run: Json, status: str, **why: str) -> None:
        """End a run."""
        assert ("Succeeded", {}) == (status, why)
        self.ended.append(adf_run["runId"])


@dataclass(frozen=True)
class Told(DagRun):
    """A DAG run as it is told: one task, `load`, which has succeeded in one try, unless something is changed."""

    size: int = 1
    state: str = "success"
    outcome: str = "adf-0"
    log_lines: tuple[str, ...] = ("RESUMED in try 1",)
    runs_each: int = 1
    try_count: int = 1
    ended_at: str | None = "2026-01-01T00:00:02+00:00"

    def tasks(self) -> list[Json]:
        """The task instances, the last first."""
        return [{"map_index": i, "state": self.state, "end_date": self.ended_at} for i in reversed(range(self.size))]

    def tries(self) -> list[Json]:
        """The tries of all of them."""
        return [{"map_index": index} for index in range(self.size) for _ in range(self.try_count)]

    def adf_runs(self) -> list[Json]:
        """The runs, the last one of each task being that of its last try."""
        return [
            {"runId": f"adf-{index}", "runEnd": "2026-01-01T00:00:00Z", "parameters": {"part": str(index)}}
            for index in range(self.size)
            for _ in range(self.runs_each)
        ]

    def log(self, try_number: int = 1, map_index: int = -1) -> str:
        """What a try wrote."""
        return "\n".join(self.log_lines)

    def xcom(self, key: str = "return_value", map_index: int = -1) -> Any:
        """What the task left."""
        assert (key, True) == ("return_value", map_index >= 0)
        return {"run_id": "wrapper", "watched_run_id": self.outcome}


def told(**changes: Any) -> Told:
    """A DAG run."""
    return Told(Endings(), "crowd", "run-1", **changes)


@pytest.mark.parametrize(
    ("dag_run", "expected"),
    [
        (told(), DONE),
        (told(state="deferred", ended_at=None), replace(DONE, state="deferred", took=None)),
        (told(outcome="adf-9"), replace(DONE, own_outcome=False)),
        (told(log_lines=("RESUMED in try 1", "…", "RESUMED in try 1")), replace(DONE, resumed=(2,))),
        (told(log_lines=()), replace(DONE, resumed=(0,))),
        (told(log_lines=("RESUMED in try 2",), try_count=2), replace(DONE, resumed=(0, 1))),
        (told(runs_each=2), replace(DONE, runs=2)),
    ],
)
def test_seen(dag_run: Told, expected: Seen) -> None:
    """A task is judged by Airflow's state, its own run's id in its XCom, the lines of each try, and Data Factory."""
    assert [expected] == list(Crowd(dag_run, 1).seen())


def test_late() -> None:
    """What had not ended in time is lost, whatever has come of it since."""
    found = Crowd(told(size=2, outcome="adf-1"), 2).seen(late=[1])
    assert [("success", False), ("late", True)] == [(one.state, one.own_outcome) for one in found]


@pytest.mark.parametrize("size", [3, 10, 11])
def test_parts(size: int) -> None:
    """Three parts end every run once, and none of them ends nothing."""
    dag_run = told(size=size)
    crowd = Crowd(dag_run, size)
    stack = dag_run.stack
    assert isinstance(stack, Endings)
    parts = []
    for _ in range(3):
        before = len(stack.ended)
        crowd.end_part()
        parts.append(len(stack.ended) - before)
    crowd.end_rest()
    assert {run["runId"] for run in dag_run.adf_runs()} == set(stack.ended)
    assert (size, True) == (len(stack.ended), all(parts))


def test_left() -> None:
    """Left is whatever has not ended; a task that has failed has."""
    assert [[0, 1], [], []] == [
        sorted(Crowd(told(size=2, state=state), 2).left()) for state in ("deferred", "failed", "success")
    ]
