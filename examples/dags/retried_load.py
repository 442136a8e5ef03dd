"""A load that fails once. Airflow's own retry starts a new run, under a new token, and that one succeeds.

With `on_retry="recover"` the retry would run the failed run again instead, from the activity that failed.
"""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

with DAG("retried_load", schedule=None, tags=["adf"], doc_md=__doc__):
    AdfBridgeRunPipelineOperator(
        task_id="refresh_mart",
        pipeline_name="refresh_mart",
        # The local Data Factory fails the first run of each batch.
        parameters={"batch": "{{ run_id }}"},
        retries=1,
        retry_delay=timedelta(seconds=3),
    )
