"""The names that this package takes from Airflow, found where the installed Airflow keeps them (2.10 to 3.x)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, Context
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException
    from airflow.sdk.execution_time.xcom import XCom
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, Context
        from airflow.sdk.exceptions import AirflowException, AirflowSkipException
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:  # Airflow 2
        from airflow.exceptions import AirflowException, AirflowSkipException
        from airflow.hooks.base import BaseHook
        from airflow.models import BaseOperator, XCom
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.utils.context import Context

__all__ = [
    "AirflowException",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "Context",
    "XCom",
]
