"""The token: one recipe, spoken by the operator and by the bridge."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import TaskRef
from bridge.token import canonical_task, token_of_canonical
from tests.fakes.samples import TASK, a_task

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors/tokens.json").read_text(encoding="utf-8")
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TASKS = st.builds(
    TaskRef,
    target=st.sampled_from(["prod", "dev"]),
    dag_id=TEXT,
    run_id=TEXT,
    task_id=TEXT,
    map_index=st.integers(-1, 3),
    try_number=st.integers(0, 3),
    task_instance_id=st.none() | TEXT,
    nonce=TEXT,
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["token"])[:8])
def test_the_vectors_hold(vector: dict[str, Any]) -> None:
    """Both packages compute the same canonical text and the same token for every shared vector."""
    canonical = canonical_task(**vector["task"])
    assert (vector["canonical"], vector["token"]) == (canonical, token_of_canonical(canonical))


def test_the_vectors_are_worth_it() -> None:
    """The shared vectors hold a mapped task, a task without an id and names beyond ASCII."""
    tasks = [vector["task"] for vector in VECTORS]
    assert len(tasks) >= 8
    assert any(task["map_index"] >= 0 for task in tasks)
    assert any(task["task_instance_id"] is None for task in tasks)
    assert any(not json.dumps(task, ensure_ascii=False).isascii() for task in tasks)


@given(TASKS)
def test_a_token_is_64_hex_digits(task: TaskRef) -> None:
    """A token is 64 lower-case hex digits, whatever the names are."""
    assert (64, True) == (len(task.token), set(task.token) <= set("0123456789abcdef"))


@given(TASKS, TASKS)
def test_equal_tokens_are_equal_tasks(one: TaskRef, other: TaskRef) -> None:
    """S18: two waits share a token only if everything about their tasks is the same, the target included."""
    assert (one == other) == (one.token == other.token)


@pytest.mark.parametrize("field", [field.name for field in fields(TaskRef)])
def test_every_part_counts(field: str) -> None:
    """S18: a change of any one part of a task, its target, index, try or nonce, is another token."""
    changed = 7 if isinstance(getattr(TASK, field), int) else "changed"
    assert TASK.token != a_task(**{field: changed}).token


def test_the_target_is_spoken_in_lower_case() -> None:
    """A target has one token however its name is written."""
    assert TASK.token == a_task(target="PROD").token
