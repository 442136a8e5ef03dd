"""Rows as entities: cut into what a property holds, and read again whoever wrote them."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from bridge.adapters.rows import SCHEMA, Rows
from bridge.adapters.table_entity import (
    Seen,
    chunks,
    fitting,
    read_row,
    run_entity,
    text_of,
    wait_entity,
    wire_bytes,
)
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import TimelineEntry, Wait
from tests.fakes.clock import START
from tests.fakes.samples import a_completion, a_run, a_task, a_wait

UTF16_UNITS = 32_768  # 64 KiB
ENTITY_BYTES = 1_048_576
ETAG = "W/\"datetime'2026-03-01T12%3A00%3A00.0000000Z'\""


class AsRead(dict[str, Any]):
    """An entity as the SDK gives it."""

    metadata: ClassVar = {"etag": ETAG}


def entity_of(wait: Wait) -> dict[str, Any]:
    """Return a wait's entity."""
    return wait_entity(wait, due_key="due", open_key="", write="w")


def row_of(entity: AsRead) -> Wait:
    """Return an entity's wait."""
    wait = read_row(Rows(), entity, Wait)
    assert wait is not None
    return wait


def told(lines: int, chars: int, sign: str = "x") -> Wait:
    """Return a wait with a long story."""
    story = tuple(TimelineEntry(START + timedelta(seconds=n), f"line-{n}", sign * chars) for n in range(lines))
    return a_wait(timeline=story, news=lines)


@pytest.mark.parametrize("sign", ["x", "ü", "💥"])
def test_a_long_row_is_cut_into_properties(sign: str) -> None:
    """S32: no property is larger than Azure allows, and the parts give the whole again, whatever the signs."""
    wait = told(10, 4_000, sign)
    parts = {name: value for name, value in entity_of(wait).items() if name.startswith("row")}
    assert len(parts) > 1
    assert [] == [name for name, part in parts.items() if len(part.encode("utf-16-le")) // 2 > UTF16_UNITS]
    assert replace(wait, news=0) == replace(row_of(AsRead(entity_of(wait))), version="", news=0)


def test_a_short_row_is_one_property() -> None:
    """A text that fits is not cut, and an empty one is none."""
    assert ({"row0": "x"}, {}) == (chunks("x"), chunks(""))
    assert "" == text_of({})


@pytest.mark.parametrize("sign", ["x", "ü", "💥"])
def test_a_story_that_is_too_long_loses_its_middle(sign: str) -> None:
    """A wait whose story would not fit into an entity keeps the beginning and the end of it, and everything else."""
    wait = told(400, 4_000, sign)
    kept = fitting(wait)
    size = sum(len(str(value).encode("utf-16-le")) + 2 * len(name) + 8 for name, value in entity_of(kept).items())
    assert size < ENTITY_BYTES
    assert (wait.timeline[:4], wait.timeline[-4:]) == (kept.timeline[:4], kept.timeline[-4:])
    assert replace(wait, timeline=(), news=0) == replace(kept, timeline=(), news=0)
    assert 50 < len(kept.timeline) < 400


def test_a_story_that_fits_is_whole() -> None:
    """A wait that fits is not touched."""
    assert told(60, 4_000) == fitting(told(60, 4_000))


def test_a_story_of_few_long_lines() -> None:
    """Lines that are too long by themselves keep what happened, without the details."""
    kept = fitting(told(5, 300_000))
    assert [("line-0", ""), ("line-4", "")] == [
        (line.what, line.detail) for line in (kept.timeline[0], kept.timeline[4])
    ]


def test_a_wait_that_never_fits() -> None:
    """S23: a wait that is too large without its story is refused, not cut."""
    with pytest.raises(StoreUnavailable):
        fitting(a_wait(completion=a_completion(message="x" * 600_000)))


def test_names_of_any_signs_fit() -> None:
    """S33: the longest names that the API takes, in the largest signs, fit with room to spare."""
    name = "💥" * 250
    entity = entity_of(a_wait(a_task(dag_id=name, run_id=name, task_id=name, nonce=name)))
    assert wire_bytes(entity) < 100_000


# --- what other releases wrote ----------------------------------------------------------------------------------------


def rewritten(entity: dict[str, Any], change: Any, **properties: Any) -> AsRead:
    """Return an entity as another release would have written it."""
    row = json.loads(text_of(entity))
    change(row)
    rest = {name: value for name, value in entity.items() if not name.startswith("row")}
    return AsRead({**rest, **properties, **chunks(json.dumps(row))})


def test_an_older_row_is_readable() -> None:
    """S43: a row of the schema before, which lacks every field that has a default, reads with the defaults."""
    required = {"token", "key", "task", "mode", "deadline", "on_abandon", "registered_at"}

    def forget(row: dict[str, Any]) -> None:
        for name in set(row) - required:
            del row[name]

    entity = rewritten(entity_of(a_wait()), forget, schema=SCHEMA - 1)
    assert replace(a_wait(), due_at=None) == replace(row_of(entity), version="")


def test_a_newer_row_is_readable() -> None:
    """S43: a row of a later schema, with fields and properties that are not known here, reads as far as it is known."""
    entity = rewritten(
        entity_of(a_wait()), lambda row: row.update(colour="red", key={**row["key"], "region": 1}), schema=99, more="x"
    )
    assert a_wait() == replace(row_of(entity), version="")


def test_an_entity_says_its_schema() -> None:
    """S43: every row carries the schema that it was written with."""
    assert [SCHEMA, SCHEMA] == [entity_of(a_wait())["schema"], run_entity(a_run(), write="w")["schema"]]


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_version_remembers() -> None:
    """A row's version gives back the ETag and the index keys that it was read with."""
    wait = row_of(AsRead(entity_of(a_wait())))
    assert Seen(ETAG, "due", "") == Seen.of(wait.version)
    assert Seen("") == Seen.of("")


@pytest.mark.parametrize("version", ["3", "\n", "a\nb", "a\nb\nc\nd"])
def test_a_version_of_another_store(version: str) -> None:
    """S22: a version that this store never gave out matches no row."""
    with pytest.raises(StoreConflict):
        Seen.of(version)
