"""What makes runs go on: activities start when their dependencies are met, and the run ends as its leaves do."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from local.adf.arm_error import ArmError
from local.adf.behaviour import ActivityError, Execution, Executions
from local.adf.expression import Scope
from local.adf.factory import Factory
from local.adf.outcome import failed_targets, next_step
from local.adf.parameters import bind
from local.adf.pipeline import Activity, Outcome, Pipeline
from local.adf.recovery import Recovery
from local.adf.run import ActivityRun, PipelineRun, Status, now
from local.json_value import JsonValue

_log = logging.getLogger(__name__)

# Every run is seen Queued and, when it is cancelled, Canceling for about this long.
_PASSING_STATUS = timedelta(seconds=0.05)

Listener = Callable[[PipelineRun], None]


class Engine:
    """Every run of every factory, and the tasks that drive the unfinished ones."""

    def __init__(self, announce: Listener) -> None:
        """Begin without runs. `announce` is told of each run that begins to run and of each that ends."""
        self.runs: dict[str, PipelineRun] = {}
        self._announce = announce
        self._executions = Executions()
        self._drivers: dict[str, asyncio.Task[None]] = {}

    def start(
        self, factory: Factory, pipeline: Pipeline, given: dict[str, JsonValue], recovery: Recovery | None
    ) -> PipelineRun:
        """Start a run. Raises ArmError (400) where the parameters or the run to recover are wrong."""
        if recovery is None:
            run = PipelineRun(factory, pipeline, bind(pipeline, given))
        else:
            earlier = recovery.find(self.runs, pipeline)
            run = PipelineRun(factory, pipeline, dict(earlier.parameters), settled=recovery.settled(pipeline, earlier))
            if recovery.is_recovery:
                run.group_id = earlier.group_id
                for other in self.runs.values():
                    other.is_latest = other.is_latest and other.group_id != run.group_id
        self.runs[run.id] = run
        self._keep(run, asyncio.create_task(self._drive(run)))
        return run

    def find(self, factory: Factory, run_id: str) -> PipelineRun:
        """A factory's run. Raises ArmError (404)."""
        run = self.runs.get(run_id.lower())
        if run is None or run.factory != factory:
            message = f"Pipeline run with id '{run_id}' was not found in factory '{factory.name}'."
            raise ArmError(404, "PipelineRunNotFound", message, target=f"pipelinerun/{run_id}")
        return run

    def cancel(self, run: PipelineRun) -> None:
        """Begin to cancel a run. Raises ArmError (400) when it has ended, in ADF's words."""
        if run.status.ended:
            message = (
                f"Pipeline run has already completed with status '{run.status}'."
                "Only pipeline runs that are in progress or queued can be canceled."
            )
            raise ArmError(400, "PipelineRunNotRunning", message, target=f"pipelinerun/{run.id}")
        if run.status is not Status.CANCELING:
            run.change(Status.CANCELING)
            self._keep(run, asyncio.create_task(self._cancelled(run, self._drivers[run.id])))

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
        self._end(run, status, message if message is not None else _message([one.activity for one in unfinished], run))

    async def close(self) -> None:
        """Leave every run where it is."""
        for driver in self._drivers.values():
            await _stop(driver)

    def _keep(self, run: PipelineRun, driver: asyncio.Task[None]) -> None:
        driver.add_done_callback(_tell_of_crash)
        self._drivers[run.id] = driver

    def _end(self, run: PipelineRun, status: Status, message: str) -> None:
        run.change(status, message)
        self._announce(run)

    async def _cancelled(self, run: PipelineRun, driver: asyncio.Task[None]) -> None:
        await _stop(driver)
        await asyncio.sleep(_PASSING_STATUS.total_seconds())
        for execution in run.activity_runs:
            if execution.end is None:
                execution.finish(Status.CANCELLED)
        self._end(run, Status.CANCELLED, "")

    async def _drive(self, run: PipelineRun) -> None:
        """Take a run from Queued to its end."""
        await asyncio.sleep(_PASSING_STATUS.total_seconds())
        run.change(Status.IN_PROGRESS)
        self._announce(run)
        outcomes = dict(run.settled)
        async with asyncio.TaskGroup() as group:
            running: dict[asyncio.Task[Outcome], Activity] = {}
            while True:
                step = next_step(run.pipeline, outcomes, frozenset(activity.name for activity in running.values()))
                outcomes |= {activity.name: Outcome.SKIPPED for activity in step.skip}
                running |= {group.create_task(self._execute(run, activity)): activity for activity in step.run}
                if step.skip:
                    continue
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                outcomes |= {running.pop(task).name: task.result() for task in done}
        failed = failed_targets(run.pipeline, outcomes)
        self._end(run, Status.FAILED if failed else Status.SUCCEEDED, _message(failed, run))

    async def _execute(self, run: PipelineRun, activity: Activity) -> Outcome:
        """Run one activity, again where its policy says so."""
        if activity.inactive_outcome is not None:
            return activity.inactive_outcome
        for attempt in range(activity.retries + 1):
            if attempt:
                await asyncio.sleep(activity.retry_interval.total_seconds())
            plan = self._executions.plan(activity, _scope(run), where=f"{run.factory.id}/{run.pipeline.name}".lower())
            execution = ActivityRun(activity, Status.IN_PROGRESS, now(), attempt=attempt)
            run.activity_runs.append(execution)
            run.last_updated = now()
            await _pass_time(plan)
            execution.finish(Status.FAILED if plan.error else Status.SUCCEEDED, plan.error)
            run.last_updated = now()
            if plan.error is None:
                return Outcome.SUCCEEDED
        return Outcome.FAILED


def _scope(run: PipelineRun) -> Scope:
    """What a run's expressions see."""
    facts = {
        "RunId": run.id,
        "GroupId": run.group_id,
        "Pipeline": run.pipeline.name,
        "DataFactory": run.factory.name,
        "TriggerName": "Manual",
        "TriggerType": "Manual",
    }
    return Scope(run.parameters, facts)


def _message(failed: list[Activity], run: PipelineRun) -> str:
    """What a failed run says: each failed target with the message of its last execution."""
    last = {execution.activity.name: execution.error for execution in run.activity_runs}
    errors = [(activity.name, last.get(activity.name)) for activity in failed]
    return "; ".join(f"Operation on target {name} failed: {error.message}" for name, error in errors if error)


async def _pass_time(plan: Execution) -> None:
    if plan.duration is None:
        await asyncio.get_running_loop().create_future()  # held: only a cancelled task leaves this
    else:
        await asyncio.sleep(plan.duration.total_seconds())


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _tell_of_crash(task: asyncio.Task[None]) -> None:
    """Log why a run will never go on: a fault of this stand-in, not of the pipeline."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a run crashed", exc_info=error)
