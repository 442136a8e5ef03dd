"""Rows that a newer release wrote, with words that this one does not know, as after a rollback: in both stores.

Each is set aside, is told once, and stays as it is. Everything else goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from azure.data.tables import TableClient, UpdateMode

from bridge.adapters import table_keys as keys
from bridge.adapters.rows import UNREADABLE
from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_entity import chunks, text_of
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import (
    Breaker,
    EventRecord,
    Match,
    OnAbandon,
    Run,
    RunKey,
    RunStatus,
    StartRequest,
    StartState,
    Sweep,
    Verdict,
    Wait,
    WaitState,
    match_key,
)
from bridge.ports import Store, WaitFilter
from tests.contract.conftest import RETENTION, MakeTableStore
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, MINUTE, SECOND, TASK, a_run, a_task, a_wait

DAY: Final = timedelta(days=1)
NEWER: Final = a_task(nonce="newer", task_instance_id="ti-newer", map_index=1)
CANARY: Final = "canary of a row"
WORDS: Final = [("mode", "pigeon"), ("state", "adopted")]


class Rows(Protocol):
    """A store's rows, as a newer release writes them, and as they lie there."""

    store: Store
    told: list[tuple[str, str]]
    now: datetime

    def change(self, kind: str, **words: str) -> None:
        """Write words into the rows of a kind, but for waits other than the newer one's."""
        ...

    def raw(self) -> Any:
        """Return everything that there is of waits, runs and requests."""
        ...


class InFile:
    """SQLite's."""

    def __init__(self, path: Path) -> None:
        self.told: list[tuple[str, str]] = []
        self.now = START
        self._path = path
        self.store: Store = SqliteStore(path, retention=RETENTION, tell=self.tell)

    def tell(self, kind: str, name: str) -> None:
        """Hear of a row that was set aside."""
        self.told.append((kind, name))

    def change(self, kind: str, **words: str) -> None:
        """Write words into rows."""
        which = f"WHERE token = '{NEWER.token}'" if kind == "waits" else ""
        with closing(sqlite3.connect(self._path)) as db, db:
            for (text,) in db.execute(f"SELECT row FROM {kind} {which}").fetchall():  # noqa: S608 - a table's name
                after = json.dumps({**json.loads(text), **words})
                db.execute(f"UPDATE {kind} SET row = ? WHERE row = ?", (after, text))  # noqa: S608 - a table's name
            if kind == "waits" and "state" in words:
                db.execute(f"UPDATE waits SET state = ? {which}", (words["state"],))  # noqa: S608 - as above

    def raw(self) -> Any:
        """Return all rows."""
        with closing(sqlite3.connect(self._path)) as db:
            return [db.execute(f"SELECT * FROM {name}").fetchall() for name in ("waits", "runs", "requests")]  # noqa: S608


class InTable:
    """Table Storage's."""

    def __init__(self, client: TableClient, make: MakeTableStore) -> None:
        self.told: list[tuple[str, str]] = []
        self.now = START
        self._client = client
        self.store: Store = make(tell=self.tell, now=lambda: self.now)

    def tell(self, kind: str, name: str) -> None:
        """Hear of a row that was set aside."""
        self.told.append((kind, name))

    def change(self, kind: str, **words: str) -> None:
        """Write words into rows."""
        for entity in list(self._client.list_entities()):
            if entity.get("kind") != kind.removesuffix("s"):
                continue
            if kind == "waits" and NEWER.token not in entity["RowKey"]:
                continue
            rest = {name: value for name, value in entity.items() if not name.startswith("row")}
            text = json.dumps({**json.loads(text_of(entity)), **words})
            beside = words if kind == "waits" else {}
            self._client.upsert_entity({**rest, **chunks(text), **beside}, mode=UpdateMode.REPLACE)

    def raw(self) -> Any:
        """Return all rows."""
        found = [dict(entity) for entity in self._client.list_entities()]
        return [one for one in found if one["PartitionKey"].startswith((keys.RUNS, keys.REQUESTS))]


