"""How a task steps aside while Data Factory works.

Mode resume: Airflow's `awaiting_input` state, ended from outside. It costs no worker slot, no pool slot and no
triggerer. Needs Airflow 3.3 or newer.
https://airflow.apache.org/docs/apache-airflow-providers-standard/stable/operators/hitl.html

Mode queue: the task is deferred to a trigger. It costs no worker slot, and of the triggerer next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from airflow_adf_bridge.airflow_api import CAN_PARK, TaskDeferred
from airflow_adf_bridge.errors import AdfBridgeConfigurationError
from airflow_adf_bridge.triggers import AdfBridgeTrigger

OPTIONS = ("Succeeded", "Failed", "Cancelled", "Expired", "Unknown")
"""How a wait may end. Fixed: a task that is parked can only be answered with the options that it parked with."""


def require_resume(*, instead: str) -> None:
    """Raise AdfBridgeConfigurationError when this Airflow cannot park a task. Ask before a run is started.

    `instead` says what works without parking.
    """
    if not CAN_PARK:
        from airflow import __version__  # noqa: PLC0415

        raise AdfBridgeConfigurationError(
            f"Mode resume needs Airflow 3.3 or newer, and this is Airflow {__version__}. Nothing was started. "
            f"Upgrade Airflow, use mode queue, or {instead}."
        )


def parked(
    task_instance_id: UUID, *, subject: str, body: str, timeout: timedelta, wait: Mapping[str, Any]
) -> BaseException:
    """Ask Airflow for an answer, and return what to raise in order to leave the worker until it is there.

    `execute_complete(context, event, wait)` runs when an answer came, or `timeout` is over. `subject` must not vary
    between tries: Airflow keeps the one of the first. An answer to an earlier try is forgotten by this.
    """
    from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: PLC0415 (absent before 3.3)
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail  # noqa: PLC0415

    upsert_hitl_detail(
        ti_id=task_instance_id,
        options=list(OPTIONS),
        subject=subject,
        body=body,
        defaults=None,
        multiple=False,
        params={},
        assigned_users=None,
    )
    return TaskAwaitingInput(method_name="execute_complete", kwargs={"wait": dict(wait)}, timeout=timeout)


def deferred(trigger: AdfBridgeTrigger, *, timeout: timedelta, wait: Mapping[str, Any]) -> BaseException:
    """Return what to raise in order to leave the worker until the trigger fires; then as `parked`."""
    return TaskDeferred(trigger=trigger, method_name="execute_complete", kwargs={"wait": dict(wait)}, timeout=timeout)
