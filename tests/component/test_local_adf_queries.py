"""Queries over runs in the local Data Factory, through Microsoft's client."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.datafactory.models import RunFilterParameters, RunQueryFilter

from tests.component.stand_ins import FACTORY, FACTORY_ID, GROUP, TOKEN, Adf, activity, running_adf, window

RUNS = 104


@pytest.fixture(scope="module")
def adf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adf]:
    """A factory with 104 runs of `many`, of which four failed, and one run of `other`."""
    failing = activity("Load", localErrorCode="1", localFailTimes=4)
    pipelines = {"many": [failing], "other": [activity("Load"), activity("Report", after={"Load": "Succeeded"})]}
    with running_adf(tmp_path_factory.mktemp("adf"), pipelines) as running:
        runs = [running.create_run("many") for _ in range(RUNS)] + [running.create_run("other")]
        for run_id in runs:
            running.wait_for(run_id)
        yield running


def query(adf: Adf, **conditions: Any) -> Any:
    """A page of the runs that were ever changed and fit the conditions."""
    body = cast("RunFilterParameters", window() | conditions)
    return adf.client.pipeline_runs.query_by_factory(GROUP, FACTORY, body)


def equals(operand: str, *values: str, operator: str = "Equals") -> dict[str, Any]:
    """A filter."""
    return {"operand": operand, "operator": operator, "values": [*values]}


def test_pages_hold_a_hundred_runs_and_follow_the_token_in_the_body(adf: Adf) -> None:
    """The token in the body leads to the next page, the last page has none, and no run comes twice."""
    first = query(adf)
    second = query(adf, continuationToken=first.continuation_token)

    assert (100, 5, None) == (len(first.value), len(second.value), second.continuation_token)
    assert RUNS + 1 == len({run.run_id for run in [*first.value, *second.value]})


def test_a_token_outside_the_body_repeats_the_first_page(adf: Adf) -> None:
    """A continuation token in the query string does nothing, as in Data Factory."""
    first = query(adf)
    answer = requests.post(
        f"{adf.process.url}{FACTORY_ID}/queryPipelineRuns",
        params={"api-version": "2018-06-01", "continuationToken": first.continuation_token},
        json=window(),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=10,
    )

    assert [run.run_id for run in first.value] == [run["runId"] for run in answer.json()["value"]]


def test_a_token_of_another_query_is_refused(adf: Adf) -> None:
    """A continuation token counts only for the query that gave it."""
    token = query(adf, filters=[equals("PipelineName", "many")]).continuation_token

    with pytest.raises(HttpResponseError) as refusal:
        query(adf, lastUpdatedAfter="2020-01-01T00:00:00Z", continuationToken=token)
    assert 400 == refusal.value.status_code


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        pytest.param([equals("PipelineName", "OTHER")], 1, id="one pipeline, in any case"),
        pytest.param([equals("PipelineName", "many", operator="NotEquals")], 1, id="all but one pipeline"),
        pytest.param([equals("Status", "Failed", "Cancelled", operator="In")], 4, id="one of some statuses"),
        pytest.param([equals("Status", "Succeeded", operator="NotIn")], 4, id="none of some statuses"),
        pytest.param([equals("Status", "Failed"), equals("PipelineName", "other")], 0, id="both conditions"),
        pytest.param([equals("LatestOnly", "false"), equals("PipelineName", "other")], 1, id="not only the latest"),
    ],
)
def test_filters_choose_runs(adf: Adf, filters: list[dict[str, Any]], count: int) -> None:
    """Every filter must fit; names and statuses are compared without regard to case."""
    assert count == len(query(adf, filters=filters).value)


def test_a_first_run_is_found_by_its_group(adf: Adf) -> None:
    """A run that recovers no other one is found by RunGroupId, through the client's own models."""
    run = query(adf, filters=[equals("PipelineName", "other")]).value[0]
    found = query(adf, filters=[RunQueryFilter(operand="RunGroupId", operator="In", values_property=[run.run_id])])

    assert [run.run_id] == [one.run_id for one in found.value]


def test_runs_come_in_the_order_asked_for(adf: Adf) -> None:
    """A query may ask for the latest start first."""
    starts = [run.run_start for run in query(adf, orderBy=[{"orderBy": "RunStart", "order": "DESC"}]).value]

    assert sorted(starts, reverse=True) == starts


def test_only_runs_that_changed_inside_the_window_are_found(adf: Adf) -> None:
    """A window that begins after the last change is empty."""
    last = max(run.last_updated for run in query(adf, filters=[equals("PipelineName", "other")]).value)

    after = (last + timedelta(milliseconds=1)).isoformat()
    assert [] == query(adf, lastUpdatedAfter=after).value


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"lastUpdatedAfter": None}, id="no begin"),
        pytest.param({"lastUpdatedBefore": "yesterday"}, id="no time"),
        pytest.param({"filters": [equals("RunId", "x")]}, id="an operand that does not exist"),
        pytest.param({"filters": [equals("Status", "x", operator="Like")]}, id="an operator that does not exist"),
        pytest.param({"continuationToken": "x"}, id="a token that is none"),
    ],
)
def test_a_query_that_means_nothing_is_refused(adf: Adf, conditions: dict[str, Any]) -> None:
    """A query without its window, or with unknown operands, is 400."""
    with pytest.raises(HttpResponseError) as refusal:
        query(adf, **conditions)

    assert 400 == refusal.value.status_code


def test_activity_runs_can_be_filtered(adf: Adf) -> None:
    """Activity runs of one run are found by name."""
    run = query(adf, filters=[equals("PipelineName", "other")]).value[0]
    body = cast("RunFilterParameters", window() | {"filters": [equals("ActivityName", "Report")]})
    found = adf.client.activity_runs.query_by_pipeline_run(GROUP, FACTORY, run.run_id, body)

    assert [("Report", run.run_id)] == [(one.activity_name, one.pipeline_run_id) for one in found.value]
