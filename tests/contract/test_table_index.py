"""The table store's index rows: hints that may be lost, left over or wrong, at any moment, without loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.data.tables import TableClient

from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import connect
from bridge.adapters.table_index import HINT_REMOVED, HINT_WRITTEN, PURGED_HINTS, PURGED_ROWS, ROWS_WRITTEN
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict
from bridge.model import RunKey, RunStatus, Wait, WaitState
from bridge.ports import Due, OpenWait, WaitFilter
from tests.contract.conftest import MakeTableStore
from tests.contract.costs import Counted
from tests.fakes.bench import Bench, Crash
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, MINUTE, TASK, a_run, a_task, a_wait

GRACE = timedelta(minutes=5)
HOUR = timedelta(hours=1)
INDEXES = {"token": keys.TOKENS, "run id": keys.RUN_IDS, "due": keys.DUE, "age": keys.AGES, "open": keys.OPEN}
HINTS_OF_A_WAIT = 4
HINTS_OF_A_RUN = 1


class DyingAt:
    """Dies when a point is reached for the nth time."""

    def __init__(self, point: str, nth: int = 1) -> None:
        self._point, self._left = point, nth

    def __call__(self, point: str) -> None:
        """Take note of a point that is reached."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                raise Crash(point)


@pytest.fixture
def table(azurite: str, table_name: str) -> TableClient:
    """The table itself, to look into and to damage."""
    return connect(azurite, table_name)


def rows(table: TableClient, *prefixes: str) -> list[dict[str, Any]]:
    """Return the entities whose partitions start so."""
    found = [dict(entity) for entity in table.list_entities()]
    return [entity for entity in found if entity["PartitionKey"].startswith(prefixes)]


def drop(table: TableClient, *prefixes: str) -> int:
    """Delete the entities whose partitions start so; return how many there were."""
    found = rows(table, *prefixes)
    for entity in found:
        table.delete_entity(entity["PartitionKey"], entity["RowKey"])
    return len(found)


def moments() -> tuple[list[datetime], Callable[[], datetime]]:
    """Return a clock, and the list whose last entry it shows."""
    times = [START]
    return times, lambda: times[-1]


def is_findable(store: TableStore, wait: Wait) -> None:
    """Assert that a wait that is due is found in every way."""
    assert wait.due_at is not None
    assert wait == store.find_wait(wait.token)
    assert [Due(wait.token, wait.due_at, wait.state)] == list(store.due("prod", before=wait.due_at, limit=9))
    assert [wait] == list(store.waits(WaitFilter(), limit=9, cursor=None)[0])
    is_open = [OpenWait(wait.token, KEY.run_id, wait.registered_at)] if wait.state is WaitState.OPEN else []
    assert is_open == list(store.open_waits(FACTORY, limit=9))
    assert [KEY] == [run.key for run in store.find_runs(KEY.run_id)]


# --- lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", INDEXES)
def test_a_lost_index_row_is_rebuilt(make_table_store: MakeTableStore, table: TableClient, index: str) -> None:
    """S26: whichever index row is lost, a repair writes it anew, and the wait is found in every way again."""
    _, (wait,) = make_table_store().put(a_run(), [a_wait()])
    assert 1 == drop(table, INDEXES[index])
    store = make_table_store()
    assert (1, 0) == (store.repair(), store.repair())
    is_findable(store, wait)


def test_all_index_rows_are_lost(make_table_store: MakeTableStore, table: TableClient) -> None:
    """S26: though all index rows are lost, the run's waits are found from the run, and repaired within a few calls."""
    store = make_table_store()
    for number in range(7):
        store.put(None, [a_wait(a_task(nonce=str(number)), key=RunKey(FACTORY, f"r{number}"))])
    drop(table, *INDEXES.values())
    again = make_table_store()
    assert 1 == len(again.run(RunKey(FACTORY, "r3"))[1])
    rebuilt = [again.repair(limit=3) for _ in range(4)]
    assert ([12, 12, 4, 0], 7) == (rebuilt, len(again.due("prod", before=START + 24 * HOUR, limit=99)))


