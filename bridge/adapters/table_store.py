"""The store on Azure: one table of Azure Table Storage, shared by all instances of the app.

A run and its waits lie in one partition and change in one transaction, compared and set by ETag. All other ways to a
row are index rows, which are hints (`table_index`): losing one loses nothing, because `repair` writes it anew.
docs/architecture.md shows how the rows lie.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from bridge.adapters import table_index as index
from bridge.adapters import table_keys as keys
from bridge.adapters.rows import UNREADABLE, Rows, stored
from bridge.adapters.table_access import Table, Write
from bridge.adapters.table_entity import (
    Entity,
    Seen,
    about,
    breaker_entity,
    chunks,
    read_row,
    request_entity,
    run_entity,
    sweep_entity,
    text_of,
    version_of,
    wait_entity,
)
from bridge.adapters.table_index import Hint, Index
from bridge.adapters.table_plan import Planned, plan
from bridge.adapters.table_upkeep import Upkeep
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import (
    Breaker,
    EventRecord,
    FactoryId,
    Mode,
    Run,
    RunKey,
    StartRequest,
    Sweep,
    TaskRef,
    Verdict,
    Wait,
    WaitState,
)
from bridge.ports import Due, OpenWait, WaitFilter

if TYPE_CHECKING:
    from azure.data.tables import TableClient

_GRACE: Final = timedelta(minutes=5)
_EVENTS_KEPT: Final = 10_000
_READERS: Final = 8
_NO_ETAG: Final = 'W/"none"'  # what no row has
_PLACES_REMEMBERED: Final = 10_000
_MOST_LOOKED_AT: Final = 2_000  # a page of a list that fits little ends after so many waits, with a cursor
_STATES: Final = frozenset(WaitState)
_MODES: Final = frozenset(Mode)
_CURSOR: Final = re.compile(r"age;\d{7}\n\d{18};[\x21-\x7e]{1,400}")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return secrets.token_hex(16)


class TableStore:
    """The port `Store` on Table Storage. Cheap to make; the table is made at the first use if it is missing.

    `reach` is told when a change has got to one of `table_index.POINTS`, so that a test can die there.
    `readers` reads rows side by side, and `new_id` makes the ids of writes: a simulation has its own of both. `tell`
    hears once of each row that was set aside, because a newer release wrote it, and this one cannot read it.
    """

    def __init__(
        self,
        client: TableClient,
        *,
        reach: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = _utc_now,
        grace: timedelta = _GRACE,
        events_kept: int = _EVENTS_KEPT,
        readers: Executor | None = None,
        new_id: Callable[[], str] = _new_id,
        tell: Callable[[str, str], None] | None = None,
    ) -> None:
        self._table = Table(client)
        self._readers = readers or ThreadPoolExecutor(_READERS, thread_name_prefix="table")
        self._new_id = new_id
        self._index = Index(self._table, now=now, grace=grace, reach=reach)
        self._rows = Rows(tell)
        self._upkeep = Upkeep(
            self._table,
            self._index,
            self._rows,
            self._readers,
            now=now,
            reach=reach,
            events_kept=events_kept,
            new_id=new_id,
        )
        self._reach = reach
        self._now = now
        self._places: dict[str, str] = {}  # token → partition, which never changes

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._readers.shutdown()
        self._table.close()

    # --- runs and waits ---

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """Return a run's row and its waits' rows: one query of one partition. Of an unreadable one, what stands in."""
        run: Run | None = None
        waits = list[Wait | None]()
        for page in self._table.pages("PartitionKey eq @partition", partition=keys.run_partition(key)):
            for entity in page:
                if entity["RowKey"] == keys.RUN_ROW:
                    run = self._rows.run(text_of(entity), key, **about(entity))
                else:
                    waits.append(self._rows.wait(text_of(entity), **about(entity)))
        return run, tuple(sorted(filter(None, waits), key=lambda wait: (wait.registered_at, wait.token)))

    def find_runs(self, run_id: str) -> Sequence[Run]:
        """Return the rows of that run id."""
        found = []
        for page in self._table.pages("PartitionKey eq @partition", partition=keys.RUN_IDS + keys.name(run_id)):
            for hint in page:
                entity = self._table.get(hint["to"], keys.RUN_ROW)
                if entity is None:
                    self._index.denied(hint)
                elif (run := read_row(self._rows, entity, Run)) is not None:
                    found.append(run)
        return found

    def find_wait(self, token: str) -> Wait | None:
        """Return the wait of a token."""
        place, row = self._places.get(token), keys.wait_row(token)
        if place is not None and (entity := self._table.get(place, row)) is not None:
            return read_row(self._rows, entity, Wait)
        hint = self._table.get(keys.TOKENS + keys.name(token), "token")
        if hint is None:
            return None
        entity = self._table.get(hint["to"], row)
        if entity is None:
            self._index.denied(hint)
            return None
        self._remember(token, hint["to"])
        return read_row(self._rows, entity, Wait)

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """Write a run's row and waits' rows: hints that come, the rows in one transaction, hints that go."""
        write = self._new_id()
        planned = [plan(wait, write) for wait in waits if wait.version != UNREADABLE]
        is_written = run is not None and run.version != UNREADABLE
        rows: list[Write] = []
        if run is not None and is_written:
            rows.append(Write(run_entity(run, write=write), Seen.of(run.version).etag))
        for one in planned:
            entity = wait_entity(one.wait, due_key=one.due_key, open_key=one.open_key, write=write)
            rows.append(Write(entity, one.seen.etag))
        if len({row.entity["PartitionKey"] for row in rows}) > 1:
            raise ValueError("rows of several runs cannot change together")
        etags = iter(self._put(rows, planned, [index.run_hint(run.key)] if run is not None and not run.version else []))
        if run is not None and is_written:
            run = stored(run, version=Seen(next(etags)).version)
        written = {
            one.wait.token: stored(one.wait, version=Seen(etag, one.due_key, one.open_key).version)
            for one, etag in zip(planned, etags, strict=True)
        }
        return run, tuple(written.get(wait.token, wait) for wait in waits)

    def _put(self, rows: Sequence[Write], planned: Sequence[Planned], of_run: Sequence[Hint]) -> Sequence[str]:
        """Write rows, between the hints that come and those that go; return the rows' ETags."""
        if not rows:
            return ()
        self._index.add(of_run)
        claims = [
            self._index.claim(index.token_hint(one.wait), keys.wait_row(one.wait.token))
            for one in planned
            if not one.seen.etag
        ]
        self._index.add(hint for one in planned for hint in one.added)
        try:
            etags = self._table.write(rows)
        except StoreConflict:
            for claim in claims:
                self._index.release(claim)
            raise
        self._reach(index.ROWS_WRITTEN)
        for one in planned:
            self._remember(one.wait.token, rows[0].entity["PartitionKey"])
        self._index.remove(hint for one in planned for hint in one.dropped)
        return etags

    def due(self, target: str, *, before: datetime, limit: int, for_adf: bool = False) -> Sequence[Due]:
        """Return a target's due waits: the beginning of its partition, each checked against its row."""
        found: list[Due] = []
        condition = "PartitionKey eq @partition and RowKey lt @end"
        values = {"partition": keys.DUE + keys.name(target), "end": keys.moment_after(before)}
        if for_adf:
            condition, values["for_adf"] = condition + " and for_adf eq @for_adf", index.FOR_ADF
        for page in self._table.pages(condition, size=limit, **values):
            for hint, row in zip(page, self._rows_of(page), strict=True):
                if row is None or row["due_key"] != hint["RowKey"]:
                    self._index.denied(hint)
                    continue
                self._remember(hint["token"], hint["to"])
                wait = read_row(self._rows, row, Wait)
                if wait is None:
                    continue  # it stays due, for a release that can read it
                one = Due(wait.token, keys.moment_of(hint["RowKey"]), wait.state, wait.cancels)
                if one.is_for_adf or not for_adf:
                    found.append(one)
                if len(found) == limit:
                    return found
        return found

    def open_waits(self, factory: FactoryId, *, limit: int, pipeline: str | None = None) -> Sequence[OpenWait]:
        """Return a factory's open waits, the oldest first, each checked against its row."""
        found: list[OpenWait] = []
        partition = keys.OPEN + keys.name(factory.key)
        if pipeline is not None:
            partition = keys.matches_partition(factory.key, pipeline)
        for page in self._table.pages("PartitionKey eq @partition", size=limit, partition=partition):
            rows = self._rows_of(page, select=["PartitionKey", "RowKey", "open_key", "state", "mode"])
            for hint, row in zip(page, rows, strict=True):
                if row is None or row["open_key"] != hint["RowKey"]:
                    self._index.denied(hint)
                    continue
                self._remember(hint["token"], hint["to"])
                if not self._is_known(row):
                    continue
                found.append(
                    OpenWait(
                        hint["token"],
                        hint["run_id"],
                        keys.moment_of(hint["RowKey"]),
                        _watched(hint),
                        hint.get("pipeline"),
                    )
                )
                if len(found) == limit:
                    return found
        return found

    def _is_known(self, row: Entity) -> bool:
        """Whether a wait's state and mode are words of this release, as far as its row says without being read."""
        # Azure says null for what is asked for by name and is not there: an older release's row has no mode.
        if row["state"] in _STATES and (row.get("mode") or Mode.RESUME) in _MODES:
            return True
        self._rows.set_aside(Wait.__name__, about(row)["name"])
        return False

    def waits(self, which: WaitFilter, *, limit: int, cursor: str | None) -> tuple[Sequence[Wait], str | None]:
        """Return a page of waits. The cursor is the place of the last one shown.

        A filter that fits few of many waits may give a short page, or an empty one, that leads on to a next.
        """
        found: list[Wait] = []
        looked_at = 0
        last = ("", "")
        for page in self._ages(which, _place(cursor), size=limit + 1):
            for hint, entity in zip(page, self._rows_of(page), strict=True):
                wait = read_row(self._rows, entity, Wait) if entity is not None else None
                place = (hint["PartitionKey"], hint["RowKey"])
                if entity is not None and wait is None:
                    pass  # a wait of a newer release: its place is left alone
                elif wait is None or keys.age_key(wait.registered_at, wait.token) != place:
                    self._index.denied(hint)
                elif _fits(wait, which):
                    if len(found) == limit:
                        return found, _cursor(*last)
                    found.append(wait)
                last = place
            looked_at += len(page)
            if looked_at >= _MOST_LOOKED_AT:
                return found, _cursor(*last)
        return found, None

    def _ages(self, which: WaitFilter, place: tuple[str, str] | None, *, size: int) -> Iterator[list[Entity]]:
        """Yield the hints to all waits after a place, the newest first."""
        values, extra = {}, ""
        if which.target is not None:
            extra, values["target"] = extra + " and target eq @target", which.target
        if which.factory is not None:
            extra, values["factory"] = extra + " and factory eq @factory", which.factory.key
        after = keys.AGES
        if place is not None:
            after, row = place
            rest = "PartitionKey eq @after and RowKey gt @row"
            yield from self._table.pages(rest + extra, after=after, row=row, size=size, **values)
        older = "PartitionKey gt @after and PartitionKey lt @end"
        yield from self._table.pages(older + extra, after=after, end=keys.past(keys.AGES), size=size, **values)

    def _rows_of(self, hints: Sequence[Entity], *, select: Sequence[str] | None = None) -> list[Entity | None]:
        """Read the rows of waits that hints point to."""

        def read(hint: Entity) -> Entity | None:
            return self._table.get(hint["to"], keys.wait_row(hint["token"]), select=select)

        return list(self._readers.map(read, hints))

    def _remember(self, token: str, place: str) -> None:
        if len(self._places) >= _PLACES_REMEMBERED:
            self._places.clear()
        self._places[token] = place

    # --- trigger requests ---

    def request(self, idempotency_key: str) -> StartRequest | None:
        """Return the record of a trigger request."""
        entity = self._table.get(keys.request_partition(idempotency_key), keys.REQUEST_ROW)
        return self._request(entity) if entity is not None else None

    def _request(self, entity: Entity) -> StartRequest:
        return self._rows.request(text_of(entity), **about(entity))

    def save_request(self, record: StartRequest) -> StartRequest:
        """Write the record of a trigger request: hints that come, the row, hints that go.

        The first time it gets its place among those of its task; and one among those that the bridge finishes itself,
        as long as it is unfinished.
        """
        write, seen = self._new_id(), Seen.of(record.version)
        place_key, finish_key = _place_key(record, seen, write), _finish_key(record, seen, write)
        entity = request_entity(record, place_key=place_key, finish_key=finish_key, write=write)
        ways = list(index.ways_to_request(entity))
        had = list(index.ways_to_request(_with_keys(entity, seen)))
        added, dropped = [one for one in ways if one not in had], [one for one in had if one not in ways]
        self._index.add(added)
        try:
            (etag,) = self._table.write([Write(entity, seen.etag)])
        except StoreConflict:
            self._withdraw(added)
            raise
        if dropped:
            self._reach(index.ROWS_WRITTEN)
            self._index.remove(dropped)
        return stored(record, version=Seen(etag, place_key, finish_key).version)

    def _withdraw(self, hints: Sequence[Hint]) -> None:
        """Remove the hints to a request's row that another one's stands in the way of, unless it has them after all."""
        if not hints:
            return
        try:
            row = self._table.get(hints[0].to, keys.REQUEST_ROW)
        except StoreUnavailable:
            return  # whoever reads them finds that their row denies them
        needed = list(index.ways_to_request(row)) if row is not None else []
        self._index.remove(hint for hint in hints if hint not in needed)

    def requests_at(self, place: str, *, limit: int) -> Sequence[StartRequest]:
        """Return the records of trigger requests of one task: its partition, each hint checked against its row."""
        found: list[StartRequest] = []
        partition = keys.PLACES + keys.name(place)
        for page in self._table.pages("PartitionKey eq @partition", partition=partition, size=limit):
            rows = self._readers.map(lambda hint: self._table.get(hint["to"], keys.REQUEST_ROW), page)
            for hint, row in zip(page, rows, strict=True):
                if row is None or (row.get("place"), row.get("place_key")) != (place, hint["RowKey"]):
                    self._index.denied(hint)
                    continue
                found.append(self._request(row))
                if len(found) == limit:
                    return found
        return found

    def unfinished_requests(self, *, before: datetime, limit: int) -> Sequence[StartRequest]:
        """Return the records that the bridge itself has to go on with: the beginning of their list, each checked."""
        found: list[StartRequest] = []
        condition, end = "PartitionKey eq @partition and RowKey lt @end", keys.moment_after(before)
        for page in self._table.pages(condition, size=limit, partition=keys.UNFINISHED, end=end):
            rows = self._readers.map(lambda hint: self._table.get(hint["to"], keys.REQUEST_ROW), page)
            for hint, row in zip(page, rows, strict=True):
                if row is None or row.get("finish_key") != hint["RowKey"]:
                    self._index.denied(hint)
                    continue
                record = read_row(self._rows, row, StartRequest)
                if record is not None:  # one that cannot be read is left to a newer release
                    found.append(record)
                if len(found) == limit:
                    return found
        return found

    def drop_request(self, record: StartRequest) -> None:
        """Delete the record, unless somebody changed it; after it, the ways to it."""
        partition, seen = keys.request_partition(record.idempotency_key), Seen.of(record.version)
        is_gone = self._table.delete(partition, keys.REQUEST_ROW, etag=seen.etag or _NO_ETAG)
        entity = {"PartitionKey": partition, "place": record.place or ""}
        ways = list(index.ways_to_request(_with_keys(entity, seen)))
        if is_gone and ways:
            self._reach(index.ROWS_WRITTEN)
            self._index.remove(ways)

    # --- events ---

    def record_event(self, record: EventRecord) -> None:
        """Write into the list of events. What is too old or too much goes with a purge."""
        latest_first = f"{10**19 - time.time_ns():019d}{self._new_id()[:8]}"
        partition, row = keys.event_key(record.received_at, latest_first)
        entity = {
            "PartitionKey": partition,
            "RowKey": row,
            "kind": "event",
            "verdict": record.verdict.value,
            "run_id": record.run_id,
            "since": keys.moment(record.received_at),
            **chunks(msgspec.json.encode(record).decode()),
        }
        self._table.upsert(entity)

    def events(self, *, verdict: Verdict | None, run_id: str | None, limit: int) -> Sequence[EventRecord]:
        """Return the newest events first."""
        condition = "PartitionKey ge @start and PartitionKey lt @end"
        values = {"start": keys.EVENTS, "end": keys.past(keys.EVENTS)}
        if verdict is not None:
            condition, values["verdict"] = condition + " and verdict eq @verdict", verdict.value
        if run_id is not None:
            condition, values["run_id"] = condition + " and run_id eq @run_id", run_id
        entities = itertools.chain.from_iterable(self._table.pages(condition, size=limit, **values))
        found = (self._rows.event(text_of(one), name=about(one)["name"]) for one in entities)
        return list(itertools.islice(filter(None, found), limit))

    # --- breakers ---

    def breaker(self, name: str) -> Breaker:
        """Return a breaker's row."""
        entity = self._table.get(keys.BREAKERS, keys.name(name))
        if entity is None:
            return Breaker(name)
        return read_row(self._rows, entity, Breaker) or Breaker(name, version=version_of(entity))

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """Write a breaker's row."""
        entity = breaker_entity(breaker, write=self._new_id())
        (etag,) = self._table.write([Write(entity, Seen.of(breaker.version).etag)])
        return stored(breaker, version=Seen(etag).version)

    def breakers(self) -> Sequence[Breaker]:
        """Return all breakers' rows."""
        pages = self._table.pages("PartitionKey eq @partition", partition=keys.BREAKERS)
        found = [read_row(self._rows, entity, Breaker) for page in pages for entity in page]
        return sorted(filter(None, found), key=lambda breaker: breaker.name)

    # --- sweeps ---

    def sweep(self, factory: FactoryId) -> Sweep:
        """Return how far a factory was swept."""
        entity = self._table.get(keys.SWEEPS, keys.name(factory.key))
        if entity is None:
            return Sweep(factory)
        return read_row(self._rows, entity, Sweep) or Sweep(factory, version=version_of(entity))

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """Write how far a factory was swept."""
        entity = sweep_entity(sweep, write=self._new_id())
        (etag,) = self._table.write([Write(entity, Seen.of(sweep.version).etag)])
        return stored(sweep, version=Seen(etag).version)

    # --- upkeep ---

    def repair(self, *, limit: int = 1_000) -> int:
        """Write missing index rows anew, of about `limit` live waits and requests; go on there next time."""
        return self._upkeep.repair(limit)

    def purge(self, before: datetime, *, limit: int = 1_000) -> int:
        """Remove what is over and has not changed since, about `limit` rows at most; return how many."""
        return self._upkeep.purge(before, limit)

    def check(self) -> None:
        """Write and read a row."""
        self._table.upsert({"PartitionKey": keys.UPKEEP, "RowKey": "check", "at": keys.moment(self._now())})
        self._table.get(keys.UPKEEP, "check")


