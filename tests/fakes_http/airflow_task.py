"""A task instance as Airflow 3.3 keeps it, with the question that it asks while it is parked."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

OPTIONS = ("Succeeded", "Failed", "Cancelled", "Expired", "Unknown")
PARKED = "awaiting_input"


def stamp(moment: datetime | None) -> str | None:
    """A time as Airflow writes it."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


@dataclass
class Question:
    """What a task asks for while it is parked, and what it was answered. The row stays when the task goes on."""

    created_at: datetime
    options: tuple[str, ...] = OPTIONS
    responded_at: datetime | None = None
    responded_by: str | None = None
    chosen_options: list[str] | None = None
    params_input: dict[str, Any] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether somebody gave an answer."""
        return self.responded_at is not None

    def answer(self, by: str, chosen: list[str], params: Mapping[str, Any]) -> None:
        """Take an answer."""
        self.responded_at, self.responded_by = datetime.now(UTC), by
        self.chosen_options, self.params_input = chosen, dict(params)


@dataclass
class AirflowTask:
    """One task instance: `map_index` is -1 unless it is mapped. It starts out running in its first try."""

    dag_id: str = "etl"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "copy"
    map_index: int = -1
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str | None = "running"
    try_number: int = 1
    end_date: datetime | None = None
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    question: Question | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """How the API addresses it."""
        return (self.dag_id, self.run_id, self.task_id, self.map_index)

    def park(self) -> None:
        """Wait for an answer; the answer of an earlier try is forgotten now, and not before."""
        self.state, self.end_date = PARKED, None
        self.question = Question(datetime.now(UTC))

    def clear(self) -> None:
        """Be cleared by a person: another id at once, the try's number and its end stay until it is scheduled."""
        self.id, self.state = str(uuid.uuid4()), None

    def fail_for_retry(self) -> None:
        """End this try: another id at once, the same number; the old answer is still to be seen."""
        self.id, self.state, self.end_date = str(uuid.uuid4()), "up_for_retry", datetime.now(UTC)

    def run_again(self) -> None:
        """Begin the next try."""
        self.try_number, self.state, self.start_date = self.try_number + 1, "running", datetime.now(UTC)
        self.end_date = None

    def end(self, state: str) -> None:
        """End, or be marked by a person; the id and the number stay, and the question is not answered by it."""
        self.state, self.end_date = state, datetime.now(UTC)

    def answer(self, chosen: list[str], *, by: str = "ann", params: Mapping[str, Any] | None = None) -> None:
        """Be answered; a parked task goes on, any other stays as it is."""
        assert self.question is not None
        self.question.answer(by, chosen, params or {})
        if self.state == PARKED:
            self.state = "scheduled"

    def to_json(self) -> dict[str, Any]:
        """The task instance as the API shows it."""
        return {
            "id": self.id,
            "dag_id": self.dag_id,
            "dag_run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "state": self.state,
            "try_number": self.try_number,
            "max_tries": 1,
            "start_date": stamp(self.start_date),
            "end_date": stamp(self.end_date),
            "operator": "AdfBridgeRunPipelineOperator",
            "note": None,
        }

    def details(self) -> dict[str, Any]:
        """The question with the task instance in it, as the API shows it."""
        assert self.question is not None
        asked = self.question
        person = {"id": asked.responded_by, "name": asked.responded_by} if asked.responded_by else None
        return {
            "options": list(asked.options),
            "subject": "Waits for Azure Data Factory",
            "body": "",
            "defaults": None,
            "multiple": False,
            "params": {},
            "assigned_users": [],
            "created_at": stamp(asked.created_at),
            "responded_by_user": person,
            "responded_at": stamp(asked.responded_at),
            "chosen_options": asked.chosen_options,
            "params_input": asked.params_input,
            "response_received": asked.answered,
            "task_instance": self.to_json(),
        }
