"""What every store has to keep, whatever it is made of."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.adapters import sqlite_store
from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import (
    Breaker,
    EventRecord,
    FailedActivity,
    Listener,
    Match,
    Mode,
    OnAbandon,
    Outcome,
    RecoveryMode,
    Run,
    RunKey,
    RunStatus,
    StartedHow,
    StartRequest,
    StartState,
    Sweep,
    Verdict,
    Wait,
    WaitState,
    match_key,
)
from bridge.ports import Due, OpenWait, Store, WaitFilter
from tests.fakes.clock import START
from tests.fakes.samples import (
    FACTORY,
    KEY,
    MINUTE,
    OTHER_FACTORY,
    SECOND,
    TASK,
    a_completion,
    a_request,
    a_run,
    a_task,
    a_wait,
    an_ended_run,
)
from tests.fakes.store import FaultyStore, MemoryStore

EVENTS_KEPT = 250
PRUNED_EVERY = 100  # a store may keep this many more before it drops what is too much
RETENTION = timedelta(days=30)
EVERY_WAIT = WaitFilter()
PLACE = a_task().place
NAMES = [
    "plain",
    "a/b%2F?c#d&e=f+g;h",
    "käse-ü-ﬁ-💥",
    "שלום\u202eעולם",
    "line\nbreak\ttab",
    "quote'\"`\\--; DROP TABLE waits",
    "x" * 250,
    " ",
]


@pytest.fixture(params=["sqlite", "table", "memory", "memory behind faults"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Each store in turn, empty."""
    if request.param == "table":
        make = request.getfixturevalue("make_table_store")
        yield make(events_kept=EVENTS_KEPT)
    elif request.param == "sqlite":
        monkeypatch.setattr(sqlite_store, "_EVENTS_KEPT", EVENTS_KEPT)
        sqlite = SqliteStore(tmp_path / "folder that is not there yet/bridge.db", retention=RETENTION)
        yield sqlite
        sqlite.close()
    elif request.param == "memory":
        yield MemoryStore(retention=RETENTION, events_kept=EVENTS_KEPT)
    else:
        yield FaultyStore(MemoryStore(retention=RETENTION, events_kept=EVENTS_KEPT))


def put_wait(store: Store, **changes: Any) -> Wait:
    """Write a wait of its own; return it as it was written."""
    _, (wait,) = store.put(None, [a_wait(a_task(nonce=str(changes.pop("nonce", "n"))), **changes)])
    return wait


def full_run() -> Run:
    """Return a run with nothing left out."""
    return an_ended_run(
        RunStatus.FAILED,
        pipeline="copy_orders",
        reads=3,
        hint=RunStatus.SUCCEEDED,
        hint_at=START + 1.5 * SECOND,
        run_start=START - MINUTE,
        message="Operation on target Copy failed: 💥",
        failed_activity=FailedActivity("Copy", "Copy", None, "no"),
        started_by="key ü",
    )


def full_wait() -> Wait:
    """Return a wait with nothing left out."""
    moment = START + timedelta(microseconds=123_457)
    wait = a_wait(
        state=WaitState.DUE,
        on_abandon=OnAbandon.CANCEL,
        due_at=moment,
        attempts=2,
        failures=4,
        seen_running_at=moment,
        seen_waiting_at=moment + SECOND,
        missing_since=moment,
        sent_at=moment,
        keep_for_next_try=True,
        completion=a_completion(status=Outcome.UNKNOWN, failed_activity=FailedActivity("A", "B", "C", None)),
    )
    return wait.told(moment, "registered", "waits").told(moment + SECOND, "event", "says ü\n")


# --- rows -------------------------------------------------------------------------------------------------------------


def test_nothing_is_there_at_first(store: Store) -> None:
    """An empty store answers every question with nothing."""
    assert (None, ()) == store.run(KEY)
    assert ([], None, None) == (list(store.find_runs("r")), store.find_wait("t"), store.request("k"))
    assert [] == list(store.requests_at(PLACE, limit=9))
    assert ([], ([], None)) == (
        list(store.due("prod", before=START, limit=9)),
        tuple_of(store.waits(EVERY_WAIT, limit=9, cursor=None)),
    )
    assert ([], []) == (list(store.events(verdict=None, run_id=None, limit=9)), list(store.breakers()))
    assert Breaker("target:prod") == store.breaker("target:prod")


def tuple_of(page: tuple[Any, str | None]) -> tuple[list[Wait], str | None]:
    """Return a page with its rows as a list."""
    return list(page[0]), page[1]


def test_rows_come_back_as_they_were_written(store: Store) -> None:
    """A run and its waits read back equal, to the microsecond, with the versions that writing them gave."""
    run, waits = store.put(full_run(), [full_wait()])
    told_of = replace(full_wait(), news=0)  # what is stored is no news any more
    assert (full_run(), told_of) == (replace(run or a_run(), version=""), replace(waits[0], version=""))
    assert (run, waits) == store.run(KEY)
    assert waits[0] == store.find_wait(waits[0].token)
    assert [run] == list(store.find_runs(KEY.run_id))


