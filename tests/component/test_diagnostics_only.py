"""Diagnostic settings alone: late, out of order, doubled, and one record in ten never written."""

from datetime import timedelta
from pathlib import Path

from tests.relay.scenario import running_stage, storm

RUNS = 40


def test_every_task_learns_how_its_run_ended(tmp_path: Path) -> None:
    """S03, S04, S27: all tasks are told the true end, once; what no record told is found by the sweep, cheaply."""
    with running_stage(tmp_path) as stage:
        found = storm(stage, RUNS, seed=1, lose_percent=10, within=timedelta(seconds=90))
        assert ([], RUNS, RUNS) == (found.wrong, len(stage.airflow.patches), found.calls["createRun"])
    assert found.lost_ends > 0
    assert found.by["event"] > RUNS / 2
    assert found.by["sweep"] >= found.lost_ends
    # Of the doubled records of an end, one asks Data Factory; the sweep asks for all runs at once.
    assert max(found.calls_per_run) <= 2
    assert found.calls["getRun"] <= RUNS + RUNS / 4
    assert found.calls["queryPipelineRuns"] <= 6
