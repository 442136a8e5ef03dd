"""The way from a task to the trigger requests of its tries: none is missed, whatever dies or is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from azure.data.tables import TableClient

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import connect
from bridge.adapters.table_index import HINT_REMOVED, HINT_WRITTEN, PURGED_HINTS, PURGED_ROWS, ROWS_WRITTEN
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict
from bridge.model import StartRequest, StartState
from tests.contract.conftest import MakeTableStore
from tests.contract.costs import Counted
from tests.contract.processes import A_PLACE, a_try
from tests.contract.test_table_index import GRACE, HOUR, DyingAt, drop, moments, rows
from tests.fakes.bench import Crash
from tests.fakes.clock import START
from tests.fakes.samples import MINUTE, SECOND

T = TypeVar("T")
DAY = timedelta(days=1)


@pytest.fixture
def table(azurite: str, table_name: str) -> TableClient:
    """The table itself, to look into and to damage."""
    return connect(azurite, table_name)


def listed(store: TableStore, *, limit: int = 9) -> list[StartRequest]:
    """Return the records of the task's tries."""
    return list(store.requests_at(A_PLACE, limit=limit))


def hints(table: TableClient) -> int:
    """Return how many ways to trigger requests there are."""
    return len(rows(table, keys.PLACES))


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_what_a_start_costs() -> None:
    """A start costs one more write for its task's next try, and nothing later; that one costs a query and its reads."""
    counted = Counted()
    store, cost = counted.store, counted.cost
    _, of_none = cost(lambda: store.save_request(replace(a_try(0), place=None)))
    saved, first = cost(lambda: store.save_request(a_try(1)))
    saved, second = cost(lambda: store.save_request(replace(saved, state=StartState.STARTED, run_id="r")))
    store.save_request(a_try(2))
    _, of_a_list = cost(lambda: listed(store))
    _, of_nothing = cost(lambda: store.requests_at("another", limit=9))
    _, dropped = cost(lambda: store.drop_request(saved))
    store.close()
    assert [
        {"transaction": 1},
        {"upsert": 1, "transaction": 1},
        {"transaction": 1},
        {"query": 1, "get": 2},
        {"query": 1},
        {"delete": 2},
    ] == [of_none, first, second, of_a_list, of_nothing, dropped]


# --- lost -------------------------------------------------------------------------------------------------------------


def test_a_lost_way_is_rebuilt(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S14: the way to a record that was lost is written anew by a repair, where it was."""
    saved = [make_table_store().save_request(a_try(number)) for number in (1, 2)]
    assert 2 == drop(table, keys.PLACES)
    store = make_table_store()
    assert ([], 2, 0) == (listed(store), store.repair(), store.repair())
    assert saved[::-1] == listed(store)


def test_many_lost_ways_are_rebuilt_step_by_step(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S14: a repair looks at a bounded number of records each time, and at all of them in the end."""
    store = make_table_store()
    for number in range(5):
        store.save_request(a_try(number))
    for number in range(5, 9):
        store.save_request(replace(a_try(number), place=None))
    drop(table, keys.PLACES)
    rebuilt = [make_table_store().repair(limit=2) for _ in range(9)]
    assert (5, True) == (sum(rebuilt), max(rebuilt) <= 3)
    assert ([4, 3, 2, 1, 0], 5) == ([record.try_number for record in listed(store)], hints(table))


def test_a_record_that_went_on_keeps_its_way(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S14: the way that was rebuilt is the one that the record goes on with."""
    store = make_table_store()
    saved = store.save_request(a_try(1))
    drop(table, keys.PLACES)
    store.repair()
    found = make_table_store().request(saved.idempotency_key)
    assert found is not None
    started = store.save_request(replace(found, state=StartState.STARTED, run_id="r"))
    assert ([started], 1) == (listed(store), hints(table))
    store.drop_request(started)
    assert 0 == hints(table)


# --- a process that dies ----------------------------------------------------------------------------------------------


def test_a_process_dies_before_its_record(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S23: a process that dies between the way and the record leaves none; the next one makes it, listed once."""
    times, now = moments()
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN), now=now).save_request(a_try(1))
    store = make_table_store(now=now)
    assert ([], None, 1) == (listed(store), store.request(a_try(1).idempotency_key), hints(table))
    saved = store.save_request(replace(a_try(1), received_at=START + MINUTE))
    assert ([saved], 2, 0) == (listed(store), hints(table), store.repair())
    times.append(START + GRACE + SECOND)
    assert ([saved], 1) == (listed(store), hints(table))


