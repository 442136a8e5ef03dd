"""Data Factory's rules of what runs next and of how a pipeline ends."""

from collections.abc import Mapping

import pytest

from local.adf.graph import Outcome
from local.adf.outcome import failed_targets, next_step
from local.adf.pipeline import Pipeline, parse_pipeline
from local.json_value import FieldError
from tests.component.stand_ins import activity


def pipeline_of(*activities: object) -> Pipeline:
    """A pipeline of these activities."""
    return parse_pipeline({"name": "p", "properties": {"activities": [*activities]}})  # type: ignore[list-item]


def played(pipeline: Pipeline, fails: frozenset[str]) -> Mapping[str, Outcome]:
    """The outcomes of a run in which exactly these activities fail if they run."""
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < len(pipeline.activities):
        step = next_step(pipeline, outcomes, frozenset())
        outcomes |= {one.name: Outcome.SKIPPED for one in step.skip}
        outcomes |= {one.name: Outcome.FAILED if one.name in fails else Outcome.SUCCEEDED for one in step.run}
    return outcomes


WORK = activity("work")
ON_SUCCESS = activity("on success", after={"work": "Succeeded"})
ON_FAILURE = activity("on failure", after={"work": "Failed"})
ON_COMPLETION = activity("on completion", after={"work": "Completed"})
DUMMY = activity("dummy", after={"on success": "Skipped"})


@pytest.mark.parametrize(
    ("activities", "fails", "targets"),
    [
        pytest.param([WORK], {"work"}, ["work"], id="a lone failure"),
        pytest.param([WORK, ON_SUCCESS], {"work"}, ["work"], id="a failure with a success branch"),
        pytest.param([WORK, ON_FAILURE], {"work"}, [], id="try-catch hides the failure"),
        pytest.param([WORK, ON_FAILURE], {"work", "on failure"}, ["on failure"], id="the handler fails"),
        pytest.param([WORK, ON_FAILURE], set(), [], id="try-catch without a failure"),
        pytest.param([WORK, ON_SUCCESS, ON_FAILURE], {"work"}, ["work"], id="do-if-else shows it"),
        pytest.param([WORK, ON_SUCCESS, ON_FAILURE, DUMMY], {"work"}, [], id="do-if-skip-else hides it"),
        pytest.param([WORK, ON_COMPLETION], {"work"}, [], id="completion hides it"),
    ],
)
def test_a_pipeline_fails_exactly_for_its_failed_leaves(
    activities: list[object], fails: set[str], targets: list[str]
) -> None:
    """Only leaves decide a run's status, and a skipped leaf is judged by its parents."""
    pipeline = pipeline_of(*activities)

    assert targets == [one.name for one in failed_targets(pipeline, played(pipeline, frozenset(fails)))]


def test_an_activity_after_a_skipped_one_is_skipped_unless_it_waits_for_that() -> None:
    """A skipped activity counts neither as succeeded nor as completed."""
    after_skip = activity("after skip", after={"on failure": "Completed"})
    pipeline = pipeline_of(WORK, ON_FAILURE, after_skip)

    assert Outcome.SKIPPED == played(pipeline, frozenset())["after skip"]


@pytest.mark.parametrize(
    "activities",
    [
        pytest.param([WORK, WORK], id="two of one name"),
        pytest.param([ON_SUCCESS], id="an arrow from nowhere"),
        pytest.param([activity("a", after={"b": "Succeeded"}), activity("b", after={"a": "Succeeded"})], id="a circle"),
        pytest.param([WORK, activity("x", after={"work": "Finished"})], id="an unknown condition"),
    ],
)
def test_a_pipeline_that_cannot_run_is_refused_when_it_is_read(activities: list[object]) -> None:
    """A file whose activities cannot be put in order is no pipeline."""
    with pytest.raises(FieldError):
        pipeline_of(*activities)
