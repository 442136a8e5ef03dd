"""What the demo runs, and how each task has to end."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Expected:
    """How a task has to end: Airflow's state, after how many tries, with which words in the log of its last try."""

    dag_id: str
    task_id: str
    state: str = "success"
    map_index: int = -1
    tries: int = 1
    log_holds: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The task's name for a person."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


TASKS = (
    Expected("nightly_loads", "check_freshness"),
    Expected("nightly_loads", "ingest_sales"),
    Expected("nightly_loads", "build_customer_360"),
    Expected("nightly_loads", "train_forecast"),
    Expected("regions", "copy_region", map_index=0),
    Expected("regions", "copy_region", map_index=1),
    Expected("regions", "copy_region", map_index=2),
    Expected(
        "failing_load",
        "load_ledger",
        state="failed",
        log_holds=("Copy ledger entries", "2200", "TypeConversionFailure"),
    ),
    Expected("retried_load", "refresh_mart", tries=2),
)
DAGS = tuple(dict.fromkeys(task.dag_id for task in TASKS))

LONG_RUN = timedelta(seconds=15)
"""The latency figure is taken over runs at least this long; a shorter one may have to be held until Airflow settles."""

PATIENCE = timedelta(minutes=4)