@pytest.mark.parametrize("index", INDEXES)
def test_a_task_is_completed_though_an_index_row_is_lost(
    make_table_store: MakeTableStore, table: TableClient, index: str
) -> None:
    """S26: a task is completed by its run's event whichever index row was lost before."""
    bench = parked(make_table_store())
    assert 1 == drop(table, INDEXES[index])
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event("Succeeded")
    assert WaitState.DELIVERED is bench.store.inner.run(KEY)[1][0].state


@pytest.mark.parametrize("index", INDEXES)
def test_a_task_is_completed_later_though_an_index_row_is_lost(
    make_table_store: MakeTableStore, table: TableClient, index: str
) -> None:
    """S26: an event was lost, then an index row: after a repair, by any instance, the task is completed."""
    bench = parked(make_table_store())
    drop(table, INDEXES[index])
    bench.store.inner = make_table_store()
    bench.store.inner.repair()
    bench.adf.end(KEY, RunStatus.FAILED)
    bench.pass_time(HOUR)
    assert WaitState.DELIVERED is bench.wait().state


def parked(store: TableStore) -> Bench:
    """Return a bridge on a table store, with a task that has been parked for long."""
    bench = Bench(store, BRIDGE_INLINE_SECONDS="1")
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(HOUR)
    return bench


# --- a process that dies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "nth"), [(HINT_WRITTEN, n + 1) for n in range(5)] + [(ROWS_WRITTEN, 1)])
def test_a_process_dies_while_it_makes_a_row(make_table_store: MakeTableStore, point: str, nth: int) -> None:
    """S23: wherever a process dies while it writes a new wait, the wait is there and found, or can be made again."""
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(point, nth)).put(a_run(), [a_wait()])
    store = make_table_store()
    run, waits = store.run(KEY)
    if point == HINT_WRITTEN:
        assert (None, (), None) == (run, waits, store.find_wait(a_wait().token))
        assert [] == [*store.due("prod", before=START + 24 * HOUR, limit=9), *store.open_waits(FACTORY, limit=9)]
        assert ([], []) == (list(store.waits(WaitFilter(), limit=9, cursor=None)[0]), list(store.find_runs(KEY.run_id)))
        _, waits = store.put(a_run(), [a_wait()])
    is_findable(store, waits[0])
    assert 0 == store.repair()


@pytest.mark.parametrize(
    ("point", "nth", "applied"),
    [(HINT_WRITTEN, 1, False), (ROWS_WRITTEN, 1, True), (HINT_REMOVED, 1, True), (HINT_REMOVED, 2, True)],
)
def test_a_process_dies_while_it_changes_a_row(
    make_table_store: MakeTableStore, point: str, nth: int, applied: bool
) -> None:
    """S23: wherever a process dies while it makes a wait due, the wait is due as its row says, and found so."""
    make_table_store().put(a_run(), [a_wait()])
    dying = make_table_store(reach=DyingAt(point, nth))
    wait = dying.find_wait(a_wait().token)
    assert wait is not None
    with pytest.raises(Crash):
        dying.put(None, [replace(wait, state=WaitState.DUE, due_at=START + MINUTE)])
    store = make_table_store()
    found = store.find_wait(wait.token)
    assert found is not None
    assert (applied, START + MINUTE if applied else wait.due_at) == (found.state is WaitState.DUE, found.due_at)
    is_findable(store, found)
    assert 0 == store.repair()


@pytest.mark.parametrize("point", [PURGED_HINTS, PURGED_ROWS])
def test_a_process_dies_while_it_purges(make_table_store: MakeTableStore, table: TableClient, point: str) -> None:
    """S38: what a purge that died has left behind, the next one removes."""
    over = a_wait(state=WaitState.STALE, due_at=None)
    dying = make_table_store(reach=DyingAt(point))
    dying.put(a_run(), [over])
    with pytest.raises(Crash):
        dying.purge(START + MINUTE)
    store = make_table_store()
    store.purge(START + MINUTE)
    assert [] == rows(table, keys.RUNS, *INDEXES.values())


