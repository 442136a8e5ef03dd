"""One SQLite file, many processes: what one writes the others see, and of two that race one wins."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from bridge.adapters import sqlite_store
from bridge.adapters.rows import is_over
from bridge.adapters.sqlite_store import SqliteStore
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import Run, RunKey, Wait
from tests.contract.processes import A_PLACE, ROOT, Process, key_racer, race
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, a_run, a_task, a_wait

RETENTION: Final = timedelta(days=30)
ROUNDS: Final = 200
OPENERS: Final = 8

# Reads lines from its standard input: each names a round to take part in. Answers each with what became of it.
RACER = """
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from bridge.adapters.sqlite_store import SqliteStore
from bridge.errors import StoreConflict
store = SqliteStore(Path(sys.argv[1]), retention=timedelta(days=30))
store.check()
print("ready", flush=True)
for line in sys.stdin:
    wait = store.find_wait(sys.argv[2])
    print("read", flush=True)
    sys.stdin.readline()
    try:
        store.put(None, (replace(wait, attempts=wait.attempts + 1),))
    except StoreConflict:
        print("lost", flush=True)
    else:
        print("won", flush=True)
"""

KEY_RACER = key_racer("SqliteStore(Path(sys.argv[1]), retention=timedelta(days=30))")

# Opens a file that is not there yet at the moment that it is told to.
OPENER = """
import sys
from datetime import timedelta
from pathlib import Path
from bridge.adapters.sqlite_store import SqliteStore
from bridge.model import Breaker
print("ready", flush=True)
sys.stdin.readline()
store = SqliteStore(Path(sys.argv[1]), retention=timedelta(days=30))
store.save_breaker(Breaker(sys.argv[2], failures=1))
print(len(store.breakers()) > 0, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start processes that are ended with the test, also when it fails."""
    started: list[Process] = []

    def start(program: str, *arguments: str) -> Process:
        process = Process(program, *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


def store_at(path: Path) -> SqliteStore:
    """Return a store of this process."""
    return SqliteStore(path, retention=RETENTION)


def test_two_processes_race_for_a_wait(tmp_path: Path, start: Callable[..., Process]) -> None:
    """S22: of two processes that read the same row and write it at the same moment, exactly one wins, each time."""
    path = tmp_path / "bridge.db"
    store = store_at(path)
    store.put(a_run(), [a_wait()])
    racers = [start(RACER, str(path), a_wait().token) for _ in range(2)]
    assert ["ready", "ready"] == [racer.hear() for racer in racers]
    outcomes: Counter[tuple[str, ...]] = Counter()
    for _ in range(ROUNDS):
        for racer in racers:
            racer.tell()
        assert ["read", "read"] == [racer.hear() for racer in racers]
        for racer in racers:
            racer.tell()
        outcomes[tuple(sorted(racer.hear() for racer in racers))] += 1
    assert [0, 0] == [racer.end() for racer in racers]
    wait = store.find_wait(a_wait().token)
    store.close()
    assert wait is not None
    assert ({("lost", "won"): ROUNDS}, ROUNDS) == (outcomes, wait.attempts)


def test_two_processes_race_for_a_key(tmp_path: Path, start: Callable[..., Process]) -> None:
    """S21: of two processes that reserve the same key at the same moment, one does; its task has one record of it."""
    path = tmp_path / "bridge.db"
    store = store_at(path)
    store.check()
    assert Counter({("lost", "won"): ROUNDS}) == race([start(KEY_RACER, str(path)) for _ in range(2)], ROUNDS)
    listed = store.requests_at(A_PLACE, limit=2 * ROUNDS)
    store.close()
    assert list(reversed(range(ROUNDS))) == [record.try_number for record in listed]


@pytest.mark.parametrize("attempt", range(3))
def test_many_processes_open_a_file_of_the_version_before(
    tmp_path: Path, start: Callable[..., Process], attempt: int
) -> None:
    """S43: processes that open a file of the version before at the same moment all find it usable, and what it held."""
    path = tmp_path / "bridge.db"
    db = sqlite3.connect(path)
    db.executescript((ROOT / "tests/contract/rows/sqlite-2.sql").read_text(encoding="utf-8"))
    db.close()
    openers = [start(OPENER, str(path), f"target:{number}") for number in range(OPENERS)]
    assert ["ready"] * OPENERS == [opener.hear() for opener in openers]
    for opener in openers:
        opener.tell()
    assert ["True"] * OPENERS == [opener.hear() for opener in openers]
    assert [0] * OPENERS == [opener.end() for opener in openers]
    store = store_at(path)
    assert (OPENERS, [], True) == (
        len(store.breakers()),
        list(store.requests_at(A_PLACE, limit=9)),
        store.request("key/2") is not None,
    )
    store.close()


@pytest.mark.parametrize("attempt", range(3))
def test_many_processes_open_a_new_file(tmp_path: Path, start: Callable[..., Process], attempt: int) -> None:
    """S23: processes that open a new file at the same moment all find it usable, and lose nothing."""
    path = tmp_path / "new folder" / "bridge.db"
    openers = [start(OPENER, str(path), f"target:{number}") for number in range(OPENERS)]
    assert ["ready"] * OPENERS == [opener.hear() for opener in openers]
    for opener in openers:
        opener.tell()
    assert ["True"] * OPENERS == [opener.hear() for opener in openers]
    assert [0] * OPENERS == [opener.end() for opener in openers]
    store = store_at(path)
    names = [breaker.name for breaker in store.breakers()]
    store.close()
    assert [f"target:{number}" for number in range(OPENERS)] == names


def test_many_threads_write(tmp_path: Path) -> None:
    """S22: threads that share a store write without losing anything, each change exactly once."""
    store = store_at(tmp_path / "bridge.db")
    store.put(None, [a_wait()])
    threads, each = 8, 10

    def count(_: int) -> int:
        won = 0
        while won < each:
            wait = store.find_wait(a_wait().token)
            assert wait is not None
            try:
                store.put(None, [replace(wait, attempts=wait.attempts + 1)])
                won += 1
            except StoreConflict:
                continue
        store.close()
        return won

    with ThreadPoolExecutor(threads) as pool:
        assert [each] * threads == list(pool.map(count, range(threads)))
    wait = store.find_wait(a_wait().token)
    store.close()
    assert wait is not None
    assert threads * each == wait.attempts


def test_a_run_and_its_waits_are_of_one_moment(tmp_path: Path) -> None:
    """S23: a run and its waits that change together are never read apart, however fast they change."""
    writer, reader = store_at(tmp_path / "bridge.db"), store_at(tmp_path / "bridge.db")
    writer.put(a_run(), [a_wait(a_task(nonce=nonce)) for nonce in "ab"])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            run, waits = writer.run(KEY)
            assert run is not None
            writer.put(replace(run, reads=run.reads + 1), [replace(wait, failures=run.reads + 1) for wait in waits])
        writer.close()

    writing = threading.Thread(target=write)
    writing.start()
    torn = []
    for _ in range(300):
        run, waits = reader.run(KEY)
        assert run is not None
        torn += [wait for wait in waits if wait.failures != run.reads]
    stop.set()
    writing.join()
    reader.close()
    writer.close()
    assert [] == torn


def test_what_changes_while_it_is_purged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S38: who purges holds nobody up while it looks; a run that is read, or waited for, meanwhile stays."""
    writer, purger = store_at(tmp_path / "bridge.db"), store_at(tmp_path / "bridge.db")
    old = START - timedelta(days=31)
    awaited, was_read, over = (RunKey(FACTORY, name) for name in ("awaited", "read", "over"))
    for key in (awaited, was_read, over):
        writer.put(a_run(key=key, created_at=old), [])

    def looked_at(row: Run, before: datetime) -> bool:
        found, waits = writer.run(row.key)
        assert found is not None
        if row.key == awaited:
            writer.put(None, [*waits, a_wait(key=awaited)])
        if row.key == was_read:
            writer.put(replace(found, read_at=START), [])
        return is_over(row, before)

    monkeypatch.setattr(sqlite_store, "is_over", looked_at)
    removed = purger.purge(START - RETENTION)
    left = [key.run_id for key in (awaited, was_read, over) if writer.run(key)[0] is not None]
    for store in (writer, purger):
        store.close()
    assert (1, ["awaited", "read"]) == (removed, left)


def test_what_is_written_outlives_the_process(tmp_path: Path) -> None:
    """S24: what one process wrote, another one finds when the first is gone."""
    path = tmp_path / "bridge.db"
    first = store_at(path)
    _, written = first.put(a_run(), [a_wait()])
    first.close()
    second = store_at(path)
    found: Wait | None = second.find_wait(a_wait().token)
    second.close()
    assert written[0] == found


def test_a_store_recovers(tmp_path: Path) -> None:
    """S23: a store that could not be used can be used once what was in its way is gone."""
    path = tmp_path / "bridge.db"
    path.mkdir()
    store = store_at(path)
    with pytest.raises(StoreUnavailable):
        store.check()
    path.rmdir()
    store.check()
    store.close()


def test_no_value_is_shown_when_it_fails(tmp_path: Path) -> None:
    """S34: a store that fails tells the kind of the error, and neither path nor content."""
    path = tmp_path / "canary.db"
    path.mkdir()
    with pytest.raises(StoreUnavailable) as caught:
        store_at(path).put(None, [a_wait(a_task(dag_id="canary"))])
    assert "canary" not in caught.value.detail
