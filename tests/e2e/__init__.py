"""Everything together, with a real Airflow."""
