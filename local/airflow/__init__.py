"""A real Airflow on this machine, for the demo and the end-to-end tests."""

from local.airflow.rest import AirflowApiError, AirflowRest
from local.airflow.standalone import Airflow, AirflowNotReadyError, bridge_connection
from local.airflow.standalone_2 import Airflow2

__all__ = ["Airflow", "Airflow2", "AirflowApiError", "AirflowNotReadyError", "AirflowRest", "bridge_connection"]
