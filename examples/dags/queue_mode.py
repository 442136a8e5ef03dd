"""The same load in mode queue: Airflow 2.10 or later, with a Service Bus queue between the bridge and the triggerer.

`mode` need not be named here: before Airflow 3.3 there is no other, and the connection's extra can choose it for all.
"""

from datetime import timedelta

from airflow import DAG

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

with DAG("queue_mode", schedule=None, tags=["adf"], doc_md=__doc__):  # noqa: AIR311 (Airflow 2 has no airflow.sdk)
    AdfBridgeRunPipelineOperator(
        task_id="ingest_sales",
        pipeline_name="ingest_sales",
        parameters={"business_date": "{{ ds }}"},
        mode="queue",
        retries=2,
        retry_delay=timedelta(minutes=5),
        on_retry="recover",
        on_abandon="cancel",
    )
