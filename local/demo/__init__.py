"""The demo: a real Airflow waits for Data Factory runs, and a person watches how each wait ends."""
