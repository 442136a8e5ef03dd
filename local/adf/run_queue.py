"""How many runs of a pipeline go on at once, and how many may wait for that.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#pipeline-json (concurrency)
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from local.adf.arm_error import bad_request
from local.adf.run import PipelineRun

# https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-data-factory-limits
MOST_QUEUED = 100


@dataclass(slots=True)
class _Line:
    """The runs of one pipeline: those that have a place, and those that wait for one, the oldest first."""

    placed: set[str] = field(default_factory=set)
    waiting: dict[str, tuple[PipelineRun, asyncio.Event]] = field(default_factory=dict)


class RunQueue:
    """Gives places to runs, as many as their pipeline's concurrency allows, in the order in which they came."""

    def __init__(self, most_queued: int) -> None:
        """Begin empty. `most_queued` runs of a pipeline may wait."""
        self._most_queued = most_queued
        self._lines: dict[str, _Line] = defaultdict(_Line)

    def enter(self, run: PipelineRun) -> None:
        """Take a run in. Raises ArmError (400) when too many wait already."""
        line = self._line(run)
        if not line.waiting and self._has_place(run):
            line.placed.add(run.id)
            return
        if len(line.waiting) >= self._most_queued:
            message = (
                "Pipeline execution throttled. If the concurrency value is set for a pipeline, "
                f"a maximum of {self._most_queued} runs will be queued for execution."
            )
            raise bad_request(message, target=f"pipeline/{run.pipeline.name}")
        line.waiting[run.id] = (run, asyncio.Event())

    async def turn(self, run: PipelineRun) -> None:
        """Return when the run has a place."""
        waiting = self._line(run).waiting.get(run.id)
        if waiting is not None:
            await waiting[1].wait()

    def leave(self, run: PipelineRun) -> None:
        """Let a run go, and give its place to the next one."""
        line = self._line(run)
        line.placed.discard(run.id)
        line.waiting.pop(run.id, None)
        for waiting, placed in [*line.waiting.values()]:
            if not self._has_place(waiting):
                break
            del line.waiting[waiting.id]
            line.placed.add(waiting.id)
            placed.set()

    def _has_place(self, run: PipelineRun) -> bool:
        concurrency = run.pipeline.concurrency
        return concurrency is None or len(self._line(run).placed) < concurrency

    def _line(self, run: PipelineRun) -> _Line:
        return self._lines[f"{run.factory.id}/{run.pipeline.name}".lower()]
