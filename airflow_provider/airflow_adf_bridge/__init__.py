"""Airflow's side of adf-bridge: tasks that wait for Azure Data Factory runs without polling."""

__version__ = "0.1.0"
