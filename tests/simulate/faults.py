"""Everything that can go wrong in the simulated world, by name: what happened of it is counted under that name."""

from __future__ import annotations

from typing import Final

from bridge.adapters import table_index as index
from bridge.commands import Point
from tests.simulate import abandonment, adf, airflow, listening, starts, store

FAULTS: Final = (
    *airflow.REFUSALS,
    *airflow.IN_PASSING,
    "airflow 409",
    "airflow 409 for nothing",
    "airflow outage",
    "airflow left one out of its list",
    "airflow time-out after applying",
    *listening.REFUSALS,
    "queue took it without an answer",
    "triggerer died",
    "tasks moved to another triggerer",
    "tasks on two triggerers for a moment",
    "answer to a listener lost",
    "S15: cleared between fence and PATCH",
    *adf.REFUSALS,
    "adf cancel without an answer",
    "adf createRun lost on its way",
    "adf createRun without an answer",
    "adf did not run it again",
    "adf lost many createRuns",
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
    "index row of a request lost",
    "index row of a wait lost",
    "others acted during a call of the store",
    "store conflict",
    "crash after an effect",
    "crash before a command",
    "crash inside the store",
    "instance stalled after createRun",
    "instance stalled for a minute",
    "peer answered slowly",
    "answer to the operator lost",
    "captured request replayed",
    "key used again with another body",
    "operator told to end before it parked",
    starts.CALLER_DIED,
    "parameters changed for a later try",
    "request of the operator doubled",
    "request of the operator lost",
    "parks late",
    "retried",
    "withdrawn",
    "worker killed before parking",
    "worker killed while it asked",
    "person acts between fence and PATCH",
    "person: answered",
    "person: cleared",
    "person: cleared when it had ended",
    "person: cleared while it ran",
    "person: deleted the DAG run and made it again",
    "person: marked",
    "person: ran a run again",
    "person: removed the task",
    "person: started an equal run",
)
# What follows from all that, and has to happen as well: how requests are answered, and what becomes of runs.
OUTCOMES: Final = (*starts.KINDS, abandonment.CANCELLED, abandonment.FINISHED)
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
