"""The embedded store: one SQLite file, shared by threads and processes of one machine.

WAL lets readers go on while one writer writes; every change is one `BEGIN IMMEDIATE` transaction that compares each
row's version first. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import base64
import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from bridge.adapters.rows import SCHEMA, UNREADABLE, Row, Rows, encode, is_over, stored
from bridge.adapters.table_keys import request_partition
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import (
    Breaker,
    EventRecord,
    FactoryId,
    Run,
    RunKey,
    StartRequest,
    Sweep,
    Verdict,
    Wait,
    match_prefix,
)
from bridge.ports import Due, OpenWait, WaitFilter

_BUSY_SECONDS: Final = 5.0
_BUSY_PAUSE_SECONDS: Final = 0.01
_EVENTS_KEPT: Final = 10_000
_PRUNE_EVERY: Final = 100

_PAGE: Final = msgspec.json.Decoder(list[tuple[str, int, str]])

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS runs (
    factory TEXT NOT NULL, run_id TEXT NOT NULL, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL,
    PRIMARY KEY (factory, run_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_id ON runs (run_id);
CREATE TABLE IF NOT EXISTS waits (
    token TEXT PRIMARY KEY, factory TEXT NOT NULL, run_id TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
    due_at REAL, registered_at REAL NOT NULL, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waits_by_run ON waits (factory, run_id);
CREATE INDEX IF NOT EXISTS waits_by_due ON waits (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS waits_for_adf ON waits (target, due_at)
WHERE due_at IS NOT NULL AND (state NOT IN ('due', 'inline') OR json_extract(row, '$.cancels') = 1);
CREATE INDEX IF NOT EXISTS waits_by_age ON waits (registered_at, token);
CREATE TABLE IF NOT EXISTS requests (
    idempotency_key TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_place ON requests (json_extract(row, '$.place'));
CREATE INDEX IF NOT EXISTS requests_unfinished ON requests (rtrim(json_extract(row, '$.finish_at'), 'Z'))
WHERE json_extract(row, '$.answer') IS NULL AND json_extract(row, '$.left') IS NULL
AND json_extract(row, '$.state') != 'unknown' AND json_extract(row, '$.finish_at') IS NOT NULL;
CREATE TABLE IF NOT EXISTS breakers (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sweeps (
    factory TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waits_open ON waits (factory, registered_at) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL NOT NULL, verdict TEXT NOT NULL, run_id TEXT NOT NULL,
    row TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS checks (only INTEGER PRIMARY KEY, at REAL NOT NULL);
"""
_DUE: Final = "SELECT row, version, token FROM waits WHERE target = ? AND due_at <= ? ORDER BY due_at"
# What `Due.is_for_adf` says, as the index says it: what gathers for a paused target is not read through.
_DUE_FOR_ADF: Final = (
    "SELECT row, version, token FROM waits WHERE target = ? AND due_at <= ? AND due_at IS NOT NULL "
    "AND (state NOT IN ('due', 'inline') OR json_extract(row, '$.cancels') = 1) ORDER BY due_at"
)
# How a wait came to be where it is makes most of its row, and is not asked for. What SQLite made of a row is text again
# by `|| ''`.
_OPEN: Final = (
    "SELECT json_remove(row, '$.timeline') || '' AS row, version, token FROM waits "
    "WHERE factory = ? AND state = 'open' ORDER BY registered_at"
)
# Of many open waits those for one pipeline are few: they are looked for by their run ids, which begin alike.
_OPEN_BY_MATCH: Final = (
    "SELECT json_remove(row, '$.timeline') || '' AS row, version, token FROM waits "
    "WHERE factory = ? AND run_id >= ? AND run_id < ? AND state = 'open' ORDER BY registered_at"
)

# Without its Z a time sorts as it goes, be it with a fraction of a second or without. The index says the same.
_UNFINISHED: Final = (
    "SELECT row, version, idempotency_key FROM requests WHERE json_extract(row, '$.answer') IS NULL "
    "AND json_extract(row, '$.left') IS NULL "
    "AND json_extract(row, '$.state') != 'unknown' AND json_extract(row, '$.finish_at') IS NOT NULL "
    "AND rtrim(json_extract(row, '$.finish_at'), 'Z') <= ? ORDER BY rtrim(json_extract(row, '$.finish_at'), 'Z')"
)


@dataclass(frozen=True, slots=True)
class _Old:
    """Rows of one kind that may be old: how they are found, and how one is removed unless it has changed since."""

    kind: type[Any]
    find: str
    remove: str
    name: Callable[..., str]


