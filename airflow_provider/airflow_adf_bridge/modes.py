"""The two ways in which a waiting task is completed, and which one a task takes."""

from __future__ import annotations

from airflow_adf_bridge.airflow_api import CAN_PARK
from airflow_adf_bridge.errors import AdfBridgeConfigurationError

AUTO = "auto"
RESUME = "resume"
"""The task parks in Airflow's `awaiting_input`, and the bridge answers it over Airflow's REST API. Airflow 3.3."""
QUEUE = "queue"
"""The task is deferred, and the bridge sends a message to its triggerer. Airflow 2.10, and a Service Bus queue."""

MODES = (AUTO, RESUME, QUEUE)


def mode_of(asked: str, extra: str) -> str:
    """Return the mode of a task: what it says itself, else what its connection's extra says, else the best there is.

    Raises AdfBridgeConfigurationError when the extra says something else.
    """
    if extra not in ("", *MODES):
        raise AdfBridgeConfigurationError(
            f"mode in the connection's extra must be auto, resume or queue, not {extra!r}. Nothing was started."
        )
    for said in (asked, extra):
        if said not in ("", AUTO):
            return said
    return RESUME if CAN_PARK else QUEUE
