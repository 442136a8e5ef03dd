"""Everything that can go wrong in the simulated world, by name: what happened of it is counted under that name."""

from __future__ import annotations

from typing import Final

from bridge.adapters import table_index as index
from bridge.commands import Point
from tests.simulate import adf, airflow, store

FAULTS: Final = (
    *airflow.REFUSALS,
    *airflow.IN_PASSING,
    "airflow 409",
    "airflow 409 for nothing",
    "airflow outage",
    "airflow left one out of its list",
    "airflow time-out after applying",
    "S15: cleared between fence and PATCH",
    *adf.REFUSALS,
    "adf cancel without an answer",
    "adf createRun without an answer",
    "adf did not start the child",
    "adf read of an older state",
    "adf read with a status unknown here",
    "adf refused createRun",
    "event dead-lettered",
    "event delayed, reordered",
    "event delivered again",
    "event doubled",
    "event dropped",
    "event forged",
    *store.BEFORE,
    *store.AFTER,
    "index row lost",
    "others acted during a call of the store",
    "store conflict",
    "crash after an effect",
    "crash before a command",
    "crash inside the store",
    "instance stalled for a minute",
    "peer answered slowly",
    "answer to the operator lost",
    "request of the operator doubled",
    "request of the operator lost",
    "parks late",
    "retried",
    "withdrawn",
    "worker killed before parking",
    "person acts between fence and PATCH",
    "person: answered",
    "person: cleared",
    "person: cleared while it ran",
    "person: marked",
    "person: removed the task",
)
# No simulated task waits for a run that it does not know.
NOT_SIMULATED: Final = frozenset({Point.RUN_FOUND})
POINTS: Final = (*(str(point) for point in Point if point not in NOT_SIMULATED), *index.POINTS)
STATES: Final = (
    *sorted(airflow.GOING_ON),
    *(state or "none" for state in airflow.IN_PASSING.values()),
    *airflow.IN_THE_END,
    "restarting",
    "up_for_retry",
)
