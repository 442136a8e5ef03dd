"""Rows that other versions of the bridge wrote, in both stores: they are read, and the bridge goes on with them.

`rows/` holds what the first version with two stores (commit 8211dbc) wrote: a run that goes on with an open wait, one
that has failed with a wait in each of some states, and a row of every other kind. And, in the files with a 2, what the
last version wrote that knew nothing of a task's other tries (commit 7fae959): a wait by match with nothing left out,
its run, a request that was answered, and one whose run is being started.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.adapters.rows import Row, decode, encode, stored
from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_entity import chunks, text_of
from bridge.model import (
    Breaker,
    Completion,
    EventRecord,
    FailedActivity,
    Listener,
    Match,
    Mode,
    OnAbandon,
    Outcome,
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
from bridge.ports import Due, OpenWait, Store, WaitFilter
from tests.contract.conftest import RETENTION, MakeTableStore
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import ARM_ID, FACTORY, KEY, MINUTE, SECOND, TASK, a_run, a_task, a_trigger, a_wait

ROWS: Final = Path(__file__).parent / "rows"
ENDED: Final = RunKey(FACTORY, "ended-é")
ACTIVITY: Final = FailedActivity("Copy", "Copy", "2200", "no access to 'orders' 💥")
OVER: Final = (WaitState.DELIVERED, WaitState.INLINE, WaitState.STALE)
Change = Callable[[dict[str, Any]], None]


def as_written(row: dict[str, Any]) -> None:
    """Leave a row as it is."""


def as_by_a_later_version(row: dict[str, Any]) -> None:
    """Add to a row what a later version may know."""
    row["colour"] = {"of": ["a", "later", "version"]}
    for inner in (one for one in row.values() if isinstance(one, dict)):
        inner["region"] = 7


@pytest.fixture(params=[as_written, as_by_a_later_version], ids=lambda change: change.__name__)
def change(request: pytest.FixtureRequest) -> Change:
    """What is done to every row before it is read."""
    found: Change = request.param
    return found


@pytest.fixture(params=["sqlite", "table"])
def store(request: pytest.FixtureRequest, tmp_path: Path, change: Change) -> Iterator[Store]:
    """Each store with the rows of the first version."""
    yield from holding(request, tmp_path, change, "")


@pytest.fixture(params=["sqlite", "table"])
def second(request: pytest.FixtureRequest, tmp_path: Path, change: Change) -> Iterator[Store]:
    """Each store with the rows of commit 7fae959."""
    yield from holding(request, tmp_path, change, "-2")


def holding(request: pytest.FixtureRequest, tmp_path: Path, change: Change, suffix: str) -> Iterator[Store]:
    """Make a store with recorded rows."""
    if request.param == "sqlite":
        in_sqlite(tmp_path / "bridge.db", change, ROWS / f"sqlite{suffix}.sql")
        sqlite = SqliteStore(tmp_path / "bridge.db", retention=RETENTION)
        yield sqlite
        sqlite.close()
    else:
        make: MakeTableStore = request.getfixturevalue("make_table_store")
        azurite, name = request.getfixturevalue("azurite"), request.getfixturevalue("table_name")
        in_table(azurite, name, change, ROWS / f"table{suffix}.json")
        yield make(now=lambda: START)


def in_sqlite(path: Path, change: Change, rows: Path) -> None:
    """Make a file of the recorded rows."""
    db = sqlite3.connect(path)
    db.executescript(rows.read_text(encoding="utf-8"))
    for table in ("runs", "waits", "requests", "breakers", "sweeps", "events"):
        for (text,) in db.execute(f"SELECT row FROM {table}").fetchall():  # noqa: S608 - one of the names above
            db.execute(f"UPDATE {table} SET row = ? WHERE row = ?", (changed(text, change), text))  # noqa: S608
    db.commit()
    db.close()


def in_table(uri: str, name: str, change: Change, rows: Path) -> None:
    """Make a table of the recorded rows."""
    with connect(uri, name) as client:
        client.create_table()
        for entity in json.loads(rows.read_text(encoding="utf-8")):
            rest = {key: value for key, value in entity.items() if not key.startswith("row")}
            text = text_of(entity)
            client.create_entity({**rest, **chunks(changed(text, change))} if text else entity)


def changed(text: str, change: Change) -> str:
    """Return a row's JSON as another version wrote it."""
    row = json.loads(text)
    change(row)
    return json.dumps(row, ensure_ascii=False)


def going() -> Run:
    """Return the run that goes on."""
    return a_run(pipeline="copy_orders", status=RunStatus.IN_PROGRESS, read_at=START, reads=1, run_start=START)


def ended() -> Run:
    """Return the run that has failed."""
    return Run(
        key=ENDED,
        pipeline="copy_orders",
        status=RunStatus.FAILED,
        read_at=START + SECOND,
        reads=2,
        hint=RunStatus.FAILED,
        hint_at=START,
        run_start=START - MINUTE,
        run_end=START,
        message="Operation on target Copy failed",
        failed_activity=ACTIVITY,
        created_at=START - MINUTE,
    )


