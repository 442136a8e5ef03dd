"""Whether the demo showed what it has to show, and its figures."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from local.airflow import Airflow
from local.demo.scenario import LONG_RUN, TASKS, Expected
from local.demo.watch import Attempt, Watch

_SHORT = "check_freshness"


def result(watch: Watch, problems: Sequence[str]) -> dict[str, Any]:
    """Return the RESULT line's object; figures that could not be taken are None."""
    attempts = list(watch.attempts.values())
    succeeded = [one for one in attempts if one.state == "success" and one.run_status == "Succeeded"]
    long_runs = [
        one.latency for one in succeeded if one.run_seconds >= LONG_RUN.total_seconds() and one.latency is not None
    ]
    short = [one.latency for one in succeeded if one.task.task_id == _SHORT]
    return {
        "ok": not problems,
        "tasks": len(TASKS),
        "adf_end_to_task_done_s": {
            "p50": round(statistics.median(long_runs), 2) if long_runs else None,
            "max": round(max(long_runs), 2) if long_runs else None,
        },
        "short_run_s": round(short[0], 2) if short and short[0] is not None else None,
        "adf_calls_per_run": max((one.adf_calls for one in succeeded), default=None),
    }


def problems(watch: Watch, airflow: Airflow, dag_runs: dict[str, str]) -> list[str]:
    """Return what did not go as it has to, in words."""
    return [text for task in TASKS for text in _problems_of(task, watch, airflow, dag_runs[task.dag_id])]


def _problems_of(task: Expected, watch: Watch, airflow: Airflow, run_id: str) -> Iterator[str]:
    last = watch.last(task)
    if last is None or not last.state:
        yield f"{task.label} has not ended"
        return
    if last.state != task.state:
        yield f"{task.label} ended as {last.state}, not as {task.state}"
    if last.try_number != task.tries:
        yield f"{task.label} ended in try {last.try_number}, not in try {task.tries}"
    own = [one for one in watch.attempts.values() if one.task == task]
    yield from _problems_of_attempts(task, own)
    if task.log_holds:
        log = airflow.task_log(task.dag_id, run_id, task.task_id, last.try_number, task.map_index)
        yield from (f"the log of {task.label} does not say {words!r}" for words in task.log_holds if words not in log)


def _problems_of_attempts(task: Expected, own: Sequence[Attempt]) -> Iterator[str]:
    for one in own:
        if one.delivered is None:
            yield f"try {one.try_number} of {task.label} was not completed by the bridge"
    if len({one.run_id for one in own}) != task.tries:
        yield f"{task.label} had {len({one.run_id for one in own})} runs for {task.tries} tries"
