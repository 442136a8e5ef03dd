"""Runs that refer to an earlier run: with its parameters, and perhaps without the activities that need not
run again.

See https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run and
https://learn.microsoft.com/azure/data-factory/monitor-visually#rerun-pipelines-and-activities
"""

from dataclasses import dataclass

from local.adf.activity_run import ActivityRun
from local.adf.arm_error import ArmError, bad_request
from local.adf.factory import Factory
from local.adf.graph import Outcome, downstream, every_activity
from local.adf.pipeline import Pipeline
from local.adf.run import PipelineRun

# They "will behave as before": a variable is set and a pause is made anew. An If Condition that succeeded would be
# evaluated anew as well; here it is taken over as it is.
_ALWAYS_AGAIN = frozenset({"Filter", "SetVariable", "Wait"})


@dataclass(frozen=True, slots=True)
class Recovery:
    """What createRun's query says about an earlier run."""

    reference_run_id: str
    is_recovery: bool
    start_activity: str | None
    start_from_failure: bool

    def find(self, runs: dict[str, PipelineRun], factory: Factory, pipeline: Pipeline) -> PipelineRun:
        """The earlier run. Raises ArmError (400) when there is none of this pipeline in this factory."""
        earlier = runs.get(self.reference_run_id)
        if earlier is None or (earlier.factory, earlier.pipeline.name) != (factory, pipeline.name):
            message = f"Referenced pipeline run id {self.reference_run_id} is not a valid run id."
            raise ArmError(400, "ReferencedPipelineRunNotValid", message, target=f"pipeline/{pipeline.name}")
        return earlier

    def settled(self, pipeline: Pipeline, earlier: PipelineRun) -> dict[str, Outcome]:
        """The activities that do not run again, as ended. Raises ArmError (400) for an activity that does not
        exist.

        From an activity on: it and all that follows it. From the failure on: all that did not succeed, and
        what follows that. Activities of a few kinds always do.
        """
        if self.start_activity is not None:
            if pipeline.activity(self.start_activity) is None:
                raise bad_request(
                    f"The activity {self.start_activity} was not found in the pipeline {pipeline.name}.",
                    target=f"pipeline/{pipeline.name}",
                )
            again = set(downstream(pipeline, self.start_activity))
        elif self.start_from_failure:
            ended = earlier.outcomes()
            unsettled = [one.name for one in pipeline.activities if ended.get(one.name) is not Outcome.SUCCEEDED]
            again = {name for start in unsettled for name in downstream(pipeline, start)}
        else:
            return {}
        return {
            one.name: Outcome.SUCCEEDED
            for one in pipeline.activities
            if one.name not in again and one.type not in _ALWAYS_AGAIN
        }


def taken_over(pipeline: Pipeline, earlier: PipelineRun, settled: dict[str, Outcome]) -> dict[str, ActivityRun]:
    """The earlier executions of the activities that do not run again, and of those inside them: expressions go on
    seeing what they left.
    """
    kept = {one.name for one in every_activity(one for one in pipeline.activities if one.name in settled)}
    return {name: execution for name, execution in earlier.seen_executions().items() if name in kept}
