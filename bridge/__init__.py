"""adf-bridge: completes waiting Airflow tasks when their Azure Data Factory runs end."""

__version__ = "0.1.0"
