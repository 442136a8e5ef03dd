"""Execute Pipeline: a run of another pipeline of the same factory.

See https://learn.microsoft.com/azure/data-factory/control-flow-execute-pipeline-activity
"""

from local.adf.activities.attempt import ActivityFailedError, Attempt
from local.adf.arm_error import ArmError
from local.adf.pipeline import referenced_pipeline
from local.adf.run import Invoker, PipelineRun
from local.adf.status import Status
from local.json_value import JsonObject


async def perform(attempt: Attempt) -> None:
    """Start the run and, where that is wanted, wait for its end and fail if it did not succeed.

    The output names the run from its start on. A run that cannot start leaves none.
    """
    child = _start(attempt)
    attempt.record.output = {"pipelineRunId": child.id, "pipelineName": child.pipeline.name}
    if not _waits(attempt):
        return
    await attempt.runs.wait_for_end(child)
    if child.status is Status.FAILED:
        raise ActivityFailedError("BadRequest", child.message)
    if child.status is Status.CANCELLED:
        message = f"The pipeline run {child.id} of the pipeline {child.pipeline.name} was cancelled."
        raise ActivityFailedError("Cancelled", message)


def _start(attempt: Attempt) -> PipelineRun:
    pipeline = referenced_pipeline(attempt.activity)
    given = _parameters(attempt)
    attempt.record.input = {"pipeline": attempt.activity.type_properties.get("pipeline"), "parameters": given}
    try:
        return attempt.runs.start_child(Invoker(attempt.run, attempt.record), pipeline, given)
    except ArmError as error:
        raise ActivityFailedError(error.code, error.message) from error


def _parameters(attempt: Attempt) -> JsonObject:
    """The parameters for the run, in the types that their expressions have."""
    given = attempt.evaluate(attempt.activity.type_properties.get("parameters"))
    return given if isinstance(given, dict) else {}


def _waits(attempt: Attempt) -> bool:
    """Whether to wait: not, unless it is said. The REST specification has this default, the guide the other one."""
    return attempt.evaluate(attempt.activity.type_properties.get("waitOnCompletion", False)) is True
