"""The token: the name of one wait, computed alike by the Airflow operator and by the bridge.

A token is the lower-case hex SHA-256 of canonical JSON (keys sorted, no spaces, ASCII escapes) over everything that
makes one try of one task instance unique. The nonce is drawn by the operator in each `execute`, so a DAG run that was
deleted and made again under the same names gets another token. `tests/vectors/tokens.json` holds vectors that both
packages are tested against.
"""

from __future__ import annotations

import hashlib
import json

RECIPE_VERSION = 1


def canonical_task(
    *,
    target: str,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    try_number: int,
    task_instance_id: str | None,
    nonce: str,
) -> str:
    """Return the canonical JSON that the token is computed over; the target is spoken in lower case."""
    return json.dumps(
        {
            "v": RECIPE_VERSION,
            "target": target.lower(),
            "dag_id": dag_id,
            "run_id": run_id,
            "task_id": task_id,
            "map_index": map_index,
            "try_number": try_number,
            "task_instance_id": task_instance_id,
            "nonce": nonce,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )


def token_of_canonical(canonical: str) -> str:
    """Return the token, 64 lower-case hex digits, of a task's canonical JSON."""
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