# --- left over --------------------------------------------------------------------------------------------------------


def test_a_hint_that_its_row_denies_goes(make_table_store: MakeTableStore, table: TableClient) -> None:
    """A hint without its row is passed over while its writer may still be at work, and then deleted by who reads it."""
    times, now = moments()
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN, 5), now=now).put(a_run(), [a_wait()])
    store = make_table_store(now=now)

    def read_all() -> int:
        store.find_runs(KEY.run_id)
        store.find_wait(a_wait().token)
        store.due("prod", before=START + 24 * HOUR, limit=9)
        store.open_waits(FACTORY, limit=9)
        store.waits(WaitFilter(), limit=9, cursor=None)
        return len(rows(table, *INDEXES.values()))

    times.append(START + GRACE)
    assert HINTS_OF_A_WAIT + HINTS_OF_A_RUN == read_all()
    times.append(START + GRACE + timedelta(seconds=1))
    assert 0 == read_all()


def test_a_wait_that_was_registered_at_the_second_attempt_is_listed_once(
    make_table_store: MakeTableStore, table: TableClient
) -> None:
    """S23: a place in the list of all waits that an attempt to register left behind shows nothing, and is removed."""
    times, now = moments()
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN, HINTS_OF_A_WAIT), now=now).put(None, [a_wait()])
    store = make_table_store(now=now)
    _, (wait,) = store.put(None, [a_wait(registered_at=START + MINUTE)])
    assert 2 == len(rows(table, keys.AGES))
    assert [wait] == list(store.waits(WaitFilter(), limit=9, cursor=None)[0])
    times.append(START + HOUR)
    assert [wait] == list(store.waits(WaitFilter(), limit=9, cursor=None)[0])
    assert 1 == len(rows(table, keys.AGES))


def test_hints_that_are_denied_hide_nothing(make_table_store: MakeTableStore) -> None:
    """More hints than a page holds, left by processes that died, do not keep what is really due from being found."""
    for nonce in range(6):
        with pytest.raises(Crash):
            make_table_store(reach=DyingAt(HINT_WRITTEN, 4)).put(None, [a_wait(a_task(nonce=str(nonce)), due_at=START)])
    store = make_table_store()
    store.put(None, [a_wait(due_at=START + MINUTE)])
    assert [a_wait().token] == [due.token for due in store.due("prod", before=START + MINUTE, limit=2)]


def test_removing_an_old_hint_spares_the_new_one(make_table_store: MakeTableStore) -> None:
    """S23: an instance that is slow to remove a hint does not remove the one that another has put in its place."""
    slow, fast = make_table_store(), make_table_store()
    _, (first,) = slow.put(None, [a_wait(due_at=START)])

    def meanwhile(point: str) -> None:
        if point == ROWS_WRITTEN:
            found = fast.find_wait(first.token)
            assert found is not None
            fast.put(None, [replace(found, due_at=START)])  # back to the very time that it had

    make_table_store(reach=meanwhile).put(None, [replace(first, due_at=START + MINUTE)])
    assert [Due(first.token, START, WaitState.OPEN)] == list(fast.due("prod", before=START, limit=9))
    assert 0 == fast.repair()


def test_what_is_due_for_adf_costs_no_reading_of_the_rest() -> None:
    """S07: a backlog of completions is passed over by its hints: only rows for which ADF is asked are read."""
    counted = Counted()
    for nonce in range(20):
        counted.store.put(None, [a_wait(a_task(nonce=str(nonce)), state=WaitState.DUE, due_at=START)])
    counted.store.put(None, [a_wait(due_at=START)])
    found, cost = counted.cost(lambda: counted.store.due("prod", before=START, limit=9, for_adf=True))
    assert ([TASK.token], True) == ([due.token for due in found], sum(cost.values()) <= 3)  # a page, its end, and a row


