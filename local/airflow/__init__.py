"""A real Airflow on this machine, for the demo and the end-to-end tests."""

from local.airflow.rest import AirflowApiError, AirflowRest
from local.airflow.standalone import Airflow, AirflowNotReadyError, bridge_connection

__all__ = ["Airflow", "AirflowApiError", "AirflowNotReadyError", "AirflowRest", "bridge_connection"]