def open_wait() -> Wait:
    """Return the wait for the run that goes on."""
    wait = a_wait(due_at=START + timedelta(hours=1))
    return unversioned(wait.told(START, "registered", "waits").told(START, "event", "says Queued: no end"))


def wait_for_the_end(state: WaitState) -> Wait:
    """Return a wait for the run that has failed."""
    task = a_task(task_id=state.value, task_instance_id=f"ti-{state}", nonce=state.value)
    end = ended()
    completion = Completion(
        task.token, Outcome.FAILED, ENDED, end.pipeline, end.run_start, end.run_end, end.message, end.failed_activity
    )
    wait = a_wait(task, key=ENDED, completion=completion, on_abandon=OnAbandon.CANCEL, state=state, due_at=None).told(
        START, "registered", "waits"
    )
    if state is not WaitState.DUE:
        return unversioned(wait)
    return replace(
        unversioned(wait),
        due_at=START + 5 * SECOND,
        attempts=2,
        failures=1,
        seen_running_at=START,
        seen_waiting_at=START + SECOND,
        missing_since=START,
    )


def unversioned(row: Row | None) -> Row:
    """Return a row that has to be there, without what only the store knows."""
    assert row is not None
    return stored(row, version="")


def test_runs_and_waits(store: Store) -> None:
    """S43: runs and waits of another version are read in full, each by all the ways to it."""
    run, waits = store.run(KEY)
    assert (going(), [open_wait()]) == (unversioned(run), [unversioned(wait) for wait in waits])
    run, waits = store.run(ENDED)
    expected = {state: wait_for_the_end(state) for state in (WaitState.DUE, *OVER)}
    assert (ended(), expected) == (unversioned(run), {wait.state: unversioned(wait) for wait in waits})
    assert [ended()] == [unversioned(one) for one in store.find_runs(ENDED.run_id)]
    assert open_wait() == unversioned(store.find_wait(TASK.token))
    listed, cursor = store.waits(WaitFilter(), limit=9, cursor=None)
    assert ({open_wait().token, *(one.token for one in expected.values())}, None) == (
        {one.token for one in listed},
        cursor,
    )
    due = [Due(expected[WaitState.DUE].token, START + 5 * SECOND, WaitState.DUE)]
    assert due == list(store.due("prod", before=START + MINUTE, limit=9))
    assert [OpenWait(TASK.token, KEY.run_id, START)] == list(store.open_waits(FACTORY, limit=9))


def test_all_other_rows(store: Store) -> None:
    """S43: trigger requests, breakers, sweeps and events of another version are read in full."""
    trigger = a_trigger()
    request = StartRequest(
        trigger.idempotency_key,
        trigger.body_hash,
        StartState.STARTED,
        FACTORY,
        "copy_orders",
        START,
        START + MINUTE,
        KEY.run_id,
        '{"run": "as it was answered"}',
    )
    assert request == unversioned(store.request(trigger.idempotency_key))
    breaker = Breaker("target:prod", "unavailable", "Airflow answered 502", 3, START, START + 30 * SECOND)
    assert [breaker] == [unversioned(one) for one in (*store.breakers(),)]
    assert Sweep(FACTORY, START - MINUTE, START, timedelta(seconds=-2)) == unversioned(store.sweep(FACTORY))
    event = EventRecord(
        "e1",
        START,
        Verdict.MATCHED,
        "ADF confirms Failed",
        ARM_ID,
        "AdfBridge.PipelineRun.Failed",
        ARM_ID,
        ENDED.run_id,
        "Failed",
    )
    assert [event] == list(store.events(verdict=None, run_id=None, limit=9))


def test_the_bridge_goes_on(store: Store) -> None:
    """S43: what another version began, this one brings to its end; what it answered, this one answers again."""
    bench = Bench(store)
    due = wait_for_the_end(WaitState.DUE)
    for task in (TASK, due.task):
        bench.airflow.run(task)
        bench.airflow.park(task)
    bench.adf.begin(KEY)
    assert {"run": "as it was answered"} == bench.start()
    bench.clock.advance(MINUTE)
    bench.tick()
    assert WaitState.DELIVERED is bench.wait(due.task).state
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event("Succeeded")
    bench.pass_time(2 * MINUTE)
    told = {name: [one.status for one in each] for name, each in bench.airflow.told.items()}
    assert {"ti-due": [Outcome.FAILED], "ti-1": [Outcome.SUCCEEDED]} == told
    assert ([], [], 0) == (
        list(store.due("prod", before=START + timedelta(days=9), limit=9)),
        list(store.open_waits(FACTORY, limit=9)),
        store.repair(),
    )


def test_what_is_old_goes(store: Store) -> None:
    """S43: rows of another version that are over are removed at the end of the retention, the others are kept."""
    while store.purge(START + timedelta(days=1)):
        pass
    kept = {wait.token for wait in store.waits(WaitFilter(), limit=9, cursor=None)[0]}
    assert {open_wait().token, wait_for_the_end(WaitState.DUE).token} == kept
    assert store.request(a_trigger().idempotency_key) is None