_OLD: Final = (
    _Old(
        Wait,
        # A wait cannot have changed before it was registered: the index on that time finds the candidates.
        "SELECT row, version, token FROM waits WHERE registered_at < :before AND state NOT IN ('open', 'due')",
        "DELETE FROM waits WHERE token = ? AND version = ?",
        str,
    ),
    _Old(
        Run,
        "SELECT row, version, factory, run_id FROM runs WHERE NOT EXISTS "
        "(SELECT 1 FROM waits WHERE waits.factory = runs.factory AND waits.run_id = runs.run_id)",
        "DELETE FROM runs WHERE factory = ? AND run_id = ? AND version = ? AND NOT EXISTS "
        "(SELECT 1 FROM waits WHERE waits.factory = runs.factory AND waits.run_id = runs.run_id)",
        lambda *key: " ".join(key),
    ),
    _Old(
        StartRequest,
        "SELECT row, version, idempotency_key FROM requests",
        "DELETE FROM requests WHERE idempotency_key = ? AND version = ?",
        request_partition,
    ),
)


class SqliteStore:
    """The port `Store` on SQLite. Cheap to make; the file and its folder are made at the first use.

    `tell` hears once of each row that was set aside, because a newer release wrote it, and this one cannot read it.
    """

    def __init__(self, path: Path, *, retention: timedelta, tell: Callable[[str, str], None] | None = None) -> None:
        self._path = path
        self._retention = retention
        self._rows = Rows(tell)
        self._local = threading.local()

    # --- runs and waits ---

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """Return a run's row and its waits' rows as of one moment. Of an unreadable one, what stands in."""
        name = (key.factory.key, key.run_id)
        with self._transaction("DEFERRED") as db:
            run = db.execute("SELECT row, version FROM runs WHERE factory = ? AND run_id = ?", name).fetchone()
            waits = db.execute(
                "SELECT row, version, token FROM waits WHERE factory = ? AND run_id = ? ORDER BY registered_at, token",
                name,
            ).fetchall()
        found = [self._rows.wait(row, version=str(version), name=token) for row, version, token in waits]
        return (
            self._rows.run(run[0], key, version=str(run[1]), name=" ".join(name)) if run else None,
            tuple(filter(None, found)),
        )

    def find_runs(self, run_id: str) -> Sequence[Run]:
        """Return the rows of that run id."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT factory, row, version FROM runs WHERE run_id = ?", (run_id,)).fetchall()
        return self._readable([(row, version, f"{factory} {run_id}") for factory, row, version in found], Run)

    def find_wait(self, token: str) -> Wait | None:
        """Return the wait of a token."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT row, version FROM waits WHERE token = ?", (token,)).fetchone()
        return self._rows.read(found[0], Wait, version=str(found[1]), name=token) if found else None

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """Write a run's row and waits' rows, all or none. What stands in for an unreadable one is not written."""
        with self._transaction("IMMEDIATE") as db:
            if run is not None and run.version != UNREADABLE:
                _put_run(db, run)
            for wait in waits:
                if wait.version != UNREADABLE:
                    _put_wait(db, wait)
        return (
            _stored(run) if run is not None else None,
            tuple(_stored(wait) for wait in waits),
        )

    def due(self, target: str, *, before: datetime, limit: int, for_adf: bool = False) -> Sequence[Due]:
        """Return a target's due waits."""
        found: list[Due] = []
        with self._transaction("DEFERRED") as db:
            query = _DUE_FOR_ADF if for_adf else _DUE
            for row, version, token in _rows_of(db, query, (target, before.timestamp()), size=limit):
                wait = self._rows.read(row, Wait, version=str(version), name=token)
                if wait is None or wait.due_at is None:
                    continue  # it stays due, for a release that can read it
                found.append(Due(token, wait.due_at, wait.state, wait.cancels))
                if len(found) == limit:
                    break
        return found

    def open_waits(self, factory: FactoryId, *, limit: int, pipeline: str | None = None) -> Sequence[OpenWait]:
        """Return a factory's open waits, the oldest first."""
        query, values = _OPEN, [factory.key]
        if pipeline is not None:
            first = match_prefix(pipeline)
            query, values = _OPEN_BY_MATCH, [factory.key, first, first + "\x7f"]
        found: list[OpenWait] = []
        with self._transaction("DEFERRED") as db:
            for row, version, token in _rows_of(db, query, values, size=limit):
                wait = self._rows.read(row, Wait, version=str(version), name=token)
                if wait is not None:
                    of = wait.match.pipeline.lower() if wait.match is not None else None
                    found.append(OpenWait(token, wait.key.run_id, wait.registered_at, wait.watched, of))
                if len(found) == limit:
                    break
        return found

    def waits(self, which: WaitFilter, *, limit: int, cursor: str | None) -> tuple[Sequence[Wait], str | None]:
        """Return a page of waits. The cursor is the place of the last one shown."""
        conditions, values = ["1"], list[Any]()
        if which.state is not None:
            conditions, values = [*conditions, "state = ?"], [*values, which.state.value]
        if which.target is not None:
            conditions, values = [*conditions, "target = ?"], [*values, which.target]
        if which.factory is not None:
            conditions, values = [*conditions, "factory = ?"], [*values, which.factory.key]
        if (place := _place(cursor)) is not None:
            conditions, values = [*conditions, "(registered_at, token) < (?, ?)"], [*values, *place]
        where = " AND ".join(conditions)
        with self._transaction("DEFERRED") as db:
            found = db.execute(
                "SELECT row, version, token, registered_at FROM waits "  # noqa: S608 - of the conditions above
                f"WHERE {where} ORDER BY registered_at DESC, token DESC LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
        page = self._readable([one[:3] for one in found[:limit]], Wait)
        if len(found) <= limit:
            return page, None
        *_, token, registered_at = found[limit - 1]
        return page, _cursor(registered_at, token)

    def _readable(self, found: Sequence[tuple[str, int, str]], kind: type[Row]) -> list[Row]:
        """Return the rows among those found, with their versions and names, that this release can read."""
        rows = [self._rows.read(row, kind, version=str(version), name=name) for row, version, name in found]
        return [row for row in rows if row is not None]

    # --- trigger requests ---

    def request(self, idempotency_key: str) -> StartRequest | None:
        """Return the record of a trigger request."""
        with self._transaction("DEFERRED") as db:
            found = db.execute(
                "SELECT row, version FROM requests WHERE idempotency_key = ?", (idempotency_key,)
            ).fetchone()
        return self._request((*found, idempotency_key)) if found else None

    def _request(self, found: tuple[str, int, str]) -> StartRequest:
        row, version, idempotency_key = found
        return self._rows.request(row, version=str(version), name=request_partition(idempotency_key))

    def save_request(self, record: StartRequest) -> StartRequest:
        """Write the record of a trigger request."""
        with self._transaction("IMMEDIATE") as db:
            _compare_and_set(
                db,
                record.version,
                insert="INSERT OR IGNORE INTO requests (row, schema, version, idempotency_key) VALUES (?, ?, ?, ?)",
                update="UPDATE requests SET row = ?, schema = ?, version = ? WHERE idempotency_key = ? AND version = ?",
                values=(encode(record), SCHEMA),
                key=(record.idempotency_key,),
            )
        return stored(record, version=_next(record.version))

    def requests_at(self, place: str, *, limit: int) -> Sequence[StartRequest]:
        """Return the records of trigger requests of one task: as many as it had tries."""
        with self._transaction("DEFERRED") as db:
            found = db.execute(
                "SELECT row, version, idempotency_key FROM requests WHERE json_extract(row, '$.place') = ?", (place,)
            ).fetchall()
        records = [self._request(one) for one in found]
        return sorted(records, key=lambda record: record.received_at, reverse=True)[:limit]

    def unfinished_requests(self, *, before: datetime, limit: int) -> Sequence[StartRequest]:
        """Return the records that the bridge itself has to go on with, by an index of them alone."""
        until = msgspec.to_builtins(before.astimezone(UTC)).rstrip("Z")
        found: list[StartRequest] = []
        with self._transaction("DEFERRED") as db:
            for row, version, key in db.execute(_UNFINISHED, (until,)):
                record = self._rows.read(row, StartRequest, version=str(version), name=request_partition(key))
                if record is not None and record.due_at is not None:
                    found.append(record)
                if len(found) == limit:
                    break
        return found

    def drop_request(self, record: StartRequest) -> None:
        """Delete the record, unless somebody changed it."""
        with self._transaction("IMMEDIATE") as db:
            db.execute(
                "DELETE FROM requests WHERE idempotency_key = ? AND version = ?",
                (record.idempotency_key, int(record.version or 0)),
            )

    # --- events ---

    def record_event(self, record: EventRecord) -> None:
        """Append to the list of events; now and then, drop what is too old or too much."""
        row = msgspec.json.encode(record).decode()
        values = (record.received_at.timestamp(), record.verdict.value, record.run_id, row)
        with self._transaction("IMMEDIATE") as db:
            number = db.execute(
                "INSERT INTO events (received_at, verdict, run_id, row) VALUES (?, ?, ?, ?)", values
            ).lastrowid
            if number is not None and number % _PRUNE_EVERY == 0:
                oldest = (record.received_at - self._retention).timestamp()
                db.execute("DELETE FROM events WHERE number <= ? OR received_at < ?", (number - _EVENTS_KEPT, oldest))

    def events(self, *, verdict: Verdict | None, run_id: str | None, limit: int) -> Sequence[EventRecord]:
        """Return the newest events first."""
        found: list[EventRecord] = []
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                "SELECT row, number FROM events WHERE (:verdict IS NULL OR verdict = :verdict) "
                "AND (:run_id IS NULL OR run_id = :run_id) ORDER BY number DESC",
                {"verdict": verdict.value if verdict else None, "run_id": run_id},
            )
            readable = (self._rows.event(row, name=f"event {number}") for row, number in rows)
            found += itertools.islice(filter(None, readable), limit)
        return found

    # --- breakers ---

    def breaker(self, name: str) -> Breaker:
        """Return a breaker's row."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT row, version FROM breakers WHERE name = ?", (name,)).fetchone()
        if not found:
            return Breaker(name)
        version = str(found[1])
        return self._rows.read(found[0], Breaker, version=version, name=name) or Breaker(name, version=version)

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """Write a breaker's row."""
        with self._transaction("IMMEDIATE") as db:
            _compare_and_set(
                db,
                breaker.version,
                insert="INSERT OR IGNORE INTO breakers (row, schema, version, name) VALUES (?, ?, ?, ?)",
                update="UPDATE breakers SET row = ?, schema = ?, version = ? WHERE name = ? AND version = ?",
                values=(encode(breaker), SCHEMA),
                key=(breaker.name,),
            )
        return stored(breaker, version=_next(breaker.version))

    def breakers(self) -> Sequence[Breaker]:
        """Return all breakers' rows."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT row, version, name FROM breakers ORDER BY name").fetchall()
        return self._readable(found, Breaker)

    # --- sweeps ---

    def sweep(self, factory: FactoryId) -> Sweep:
        """Return how far a factory was swept."""
        with self._transaction("DEFERRED") as db:
            found = db.execute("SELECT row, version FROM sweeps WHERE factory = ?", (factory.key,)).fetchone()
        if not found:
            return Sweep(factory)
        version = str(found[1])
        return self._rows.read(found[0], Sweep, version=version, name=factory.key) or Sweep(factory, version=version)

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """Write how far a factory was swept."""
        with self._transaction("IMMEDIATE") as db:
            _compare_and_set(
                db,
                sweep.version,
                insert="INSERT OR IGNORE INTO sweeps (row, schema, version, factory) VALUES (?, ?, ?, ?)",
                update="UPDATE sweeps SET row = ?, schema = ?, version = ? WHERE factory = ? AND version = ?",
                values=(encode(sweep), SCHEMA),
                key=(sweep.factory.key,),
            )
        return stored(sweep, version=_next(sweep.version))

    # --- upkeep ---

    def repair(self, *, limit: int = 1_000) -> int:  # noqa: ARG002 - the port's
        """Do nothing: SQLite keeps its indexes itself."""
        self.check()
        return 0

    def purge(self, before: datetime, *, limit: int = 1_000) -> int:
        """Remove what is over and has not changed since. It is looked for while others write, and removed as it was."""
        removed = 0
        for old in _OLD:  # waits first: a run goes when nobody waits for it
            over = self._over(old, before, limit)
            with self._transaction("IMMEDIATE") as db:
                removed += sum(db.execute(old.remove, row).rowcount for row in over)
        with self._transaction("IMMEDIATE") as db:
            return removed + db.execute("DELETE FROM events WHERE received_at < ?", (before.timestamp(),)).rowcount

    def _over(self, old: _Old, before: datetime, limit: int) -> list[tuple[str | int, ...]]:
        """Return the keys and versions of what may be purged; what cannot be read is left to a newer release."""
        with self._transaction("DEFERRED") as db:
            rows = db.execute(old.find, {"before": before.timestamp()})
            over = (
                (*key, version)
                for row, version, *key in rows
                if (found := self._rows.read(row, old.kind, version="", name=old.name(*key))) is not None
                and is_over(found, before)
            )
            return list(itertools.islice(over, limit))

    # --- the file ---

    def check(self) -> None:
        """Write and read a row."""
        with self._transaction("IMMEDIATE") as db:
            db.execute("INSERT OR REPLACE INTO checks (only, at) VALUES (1, ?)", (datetime.now(UTC).timestamp(),))

    def close(self) -> None:
        """Close this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        try:
            db = self._connection()
            db.execute(f"BEGIN {kind}")
            try:
                yield db
                db.commit()
            except BaseException:
                db.rollback()
                raise
        except (sqlite3.Error, OSError) as error:
            msg = f"The SQLite store failed ({type(error).__name__}). Nothing was changed; the caller may try again."
            raise StoreUnavailable(msg, retry_after=timedelta(seconds=5)) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Used by its own thread only; but the one that drops it may be another.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # a 2xx is a promise that survives a power cut
            connection.executescript(_TABLES)
        except BaseException:
            connection.close()
            raise
        return connection


