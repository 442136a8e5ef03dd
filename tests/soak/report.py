"""What a soak came to, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from bridge.model import RunStatus, Wait
from tests.soak.plan import Moment
from tests.soak.soak import Soaked

_STORIES = 10
_ENDS = tuple(f"says {status}" for status in RunStatus if status.is_terminal)


def report(soaked: Soaked, story: Callable[[str], str]) -> str:
    """Return the table, and the stories of the tasks that a promise was broken to."""
    plan, verdict = soaked.plan, soaked.verdict
    lines = [
        "",
        f"soak of {plan.runs} runs, {plan.kills} kills, store {plan.store}, seed {plan.seed}: {soaked.seconds:.0f} s",
        *_table("what became of the tasks", _tasks(soaked)),
        *_table("runs in Data Factory", Counter(run["status"] for run in soaked.runs)),
        *_table("how the bridge heard of a run's end", Counter(map(_heard, soaked.waits))),
        *_table("events", _events(soaked)),
        *_table("kills (kill -9)", {moment.value: _kills(soaked, moment) for moment in Moment}),
        f"  {soaked.precise_kills:8}  of them between the store's write and Airflow's answer",
        f"  {_down(soaked):8}  seconds without a host, all in all",
        *_table("broken promises", soaked.broken_promises),
        "every promise was kept" if soaked.is_well else "NOT WELL",
    ]
    for token in list(dict.fromkeys(one.token for one in verdict.broken))[:_STORIES]:
        broken = [f"{one.promise}: {one.detail}" for one in verdict.broken if one.token == token]
        task = next(task for task in soaked.tasks if task.token == token)
        lines += ["", f"{task.instance.task_id}  {token}", *broken, story(token)]
    return "\n".join(lines) + "\n"


def _tasks(soaked: Soaked) -> dict[str, int]:
    told = [task.tellings[-1] for task in soaked.tasks if task.tellings]
    started = {run["parameters"]["token"] for run in soaked.runs}
    return {
        "resumed": sum(one.how == "resumed" for one in told),
        "told in the answer": sum(one.how == "answered" for one in told),
        "told that nobody knows whether a run was started": len(soaked.verdict.unknown),
        "of them with a run": len(started.intersection(soaked.verdict.unknown)),
        **{f"told {status}": count for status, count in sorted(Counter(one.status for one in told).items())},
        "had to ask more than once": sum(task.attempts > 1 for task in soaked.tasks),
        "second answers, which Airflow refused": soaked.answers_refused,
    }


def _heard(wait: Wait) -> str:
    by_event = any(line.what == "event" and line.detail in _ENDS for line in wait.timeline)
    return "by an event" if by_event else "by a sweep, the timer or the request itself"


def _events(soaked: Soaked) -> dict[str, int]:
    delivered = [one for one in soaked.deliveries if one["verdict"] == "delivered"]
    return {
        "delivered": len(delivered),
        "of them at a later attempt": sum(one["attempt"] > 1 for one in delivered),
        "attempts without an answer": sum(one["status"] is None for one in soaked.deliveries),
        "given up": sum(one["verdict"] == "dead-lettered" for one in soaked.deliveries),
    }


def _kills(soaked: Soaked, moment: Moment) -> int:
    return sum(kill.moment is moment for kill in soaked.kills)


def _down(soaked: Soaked) -> int:
    return round(sum(kill.down_seconds for kill in soaked.kills))


def _table(title: str, counts: dict[str, int] | Counter[str]) -> Iterable[str]:
    return [title, *(f"  {count:8}  {name}" for name, count in counts.items())]
