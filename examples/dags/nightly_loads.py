"""Four loads side by side, of different length. None of them polls, and none holds a worker slot while it waits."""

from airflow.sdk import DAG

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

with DAG("nightly_loads", schedule=None, tags=["adf"], doc_md=__doc__):
    AdfBridgeRunPipelineOperator(
        task_id="ingest_sales",
        pipeline_name="ingest_sales",
        parameters={"business_date": "{{ dag_run.run_after | ds }}"},
    )
    AdfBridgeRunPipelineOperator(task_id="build_customer_360", pipeline_name="build_customer_360")
    AdfBridgeRunPipelineOperator(
        task_id="train_forecast", pipeline_name="train_forecast", parameters={"horizon_days": 7}
    )
    AdfBridgeRunPipelineOperator(task_id="check_freshness", pipeline_name="check_freshness")
