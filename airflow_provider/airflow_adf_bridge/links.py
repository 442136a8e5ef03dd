"""The button on a task instance that leads to its run in Data Factory's monitor."""

from __future__ import annotations

from typing import Any

from airflow_adf_bridge.airflow_api import BaseOperatorLink, XCom

MONITOR_URL_KEY = "adf_bridge_monitor_url"
"""The XCom key under which the operator keeps the link's address, from the moment the run exists."""


class AdfBridgeRunLink(BaseOperatorLink):
    """A link to the pipeline run, there as soon as the run exists.

    Airflow 3 asks on the worker, whenever it leaves the task, and keeps the answer in XCom; Airflow 2 asks
    at each click.
    """

    name = "ADF pipeline run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 (Airflow's signature)
        """Return the run's address in Data Factory's monitor, or "" before there is a run."""
        url = XCom.get_value(key=MONITOR_URL_KEY, ti_key=ti_key)
        return url if isinstance(url, str) else ""
