"""The DAGs of the end-to-end tests: each has one task, `load`, that waits for a run which the test ends."""
# mypy: ignore-errors
# (Airflow lives in an environment of its own.)

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Context

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

OWNER = {"dag_run": "{{ run_id }}"}
PATIENCE = timedelta(minutes=1)


class GatedOperator(AdfBridgeRunPipelineOperator):
    """Stays `running` after it has started its run, until the test opens its gate; then it parks as always."""

    def execute(self, context: Context) -> object:
        """Leave only through the gate: a file named like the DAG run."""
        gate = Path(os.environ["E2E_GATES"]) / context["ti"].run_id
        give_up = time.monotonic() + PATIENCE.total_seconds()
        try:
            return super().execute(context)
        finally:
            while not gate.exists() and time.monotonic() < give_up:
                time.sleep(0.05)


with DAG("held_load", schedule=None, doc_md="Waits for a run that ends when the test says so."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="held", parameters=OWNER)

with DAG("retried_load", schedule=None, doc_md="The same, with a second try."):
    AdfBridgeRunPipelineOperator(
        task_id="load", pipeline_name="held", parameters=OWNER, retries=1, retry_delay=timedelta(seconds=3)
    )

with DAG("mapped_load", schedule=None, doc_md="Three of them, from one mapped task."):
    AdfBridgeRunPipelineOperator.partial(task_id="load", pipeline_name="held").expand(
        parameters=[{**OWNER, "part": part} for part in ("0", "1", "2")]
    )

with DAG("skippable_load", schedule=None, doc_md="Is skipped when its run is cancelled."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="held", parameters=OWNER, on_cancelled="skip")

with DAG("impatient_load", schedule=None, doc_md="Waits for a quarter of a minute only."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="held", parameters=OWNER, timeout=timedelta(seconds=15))

with DAG("guarded_load", schedule=None, doc_md="Has its run cancelled when nobody waits for it."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="held", parameters=OWNER, on_abandon="cancel")

with DAG("gated_load", schedule=None, doc_md="Parks when the test lets it."):
    GatedOperator(task_id="load", pipeline_name="held", parameters=OWNER)

with DAG("brief_load", schedule=None, doc_md="Waits for a run that ends at once."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="brief", parameters=OWNER)
