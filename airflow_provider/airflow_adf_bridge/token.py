"""The token: the name of one wait, computed alike by this operator and by the bridge.

A token is the lower-case hex SHA-256 of canonical JSON (keys sorted, no spaces, ASCII escapes) over everything that
makes one try of one task instance unique. The nonce is drawn anew in each `execute`, so a DAG run that was deleted and
made again under the same names gets another token. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

RECIPE_VERSION = 1


def new_nonce() -> str:
    """Return 128 random bits in hex."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class TaskTry:
    """One try of one task instance on one Airflow (`target`, as the bridge names it)."""

    target: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    """-1 for a task that is not mapped."""
    try_number: int
    task_instance_id: str | None
    """Airflow 3's id of the task instance, new for every try; Airflow 2 has none."""
    nonce: str

    def canonical(self) -> str:
        """Return the JSON that the token is computed over. ASCII only; the target is spoken in lower case."""
        return json.dumps(
            {"v": RECIPE_VERSION, "target": self.target.lower(), **self.as_request()},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=True,
        )

    def token(self) -> str:
        """Return the token: 64 lower-case hex digits."""
        return hashlib.sha256(self.canonical().encode("ascii")).hexdigest()

    def as_request(self) -> dict[str, Any]:
        """Return the `task` object of a wait, as the bridge's API takes it (the target stands beside it)."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "task_instance_id": self.task_instance_id,
            "nonce": self.nonce,
        }
