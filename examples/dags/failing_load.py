"""A load that fails. The task's log says which activity failed, and why, and links to the run."""

from airflow.sdk import DAG

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

with DAG("failing_load", schedule=None, tags=["adf"], doc_md=__doc__):
    AdfBridgeRunPipelineOperator(task_id="load_ledger", pipeline_name="load_ledger")
