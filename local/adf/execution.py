"""Executing one activity of a run: within its time, and again where its policy says so.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#activity-policy
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from local.adf.activities.attempt import ActivityFailedError, Attempt, Runs
from local.adf.activities.declaration_count import DeclarationCount
from local.adf.activities.kinds import kind_of
from local.adf.activity_run import ActivityError, ActivityRun
from local.adf.expressions import template
from local.adf.expressions.error import ExpressionError
from local.adf.graph import Activity, Outcome
from local.adf.managed_identity import ManagedIdentity
from local.adf.run import PipelineRun
from local.adf.run_scope import scope_of
from local.adf.status import Status, now
from local.adf.time_span import parse_time_span
from local.adf.walk import walk


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a run, and each execution of an activity, waits before it begins, and by what the pauses before retries
    are multiplied.
    """

    queued: timedelta
    retry_factor: float


class Execution:
    """Executes activities, at a pace."""

    def __init__(self, runs: Runs, identity: ManagedIdentity, pace: Pace) -> None:
        """Put the parts together."""
        self._runs = runs
        self._identity = identity
        self._pace = pace
        self._declarations = DeclarationCount()

    async def execute(self, run: PipelineRun, activity: Activity) -> Outcome:
        """Execute an activity until it succeeds or its retries are used up."""
        retries = _retries(run, activity)
        attempt = 0
        while True:
            if self._pace.queued:
                await asyncio.sleep(self._pace.queued.total_seconds())
            record = ActivityRun(activity, Status.IN_PROGRESS, now(), attempt=attempt)
            run.begin(record)
            error = await self._attempt(run, record)
            record.finish(Status.FAILED if error else Status.SUCCEEDED, error)
            run.last_updated = now()
            if error is None:
                return Outcome.SUCCEEDED
            if attempt >= retries:
                return Outcome.FAILED
            attempt += 1
            await asyncio.sleep(activity.policy.retry_interval.total_seconds() * self._pace.retry_factor)

    async def _attempt(self, run: PipelineRun, record: ActivityRun) -> ActivityError | None:
        """Execute once, within the time-out. Returns why it failed, if it did."""
        attempt = Attempt(
            run=run,
            record=record,
            runs=self._runs,
            identity=self._identity,
            declarations=self._declarations,
            walk=lambda graph: walk(graph, partial(self.execute, run), settled={}),
        )
        activity = record.activity
        try:
            async with asyncio.timeout(_timeout_seconds(run, activity)):
                await kind_of(activity)(attempt)
        except ActivityFailedError as failure:
            return failure.error
        except ExpressionError as error:
            return ActivityError("InvalidTemplate", str(error))
        except TimeoutError:
            message = f"The activity {activity.name} did not end within its timeout of {activity.policy.timeout}."
            return ActivityError("Timeout", message)
        return None


def _retries(run: PipelineRun, activity: Activity) -> int:
    """How often the activity is tried again. What cannot be evaluated counts as never."""
    try:
        return int(template.evaluate_number(activity.policy.retry, scope_of(run)))
    except ExpressionError:
        return 0


def _timeout_seconds(run: PipelineRun, activity: Activity) -> float | None:
    """How long one attempt may take. Raises ExpressionError."""
    if activity.policy.timeout is None:
        return None
    text = template.evaluate_text(activity.policy.timeout, scope_of(run))
    try:
        return parse_time_span(text).total_seconds()
    except ValueError as error:
        raise ExpressionError(str(error)) from error
