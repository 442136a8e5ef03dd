"""Mode queue, with a real Airflow that the bridge has no address of."""