# --- what the version before this one wrote ---------------------------------------------------------------------------

MATCH: Final = Match("Größe 1", START - MINUTE, (RunStatus.SUCCEEDED, RunStatus.FAILED))
MATCHING: Final = a_task(task_id="matching", task_instance_id="ti-m", nonce="m")
MATCH_KEY: Final = match_key(FACTORY, "Größe 1", MATCHING.token)
NO: Final = FailedActivity("Copy", "Copy", None, "no")


def found() -> Run:
    """Return the run that a wait by match has found."""
    return Run(
        key=MATCH_KEY,
        pipeline="größe 1",
        status=RunStatus.FAILED,
        read_at=START,
        reads=3,
        hint=RunStatus.FAILED,
        hint_at=START,
        run_start=START - MINUTE,
        run_end=START,
        message="no ü",
        failed_activity=NO,
        created_at=START - MINUTE,
        watched_run_id="found-1",
        claimed_run_id="found-2",
        match=MATCH,
    )


def matching() -> Wait:
    """Return the wait by match."""
    completion = Completion(
        MATCHING.token, Outcome.FAILED, MATCH_KEY, "größe 1", START - MINUTE, START, "no ü", NO, "found-1"
    )
    wait = a_wait(
        MATCHING,
        key=MATCH_KEY,
        on_abandon=OnAbandon.CANCEL,
        state=WaitState.DUE,
        due_at=START + 5 * SECOND,
        attempts=1,
        failures=2,
        seen_running_at=START,
        seen_waiting_at=START,
        missing_since=START,
        sent_at=START,
        abandoned_at=START,
        cancels=True,
        match=MATCH,
        completion=completion,
        decided_at=START,
    )
    return unversioned(wait.told(START, "registered", "waits"))


def asked(key: str, body_hash: str, state: StartState, **changes: Any) -> StartRequest:
    """Return the record of a trigger request."""
    record = StartRequest(key, body_hash, state, FACTORY, "copy_orders", START, START + MINUTE)
    return replace(record, **changes)


ANSWERED: Final = asked(
    MATCHING.token,
    "hash-2",
    StartState.STARTED,
    run_id=KEY.run_id,
    answer='{"run": "ü"}',
    started_pipeline="copy_orders__bridge",
)
STARTING: Final = asked("key/2", "hash-3", StartState.STARTING, started_pipeline="copy_orders")


def test_rows_of_the_version_before(second: Store) -> None:
    """S43: what the version before wrote is read in full; what it did not know of is as if nobody had asked for it."""
    run, (wait,) = second.run(MATCH_KEY)
    assert (found(), matching()) == (unversioned(run), unversioned(wait))
    assert run is not None
    assert (None, False) == (run.started_by, wait.keep_for_next_try)
    assert [ANSWERED, STARTING] == [unversioned(second.request(one.idempotency_key)) for one in (ANSWERED, STARTING)]
    assert Sweep(FACTORY, START - MINUTE, START, timedelta(seconds=-2)) == unversioned(second.sweep(FACTORY))


def test_nothing_of_the_version_before_is_to_be_finished(second: Store) -> None:
    """S43: records that do not say what was to be waited for are left to those who sent the requests."""
    assert [] == list(second.unfinished_requests(before=START + timedelta(days=999), limit=9))


def test_a_request_of_the_version_before_goes_on(second: Store) -> None:
    """S43: a record of the version before stands with no task; one that goes on here stands with its task from then."""
    assert ([], 0) == (list(second.requests_at(MATCHING.place, limit=9)), second.repair())
    for key in (STARTING.idempotency_key, ANSWERED.idempotency_key):
        record = second.request(key)
        assert record is not None
        saved = second.save_request(replace(record, try_number=2))
        assert [] == list(second.requests_at(MATCHING.place, limit=9))
        saved = second.save_request(replace(saved, place=MATCHING.place))
        assert [saved] == list(second.requests_at(MATCHING.place, limit=9))
        second.drop_request(saved)
    assert ([], 0) == (list(second.requests_at(MATCHING.place, limit=9)), second.repair())


def test_what_is_old_of_the_version_before_goes(second: Store) -> None:
    """S38: what the version before wrote and is over is purged; what goes on is kept."""
    while second.purge(START + timedelta(days=1)):
        pass
    assert [None, None] == [second.request(one.idempotency_key) for one in (ANSWERED, STARTING)]
    assert matching() == unversioned(second.find_wait(MATCHING.token))


# --- what the version before wrote of listeners, and what it reads of them ------------------------------------------


def test_a_wait_with_one_listener() -> None:
    """S43: a version that knew of the last listener only wrote what is a wait with that one here, and reads it so."""
    earlier = (Listener("triggerer-0", START - MINUTE),)
    row = json.loads(encode(a_wait(mode=Mode.QUEUE, reply_to="triggerer-1", listened_at=START, earlier=earlier)))
    del row["earlier"]
    wait = decode(json.dumps(row), Wait, version="1")
    assert ((Listener("triggerer-1", START),), False) == (wait.listeners, wait.lacks_listener)