@pytest.mark.parametrize(("point", "left"), [(ROWS_WRITTEN, 1), (HINT_REMOVED, 0)])
def test_a_process_dies_while_it_drops(
    make_table_store: MakeTableStore, table: TableClient, point: str, left: int
) -> None:
    """S23: a process that dies between the record that it drops and the way to it leaves nothing that is listed."""
    times, now = moments()
    saved = make_table_store(now=now).save_request(a_try(1))
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(point), now=now).drop_request(saved)
    store = make_table_store(now=now)
    assert ([], None, left) == (listed(store), store.request(saved.idempotency_key), hints(table))
    times.append(START + HOUR)
    assert ([], 0) == (listed(store), hints(table))


@pytest.mark.parametrize(("point", "left"), [(PURGED_ROWS, 1), (PURGED_HINTS, 0)])
def test_a_process_dies_while_it_purges(
    make_table_store: MakeTableStore, table: TableClient, point: str, left: int
) -> None:
    """S38: the way to a record that a purge which died has removed goes with the next purge, though nobody reads it."""
    _, now = moments()
    dying = make_table_store(reach=DyingAt(point), now=now)
    dying.save_request(a_try(1))
    with pytest.raises(Crash):
        dying.purge(START + DAY)
    assert left == hints(table)
    store = make_table_store(now=now)
    while store.purge(START + DAY):
        pass
    assert [] == rows(table, keys.PLACES, keys.REQUESTS)


# --- left over --------------------------------------------------------------------------------------------------------


def test_a_purge_removes_what_leads_nowhere(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S38: an old way that leads nowhere goes with a purge; one that leads somewhere, or is young, stays."""
    times, now = moments()
    store = make_table_store(now=now)
    kept = store.save_request(replace(a_try(1), received_at=START + 2 * DAY))  # its way is as old as the others
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN), now=now).save_request(a_try(2))
    times.append(START + 2 * DAY)
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN), now=now).save_request(a_try(3))
    assert (3, 1, 2, 0) == (hints(table), store.purge(START + DAY), hints(table), store.purge(START + DAY))
    assert [kept] == listed(store)


def test_ways_that_lead_nowhere_hide_nothing(make_table_store: MakeTableStore) -> None:
    """S14: more ways than are asked for, left by processes that died, do not keep the last try from being found."""
    for number in range(2, 8):
        with pytest.raises(Crash):
            make_table_store(reach=DyingAt(HINT_WRITTEN)).save_request(a_try(number))
    store = make_table_store()
    saved = store.save_request(a_try(1))
    assert [saved] == listed(store, limit=2)


def test_dropping_late_spares_the_new_way(make_table_store: MakeTableStore) -> None:
    """S22: an instance that is slow to drop a record does not remove the way to the one that took its key meanwhile."""
    other = make_table_store()
    saved = other.save_request(a_try(1))
    again: list[StartRequest] = []

    def meanwhile(point: str) -> None:
        if point == ROWS_WRITTEN:
            again.append(other.save_request(a_try(1)))  # of the very moment that the other one had

    make_table_store(reach=meanwhile).drop_request(saved)
    assert (again, 1, 0) == (listed(other), len(again), other.repair())


def test_many_reserve_a_key(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S21: of many instances that reserve one key at the same moment, one does, and none of the others leaves a way."""
    stores = [make_table_store() for _ in range(8)]

    def reserve(store: TableStore) -> bool:
        try:
            store.save_request(a_try(1))
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(len(stores)) as pool:
        assert [False] * 7 + [True] == sorted(pool.map(reserve, stores))
    assert ([1], 1, 0) == ([one.try_number for one in listed(stores[0])], hints(table), stores[0].repair())
