"""Walking a graph of activities from its beginning to its leaves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from local.adf.graph import Activity, Graph, Outcome
from local.adf.outcome import failed_targets, next_step

Execute = Callable[[Activity], Awaitable[Outcome]]


async def walk(graph: Graph, execute: Execute, *, settled: Mapping[str, Outcome]) -> list[Activity]:
    """Execute every activity whose dependencies are met, at once where they are, and return those for which the
    graph fails. `settled` are activities that ended before.
    """
    outcomes = dict(settled)
    async with asyncio.TaskGroup() as group:
        running: dict[asyncio.Task[Outcome], Activity] = {}
        while True:
            step = next_step(graph, outcomes, frozenset(activity.name for activity in running.values()))
            outcomes |= {activity.name: Outcome.SKIPPED for activity in step.skip}
            running |= {group.create_task(_outcome(execute, activity)): activity for activity in step.run}
            if step.skip:
                continue
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            outcomes |= {running.pop(task).name: task.result() for task in done}
    return failed_targets(graph, outcomes)


async def _outcome(execute: Execute, activity: Activity) -> Outcome:
    """An activity that is inactive has the outcome that it declares."""
    return activity.inactive_outcome or await execute(activity)
