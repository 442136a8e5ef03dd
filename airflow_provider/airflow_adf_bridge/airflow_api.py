"""The names that this package takes from Airflow, found where the installed Airflow keeps them (2.10 to 3.x)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, Context
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException, TaskDeferred
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.sdk.log import mask_secret
    from airflow.triggers.base import BaseTrigger, TriggerEvent
else:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

    try:
        from airflow.sdk import BaseOperator, BaseOperatorLink, Context
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:  # Airflow 2
        from airflow.models import BaseOperator, XCom
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.utils.context import Context
    try:
        from airflow.sdk import BaseHook
    except ImportError:  # before 3.1
        from airflow.hooks.base import BaseHook
    try:
        from airflow.sdk.exceptions import AirflowException, AirflowSkipException, TaskDeferred
    except ImportError:  # before 3.2
        from airflow.exceptions import AirflowException, AirflowSkipException, TaskDeferred
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # before 3.1
        try:
            from airflow.sdk.execution_time.secrets_masker import mask_secret
        except ImportError:  # Airflow 2
            from airflow.utils.log.secrets_masker import mask_secret

try:
    from airflow.sdk.exceptions import TaskAwaitingInput as _TaskAwaitingInput
except ImportError:
    CAN_PARK = False
    """Whether this Airflow has `awaiting_input`, which mode resume needs: 3.3 and later."""
else:
    CAN_PARK = _TaskAwaitingInput is not None

try:
    import airflow.sdk  # noqa: F401
except ImportError:
    DUE = "{{ (dag_run.data_interval_end if dag_run.run_type in ('scheduled', 'backfill') else dag_run.logical_date).isoformat() }}"  # noqa: E501
    """When the DAG run was due: a scheduled one at the end of its data interval, a manual one when it was triggered."""
    _IS_AIRFLOW_2 = True
else:
    DUE = "{{ dag_run.run_after.isoformat() }}"
    _IS_AIRFLOW_2 = False


async def connection_in_triggerer(conn_id: str, in_a_thread: Callable[[Callable[[], Any]], Any]) -> Any:  # noqa: ANN401
    """Read a connection where a triggerer's event loop runs, in the way that its Airflow bears.

    Airflow 2 reads it from the database, or asks a secrets backend: in a thread of ours. Airflow 3 asks over a channel
    that belongs to the event loop.
    """
    if ask := getattr(BaseHook, "aget_connection", None):
        return await ask(conn_id)
    if _IS_AIRFLOW_2:
        return await in_a_thread(lambda: BaseHook.get_connection(conn_id))
    from asgiref.sync import sync_to_async  # noqa: PLC0415 (3.0 answers only a thread that asgiref has made)

    return await sync_to_async(BaseHook.get_connection)(conn_id)


__all__ = [
    "CAN_PARK",
    "DUE",
    "AirflowException",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseTrigger",
    "Context",
    "TaskDeferred",
    "TriggerEvent",
    "XCom",
    "connection_in_triggerer",
    "mask_secret",
]