def test_a_wait_keeps_its_listeners(store: Store) -> None:
    """A wait in mode queue comes back with its listeners, and is due, over and listed as any other."""
    other = Listener("triggerer-0", START - MINUTE)
    listened = a_wait(mode=Mode.QUEUE, reply_to="triggerer-1", listened_at=START, earlier=(other,), due_at=START)
    store.put(a_run(), [listened])
    found = store.find_wait(TASK.token)
    assert found is not None
    assert (Mode.QUEUE, "triggerer-1", START) == (found.mode, found.reply_to, found.listened_at)
    assert (Listener("triggerer-1", START), other) == found.listeners
    assert [TASK.token] == [one.token for one in store.due("prod", before=START, limit=10)]
    assert [(TASK.token, None)] == [(one.token, one.watched) for one in store.open_waits(FACTORY, limit=10)]
    over = replace(found, state=WaitState.DELIVERED, due_at=None, reply_to="triggerer-2")
    store.put(None, [over])
    again = store.find_wait(TASK.token)
    assert (WaitState.DELIVERED, "triggerer-2") == (again and again.state, again and again.reply_to)
    assert [] == list(store.due("prod", before=START, limit=10))


def test_a_factory_keeps_its_spelling(store: Store) -> None:
    """A factory is found in any case, and read back as it was spelled."""
    shouted = replace(FACTORY, arm_id=FACTORY.arm_id.upper())
    store.put(a_run(key=RunKey(shouted, "r")), [])
    found, _ = store.run(RunKey(FACTORY, "r"))
    assert found is not None
    assert FACTORY.arm_id.upper() == found.key.factory.arm_id


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_will_do(store: Store, name: str) -> None:
    """S33: names of any characters are kept as they are, and rows are found by them."""
    task = a_task(dag_id=name, run_id=name, task_id=name, nonce=name)
    store.put(a_run(key=RunKey(FACTORY, name), pipeline=name), [a_wait(task, key=RunKey(FACTORY, name))])
    run, (wait,) = store.run(RunKey(FACTORY, name))
    assert run is not None
    assert (name, task, [run]) == (run.pipeline, wait.task, list(store.find_runs(name)))
    record = store.save_request(a_record(idempotency_key=name, place=name))
    store.save_breaker(Breaker(name, detail=name, failures=1))
    found = store.request(name)
    assert found is not None
    assert (name, name) == (found.idempotency_key, store.breaker(name).detail)
    assert [record] == list(store.requests_at(name, limit=9))


# --- compare and set --------------------------------------------------------------------------------------------------


def test_a_row_is_made_once(store: Store) -> None:
    """S22: a row that is there already cannot be made again."""
    store.put(a_run(), [a_wait()])
    for run, waits in ((a_run(), []), (None, [a_wait()])):
        with pytest.raises(StoreConflict):
            store.put(run, waits)


def test_a_row_that_changed_is_not_overwritten(store: Store) -> None:
    """S22: of two who read the same row, the second one to write it is refused."""
    store.put(a_run(), [a_wait()])
    run, (wait,) = store.run(KEY)
    assert run is not None
    store.put(replace(run, reads=1), [replace(wait, failures=1)])
    for stale_run, stale_waits in ((replace(run, reads=2), []), (None, [replace(wait, failures=2)])):
        with pytest.raises(StoreConflict):
            store.put(stale_run, stale_waits)
    now_run, (now_wait,) = store.run(KEY)
    assert now_run is not None
    assert (1, 1) == (now_run.reads, now_wait.failures)


def test_a_row_that_is_not_there_is_not_changed(store: Store) -> None:
    """S22: a row that was never made cannot be changed."""
    with pytest.raises(StoreConflict):
        store.put(None, [replace(a_wait(), version="3")])
    assert store.find_wait(a_wait().token) is None


def test_what_was_written_can_be_changed_again(store: Store) -> None:
    """The rows that writing returns can be written again without reading them."""
    run, waits = store.put(a_run(), [a_wait()])
    for reads in range(1, 5):
        assert run is not None
        run, waits = store.put(replace(run, reads=reads), [replace(waits[0], failures=reads)])
    assert (run, waits) == store.run(KEY)


@pytest.mark.parametrize("bad", range(3))
def test_all_or_nothing(store: Store, bad: int) -> None:
    """S23: when one row of a writing is refused, none of its rows is written, wherever the bad one stands."""
    stale = put_wait(store, nonce="known")
    _, (known,) = store.put(None, [replace(stale, failures=1)])
    waits = [a_wait(a_task(nonce=f"new-{number}")) for number in range(2)]
    waits.insert(bad, replace(stale, failures=9))
    with pytest.raises(StoreConflict):
        store.put(a_run(), waits)
    assert (None, (known,)) == store.run(KEY)


def test_a_bad_run_writes_no_waits(store: Store) -> None:
    """S23: when the run's row is refused, its waits are not written."""
    stale, _ = store.put(a_run(), [])
    assert stale is not None
    run, _ = store.put(replace(stale, reads=1), [])
    with pytest.raises(StoreConflict):
        store.put(replace(stale, reads=2), [a_wait()])
    assert (run, ()) == store.run(KEY)


def test_a_refused_writing_leaves_the_store_usable(store: Store) -> None:
    """After a refused writing the next one works."""
    with pytest.raises(StoreConflict):
        store.put(a_run(version="4"), [])
    run, _ = store.put(a_run(), [])
    assert (run, ()) == store.run(KEY)


