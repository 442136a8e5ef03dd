"""The DAGs of the tests of mode queue: each has one task, `load`, that waits for a run that the test ends."""
# mypy: ignore-errors
# (Airflow lives in an environment of its own.)

import logging
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow import DAG

from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator

OWNER = {"dag_run": "{{ run_id }}"}
PATIENCE = timedelta(minutes=3)
CROWD = int(os.environ["E2E_CROWD"])


class CountedOperator(AdfBridgeRunPipelineOperator):
    """Leaves a line in its log whenever Airflow resumes it, whatever comes of that."""

    def execute_complete(self, context: Any, event: Any = None, wait: Any = None) -> dict[str, Any]:
        """Count first."""
        logging.getLogger(__name__).info("RESUMED in try %s", context["ti"].try_number)
        return super().execute_complete(context, event, wait)


class StoppedOperator(CountedOperator):
    """Stays `running` after the bridge has answered, until the test opens its gate; then it waits as always."""

    def _finish_or_park(self, ti: Any, answer: Mapping[str, Any], wait: Mapping[str, Any]) -> dict[str, Any]:
        gate = Path(os.environ["E2E_GATES"]) / ti.run_id
        give_up = time.monotonic() + PATIENCE.total_seconds()
        while not gate.exists() and time.monotonic() < give_up:
            time.sleep(0.05)
        return super()._finish_or_park(ti, answer, wait)


with DAG("crowd", schedule=None, doc_md="Many of them, from one mapped task."):  # noqa: AIR311 (2.11 has no airflow.sdk)
    CountedOperator.partial(task_id="load", pipeline_name="held").expand(
        parameters=[{**OWNER, "part": str(part)} for part in range(CROWD)]
    )

with DAG("cleared", schedule=None, doc_md="Is cleared while it waits."):  # noqa: AIR311
    CountedOperator(task_id="load", pipeline_name="held", parameters=OWNER, pool="cleared")

with DAG("early", schedule=None, doc_md="Its run ends before its trigger runs."):  # noqa: AIR311
    StoppedOperator(task_id="load", pipeline_name="held", parameters=OWNER)
