"""The token, against the vectors that the bridge is tested with as well."""

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_bridge.token import TaskTry, new_nonce

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "tests" / "vectors" / "tokens.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("vector", VECTORS, ids=[str(number) for number in range(len(VECTORS))])
def test_a_task_has_the_token_that_the_bridge_computes(vector: dict[str, Any]) -> None:
    """S33: operator and bridge name a wait alike, whatever characters its names have."""
    task_try = TaskTry(**vector["task"])
    assert (vector["canonical"], vector["token"]) == (task_try.canonical(), task_try.token())


def test_the_same_names_with_another_nonce_are_another_wait() -> None:
    """S47: a DAG run that was deleted and made again under the same names gets another token."""
    first, second = (TaskTry(**{**VECTORS[0]["task"], "nonce": new_nonce()}) for _ in range(2))
    assert first.token() != second.token()
