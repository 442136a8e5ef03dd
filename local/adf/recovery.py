"""Runs that refer to an earlier run: with its parameters, and perhaps without the activities that need not
run again.

See https://learn.microsoft.com/rest/api/datafactory/pipelines/create-run
"""

from dataclasses import dataclass

from local.adf.arm_error import ArmError, bad_request
from local.adf.graph import Outcome, downstream
from local.adf.pipeline import Pipeline
from local.adf.run import PipelineRun


@dataclass(frozen=True, slots=True)
class Recovery:
    """What createRun's query says about an earlier run."""

    reference_run_id: str
    is_recovery: bool
    start_activity: str | None
    start_from_failure: bool

    def find(self, runs: dict[str, PipelineRun], pipeline: Pipeline) -> PipelineRun:
        """The earlier run. Raises ArmError (400) when there is none of this pipeline."""
        earlier = runs.get(self.reference_run_id)
        if earlier is None or earlier.pipeline.name != pipeline.name:
            message = f"Referenced pipeline run id {self.reference_run_id} is not a valid run id."
            raise ArmError(400, "ReferencedPipelineRunNotValid", message, target=f"pipeline/{pipeline.name}")
        return earlier

    def settled(self, pipeline: Pipeline, earlier: PipelineRun) -> dict[str, Outcome]:
        """The activities that do not run again, as ended. Raises ArmError (400) for an activity that does not
        exist.

        From an activity on: it and all that follows it. From the failure on: all that did not succeed, and
        what follows that.
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
        return {one.name: Outcome.SUCCEEDED for one in pipeline.activities if one.name not in again}
