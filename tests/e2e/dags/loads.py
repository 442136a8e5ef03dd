"""The DAGs of the end-to-end tests: each has one task, `load`, that waits for a run; most of these the test ends."""
# mypy: ignore-errors
# (Airflow lives in an environment of its own.)

import os
import signal
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

OWNER = {"dag_run": "{{ run_id }}"}
PATIENCE = timedelta(minutes=1)


class GatedOperator(AdfBridgeRunPipelineOperator):
    """Stays `running` after it has started its run, until the test opens its gate; then it parks as always."""

    def execute(self, context: Context) -> object:
        """Leave only through the gate."""
        try:
            return super().execute(context)
        finally:
            wait_at_gate(context["ti"].run_id)


class StoppedOperator(AdfBridgeRunPipelineOperator):
    """Stays `running` before it parks, until the test opens its gate."""

    def _finish_or_park(self, ti: Any, answer: Mapping[str, Any], wait: Mapping[str, Any]) -> dict[str, Any]:
        wait_at_gate(ti.run_id)
        return super()._finish_or_park(ti, answer, wait)


class KilledOperator(AdfBridgeRunPipelineOperator):
    """Its process dies as by `kill -9` in the first try, when the bridge has answered and before the task parks."""

    def _finish_or_park(self, ti: Any, answer: Mapping[str, Any], wait: Mapping[str, Any]) -> dict[str, Any]:
        if ti.try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._finish_or_park(ti, answer, wait)


def wait_at_gate(run_id: str) -> None:
    """Wait for a file named like the DAG run."""
    gate = Path(os.environ["E2E_GATES"]) / run_id
    give_up = time.monotonic() + PATIENCE.total_seconds()
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

with DAG("kept_load", schedule=None, doc_md="The same; but a try after a clear goes on with its run."):
    AdfBridgeRunPipelineOperator(
        task_id="load", pipeline_name="held", parameters=OWNER, on_abandon="cancel", on_clear="reattach"
    )

with DAG("gated_load", schedule=None, doc_md="Parks when the test lets it."):
    GatedOperator(task_id="load", pipeline_name="held", parameters=OWNER)

with DAG("nested_load", schedule=None, doc_md="Waits for a run that executes others, two levels down."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="nested", parameters=OWNER)

with DAG("brief_load", schedule=None, doc_md="Waits for a run that ends at once."):
    AdfBridgeRunPipelineOperator(task_id="load", pipeline_name="brief", parameters=OWNER)

with DAG("stopped_load", schedule=None, doc_md="Parks when the test lets it, and has its run cancelled if it may not."):
    StoppedOperator(task_id="load", pipeline_name="held", parameters=OWNER, on_abandon="cancel")

RETRIED_AT_ONCE = {"retries": 1, "retry_delay": timedelta(seconds=1)}

with DAG("killed_load", schedule=None, doc_md="Loses its process before it parks; the retry goes on with its run."):
    KilledOperator(task_id="load", pipeline_name="held", parameters=OWNER, on_abandon="cancel", **RETRIED_AT_ONCE)

with DAG("recovered_load", schedule=None, doc_md="Its run fails at the fourth of five; the retry does the last two."):
    AdfBridgeRunPipelineOperator(
        task_id="load", pipeline_name="staged", parameters=OWNER, on_retry="recover", **RETRIED_AT_ONCE
    )

with DAG("changed_load", schedule=None, doc_md="The same, with another parameter in each try; so it does all five."):
    AdfBridgeRunPipelineOperator(
        task_id="load",
        pipeline_name="staged",
        parameters={**OWNER, "part": "{{ ti.try_number }}"},
        on_retry="recover",
        **RETRIED_AT_ONCE,
    )
