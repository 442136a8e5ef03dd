"""What keeping the table in order costs: a bounded part at each call, however many rows are kept; and all in the end.

On the table in memory, which counts what it looks at. Its pages end early where a test says so, as Azure's may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from azure.core.exceptions import HttpResponseError

from bridge.adapters import table_keys as keys
from bridge.adapters import table_upkeep
from bridge.adapters.table_index import HINT_REMOVED, HINT_WRITTEN, ROWS_WRITTEN
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreUnavailable
from bridge.model import Match, RunKey, RunStatus, StartRequest, StartState, Sweep, Wait, WaitState, match_key
from bridge.ports import WaitFilter
from tests.contract.test_store_contract import an_entry
from tests.contract.test_table_index import DyingAt
from tests.fakes.bench import Crash
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, MINUTE, SECOND, a_run, a_task, a_wait
from tests.fakes.tables import FakeTable, FakeTableClient, Place, problem

T = TypeVar("T")
DAY = timedelta(days=1)
RUNS = 150  # with a row for each, and one for its wait
PER_CALL = 10  # how many rows a call looks at for each one of its limit
COPIES = Match("copy_orders", START, (RunStatus.SUCCEEDED,))


class World:
    """A table in memory, a store on it, and what happens at each call between them."""

    def __init__(self, **options: Any) -> None:
        self.table = FakeTable(**options)
        self.now = START
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.store = self.open()
        self.store.check()

    def open(self, **options: Any) -> TableStore:
        """Return a store, as another process opens it."""
        client: Any = FakeTableClient(self.table, self._carry)
        return TableStore(client, **{"now": lambda: self.now, **options})

    def _carry(self, call: str, work: Callable[[], T]) -> T:
        self.calls[call] += 1
        self.before(call)
        answer = work()
        self.after(call)
        return answer

    def cost(self, act: Callable[[], T]) -> tuple[T, int]:
        """Return what something comes to, and at how many rows its queries look."""
        self.table.looked_at = 0
        return act(), self.table.looked_at

    def places(self, *prefixes: str) -> list[Place]:
        """Return where entities stand in partitions that start so."""
        return [place for place in self.table.places() if place[0].startswith(prefixes)]

    def lose(self, *prefixes: str) -> None:
        """Delete the entities in partitions that start so."""
        for place in self.places(*prefixes):
            self.table.delete(place)

    def have(self, runs: int, **wait: Any) -> None:
        """Have runs, each with a wait that is over, but for what is told otherwise."""
        over = {"state": WaitState.DELIVERED, "due_at": None, **wait}
        for number in range(runs):
            key = RunKey(FACTORY, f"run-{number:04}")
            run = a_run(key=key, created_at=over.get("registered_at", START))
            self.store.put(run, [a_wait(a_task(nonce=str(number)), key=key, **over)])

    def live(self) -> Wait:
        """Have a wait whose run goes on, after all the others, and return it."""
        key = RunKey(FACTORY, "the-last-one")
        return self.store.put(a_run(key=key), [a_wait(a_task(nonce="live"), key=key)])[1][0]


def is_swept(world: World) -> bool:
    """Whether a sweep's coverage of the factory still counts."""
    return world.store.sweep(FACTORY).covered_until is not None


# --- a bounded part at a time -----------------------------------------------------------------------------------------


def test_what_a_repair_looks_at() -> None:
    """S26: a repair looks at a bounded number of rows, and a few of them get to a lost hint behind many other rows."""
    world = World()
    world.have(RUNS)
    live = world.live()
    world.lose(keys.OPEN)
    done = [world.cost(lambda: world.open().repair(limit=10)) for _ in range(4)]
    assert [0, 0, 0, 1] == [rebuilt for rebuilt, _ in done]
    assert max(cost for _, cost in done) <= PER_CALL * 10
    assert [live.token] == [one.token for one in world.store.open_waits(FACTORY, limit=9)]