class _Connection(sqlite3.Connection):
    """A connection that is closed when nothing holds it any more: with its thread, or with the store."""

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # one that could not be opened
            self.close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL. SQLite's own waiting for locks does not cover this one moment in a file's life."""
    give_up_at = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)
        else:
            return


def _put_run(db: sqlite3.Connection, run: Run) -> None:
    _compare_and_set(
        db,
        run.version,
        insert="INSERT OR IGNORE INTO runs (row, schema, version, factory, run_id) VALUES (?, ?, ?, ?, ?)",
        update="UPDATE runs SET row = ?, schema = ?, version = ? WHERE factory = ? AND run_id = ? AND version = ?",
        values=(encode(run), SCHEMA),
        key=(run.key.factory.key, run.key.run_id),
    )


def _rows_of(db: sqlite3.Connection, query: str, values: Sequence[Any], *, size: int) -> Iterator[tuple[str, int, str]]:
    """Go through a query's rows, each with its version and its key, as many of them in one step as that.

    A thread gives up Python's lock for every step. With a step for each row, another thread that computes takes it for
    five milliseconds each time.
    """
    page = f"SELECT json_group_array(json_array(row, version, token)) FROM ({query} LIMIT ? OFFSET ?)"  # noqa: S608
    for offset in itertools.count(0, size):
        (text,) = db.execute(page, (*values, size, offset)).fetchone()
        rows = _PAGE.decode(text)
        yield from rows
        if len(rows) < size:
            return


def _put_wait(db: sqlite3.Connection, wait: Wait) -> None:
    due_at = wait.due_at.timestamp() if wait.due_at is not None else None
    _compare_and_set(
        db,
        wait.version,
        insert="INSERT OR IGNORE INTO waits (row, schema, factory, run_id, target, state, due_at, registered_at, "
        "version, token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        update="UPDATE waits SET row = ?, schema = ?, factory = ?, run_id = ?, target = ?, state = ?, due_at = ?, "
        "registered_at = ?, version = ? WHERE token = ? AND version = ?",
        values=(
            encode(wait),
            SCHEMA,
            wait.key.factory.key,
            wait.key.run_id,
            wait.task.target,
            wait.state.value,
            due_at,
            wait.registered_at.timestamp(),
        ),
        key=(wait.token,),
    )


def _compare_and_set(
    db: sqlite3.Connection, version: str, *, insert: str, update: str, values: tuple[Any, ...], key: tuple[str, ...]
) -> None:
    new_version = int(_next(version))
    if version:
        changed = db.execute(update, (*values, new_version, *key, int(version))).rowcount
    else:
        changed = db.execute(insert, (*values, new_version, *key)).rowcount
    if changed != 1:
        raise StoreConflict(key)


def _stored(row: Row) -> Row:
    """Return a row as it stands once it is stored."""
    return row if row.version == UNREADABLE else stored(row, version=_next(row.version))


def _next(version: str) -> str:
    """Return the version after this one; rows count their changes."""
    return str(int(version or "0") + 1)


def _cursor(registered_at: float, token: str) -> str:
    place = json.dumps([registered_at, token])
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str | None) -> tuple[float, str] | None:
    """Read a cursor; one that is not ours starts at the beginning."""
    if cursor is None:
        return None
    try:
        at, token = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        str(token).encode()  # half a surrogate pair is no token
        return float(at), str(token)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
