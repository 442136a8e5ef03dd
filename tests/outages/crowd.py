"""The tasks of one row: an expanded task of one DAG run, of which each instance waits for a run of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from tests.e2e.dag_run import ENDED, DagRun
from tests.outages.verdict import Seen

PARTS = 3


class Crowd:
    """Tasks that wait; their runs are ended part by part, a third at a time."""

    def __init__(self, dag_run: DagRun, size: int) -> None:
        """Take a DAG run that was triggered."""
        self.dag_run = dag_run
        self.size = size
        self._next = 0

    def end_part(self) -> None:
        """Have the next third of the runs succeed."""
        runs = self._runs()
        part = [index for index in sorted(runs) if index * PARTS // self.size == self._next]
        self._next += 1
        for index in part:
            self.dag_run.stack.end_run(runs[index], "Succeeded")

    def end_rest(self) -> None:
        """Have all the other runs succeed."""
        while self._next < PARTS:
            self.end_part()

    def left(self) -> Sequence[int]:
        """The tasks that have not ended, by their map index."""
        return [int(ti["map_index"]) for ti in self.dag_run.tasks() if ti["state"] not in ENDED]

    def story(self, index: int) -> str:
        """What a task has been through, for a person."""
        wait = self.dag_run.wait(map_index=index)
        lines = [f"    {line['at']} {line['what']}: {line['detail']}" for line in wait["timeline"]]
        return "\n".join([f"  [{index}] {self.dag_run.task(index)['state']}, wait {wait['state']}", *lines])

    def seen(self, late: Collection[int] = ()) -> Sequence[Seen]:
        """What became of each task. Those that are `late` count as lost, whatever has come of them since."""
        runs = self._runs()
        started = Counter(int(run["parameters"]["part"]) for run in self.dag_run.adf_runs())
        tasks = {int(ti["map_index"]): ti for ti in self.dag_run.tasks()}
        tries = Counter(int(one["map_index"]) for one in self.dag_run.tries())
        return [
            self._seen(tasks[index], runs[index], started[index], tries[index], is_late=index in late)
            for index in range(self.size)
        ]

    def _seen(self, ti: dict[str, Any], run: dict[str, Any], runs: int, tries: int, *, is_late: bool) -> Seen:
        index, end = ti["map_index"], ti["end_date"]
        took = None
        if end is not None and run["runEnd"] is not None:
            took = datetime.fromisoformat(end) - datetime.fromisoformat(run["runEnd"])
        logs = [self.dag_run.log(number, index) for number in range(1, tries + 1)]
        return Seen(
            name=f"{self.dag_run.run_id}[{index}]",
            state="late" if is_late else ti["state"],
            own_outcome=f"'watched_run_id': '{run['runId']}'" in str(self.dag_run.xcom(map_index=index)),
            runs=runs,
            resumed=tuple(log.count(f"RESUMED in try {number}") for number, log in enumerate(logs, 1)),
            took=took,
        )

    def _runs(self) -> dict[int, dict[str, Any]]:
        """The last run of each task, by its map index."""
        return {int(run["parameters"]["part"]): run for run in self.dag_run.adf_runs()}