def test_what_a_purge_looks_at() -> None:
    """S38: a purge that finds nothing to remove looks at a bounded number of rows, and a few get to what is old."""
    world = World()
    world.have(RUNS)
    key = RunKey(FACTORY, "the-last-one")
    world.store.put(None, [a_wait(key=key, registered_at=START - 9 * DAY, state=WaitState.STALE, due_at=None)])
    done = [world.cost(lambda: world.open().purge(START - DAY, limit=10)) for _ in range(4)]
    assert [0, 0, 0, 1] == [removed for removed, _ in done]
    assert max(cost for _, cost in done) <= PER_CALL * 10 + 1
    assert (None, ()) == world.store.run(key)


def test_all_that_is_old_goes() -> None:
    """S38: whatever stands between them, all rows that are past their retention are gone after a few calls."""
    world = World()
    world.have(RUNS, registered_at=START - 9 * DAY)
    for number in range(RUNS):
        record = StartRequest(f"k{number}", "hash", StartState.STARTED, FACTORY, "p", START - 9 * DAY, START)
        world.store.save_request(replace(record, place=f"place-{number}"))
    live = world.live()
    removed = 0
    for _ in range(3 * 4 * RUNS // 50):
        removed += world.open().purge(START - DAY, limit=50)
    assert 3 * RUNS == removed
    left = {"request;": 0, "place;": 0, "token;": 1, "age;": 1, "run;": 2, "runid;": 1}
    assert left == {prefix: len(world.places(prefix)) for prefix in left}
    assert live == world.store.find_wait(live.token)


@pytest.mark.parametrize("call", ["repair", "purge"])
def test_time_is_up(call: str) -> None:
    """A table that is slow ends a call after some seconds, and the next one goes on where it stopped."""
    world = World()
    world.have(RUNS)

    def slow(kind: str) -> None:
        world.now += 2 * SECOND if kind == "query" else timedelta(0)

    world.after = slow
    costs = []
    for _ in range(4):
        store = world.open()
        costs.append(
            world.cost(lambda: store.repair(limit=30) if call == "repair" else store.purge(START - DAY, limit=30))[1]  # noqa: B023
        )
    assert [90, 60, 60, 60] == costs


@pytest.mark.parametrize("call", ["repair", "purge"])
def test_a_table_that_fails_now_and_then(call: str) -> None:
    """S23: a query that fails ends a call, but the next one does not begin anew."""
    world = World()
    world.have(RUNS)
    world.live()
    world.lose(keys.OPEN)
    queries = 0

    def fail(kind: str) -> None:
        nonlocal queries
        queries += kind == "query"
        if kind == "query" and queries % 5 == 0:
            raise problem(HttpResponseError, 503, "ServerBusy")

    world.before = fail
    failed = 0
    for _ in range(40):
        store = world.open()
        try:
            store.repair(limit=30) if call == "repair" else store.purge(START + DAY, limit=30)
        except StoreUnavailable:
            failed += 1
    world.before = lambda _: None
    assert failed > 3
    if call == "repair":
        assert 1 == len(world.places(keys.OPEN))
    else:
        assert 2 == len(world.places(keys.RUNS))


def test_a_page_may_be_empty() -> None:
    """Pages that end before they are full, or empty, with more to come, hide nothing from anybody."""
    world = World(most_looked_at=3)
    world.have(20)
    live = world.live()
    world.store.put(None, [a_wait(a_task(nonce="other", target="dev"), due_at=START)])
    world.lose(keys.OPEN, keys.DUE)
    for _ in range(9):
        world.open().repair(limit=9)
    assert [live.token] == [one.token for one in world.store.due("prod", before=START + DAY, limit=9)]
    assert 2 == len(world.store.open_waits(FACTORY, limit=9))
    listed, cursor = world.store.waits(WaitFilter(target="dev"), limit=9, cursor=None)
    assert (1, None) == (len(listed), cursor)
    for _ in range(20):
        world.open().purge(START + DAY, limit=9)
    assert 2 + 1 == len(world.places(keys.RUNS))


def test_a_purge_removes_what_leads_nowhere() -> None:
    """S38: old places among the open waits, or those for a pipeline, that lead nowhere go though nobody reads them."""
    world = World()
    wait = by_match(world, "live")
    for nonce in ("dies", "dies too"):
        task = a_task(nonce=nonce)
        key = match_key(FACTORY, COPIES.pipeline, task.token)
        with pytest.raises(Crash):
            world.open(reach=DyingAt(HINT_WRITTEN, 5)).put(None, [a_wait(task, key=key, match=COPIES)])
    assert (3, 3) == (len(world.places(keys.MATCHES)), len(world.places(keys.OPEN)))
    assert [0, 4, 0] == [world.store.purge(before) for before in (START, START + DAY, START + DAY)]
    assert (1, 1) == (len(world.places(keys.MATCHES)), len(world.places(keys.OPEN)))
    assert wait == world.store.find_wait(wait.token)


def test_where_an_older_release_stopped() -> None:
    """S43: a repair goes on where that of an older release has stopped, and that one can go on where this one has."""
    world = World()
    world.have(RUNS)
    world.live()
    world.lose(keys.OPEN)
    stopped = {"PartitionKey": keys.UPKEEP, "RowKey": "repair", "after_request": "request;9"}
    after = keys.run_partition(RunKey(FACTORY, f"run-{RUNS - 2:04}"))
    world.table.apply([((keys.UPKEEP, "repair"), {**stopped, "after": after})], checks=())
    assert 1 == world.open().repair(limit=10)
    world.open().repair(limit=10)
    row = world.table.find((keys.UPKEEP, "repair"))
    assert row is not None
    assert row.entity["after"].startswith(keys.RUNS)


# --- events -----------------------------------------------------------------------------------------------------------


def test_what_recording_an_event_costs() -> None:
    """S23: an event costs one write, whatever the list holds: nothing is tidied up before it is acknowledged."""
    world = World()
    store = world.open(events_kept=10)
    world.calls.clear()
    for number in range(600):
        store.record_event(an_entry(number))
    assert {"upsert": 600} == world.calls
    assert 590 == store.purge(START - DAY)
    assert ["599", "590"] == [one.id for one in store.events(verdict=None, run_id=None, limit=99)][::9]


def test_a_purge_removes_a_bounded_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """S38: of very many events that are too many, a purge removes a part, and the next one goes on."""
    monkeypatch.setattr(table_upkeep, "_MOST_PRUNED", 15)
    world = World(most_on_a_page=10)
    for number in range(60):
        world.store.record_event(an_entry(number))
    store = world.open(events_kept=10)
    assert [20, 20, 10, 0] == [store.purge(START - DAY) for _ in range(4)]


def test_the_oldest_events_are_found_at_once() -> None:
    """S38: events that are too old are removed without a look at those that are not."""
    world = World()
    for number in range(200):
        world.store.record_event(an_entry(number))
    for number in range(5):
        world.store.record_event(an_entry(number, received_at=START - 9 * DAY))
    removed, cost = world.cost(lambda: world.open(events_kept=0).purge(START - 5 * DAY, limit=1))
    assert (205, 5 + 200) == (removed, cost)
    assert (0, 0) == world.cost(lambda: world.open(events_kept=0).purge(START - 5 * DAY, limit=1))


# --- waits by match ---------------------------------------------------------------------------------------------------


def test_what_an_event_looks_at() -> None:
    """S42: an event of a pipeline looks at none of the waits for other pipelines' runs, or for runs by their ids."""
    world = World()
    world.have(RUNS, state=WaitState.OPEN)
    wait = by_match(world, "mine")
    found, cost = world.cost(lambda: world.store.open_waits(FACTORY, limit=99, pipeline="another"))
    assert ([], 0) == (list(found), cost)
    found, cost = world.cost(lambda: world.store.open_waits(FACTORY, limit=99, pipeline="copy_orders"))
    assert ([wait.token], 1) == ([one.token for one in found], cost)


def by_match(world: World, nonce: str) -> Wait:
    """Have a wait for a pipeline's next run; return it."""
    task = a_task(nonce=nonce)
    key = match_key(FACTORY, COPIES.pipeline, task.token)
    return world.store.put(a_run(key=key, match=COPIES), [a_wait(task, key=key, match=COPIES)])[1][0]


def test_a_wait_by_match_of_an_older_release() -> None:
    """S43: a wait by match of an older release is found by events after a repair; sweeps have seen it before."""
    world = World()
    wait = by_match(world, "older")
    world.store.save_sweep(Sweep(FACTORY, covered_until=START))
    world.lose(keys.MATCHES)
    assert [wait.token] == [one.token for one in world.store.open_waits(FACTORY, limit=9)]
    assert [] == list(world.store.open_waits(FACTORY, limit=9, pipeline="copy_orders"))
    assert (1, 0, True) == (world.open().repair(), world.open().repair(), is_swept(world))
    assert [wait.token] == [one.token for one in world.store.open_waits(FACTORY, limit=9, pipeline="copy_orders")]
    world.store.put(None, [replace(wait, state=WaitState.DELIVERED, due_at=None)])
    assert [] == world.places(keys.MATCHES, keys.OPEN)


def test_a_wait_of_a_release_without_modes() -> None:
    """S43: an open wait whose row lacks a property that a newer release writes is swept: Azure says null for that."""
    world = World()
    wait = world.live()
    place = keys.run_partition(wait.key), keys.wait_row(wait.token)
    row = world.table.find(place)
    assert row is not None
    older = {name: value for name, value in row.entity.items() if name != "mode"}
    world.table.apply([(place, older)], checks=())
    assert [wait.token] == [one.token for one in world.store.open_waits(FACTORY, limit=9)]


# --- what sweeps have missed ------------------------------------------------------------------------------------------


def test_a_lost_open_wait_was_not_swept() -> None:
    """S27: when an open wait's place in the sweeps was lost, what they have covered so far counts no more."""
    world = World()
    world.live()
    world.store.save_sweep(Sweep(FACTORY, covered_until=START))
    for index, swept in ((keys.TOKENS, True), (keys.DUE, True), (keys.OPEN, False)):
        world.lose(index)
        assert (1, swept) == (world.open().repair(), is_swept(world))


def test_a_lost_open_wait_was_not_read() -> None:
    """S27: when runs are being read one by one, and an open wait's place in the sweeps was lost, that begins anew."""
    world = World()
    world.live()
    world.store.save_sweep(Sweep(FACTORY, begun_at=START, read_up_to="zzz"))
    world.lose(keys.OPEN)
    assert 1 == world.open().repair()
    assert Sweep(FACTORY) == replace(world.store.sweep(FACTORY), version="")


def test_a_sweep_is_under_way_while_a_wait_is_found_again() -> None:
    """S27: a sweep that did not see the lost wait, and ends before it is found again, has not covered it either."""
    world = World()
    world.live()
    world.lose(keys.OPEN)

    def sweep_ends(call: str) -> None:
        if call == "upsert" and world.places(keys.OPEN):
            world.after = lambda _: None
            other = world.open()
            other.save_sweep(replace(other.sweep(FACTORY), covered_until=START))

    world.after = sweep_ends
    assert (1, False) == (world.open().repair(), is_swept(world))


def test_a_repair_dies_when_a_wait_is_found_again() -> None:
    """S27: a repair that dies right after it has found a lost wait has forgotten before what sweeps have covered."""
    world = World()
    world.live()
    world.store.save_sweep(Sweep(FACTORY, covered_until=START))
    world.lose(keys.OPEN)

    def die(call: str) -> None:
        if call == "upsert" and world.places(keys.OPEN):
            world.after = lambda _: None
            raise Crash(call)

    world.after = die
    with pytest.raises(Crash):
        world.open().repair()
    assert (0, False) == (world.open().repair(), is_swept(world))


@pytest.mark.parametrize("state", [WaitState.DUE, WaitState.DELIVERED])
def test_a_wait_ends_while_a_repair_looks_at_it(state: WaitState) -> None:
    """S27: a wait whose place in the sweeps goes, as it should, while a repair is at it, has lost nothing."""
    world = World()
    wait = world.live()
    world.store.save_sweep(Sweep(FACTORY, covered_until=START))
    due_at = None if state.is_final else START

    def end(call: str) -> None:
        if call == "get":
            world.before = lambda _: None
            world.open().put(None, [replace(wait, state=state, due_at=due_at)])

    for nth in range(1, 9):
        seen = 0

        def end_at(call: str, nth: int = nth) -> None:
            nonlocal seen
            seen += call == "get"
            if seen == nth:
                end(call)

        world.before = end_at
        rebuilt = world.open().repair()
        world.before = lambda _: None
        assert (0, True) == (rebuilt, is_swept(world))
        found = world.store.find_wait(wait.token)
        assert found is not None
        (wait,) = world.store.put(None, [replace(found, state=WaitState.OPEN, due_at=START + MINUTE)])[1]


# --- many waits on one run --------------------------------------------------------------------------------------------


def many(world: World, count: int = 200) -> tuple[Wait, ...]:
    """Have many waits on one run; return them as the run's end changes them."""
    waits = [a_wait(a_task(nonce=str(number)), due_at=START + MINUTE) for number in range(count)]
    _, written = world.store.put(a_run(), waits)
    return tuple(replace(wait, state=WaitState.DUE, due_at=START) for wait in written)


def test_what_many_waits_cost() -> None:
    """S42: what the end of a run changes is written in few calls, however many wait for it."""
    world = World()
    ended = many(world)
    world.calls.clear()
    world.store.put(None, ended)
    # 200 rows, hints that come, and those that go of what is due and what is open: two transactions each
    assert {"transaction": 8} == world.calls


@pytest.mark.parametrize(("point", "nth"), [(HINT_WRITTEN, 2), (ROWS_WRITTEN, 1), (HINT_REMOVED, 1), (HINT_REMOVED, 3)])
def test_a_process_dies_while_many_waits_change(point: str, nth: int) -> None:
    """S23: wherever a process dies while many waits change, each is found as its row says, and nothing was lost."""
    world = World()
    ended = many(world)
    with pytest.raises(Crash):
        world.open(reach=DyingAt(point, nth)).put(None, ended)
    applied = point != HINT_WRITTEN
    due = world.store.due("prod", before=START, limit=999)
    assert ((200, 0) if applied else (0, 200)) == (len(due), len(world.store.open_waits(FACTORY, limit=999)))
    assert 0 == world.store.repair()


def test_one_of_many_hints_is_gone_already() -> None:
    """S26: a hint that was lost before keeps none of the others from being removed."""
    world = World()
    ended = many(world, 30)
    world.table.delete(world.places(keys.OPEN)[7])
    world.table.delete(world.places(keys.DUE)[3])
    world.store.put(None, ended)
    assert ([], 30) == (world.places(keys.OPEN), len(world.places(keys.DUE)))


def test_the_hints_come_before_the_rows_and_go_after() -> None:
    """S23: at no call of many is a row there without its hints."""
    world = World()
    ended = many(world, 120)

    def look(_: str) -> None:
        at = {place[1] for place in world.places(keys.DUE, keys.OPEN)}
        rows = [world.table.find(place) for place in world.places(keys.RUNS) if place[1] != keys.RUN_ROW]
        needed = {row.entity[name] for row in rows if row is not None for name in ("due_key", "open_key")} - {""}
        assert set() == needed - at

    world.after = look
    world.store.put(None, ended)
    assert 120 == len(world.places(keys.DUE))


def test_a_purge_of_many() -> None:
    """S38: a run with many waits goes in one call, and is read once."""
    world = World()
    many(world, 130)
    run, waits = world.store.run(KEY)
    world.store.put(run, [replace(wait, state=WaitState.STALE, due_at=None) for wait in waits])
    world.calls.clear()
    assert 131 == world.store.purge(START + DAY, limit=200)
    assert [] == world.places(keys.RUNS, keys.TOKENS, keys.AGES, keys.RUN_IDS)
    assert 1 + 1 + 3 == world.calls["query"]  # the walk, the run, and the list of events
