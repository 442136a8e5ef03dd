"""The list of trigger requests that the bridge itself has to finish: none is missed, whatever dies or is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

import pytest
from azure.data.tables import TableClient

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import connect
from bridge.adapters.table_index import HINT_REMOVED, HINT_WRITTEN, ROWS_WRITTEN
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict
from bridge.model import StartRequest, StartState
from tests.contract.conftest import MakeTableStore
from tests.contract.costs import Counted
from tests.contract.processes import a_try
from tests.contract.test_table_index import GRACE, DyingAt, drop, moments, rows
from tests.fakes.bench import Crash
from tests.fakes.clock import START
from tests.fakes.samples import MINUTE, SECOND, a_request

T = TypeVar("T")
LATER: Final = START + 2 * MINUTE


@pytest.fixture
def table(azurite: str, table_name: str) -> TableClient:
    """The table itself, to look into and to damage."""
    return connect(azurite, table_name)


def begun(number: int = 1, **changes: Any) -> StartRequest:
    """Return the record of a try whose start has begun."""
    return replace(a_try(number), **{"finish_at": LATER, "wait": a_request(), **changes})


def listed(store: TableStore) -> list[StartRequest]:
    """Return what is to be finished."""
    return list(store.unfinished_requests(before=LATER, limit=9))


def hints(table: TableClient) -> int:
    """Return how many ways to such requests there are."""
    return len(rows(table, keys.UNFINISHED))


def test_what_it_costs() -> None:
    """A start costs one more write when its key is reserved and one when it is answered; looking costs a query."""
    counted = Counted()
    store, cost = counted.store, counted.cost
    saved, reserved = cost(lambda: store.save_request(begun()))
    saved, started = cost(lambda: store.save_request(replace(saved, state=StartState.STARTED, run_id="r")))
    _, of_a_look = cost(lambda: listed(store))
    saved, put_off = cost(lambda: store.save_request(replace(saved, finish_at=LATER + MINUTE)))
    saved, answered = cost(lambda: store.save_request(replace(saved, answer="{}")))
    _, of_nothing = cost(lambda: listed(store))
    store.close()
    assert [
        {"upsert": 2, "transaction": 1},
        {"transaction": 1},
        {"query": 1, "get": 1},
        {"upsert": 1, "transaction": 1, "delete": 1},
        {"transaction": 1, "delete": 1},
        {"query": 1},
    ] == [reserved, started, of_a_look, put_off, answered, of_nothing]


def test_a_lost_way_is_rebuilt(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S19: the way to an unfinished record that was lost is written anew by a repair; a finished one needs none."""
    saved = make_table_store().save_request(begun())
    make_table_store().save_request(begun(2, answer="{}"))
    assert 1 == drop(table, keys.UNFINISHED)
    store = make_table_store()
    assert ([], 1, 0) == (listed(store), store.repair(), store.repair())
    assert ([saved], 1) == (listed(store), hints(table))
    store.save_request(replace(saved, answer="{}"))
    assert ([], 0, 0) == (listed(store), hints(table), store.repair())


def test_a_process_dies_before_its_record(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S23: a way whose record was never written is passed over, and removed once it is old."""
    times, now = moments()
    at = DyingAt(HINT_WRITTEN)
    with pytest.raises(Crash):
        make_table_store(reach=at, now=now).save_request(begun(place=None))
    store = make_table_store(now=now)
    assert ([], 1) == (listed(store), hints(table))
    times.append(START + GRACE + SECOND)
    assert ([], 0) == (listed(store), hints(table))


@pytest.mark.parametrize(("point", "left"), [(HINT_WRITTEN, 2), (ROWS_WRITTEN, 2), (HINT_REMOVED, 1)])
def test_a_process_dies_while_it_puts_off(
    make_table_store: MakeTableStore, table: TableClient, point: str, left: int
) -> None:
    """S23: a record whose writer died is listed once, as it stands, and its other way goes once it is old."""
    times, now = moments()
    saved = make_table_store(now=now).save_request(begun())
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(point), now=now).save_request(replace(saved, finish_at=LATER - MINUTE))
    store = make_table_store(now=now)
    found = store.request(saved.idempotency_key)
    assert ([found], left) == (listed(store), hints(table))
    times.append(START + GRACE + SECOND)
    assert ([found], 1, 0) == (listed(store), hints(table), store.repair())


def test_a_way_that_stayed(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S19: a way that outlived its record's answer lists nothing, and is removed once it is old."""
    times, now = moments()
    saved = make_table_store(now=now).save_request(begun())
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(ROWS_WRITTEN), now=now).save_request(replace(saved, answer="{}"))
    store = make_table_store(now=now)
    assert ([], 1) == (listed(store), hints(table))
    times.append(START + GRACE + SECOND)
    assert ([], 0) == (listed(store), hints(table))


def test_a_lost_race_leaves_no_way(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S22: whoever comes too late to change a record leaves the ways to it as they are."""
    store = make_table_store()
    saved = store.save_request(begun())
    started = store.save_request(replace(saved, state=StartState.STARTED, run_id="r"))
    for late in (replace(saved, finish_at=LATER - MINUTE), replace(saved, answer="{}"), begun()):
        with pytest.raises(StoreConflict):
            store.save_request(late)
    assert ([started], 1, 0) == (listed(store), hints(table), store.repair())


def test_a_purge_takes_the_way_with_it(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S38: what a purge removes, and what is dropped, leaves nothing in the list."""
    store = make_table_store()
    dropped, answered = store.save_request(begun()), store.save_request(begun(2))
    store.drop_request(dropped)
    store.save_request(replace(answered, answer="{}"))
    while store.purge(a_request().deadline + SECOND):
        pass
    assert [] == rows(table, keys.UNFINISHED, keys.PLACES, keys.REQUESTS)