def test_nothing_is_left_of_a_life(make_table_store: MakeTableStore, table: TableClient) -> None:
    """A wait that went through its states has only the hints that its last state needs."""
    store = make_table_store()
    _, (wait,) = store.put(a_run(), [a_wait()])
    for due_at in (START, START + MINUTE, START + HOUR):
        _, (wait,) = store.put(None, [replace(wait, state=WaitState.DUE, due_at=due_at)])
    assert HINTS_OF_A_WAIT - 1 + HINTS_OF_A_RUN == len(rows(table, *INDEXES.values()))
    store.put(None, [replace(wait, state=WaitState.DELIVERED, due_at=None)])
    assert HINTS_OF_A_WAIT - 2 + HINTS_OF_A_RUN == len(rows(table, *INDEXES.values()))


# --- one token, one wait ----------------------------------------------------------------------------------------------


def test_a_token_names_one_wait(make_table_store: MakeTableStore) -> None:
    """S18: a token that names a wait for one run cannot name a wait for another one, too."""
    store = make_table_store()
    _, (wait,) = store.put(None, [a_wait()])
    with pytest.raises(StoreConflict):
        make_table_store().put(None, [a_wait(key=RunKey(FACTORY, "other"))])
    assert (wait, ()) == (store.find_wait(wait.token), store.run(RunKey(FACTORY, "other"))[1])


def test_a_token_that_was_never_used_is_free_again(make_table_store: MakeTableStore) -> None:
    """A token that a process died with can be used for another run once it is sure that it died."""
    times, now = moments()
    with pytest.raises(Crash):
        make_table_store(reach=DyingAt(HINT_WRITTEN), now=now).put(None, [a_wait()])
    store = make_table_store(now=now)
    other = a_wait(key=RunKey(FACTORY, "other"))
    with pytest.raises(StoreConflict):
        store.put(None, [other])
    times.append(START + 2 * GRACE)
    _, (wait,) = store.put(None, [other])
    assert wait == make_table_store().find_wait(wait.token)


def test_a_token_whose_row_could_not_be_written_is_free_at_once(make_table_store: MakeTableStore) -> None:
    """S13: a try that lost the race for its run, which is being cancelled, waits for a run of its own."""
    store = make_table_store()
    before, _ = store.put(a_run(), [])
    assert before is not None
    store.put(replace(before, cancelled_at=START), [])
    with pytest.raises(StoreConflict):
        store.put(before, [a_wait()])
    _, (wait,) = store.put(None, [a_wait(key=RunKey(FACTORY, "other"))])
    assert wait == make_table_store().find_wait(wait.token)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_token_that_another_instance_has_claimed_too_is_not_given_back(
    make_table_store: MakeTableStore, table: TableClient, *, is_first: bool
) -> None:
    """S18: of two that register a wait at once one loses; the other has its token, and its row is on the way."""
    before, _ = make_table_store().put(a_run(), [])
    assert before is not None
    make_table_store().put(replace(before, cancelled_at=START), [])

    def claim(point: str = HINT_WRITTEN) -> None:
        if point == HINT_WRITTEN:
            with pytest.raises(Crash):
                make_table_store(reach=DyingAt(HINT_WRITTEN)).put(None, [a_wait()])

    if is_first:
        claim()
    with pytest.raises(StoreConflict):
        make_table_store(reach=(lambda _: None) if is_first else claim).put(before, [a_wait()])
    assert 1 == len(rows(table, keys.TOKENS))


def test_what_is_remembered_may_be_gone(make_table_store: MakeTableStore) -> None:
    """An instance that remembers where a wait was finds out that another one has purged it, and where it is now."""
    store, other = make_table_store(), make_table_store()
    store.put(None, [a_wait(state=WaitState.STALE, due_at=None)])
    other.purge(START + MINUTE)
    assert store.find_wait(a_wait().token) is None
    _, (moved,) = other.put(None, [a_wait(key=RunKey(FACTORY, "other"))])
    assert moved == store.find_wait(moved.token)
