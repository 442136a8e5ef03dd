"""What was called: counted by operation and by run, and logged in order."""

from collections import Counter
from dataclasses import dataclass, field

from local.adf.status import iso, now
from local.json_value import JsonObject


@dataclass(slots=True)
class Call:
    """One request. `status` is None when the connection was cut; `run_id` is the new run's for createRun."""

    op: str
    run_id: str | None = None
    pipeline: str | None = None
    status: int | None = None
    at: str | None = field(default_factory=lambda: iso(now()))


class CallLog:
    """Every call that reached a known operation, whatever became of it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        """Log a call."""
        self._calls.append(call)

    def clear(self) -> None:
        """Forget what was called."""
        self._calls.clear()

    def to_json(self) -> JsonObject:
        """The counts and the log. A run's `total` is every call that names it."""
        by_run: dict[str, Counter[str]] = {}
        for call in self._calls:
            if call.run_id is not None:
                by_run.setdefault(call.run_id, Counter())[call.op] += 1
        return {
            "by_operation": {**Counter(call.op for call in self._calls)},
            "by_run": {run_id: {**counts, "total": counts.total()} for run_id, counts in by_run.items()},
            "log": [
                {"op": call.op, "run_id": call.run_id, "pipeline": call.pipeline, "status": call.status, "at": call.at}
                for call in self._calls
            ],
        }