def test_writing_nothing(store: Store) -> None:
    """Writing nothing is no error."""
    assert (None, ()) == store.put(None, [])


# --- runs and their waits ---------------------------------------------------------------------------------------------


def test_a_run_shows_only_its_own_waits(store: Store) -> None:
    """S18: a run shows its own waits, the oldest first, and none of the same run id in another factory."""
    there = RunKey(OTHER_FACTORY, KEY.run_id)
    younger = put_wait(store, nonce="younger", registered_at=START + SECOND)
    older = put_wait(store, nonce="older")
    put_wait(store, nonce="there", key=there)
    store.put(a_run(), [])
    store.put(a_run(key=there), [])
    run, waits = store.run(KEY)
    assert run is not None
    assert (KEY, (older, younger)) == (run.key, waits)
    assert {KEY, there} == {found.key for found in store.find_runs(KEY.run_id)}


def test_waits_may_come_before_their_run(store: Store) -> None:
    """The waits of a run are found though the run's own row was never written."""
    wait = put_wait(store)
    assert (None, (wait,)) == store.run(KEY)


# --- what is due ------------------------------------------------------------------------------------------------------


def test_what_is_due_first_comes_first(store: Store) -> None:
    """A target's due waits are told in the order of their time, up to the limit, and none before its time."""
    tokens = {after: put_wait(store, nonce=after, due_at=START + after * SECOND).token for after in (3, 1, 2, 5)}
    put_wait(store, nonce="never", due_at=None)
    expected = [Due(tokens[after], START + after * SECOND, WaitState.OPEN) for after in (1, 2, 3)]
    assert expected == list(store.due("prod", before=START + 3 * SECOND, limit=9))
    assert expected[:2] == list(store.due("prod", before=START + 3 * SECOND, limit=2))


def test_each_target_has_its_own(store: Store) -> None:
    """S42: one target's due waits are none of another's."""
    _, (dev,) = store.put(None, [a_wait(a_task(target="dev"), due_at=START)])
    put_wait(store, due_at=START)
    assert [dev.token] == [due.token for due in store.due("dev", before=START, limit=9)]


def test_what_is_due_for_adf(store: Store) -> None:
    """S07: what ADF is asked for is found behind any number of completions that are due before it."""
    for number in range(4):
        put_wait(store, nonce=f"due-{number}", state=WaitState.DUE, due_at=START)
    put_wait(store, nonce="inline", state=WaitState.INLINE, due_at=START)
    late = put_wait(store, nonce="open", due_at=START + SECOND)
    expired = put_wait(store, nonce="expired", state=WaitState.DUE, cancels=True, due_at=START + 2 * SECOND)
    stale = put_wait(store, nonce="stale", state=WaitState.STALE, cancels=True, due_at=START + 3 * SECOND)
    put_wait(store, nonce="later", due_at=START + 60 * MINUTE)
    expected = [
        Due(late.token, START + SECOND, WaitState.OPEN),
        Due(expired.token, START + 2 * SECOND, WaitState.DUE, cancels=True),
        Due(stale.token, START + 3 * SECOND, WaitState.STALE, cancels=True),
    ]
    assert expected == list(store.due("prod", before=START + MINUTE, limit=3, for_adf=True))
    assert expected[:1] == list(store.due("prod", before=START + MINUTE, limit=1, for_adf=True))
    assert expected == list(store.due("prod", before=START + MINUTE, limit=9))[5:]


def test_what_is_cancelled_is_due_for_airflow_only(store: Store) -> None:
    """S07: a wait that stays due when its run has been cancelled is no longer found as one that ADF is asked for."""
    wait = put_wait(store, state=WaitState.DUE, cancels=True, due_at=START)
    store.put(None, [replace(wait, cancels=False)])
    assert [] == list(store.due("prod", before=START, limit=9, for_adf=True))
    assert [Due(wait.token, START, WaitState.DUE)] == list(store.due("prod", before=START, limit=9))


def test_a_wait_that_is_over_is_not_due(store: Store) -> None:
    """A wait leaves the list when it is written without a time, and moves when its time does."""
    wait = put_wait(store, due_at=START)
    _, (wait,) = store.put(None, [replace(wait, due_at=START + MINUTE)])
    assert [] == list(store.due("prod", before=START, limit=9))
    assert 1 == len(store.due("prod", before=START + MINUTE, limit=9))
    store.put(None, [replace(wait, state=WaitState.DELIVERED, due_at=None)])
    assert [] == list(store.due("prod", before=START + MINUTE, limit=9))


# --- lists ------------------------------------------------------------------------------------------------------------


