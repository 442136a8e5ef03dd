"""Which activities come next, and how a graph of activities ends: Data Factory's rules, without any I/O.

See https://learn.microsoft.com/azure/data-factory/tutorial-pipeline-failure-error-handling
"""

from collections.abc import Mapping
from dataclasses import dataclass

from local.adf.graph import Activity, Graph, Outcome, leaves


@dataclass(frozen=True, slots=True)
class NextStep:
    """What the outcomes so far lead to: activities that may run now, and activities that never will."""

    run: tuple[Activity, ...]
    skip: tuple[Activity, ...]


def next_step(graph: Graph, outcomes: Mapping[str, Outcome], started: frozenset[str]) -> NextStep:
    """Judge every activity whose dependencies have all ended. Every arrow must be met; one that is not skips
    the activity.
    """
    run: list[Activity] = []
    skip: list[Activity] = []
    for activity in graph.activities:
        if activity.name in outcomes or activity.name in started:
            continue
        if any(dependency.activity not in outcomes for dependency in activity.depends_on):
            continue
        met = all(dependency.met_by(outcomes[dependency.activity]) for dependency in activity.depends_on)
        (run if met else skip).append(activity)
    return NextStep(tuple(run), tuple(skip))


def failed_targets(graph: Graph, outcomes: Mapping[str, Outcome]) -> list[Activity]:
    """The activities for which a pipeline (or a branch) fails; none of them means that it succeeds.

    Only leaves count, and a leaf that was skipped is judged by its parents. So a failure with nothing but a
    Failed or Completed arrow behind it is hidden when that branch succeeds, and shows when there is a
    Succeeded branch beside it.
    """
    by_name = {activity.name: activity for activity in graph.activities}
    judged: set[str] = set()
    failed: list[Activity] = []
    pending = leaves(graph)
    while pending:
        activity = pending.pop(0)
        if activity.name in judged:
            continue
        judged.add(activity.name)
        outcome = outcomes[activity.name]
        if outcome is Outcome.FAILED:
            failed.append(activity)
        elif outcome is Outcome.SKIPPED:
            pending.extend(by_name[dependency.activity] for dependency in activity.depends_on)
    return failed