def _place_key(record: StartRequest, seen: Seen, write: str) -> str:
    """Return where a request stands among those of its task: where it has stood, unless it never had a place."""
    if record.place is None:
        return ""
    if keys.is_place_at(seen.place_key, record.received_at):
        return seen.place_key
    return keys.place_key(record.received_at, record.idempotency_key, write)


def _finish_key(record: StartRequest, seen: Seen, write: str) -> str:
    """Return where a request stands among those that the bridge itself finishes; nowhere when nothing is left to do."""
    if record.due_at is None:
        return ""
    if seen.finish_key.startswith(keys.moment(record.due_at) + ";"):
        return seen.finish_key
    return keys.finish_key(record.due_at, record.idempotency_key, write)


def _with_keys(request: Entity, seen: Seen) -> Entity:
    """Return a request's entity as it was read: with the keys in the indexes that it had then."""
    return {**request, "place_key": seen.place_key, "finish_key": seen.finish_key}


def _watched(hint: Entity) -> TaskRef | None:
    task = hint.get("watched")
    return msgspec.json.decode(task, type=TaskRef) if task is not None else None


def _fits(wait: Wait, which: WaitFilter) -> bool:
    return (
        which.state in (None, wait.state)
        and which.target in (None, wait.task.target)
        and which.factory in (None, wait.key.factory)
    )


def _cursor(partition: str, row: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([partition, row]).encode()).decode()


def _place(cursor: str | None) -> tuple[str, str] | None:
    """Read a cursor; one that is not ours starts at the beginning."""
    if cursor is None:
        return None
    try:
        partition, row = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError):
        return None
    ours = isinstance(partition, str) and isinstance(row, str) and _CURSOR.fullmatch(f"{partition}\n{row}")
    return (partition, row) if ours else None