def test_waits_are_listed_page_by_page(store: Store) -> None:
    """Every wait is on exactly one page, the newest first, also when several were registered at one moment."""
    waits = [put_wait(store, nonce=n, registered_at=START + (n // 3) * SECOND) for n in range(10)]
    pages, cursor = [], None
    while True:
        page, cursor = store.waits(EVERY_WAIT, limit=3, cursor=cursor)
        pages.append(list(page))
        if cursor is None:
            break
    assert [3, 3, 3, 1] == [len(page) for page in pages]
    expected = sorted(waits, key=lambda wait: (wait.registered_at, wait.token), reverse=True)
    assert expected == [wait for page in pages for wait in page]


def test_the_last_page_has_no_next(store: Store) -> None:
    """A page that holds the last wait leads nowhere, also when it is full."""
    for nonce in range(3):
        put_wait(store, nonce=nonce)
    assert store.waits(EVERY_WAIT, limit=3, cursor=None)[1] is None


def test_a_page_is_not_disturbed_by_new_waits(store: Store) -> None:
    """A wait that is registered between two pages shifts none of the others."""
    for n in range(4):
        put_wait(store, nonce=n, registered_at=START + n * SECOND)
    first, cursor = store.waits(EVERY_WAIT, limit=2, cursor=None)
    put_wait(store, nonce="new", registered_at=START + MINUTE)
    second, _ = store.waits(EVERY_WAIT, limit=2, cursor=cursor)
    ages = [(wait.registered_at - START) / SECOND for wait in (*first, *second)]
    assert [3, 2, 1, 0] == ages


@pytest.mark.parametrize(
    "cursor", ["", "x", "ü💥", "W10=", "WzEsMl0=", "e30=", "bnVsbA==", "W1tb" * 4_000, "WzFlOTk5LCAieCJd"]
)
def test_a_cursor_that_is_none(store: Store, cursor: str) -> None:
    """A cursor that the store did not give out is never an error."""
    put_wait(store)
    assert len(store.waits(EVERY_WAIT, limit=3, cursor=cursor)[0]) <= 1


def test_waits_are_filtered(store: Store) -> None:
    """Waits are listed by state, target and factory, and by all of them together."""
    here = put_wait(store, nonce="here")
    over = put_wait(store, nonce="over", state=WaitState.STALE)
    there = put_wait(store, nonce="there", key=RunKey(OTHER_FACTORY, "r"))
    _, (dev,) = store.put(None, [a_wait(a_task(target="dev"))])

    def tokens(**parts: Any) -> set[str]:
        return {wait.token for wait in store.waits(WaitFilter(**parts), limit=9, cursor=None)[0]}

    assert {here.token, there.token, dev.token} == tokens(state=WaitState.OPEN)
    assert ({dev.token}, {there.token}) == (tokens(target="dev"), tokens(factory=OTHER_FACTORY))
    assert {over.token} == tokens(state=WaitState.STALE, target="prod", factory=FACTORY)
    assert set() == tokens(state=WaitState.STALE, target="dev")


# --- open waits -------------------------------------------------------------------------------------------------------


def test_the_oldest_open_waits_come_first(store: Store) -> None:
    """S27: a factory's waits in the state open are told, the oldest first, up to the limit, and no others."""
    waits = {age: put_wait(store, nonce=age, registered_at=START - age * SECOND) for age in (2, 4, 3)}
    put_wait(store, nonce="due", state=WaitState.DUE)
    put_wait(store, nonce="over", state=WaitState.DELIVERED, due_at=None)
    put_wait(store, nonce="there", key=RunKey(OTHER_FACTORY, "r"))
    expected = [OpenWait(waits[age].token, KEY.run_id, START - age * SECOND) for age in (4, 3, 2)]
    assert expected == list(store.open_waits(FACTORY, limit=9))
    assert expected[:2] == list(store.open_waits(FACTORY, limit=2))


def test_open_waits_tell_whom_to_look_after(store: Store) -> None:
    """S14: where the run is to be cancelled when nobody waits, an open wait tells its task; after a repair as well."""
    task = a_task(dag_id="größe/💥", task_id="load %2F", nonce="watched")
    put_wait(store, nonce="left")
    store.put(None, [a_wait(task, on_abandon=OnAbandon.CANCEL, registered_at=START + SECOND)])
    store.repair()
    assert [None, task] == [one.watched for one in store.open_waits(FACTORY, limit=9)]


def test_open_waits_by_match(store: Store) -> None:
    """The waits for a pipeline's next run are found by its name in any spelling, at once and after a repair."""
    match = Match("Größe 1", START, (RunStatus.SUCCEEDED,))
    tasks = [a_task(nonce=nonce) for nonce in ("a", "b", "other")]
    keys = [match_key(FACTORY, "größe 1", task.token) for task in tasks]
    for task, key in zip(tasks[:2], keys[:2], strict=True):
        store.put(Run(key=key, match=match), [a_wait(task, key=key, match=match)])
    other = replace(match, pipeline="größe 2")
    key = match_key(FACTORY, other.pipeline, tasks[2].token)
    store.put(Run(key=key, match=other), [a_wait(tasks[2], key=key, match=other)])
    put_wait(store, nonce="not by match")
    store.repair()
    found = store.open_waits(FACTORY, limit=9, pipeline="größe 1")
    assert sorted(task.token for task in tasks[:2]) == sorted(one.token for one in found)
    assert {"größe 1"} == {one.pipeline for one in found}
    assert 4 == len(store.open_waits(FACTORY, limit=9))
    run, (wait,) = store.run(keys[0])
    assert run is not None
    assert (match, match) == (run.match, wait.match)


def test_open_waits_of_any_run(store: Store) -> None:
    """S33: an open wait is told whatever the id of its run begins with."""
    found = [put_wait(store, nonce=name, key=RunKey(FACTORY, name)).key.run_id for name in NAMES]
    assert sorted(found) == sorted(one.run_id for one in store.open_waits(FACTORY, limit=99))


def test_a_wait_by_match_that_is_over(store: Store) -> None:
    """A wait for a pipeline's next run is not found any more when its completion is decided."""
    match = Match("copy_orders", START, (RunStatus.SUCCEEDED,))
    key = match_key(FACTORY, match.pipeline, a_task().token)
    _, (wait,) = store.put(None, [a_wait(key=key, match=match)])
    assert 1 == len(store.open_waits(FACTORY, limit=9, pipeline="copy_orders"))
    store.put(None, [replace(wait, state=WaitState.DUE, due_at=START)])
    assert [] == list(store.open_waits(FACTORY, limit=9, pipeline="copy_orders"))


def test_many_waits_change_at_once(store: Store) -> None:
    """S42: as many waits on one run as no transaction holds become due together, and are found so."""
    tasks = [a_task(nonce=str(number)) for number in range(230)]
    _, waits = store.put(a_run(), [a_wait(task, due_at=START + MINUTE) for task in tasks])
    _, waits = store.put(None, [replace(wait, state=WaitState.DUE, due_at=START) for wait in waits])
    due = store.due("prod", before=START, limit=999)
    assert {wait.token for wait in waits} == {one.token for one in due}
    assert (230, []) == (len(due), list(store.open_waits(FACTORY, limit=999)))
    store.put(None, [replace(wait, state=WaitState.DELIVERED, due_at=None) for wait in waits])
    assert ([], 0) == (list(store.due("prod", before=START + MINUTE, limit=999)), store.repair())


def test_a_wait_that_is_due_is_open_no_more(store: Store) -> None:
    """S27: a wait leaves the list of the open ones when its completion is decided."""
    wait = put_wait(store)
    store.put(None, [replace(wait, state=WaitState.DUE)])
    assert [] == list(store.open_waits(FACTORY, limit=9))


# --- trigger requests -------------------------------------------------------------------------------------------------


def a_record(**changes: Any) -> StartRequest:
    """Return the record of a trigger request."""
    record = StartRequest(
        idempotency_key="key",
        body_hash="hash",
        state=StartState.STARTING,
        factory=FACTORY,
        pipeline="copy_orders",
        received_at=START,
        lease_until=START + MINUTE,
    )
    return replace(record, **changes)


def test_a_key_is_reserved_once(store: Store) -> None:
    """S21: of two who reserve the same key, one does; what it writes reads back equal."""
    saved = store.save_request(a_record())
    with pytest.raises(StoreConflict):
        store.save_request(a_record())
    answered = store.save_request(replace(saved, state=StartState.STARTED, run_id="r", answer='{"run": "ü"}'))
    assert answered == store.request("key")
    with pytest.raises(StoreConflict):
        store.save_request(replace(saved, state=StartState.UNKNOWN))


def test_a_dropped_key_is_free_again(store: Store) -> None:
    """A record that is dropped is gone, and its key can be reserved anew."""
    store.drop_request(store.save_request(a_record()))
    assert store.request("key") is None
    store.save_request(a_record())


def test_a_record_that_changed_is_not_dropped(store: Store) -> None:
    """S22: a record that somebody else has gone on with is not dropped."""
    saved = store.save_request(a_record())
    gone_on = store.save_request(replace(saved, state=StartState.STARTED, run_id="r"))
    store.drop_request(saved)
    assert gone_on == store.request("key")


def test_a_record_is_kept_in_full(store: Store) -> None:
    """A record reads back equal, with nothing left out, by its key and by its task."""
    moment = START + timedelta(microseconds=123_457)
    record = a_record(
        state=StartState.SEARCHING,
        run_id="r",
        answer="{}",
        started_pipeline="wrapper",
        place=PLACE,
        try_number=3,
        parameters_hash="hash",
        correlation="bridge_key",
        recovers="r0",
        group="g",
        search_until=moment,
        recovery_mode=RecoveryMode.FROM_ACTIVITY,
        recovery_activity="Größe 💥",
        how=StartedHow.RECOVERED,
        why="the one before failed",
        wait=a_request(deadline=moment, on_abandon=OnAbandon.CANCEL, keep_for_next_try=True),
        finish_at=moment,
        left="nobody knows",
    )
    saved = store.save_request(record)
    assert (record, saved, [saved]) == (
        replace(saved, version=""),
        store.request("key"),
        list(store.requests_at(PLACE, limit=9)),
    )


def put_try(store: Store, number: int, **changes: Any) -> StartRequest:
    """Write the record of a try of its own, received as many seconds after the start; return it as it was written."""
    parts = {"idempotency_key": f"try-{number}", "place": PLACE, "try_number": number, **changes}
    return store.save_request(a_record(**{"received_at": START + number * SECOND, **parts}))


def tries(store: Store, place: str = PLACE, *, limit: int = 9) -> list[int]:
    """Return which tries of a task are listed."""
    return [record.try_number for record in store.requests_at(place, limit=limit)]


def test_the_tries_of_a_task_are_listed(store: Store) -> None:
    """S14: the records of a task's tries are told, the one received last first, up to the limit, and no others."""
    for number in (2, 10, 1, 3):
        put_try(store, number)
    put_try(store, 7, place="another")
    put_try(store, 8, place=None)
    put_try(store, 4, received_at=START + timedelta(microseconds=2_500_000))
    assert ([10, 3, 4, 2, 1], [10, 3], [7]) == (tries(store), tries(store, limit=2), tries(store, "another"))


def test_a_try_is_listed_as_it_stands(store: Store) -> None:
    """S14: a record that went on is listed once, as it was written last, by whoever."""
    first = put_try(store, 1)
    second = put_try(store, 2)
    started = store.save_request(replace(first, state=StartState.STARTED, run_id="r"))
    found = store.request("try-2")
    assert found is not None
    gone_on = store.save_request(replace(found, state=StartState.SEARCHING))
    gone_on = store.save_request(replace(gone_on, state=StartState.UNKNOWN))
    with pytest.raises(StoreConflict):
        store.save_request(replace(second, state=StartState.STARTED))
    assert [gone_on, started] == list(store.requests_at(PLACE, limit=9))


def test_a_try_that_finds_its_place_later(store: Store) -> None:
    """A record that had no place at first, or was received at another time, is listed where it belongs."""
    late, moved = put_try(store, 1, place=None), put_try(store, 2)
    put_try(store, 3)
    store.save_request(replace(late, place=PLACE))
    store.save_request(replace(moved, received_at=START + MINUTE))
    assert [2, 3, 1] == tries(store)


def test_a_dropped_try_is_not_listed(store: Store) -> None:
    """S14: a record that is dropped is listed no more; one that somebody has gone on with is; a new one is again."""
    dropped, changed = put_try(store, 1), put_try(store, 2)
    store.save_request(replace(changed, state=StartState.STARTED, run_id="r"))
    for record in (dropped, changed, dropped):
        store.drop_request(record)
    assert [2] == tries(store)
    put_try(store, 1, received_at=START + MINUTE)
    assert [1, 2] == tries(store)


# --- what the bridge itself has to finish


def unfinished(store: Store, seconds: float = 99, *, limit: int = 9) -> list[int]:
    """Return which tries the bridge has to go on with by then."""
    before = START + seconds * SECOND
    return [record.try_number for record in store.unfinished_requests(before=before, limit=limit)]


def test_unfinished_requests_are_listed(store: Store) -> None:
    """S19: the records that are due are told, the longest due first, to the fraction of a second, up to the limit."""
    for number, seconds in ((1, 5), (2, 3.5), (3, 3), (4, 4), (5, 98), (6, 100)):
        put_try(store, number, finish_at=START + seconds * SECOND)
    put_try(store, 7)
    put_try(store, 8, finish_at=START, place=None)
    assert [8, 3, 2, 4, 1, 5] == unfinished(store)
    assert ([8, 3], [8, 3], [8, 3, 2], []) == (
        unfinished(store, limit=2),
        unfinished(store, 3),
        unfinished(store, 3.5),
        unfinished(store, -1),
    )


def test_a_finished_request_is_not_listed(store: Store) -> None:
    """S19: a record is listed as it stands, until it is answered, unknown, left or dropped; later if it is put off."""
    kept, answered, unknown, left, dropped, later = (
        put_try(store, number, finish_at=START + number * SECOND) for number in range(6)
    )
    started = store.save_request(replace(kept, state=StartState.STARTED, run_id="r"))
    store.save_request(replace(answered, answer="{}"))
    store.save_request(replace(unknown, state=StartState.UNKNOWN))
    again = store.save_request(replace(left, left="why"))
    store.drop_request(dropped)
    later = store.save_request(replace(later, finish_at=START + MINUTE))
    assert [started, later] == list(store.unfinished_requests(before=START + MINUTE, limit=9))
    assert ([0], [4]) == (unfinished(store, 59), [one for one in range(6) if store.request(f"try-{one}") is None])
    store.save_request(replace(again, left=None))
    assert [0, 3, 5] == unfinished(store)


def test_an_unfinished_request_is_kept(store: Store) -> None:
    """S38: a purge removes no record that the bridge has to go on with, however old."""
    kept, gone = put_try(store, 1, finish_at=START), put_try(store, 2)
    while store.purge(START + 60 * MINUTE):
        pass
    assert (kept, None, [1]) == (store.request("try-1"), store.request(gone.idempotency_key), unfinished(store))
    store.save_request(replace(kept, answer="{}"))
    while store.purge(START + 60 * MINUTE):
        pass
    assert None is store.request("try-1")


def test_an_answered_request_is_kept_as_long_as_its_task_may_wait(store: Store) -> None:
    """S38: a retention shorter than a run takes no record away that the task's next try has to find."""
    deadline = START + 60 * MINUTE
    waited = put_try(store, 1, answer="{}", wait=a_request(deadline=deadline))
    while store.purge(deadline):
        pass
    assert waited == store.request("try-1")
    while store.purge(deadline + SECOND):
        pass
    assert None is store.request("try-1")


# --- events -----------------------------------------------------------------------------------------------------------


def an_entry(number: int, **changes: Any) -> EventRecord:
    """Return an event's record."""
    record = EventRecord(str(number), START + number * SECOND, Verdict.PARKED, "nobody waits", run_id=f"r{number % 2}")
    return replace(record, **changes)


def test_the_newest_events_come_first(store: Store) -> None:
    """Events are listed newest first, up to the limit, as they were recorded; the same one twice stands there twice."""
    records = [an_entry(number, source="/x", type="T", factory="ü💥", status="Succeeded") for number in (0, 1, 1, 2)]
    for record in records:
        store.record_event(record)
    assert records[::-1] == list(store.events(verdict=None, run_id=None, limit=9))
    assert records[:1:-1] == list(store.events(verdict=None, run_id=None, limit=2))


def test_events_are_filtered(store: Store) -> None:
    """Events are listed by verdict and by run, before the limit counts."""
    for number in range(6):
        store.record_event(an_entry(number, verdict=Verdict.MATCHED if number < 3 else Verdict.PARKED))

    def ids(**parts: Any) -> list[str]:
        return [record.id for record in store.events(**{"verdict": None, "run_id": None, "limit": 9, **parts})]

    assert ["2", "1", "0"] == ids(verdict=Verdict.MATCHED)
    assert ["5", "3", "1"] == ids(run_id="r1")
    assert (["2", "0"], ["0"], []) == (
        ids(verdict=Verdict.MATCHED, run_id="r0"),
        ids(verdict=Verdict.MATCHED, run_id="r0", limit=2)[1:],
        ids(verdict=Verdict.REJECTED),
    )


def test_the_list_of_events_is_capped(store: Store) -> None:
    """S38: the list keeps the newest events only, however many come; a purge sees to it."""
    for number in range(EVENTS_KEPT + 2 * PRUNED_EVERY):
        store.record_event(an_entry(number))
    store.purge(OLD)
    kept = store.events(verdict=None, run_id=None, limit=10 * EVENTS_KEPT)
    assert EVENTS_KEPT <= len(kept) <= EVENTS_KEPT + PRUNED_EVERY
    assert str(EVENTS_KEPT + 2 * PRUNED_EVERY - 1) == kept[0].id


def test_old_events_go(store: Store) -> None:
    """Events that are older than the retention go, with a purge at the latest; those of that moment stay."""
    store.record_event(an_entry(0, id="old"))
    store.record_event(an_entry(0, id="young", received_at=START + timedelta(days=2)))
    later = START + RETENTION + timedelta(days=1)
    store.record_event(an_entry(0, id="just young", received_at=later - RETENTION))
    for number in range(PRUNED_EVERY):
        store.record_event(an_entry(number, received_at=later))
    store.purge(later - RETENTION)
    kept = {record.id for record in store.events(verdict=None, run_id=None, limit=500)}
    assert {"young", "just young"} == kept - {str(number) for number in range(PRUNED_EVERY)}
    assert "old" not in kept


# --- breakers ---------------------------------------------------------------------------------------------------------


def test_breakers_are_compared_and_set(store: Store) -> None:
    """S22: a breaker is written like any other row, and all of them are listed by name."""
    paused = Breaker("target:prod", "forbidden", "no ü", 3, START, START + MINUTE)
    saved = store.save_breaker(paused)
    assert (paused, saved) == (replace(saved, version=""), store.breaker("target:prod"))
    with pytest.raises(StoreConflict):
        store.save_breaker(paused)
    closed = store.save_breaker(Breaker("target:prod", version=saved.version))
    other = store.save_breaker(Breaker("factory:x", failures=1))
    assert [other, closed] == list(store.breakers())


def test_sweeps_are_compared_and_set(store: Store) -> None:
    """S22: how far a factory was swept is written like any other row, and each factory has its own."""
    swept = Sweep(FACTORY, START, START + MINUTE, -3 * SECOND)
    saved = store.save_sweep(swept)
    assert (swept, saved, Sweep(OTHER_FACTORY)) == (
        replace(saved, version=""),
        store.sweep(FACTORY),
        store.sweep(OTHER_FACTORY),
    )
    with pytest.raises(StoreConflict):
        store.save_sweep(swept)
    assert START + MINUTE == store.save_sweep(replace(saved, covered_until=START + MINUTE)).covered_until


# --- upkeep -----------------------------------------------------------------------------------------------------------

OLD = START - timedelta(days=10)
BEFORE = START - timedelta(days=5)


def purge_all(store: Store, *, limit: int = 1_000) -> int:
    """Purge until nothing is left to purge; return how many rows went."""
    removed = 0
    while gone := store.purge(BEFORE, limit=limit):
        removed += gone
    return removed


def test_what_is_over_and_old_is_purged(store: Store) -> None:
    """S38: final waits, their runs, requests and events that last changed before a time go, with all ways to them."""
    key = RunKey(FACTORY, "old")
    wait = put_wait(store, nonce="old", key=key, registered_at=OLD, state=WaitState.STALE, due_at=None)
    store.put(a_run(key=key, created_at=OLD), [])
    store.save_request(a_record(received_at=OLD))
    store.record_event(an_entry(0, received_at=OLD))
    assert 4 == purge_all(store)
    assert (None, ()) == store.run(key)
    assert ([], None, None) == (list(store.find_runs("old")), store.find_wait(wait.token), store.request("key"))
    assert ([], None) == tuple_of(store.waits(EVERY_WAIT, limit=9, cursor=None))
    assert [] == list(store.events(verdict=None, run_id=None, limit=9))


def test_what_is_live_or_young_is_kept(store: Store) -> None:
    """S38: a wait that is not final is kept however old it is, with its run; so is whatever changed since."""
    live = put_wait(store, nonce="live", registered_at=OLD)
    final = {"state": WaitState.STALE, "due_at": None}
    old = put_wait(store, nonce="old", registered_at=OLD, **final)
    told = replace(a_wait(a_task(nonce="told"), registered_at=OLD, **final).told(START, "closed"), news=0)
    _, (young,) = store.put(None, [told])
    run, _ = store.put(a_run(created_at=OLD), [])
    other, _ = store.put(a_run(key=RunKey(FACTORY, "read"), created_at=OLD, read_at=START), [])
    request = store.save_request(a_record())
    store.record_event(an_entry(0))
    assert 1 == purge_all(store)
    assert store.find_wait(old.token) is None
    found_run, found = store.run(KEY)
    assert (run, {live, young}) == (found_run, set(found))
    assert ([other], request) == (list(store.find_runs("read")), store.request("key"))
    assert 1 == len(store.events(verdict=None, run_id=None, limit=9))


def test_an_old_try_goes(store: Store) -> None:
    """S38: the record of an old try is purged, and listed no more; a younger one of the same task stays."""
    put_try(store, 1, received_at=OLD)
    put_try(store, 2)
    assert 1 == purge_all(store)
    assert ([2], None) == (tries(store), store.request("try-1"))


def test_a_purge_goes_step_by_step(store: Store) -> None:
    """A purge removes about as many rows as it may at a time, and all of them in the end."""
    for nonce in range(7):
        key = RunKey(FACTORY, f"r{nonce}")
        put_wait(store, nonce=nonce, key=key, registered_at=OLD, state=WaitState.STALE, due_at=None)
    first = store.purge(BEFORE, limit=3)
    assert (3, 4, 0) == (first, purge_all(store, limit=3), store.purge(BEFORE, limit=3))


def test_there_is_nothing_to_repair(store: Store) -> None:
    """A store that lost nothing has nothing to repair."""
    put_wait(store)
    store.put(a_run(), [])
    put_try(store, 1)
    assert [0, 0] == [store.repair(), store.repair(limit=1)]


def test_a_store_that_works_passes_its_check(store: Store) -> None:
    """The check of a store that works says nothing, however often."""
    for _ in range(3):
        store.check()


# --- stores that do not work ------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Store], object]] = {
    "run": lambda store: store.run(KEY),
    "find_runs": lambda store: store.find_runs("r"),
    "find_wait": lambda store: store.find_wait("t"),
    "put": lambda store: store.put(a_run(), [a_wait()]),
    "due": lambda store: store.due("prod", before=START, limit=1),
    "waits": lambda store: store.waits(EVERY_WAIT, limit=1, cursor=None),
    "request": lambda store: store.request("k"),
    "save_request": lambda store: store.save_request(a_record()),
    "unfinished_requests": lambda store: store.unfinished_requests(before=START, limit=1),
    "requests_at": lambda store: store.requests_at(PLACE, limit=1),
    "drop_request": lambda store: store.drop_request(a_record()),
    "record_event": lambda store: store.record_event(an_entry(1)),
    "events": lambda store: store.events(verdict=None, run_id=None, limit=1),
    "breaker": lambda store: store.breaker("b"),
    "save_breaker": lambda store: store.save_breaker(Breaker("b")),
    "breakers": lambda store: store.breakers(),
    "open_waits": lambda store: store.open_waits(FACTORY, limit=1),
    "sweep": lambda store: store.sweep(FACTORY),
    "save_sweep": lambda store: store.save_sweep(Sweep(FACTORY)),
    "repair": lambda store: store.repair(),
    "purge": lambda store: store.purge(START),
    "check": lambda store: store.check(),
}


def unusable(kind: str, folder: Path) -> Store:
    """Return a store that cannot be used."""
    if kind == "memory":
        store = FaultyStore(MemoryStore())
        store.go_down()
        return store
    if kind == "nobody listens":
        return TableStore(connect("http://127.0.0.1:1/devstoreaccount1", "t", retry_total=0))
    path = folder / "bridge.db"
    if kind == "folder in the way":
        path.mkdir()
    elif kind == "file in the way":
        (folder / "file").write_text("")
        path = folder / "file" / "bridge.db"
    else:
        path.write_bytes(b"this is no database, and long enough to be seen as none" * 100)
    return SqliteStore(path, retention=RETENTION)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["memory", "folder in the way", "file in the way", "no database", "nobody listens"])
def test_a_store_that_cannot_be_used(kind: str, call: str, tmp_path: Path) -> None:
    """S23: a store that cannot be read or written says so, the same way at every call."""
    with pytest.raises(StoreUnavailable):
        CALLS[call](unusable(kind, tmp_path))
