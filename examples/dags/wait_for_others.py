"""Two waits for runs that the waiting task did not start: one whose id is known, and the next of a pipeline."""

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.sensors import AdfBridgeRunSensor

with DAG("wait_for_others", schedule=None, tags=["adf"], doc_md=__doc__):
    started = AdfBridgeRunPipelineOperator(
        task_id="start_sales",
        pipeline_name="ingest_sales",
        parameters={"business_date": "{{ dag_run.run_after | ds }}"},
        wait_for_termination=False,
    )
    sales = AdfBridgeRunSensor(task_id="sales_are_there", run_id=started.output["run_id"])

    # Another team starts this one, at times before this DAG run. A failed run is theirs to repeat.
    customers = AdfBridgeRunSensor(
        task_id="customers_are_there",
        pipeline_name="build_customer_360",
        since="{{ dag_run.run_after - macros.timedelta(hours=2) }}",
        statuses=["Succeeded"],
        timeout=timedelta(hours=6),
    )

    @task
    def publish() -> None:
        """Do what needs both."""

    [sales, customers] >> publish()
