"""The names that this package takes from Airflow, found where the installed Airflow keeps them (2.10 to 3.x)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from airflow import __version__

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

_VERSION = tuple(int(part) for part in __version__.split(".")[:2])
_ANY_THREAD_MAY_ASK = not (3, 0) <= _VERSION < (3, 2)

if _VERSION < (3, 0):
    DUE = (
        "{{ (dag_run.data_interval_end if dag_run.run_type in ('scheduled', 'backfill') else dag_run.logical_date)"
        ".isoformat() }}"
    )
    """When the DAG run was due: a scheduled one at the end of its data interval, a manual one when it was triggered."""
else:
    DUE = "{{ dag_run.run_after.isoformat() }}"


async def ask_airflow(question: Callable[[], Any], in_a_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Ask Airflow for a connection, or to mask a secret, where a triggerer's event loop runs; off that loop.

    Airflow 2 asks its database or a secrets backend, and Airflow 3.2 and later a channel that any thread may use.
    Before, that channel answered only threads of asgiref's: there is one for the whole triggerer, so only this is asked
    there.
    """
    if _ANY_THREAD_MAY_ASK:
        return await in_a_thread(question)
    from asgiref.sync import sync_to_async  # noqa: PLC0415 (which those have)

    return await sync_to_async(question)()


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
    "ask_airflow",
    "mask_secret",
]