@pytest.fixture(params=["sqlite", "table"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rows]:
    """Each store's rows in turn, none at first."""
    if request.param == "sqlite":
        file = InFile(tmp_path / "bridge.db")
        file.store.check()
        yield file
        file.store.close()  # type: ignore[attr-defined]
    else:
        make: MakeTableStore = request.getfixturevalue("make_table_store")
        with connect(request.getfixturevalue("azurite"), request.getfixturevalue("table_name")) as client:
            yield InTable(client, make)


@pytest.fixture(params=WORDS, ids=lambda word: word[1])
def word(request: pytest.FixtureRequest) -> dict[str, str]:
    """What this release does not know of a wait."""
    return dict([request.param])


def have_both(rows: Rows, word: dict[str, str], **changes: Any) -> Wait:
    """Have two waits on one run, the older one of a newer release; return the other one."""
    newer = a_wait(NEWER, due_at=START - MINUTE, **changes).told(START, "registered", CANARY)
    _, (_, other) = rows.store.put(a_run(), [newer, a_wait(due_at=START, registered_at=START + SECOND)])
    rows.change("waits", **word)
    return other


# --- waits ------------------------------------------------------------------------------------------------------------


def test_all_lists_pass_over_a_wait(rows: Rows, word: dict[str, str]) -> None:
    """S43: a wait that cannot be read is in no list, and hides none of the others; it is told once, by its key only."""
    other = have_both(rows, word)
    store = rows.store
    for _ in range(2):
        assert [other.token] == [one.token for one in store.due("prod", before=START, limit=1)]
        assert [other.token] == [one.token for one in store.open_waits(FACTORY, limit=1)]
        assert [other] == list(store.waits(WaitFilter(), limit=9, cursor=None)[0])
        assert (None, other) == (store.find_wait(NEWER.token), store.find_wait(other.token))
        assert 0 == store.repair()
    ((kind, name),) = rows.told
    assert ("Wait", True, False) == (kind, NEWER.token in name, CANARY in str(rows.told))


def test_a_release_that_can_read_it_finds_it(rows: Rows, word: dict[str, str]) -> None:
    """S43: after all that this release has done meanwhile, a wait is found in every way by one that can read it."""
    other = have_both(rows, word)
    rows.now += DAY
    lists: list[Callable[[], Any]] = [
        lambda: rows.store.due("prod", before=START, limit=9),
        lambda: rows.store.open_waits(FACTORY, limit=9),
        lambda: rows.store.waits(WaitFilter(), limit=9, cursor=None)[0],
    ]
    assert [{other.token}] * 3 == [{one.token for one in each()} for each in lists]
    assert (0, 0, None) == (rows.store.repair(), rows.store.purge(START - DAY), rows.store.find_wait(NEWER.token))
    rows.change("waits", mode="resume", state="open")
    assert [{other.token, NEWER.token}] * 3 == [{one.token for one in each()} for each in lists]
    assert (0, True) == (rows.store.repair(), rows.store.find_wait(NEWER.token) is not None)


def test_pages_lead_past_a_wait(rows: Rows, word: dict[str, str]) -> None:
    """S43: of many pages of waits, one that holds only what cannot be read leads on to the next."""
    oldest = a_wait(a_task(nonce="oldest"), registered_at=START - SECOND)
    rows.store.put(None, [oldest])
    have_both(rows, word)
    found, cursor = list[Wait](), None
    for _ in range(3):
        page, cursor = rows.store.waits(WaitFilter(), limit=1, cursor=cursor)
        found += page
        if cursor is None:
            break
    assert [TASK.token, oldest.token] == [wait.token for wait in found]


def test_a_wait_by_match_is_passed_over(rows: Rows, word: dict[str, str]) -> None:
    """S43: nor is a wait by match found that cannot be read."""
    match = Match("copy_orders", START, (RunStatus.SUCCEEDED,))
    key = match_key(FACTORY, match.pipeline, NEWER.token)
    rows.store.put(None, [a_wait(NEWER, key=key, match=match)])
    assert 1 == len(rows.store.open_waits(FACTORY, limit=9, pipeline="copy_orders"))
    rows.change("waits", **word)
    assert [] == list(rows.store.open_waits(FACTORY, limit=9, pipeline="copy_orders"))


def test_somebody_waits(rows: Rows, word: dict[str, str]) -> None:
    """S43: a run tells that somebody waits whose wait cannot be read; and nothing becomes of that one."""
    other = have_both(rows, word, on_abandon=OnAbandon.CANCEL)
    before = rows.raw()
    run, waits = rows.store.run(KEY)
    stands_in, known = sorted(waits, key=lambda wait: wait.registered_at)
    assert (other, NEWER, WaitState.OPEN, UNREADABLE) == (known, stands_in.task, stands_in.state, stands_in.version)
    assert run is not None
    changed = [replace(wait, state=WaitState.DUE, failures=3) for wait in waits]
    run, written = rows.store.put(replace(run, reads=7), changed)
    assert run is not None
    found, after = rows.store.run(KEY)
    assert (run, 7, {WaitState.OPEN, WaitState.DUE}) == (found, run.reads, {wait.state for wait in after})
    assert [wait for wait in written if wait.version != UNREADABLE] == [
        wait for wait in after if wait.version != UNREADABLE
    ]
    assert of_newer(before) == of_newer(rows.raw())
    assert (None, ()) == rows.store.put(None, [])
    assert [stands_in] == list(rows.store.put(None, [stands_in])[1])


def of_newer(raw: Any) -> list[str]:
    """Return what lies there of the wait that cannot be read."""
    return [str(row) for kind in raw for row in (kind if isinstance(kind, list) else [kind]) if NEWER.token in str(row)]


@pytest.mark.parametrize("state", [WaitState.DELIVERED, WaitState.STALE])
def test_nobody_waits_any_more(rows: Rows, state: WaitState) -> None:
    """S43: a wait that is over is nobody who waits, though it cannot be read."""
    have_both(rows, {"mode": "pigeon", "state": state.value})
    assert [TASK.token] == [wait.token for wait in rows.store.run(KEY)[1]]


def test_a_wait_is_not_written_over(rows: Rows, word: dict[str, str]) -> None:
    """S22: the row of a wait that cannot be read is not made anew, for its run or for another one."""
    have_both(rows, word)
    before = rows.raw()
    for wait in (a_wait(NEWER), a_wait(NEWER, key=RunKey(FACTORY, "another"))):
        with pytest.raises(StoreConflict):
            rows.store.put(None, [wait])
    assert before == rows.raw()


def test_a_wait_is_not_purged(rows: Rows, word: dict[str, str]) -> None:
    """S38: a wait that cannot be read is left to a release that can, with its run, while the others go."""
    over: dict[str, Any] = {"state": WaitState.STALE, "due_at": None, "registered_at": START - 9 * DAY}
    rows.store.put(a_run(created_at=START - 9 * DAY), [a_wait(NEWER, **over), a_wait(**over)])
    rows.change("waits", **word)
    assert [1, 0] == [rows.store.purge(START - DAY) for _ in range(2)]
    run, waits = rows.store.run(KEY)
    assert (True, False) == (run is not None, TASK.token in {wait.token for wait in waits})
    assert [] != of_newer(rows.raw())


def test_a_tick_goes_on(rows: Rows, word: dict[str, str]) -> None:
    """S43: a wait that cannot be read stops neither the timer nor the other waits, of its run or of another one."""
    bench = Bench(rows.store)
    there = RunKey(FACTORY, "there")
    tasks = {TASK: KEY, NEWER: KEY, a_task(nonce="there", task_instance_id="ti-there", map_index=2): there}
    for task, key in tasks.items():
        if key not in bench.adf.runs:
            bench.adf.begin(key)
        bench.airflow.run(task)
        bench.register(task, key)
        bench.airflow.park(task)
    bench.clock.advance(timedelta(hours=1, seconds=1))
    rows.change("waits", **word)
    before = of_newer(rows.raw())
    for key in (KEY, there):
        bench.adf.end(key, RunStatus.SUCCEEDED)
    bench.pass_time(timedelta(minutes=9))
    assert [WaitState.DELIVERED] * 2 == [bench.wait(task).state for task in tasks if task is not NEWER]
    assert before == of_newer(rows.raw())


@pytest.mark.parametrize("is_over", [False, True])
def test_a_run_is_not_cancelled(rows: Rows, word: dict[str, str], is_over: bool) -> None:
    """S14: a run that a task has left is not cancelled while somebody waits for it whose wait cannot be read."""
    bench = Bench(rows.store)
    bench.adf.begin(KEY)
    for task in (TASK, NEWER):
        bench.airflow.run(task)
        bench.register(task, on_abandon=OnAbandon.CANCEL)
        bench.airflow.park(task)
    rows.change("waits", **({"mode": "pigeon", "state": "delivered"} if is_over else word))
    bench.pass_time(5 * MINUTE)
    bench.airflow.clear(TASK, new_id="ti-2")
    bench.pass_time(10 * MINUTE)
    assert (WaitState.STALE, [(KEY, True)] if is_over else []) == (bench.wait(TASK).state, bench.adf.cancels)


# --- other rows -------------------------------------------------------------------------------------------------------


def test_the_waits_for_a_run_go_on(rows: Rows) -> None:
    """S43: a run that cannot be read is one of which nothing is known; its waits go on, and its row stays as it is."""
    _, (wait,) = rows.store.put(a_run(), [a_wait()])
    rows.change("runs", status="Hibernating")
    before = rows.raw()
    run, waits = rows.store.run(KEY)
    assert (Run(key=KEY, version=UNREADABLE), (wait,), []) == (run, waits, list(rows.store.find_runs(KEY.run_id)))
    with pytest.raises(StoreConflict):
        rows.store.put(a_run(), [])
    assert before == rows.raw()
    assert run is not None
    written, (due,) = rows.store.put(replace(run, reads=1), [replace(wait, state=WaitState.DUE)])
    assert (1, (due,)) == (written.reads if written else None, rows.store.run(KEY)[1])
    assert "Hibernating" in str(rows.raw())
    assert 0 == rows.store.purge(START - DAY)
    assert [("Run", True)] == [(kind, KEY.run_id in name) for kind, name in rows.told]


def a_request(**changes: Any) -> StartRequest:
    """Return a trigger request's record."""
    record = StartRequest(CANARY, "hash", StartState.STARTED, FACTORY, "p", START, START, place=TASK.place)
    return replace(record, **changes)


def test_nothing_is_started_twice(rows: Rows) -> None:
    """S21: who asks for a trigger request that cannot be read is told to come again: nothing is started meanwhile."""
    rows.store.save_request(a_request())
    rows.change("requests", state="waiting-for-approval")
    before = rows.raw()
    for ask in (lambda: rows.store.request(CANARY), lambda: rows.store.requests_at(TASK.place, limit=9)):
        with pytest.raises(StoreUnavailable):
            ask()
    with pytest.raises(StoreConflict):
        rows.store.save_request(a_request())
    assert (0, 0, before) == (rows.store.repair(), rows.store.purge(START), rows.raw())
    assert (["StartRequest"], False) == ([kind for kind, _ in rows.told], CANARY in str(rows.told))


@pytest.mark.parametrize("kind", ["breakers", "sweeps"])
def test_what_is_found_out_again_begins_anew(rows: Rows, kind: str) -> None:
    """S45: a breaker, or how far a factory was swept, that cannot be read is as at first, and written anew."""
    rows.store.save_breaker(Breaker("target:prod", "unavailable", probe_at=START))
    rows.store.save_sweep(Sweep(FACTORY, START, START))
    read: Callable[[], Any] = lambda: rows.store.sweep(FACTORY)  # noqa: E731
    save: Callable[[Any], Any] = rows.store.save_sweep
    anew: Any = Sweep(FACTORY)
    if kind == "breakers":
        read, save, anew = lambda: rows.store.breaker("target:prod"), rows.store.save_breaker, Breaker("target:prod")
    rows.change(kind, **({"probe_at": "at dawn"} if kind == "breakers" else {"covered_until": "dawn"}))
    found = read()
    assert anew == replace(found, version="")
    assert (kind == "sweeps") == bool(rows.store.breakers())
    assert save(found) == read()


def test_events_of_a_newer_release(rows: Rows) -> None:
    """S43: of the events, those that can be read are listed."""
    for number in range(3):
        rows.store.record_event(EventRecord(str(number), START + number * SECOND, Verdict.PARKED, ""))
    rows.change("events", verdict="adopted")
    rows.store.record_event(EventRecord("known", START, Verdict.PARKED, ""))
    assert ["known"] == [one.id for one in rows.store.events(verdict=None, run_id=None, limit=1)]
