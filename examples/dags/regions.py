"""One mapped task, three runs: each instance is resumed by its own run, whichever ends first."""

from typing import Any

from airflow.sdk import DAG, task

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

with DAG("regions", schedule=None, tags=["adf"], doc_md=__doc__):
    copied = AdfBridgeRunPipelineOperator.partial(task_id="copy_region", pipeline_name="copy_region").expand(
        parameters=[
            {"region": "emea", "seconds": 24},
            {"region": "americas", "seconds": 20},
            {"region": "apac", "seconds": 16},
        ]
    )

    @task
    def summarize(runs: list[dict[str, Any]]) -> list[str]:
        """List the runs in the order in which they ended."""
        return [run["run_id"] for run in sorted(runs, key=lambda run: run["run_end"])]

    summarize(copied.output)
