"""What makes runs go on: from Queued, through a pipeline's activities, to the end as its leaves decide."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from local.adf.activity_run import ActivityError, ActivityRun
from local.adf.arm_error import ArmError
from local.adf.execution import Execution, Pace
from local.adf.factory import Factory
from local.adf.graph import Activity
from local.adf.managed_identity import ManagedIdentity
from local.adf.parameters import bind
from local.adf.pipeline import Pipeline
from local.adf.pipelines import Pipelines
from local.adf.recovery import Recovery, taken_over
from local.adf.run import Invoker, PipelineRun
from local.adf.run_queue import RunQueue
from local.adf.status import Status, now
from local.adf.walk import walk
from local.json_value import JsonValue

_log = logging.getLogger(__name__)

# Every run is seen Queued and, when it is cancelled, Canceling for about this long.
_PASSING_STATUS = timedelta(seconds=0.05)

Listener = Callable[[PipelineRun], None]


class Engine:
    """Every run of every factory, and the tasks that drive the unfinished ones."""

    def __init__(
        self,
        pipelines: Pipelines,
        announce: Listener,
        identity: ManagedIdentity,
        queue: RunQueue,
        pace: Pace,
    ) -> None:
        """Begin without runs. `announce` is told of each run that begins to run and of each that ends."""
        self.runs: dict[str, PipelineRun] = {}
        self._pipelines = pipelines
        self._announce = announce
        self._queue = queue
        self._queued = max(pace.queued, _PASSING_STATUS)
        self._execution = Execution(self, identity, pace)
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    def start(
        self, factory: Factory, pipeline: Pipeline, given: Mapping[str, JsonValue], recovery: Recovery | None
    ) -> PipelineRun:
        """Start a run. Raises ArmError (400) where the parameters or the run to recover are wrong, and where too
        many runs wait already.
        """
        if recovery is None:
            return self._begin(PipelineRun(factory, pipeline, bind(pipeline, given)))
        earlier = recovery.find(self.runs, factory, pipeline)
        settled = recovery.settled(pipeline, earlier)
        kept = taken_over(pipeline, earlier, settled)
        parameters = dict(earlier.parameters)
        run = self._begin(PipelineRun(factory, pipeline, parameters, settled=settled, taken_over=kept))
        if recovery.is_recovery:
            run.group_id = earlier.group_id
            for other in self.runs.values():
                other.is_latest = other is run or (other.is_latest and other.group_id != run.group_id)
        return run

    def start_child(self, invoker: Invoker, pipeline: str, given: Mapping[str, JsonValue]) -> PipelineRun:
        """Start a run for another run's activity. Raises ArmError (404, 400)."""
        factory = invoker.run.factory
        found = self._pipelines.get(factory, pipeline)
        return self._begin(PipelineRun(factory, found, bind(found, given), invoker=invoker))

    async def wait_for_end(self, run: PipelineRun) -> None:
        """Return when a run has ended."""
        await self._ends[run.id].wait()

    def find(self, factory: Factory, run_id: str) -> PipelineRun:
        """A factory's run. Raises ArmError (404)."""
        run = self.runs.get(run_id.lower())
        if run is None or run.factory != factory:
            message = f"Pipeline run with id '{run_id}' was not found in factory '{factory.name}'."
            raise ArmError(404, "PipelineRunNotFound", message, target=f"pipelinerun/{run_id}")
        return run

    def cancel(self, run: PipelineRun, *, recursive: bool) -> None:
        """Begin to cancel a run and, if that is wanted, the runs that it started and theirs. Raises ArmError
        (400) when it has ended, in ADF's words.
        """
        if run.status.ended:
            message = (
                f"Pipeline run has already completed with status '{run.status}'."
                "Only pipeline runs that are in progress or queued can be canceled."
            )
            raise ArmError(400, "PipelineRunNotRunning", message, target=f"pipelinerun/{run.id}")
        if run.status is not Status.CANCELING:
            run.change(Status.CANCELING)
            cancelling = self._cancelled(run, self._drivers[run.id], recursive=recursive)
            self._keep(run, asyncio.create_task(cancelling))

    async def finish(self, run: PipelineRun, status: Status, *, message: str | None, error_code: str) -> None:
        """End an unfinished run now, in this way. A failure fails the activities that are under way, or the
        first one.

        Without a message the run gets the one that Data Factory composes.
        """
        await _stop(self._drivers[run.id])
        if run.status.ended:  # somebody else was faster
            return
        unfinished = [execution for execution in run.activity_runs if execution.end is None]
        if not unfinished and status is Status.FAILED and run.pipeline.activities:
            unfinished = [ActivityRun(run.pipeline.activities[0], Status.IN_PROGRESS, now())]
            run.activity_runs.extend(unfinished)
        error = ActivityError(error_code, message or "The run was told to fail.") if status is Status.FAILED else None
        for execution in unfinished:
            execution.finish(status, error)
        targets = [one.activity for one in unfinished if one.activity in run.pipeline.activities]
        self._end(run, status, message if message is not None else _message(targets, run))

    async def close(self) -> None:
        """Leave every run where it is."""
        for driver in self._drivers.values():
            await _stop(driver)

    def _begin(self, run: PipelineRun) -> PipelineRun:
        self._queue.enter(run)
        self.runs[run.id] = run
        self._ends[run.id] = asyncio.Event()
        self._keep(run, asyncio.create_task(self._drive(run)))
        return run

    def _keep(self, run: PipelineRun, driver: asyncio.Task[None]) -> None:
        driver.add_done_callback(_tell_of_crash)
        self._drivers[run.id] = driver

    async def _drive(self, run: PipelineRun) -> None:
        """Take a run from Queued to its end."""
        await asyncio.sleep(self._queued.total_seconds())
        await self._queue.turn(run)
        run.change(Status.IN_PROGRESS)
        self._announce(run)
        failed = await walk(run.pipeline, partial(self._execution.execute, run), settled=run.settled)
        self._end(run, Status.FAILED if failed else Status.SUCCEEDED, _message(failed, run))

    async def _cancelled(self, run: PipelineRun, driver: asyncio.Task[None], *, recursive: bool) -> None:
        """Stop a run; it ends when the runs that it started have ended, if they are cancelled, too."""
        await _stop(driver)
        children = self._unfinished_children(run) if recursive else []
        for child in children:
            self.cancel(child, recursive=True)
        await asyncio.sleep(_PASSING_STATUS.total_seconds())
        for child in children:
            await self.wait_for_end(child)
        for execution in run.activity_runs:
            if execution.end is None:
                execution.finish(Status.CANCELLED)
        self._end(run, Status.CANCELLED, "")

    def _unfinished_children(self, run: PipelineRun) -> list[PipelineRun]:
        return [
            other
            for other in self.runs.values()
            if other.invoker is not None and other.invoker.run is run and not other.status.ended
        ]

    def _end(self, run: PipelineRun, status: Status, message: str) -> None:
        run.change(status, message)
        self._queue.leave(run)
        self._ends[run.id].set()
        self._announce(run)


def _message(failed: list[Activity], run: PipelineRun) -> str:
    """What a failed run says: each failed target with the message of its last execution."""
    last = run.last_executions()
    errors = [(activity.name, last[activity.name].error) for activity in failed if activity.name in last]
    return "; ".join(f"Operation on target {name} failed: {error.message}" for name, error in errors if error)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _tell_of_crash(task: asyncio.Task[None]) -> None:
    """Log why a run will never go on: a fault of this stand-in, not of the pipeline."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a run crashed", exc_info=error)
