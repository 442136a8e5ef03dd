"""The store in memory, and a wrapper that makes any store fail, or be overtaken, at a chosen call."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import Final, Protocol, TypeVar

from bridge.adapters.rows import is_over, stored
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import Breaker, EventRecord, FactoryId, Run, RunKey, StartRequest, Sweep, Verdict, Wait, WaitState
from bridge.ports import Due, OpenWait, Store, WaitFilter

RETENTION: Final = timedelta(days=30)


class Versioned(Protocol):
    """A row that the store compares and sets."""

    @property
    def version(self) -> str:
        """The store's tag."""
        ...


K = TypeVar("K")
V = TypeVar("V", bound=Versioned)


def _next(version: str) -> str:
    return str(int(version or "0") + 1)


class MemoryStore:
    """The port `Store`, keeping everything in dictionaries. For tests: what it knows ends with the process."""

    def __init__(self, *, retention: timedelta = RETENTION, events_kept: int = 10_000) -> None:
        self._runs: dict[RunKey, Run] = {}
        self._waits: dict[str, Wait] = {}
        # The same rows, as they are looked for.
        self._waits_of: defaultdict[RunKey, dict[str, Wait]] = defaultdict(dict)
        self._open: dict[str, Wait] = {}
        self._due: dict[str, Wait] = {}
        self._requests: dict[str, StartRequest] = {}
        self._breakers: dict[str, Breaker] = {}
        self._sweeps: dict[FactoryId, Sweep] = {}
        self._events: deque[EventRecord] = deque(maxlen=events_kept)
        self._retention = retention
        self._lock = threading.RLock()

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """Return a run's row and its waits' rows as of one moment."""
        with self._lock:
            waits = self._waits_of[key].values() if key in self._waits_of else ()
            return self._runs.get(key), tuple(sorted(waits, key=_age))

    def find_runs(self, run_id: str) -> Sequence[Run]:
        """Return the rows of that run id."""
        with self._lock:
            return [run for key, run in self._runs.items() if key.run_id == run_id]

    def find_wait(self, token: str) -> Wait | None:
        """Return the wait of a token."""
        return self._waits.get(token)

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """Write a run's row and waits' rows, all or none."""
        with self._lock:
            if run is not None:
                _compare(self._runs, run.key, run)
            for wait in waits:
                _compare(self._waits, wait.token, wait)
            written_run = stored(run, version=_next(run.version)) if run is not None else None
            written_waits = tuple(stored(wait, version=_next(wait.version)) for wait in waits)
            if written_run is not None:
                self._runs[written_run.key] = written_run
            for wait in written_waits:
                self._keep(wait)
            return written_run, written_waits

    def _keep(self, wait: Wait) -> None:
        self._waits[wait.token] = self._waits_of[wait.key][wait.token] = wait
        for rows, belongs in ((self._open, wait.state is WaitState.OPEN), (self._due, wait.due_at is not None)):
            if belongs:
                rows[wait.token] = wait
            else:
                rows.pop(wait.token, None)

    def due(self, target: str, *, before: datetime, limit: int, for_adf: bool = False) -> Sequence[Due]:
        """Return a target's due waits."""
        with self._lock:
            waits = [one for one in self._due.values() if one.task.target == target]
        due = [(wait.due_at, wait) for wait in waits if wait.due_at is not None and wait.due_at <= before]
        hints = (Due(wait.token, at, wait.state, wait.cancels) for at, wait in sorted(due, key=itemgetter(0)))
        return list(islice((one for one in hints if not for_adf or one.is_for_adf), limit))

    def open_waits(self, factory: FactoryId, *, limit: int, pipeline: str | None = None) -> Sequence[OpenWait]:
        """Return a factory's open waits, the oldest first."""
        with self._lock:
            still = [one for one in self._open.values() if one.key.factory == factory]
        found = [one for one in still if pipeline in (None, _pipeline_of(one))]
        return [
            OpenWait(one.token, one.key.run_id, one.registered_at, one.watched, _pipeline_of(one))
            for one in sorted(found, key=_age)[:limit]
        ]

    def sweep(self, factory: FactoryId) -> Sweep:
        """Return how far a factory was swept."""
        return self._sweeps.get(factory, Sweep(factory))

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """Write how far a factory was swept."""
        with self._lock:
            _compare(self._sweeps, sweep.factory, sweep)
            saved = self._sweeps[sweep.factory] = stored(sweep, version=_next(sweep.version))
            return saved

    def waits(self, which: WaitFilter, *, limit: int, cursor: str | None) -> tuple[Sequence[Wait], str | None]:
        """Return a page of waits. The cursor is the token of the last one shown."""
        with self._lock:
            found = sorted((wait for wait in self._waits.values() if _fits(wait, which)), key=_age, reverse=True)
            last = self._waits.get(cursor) if cursor is not None else None
        rest = [wait for wait in found if last is None or _age(wait) < _age(last)]
        page = rest[:limit]
        return page, page[-1].token if len(rest) > limit else None

    def request(self, idempotency_key: str) -> StartRequest | None:
        """Return the record of a trigger request."""
        return self._requests.get(idempotency_key)

    def save_request(self, record: StartRequest) -> StartRequest:
        """Write the record of a trigger request."""
        with self._lock:
            _compare(self._requests, record.idempotency_key, record)
            saved = self._requests[record.idempotency_key] = stored(record, version=_next(record.version))
            return saved

    def requests_at(self, place: str, *, limit: int) -> Sequence[StartRequest]:
        """Return the records of trigger requests of one task."""
        with self._lock:
            found = [record for record in self._requests.values() if record.place == place]
        return sorted(found, key=lambda record: record.received_at, reverse=True)[:limit]

    def unfinished_requests(self, *, before: datetime, limit: int) -> Sequence[StartRequest]:
        """Return the records that the bridge itself has to go on with."""
        with self._lock:
            due = [(one.due_at, one) for one in self._requests.values() if one.due_at is not None]
        return [one for at, one in sorted(due, key=lambda pair: pair[0]) if at <= before][:limit]

    def drop_request(self, record: StartRequest) -> None:
        """Delete the record, unless somebody changed it."""
        with self._lock:
            if self._requests.get(record.idempotency_key) == record:
                del self._requests[record.idempotency_key]

    def record_event(self, record: EventRecord) -> None:
        """Append to the list of events; drop what is too old or too much."""
        with self._lock:
            self._events.append(record)
            while self._events[0].received_at < record.received_at - self._retention:
                self._events.popleft()

    def events(self, *, verdict: Verdict | None, run_id: str | None, limit: int) -> Sequence[EventRecord]:
        """Return the newest events first."""
        with self._lock:
            newest = list(reversed(self._events))
        fit = [one for one in newest if verdict in (None, one.verdict) and run_id in (None, one.run_id)]
        return fit[:limit]

    def breaker(self, name: str) -> Breaker:
        """Return a breaker's row."""
        return self._breakers.get(name, Breaker(name))

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """Write a breaker's row."""
        with self._lock:
            _compare(self._breakers, breaker.name, breaker)
            saved = self._breakers[breaker.name] = stored(breaker, version=_next(breaker.version))
            return saved

    def breakers(self) -> Sequence[Breaker]:
        """Return all breakers' rows."""
        with self._lock:
            return [self._breakers[name] for name in sorted(self._breakers)]

    def repair(self, *, limit: int = 1_000) -> int:
        """Do nothing: dictionaries lose nothing."""
        return 0

    def purge(self, before: datetime, *, limit: int = 1_000) -> int:
        """Remove what is over and has not changed since."""
        with self._lock:
            final = [token for token, wait in self._waits.items() if wait.state.is_final and is_over(wait, before)]
            for token in final[:limit]:
                wait = self._waits.pop(token)
                del self._waits_of[wait.key][token]
                self._due.pop(token, None)
            awaited = {wait.key for wait in self._waits.values()}
            runs = [key for key, run in self._runs.items() if key not in awaited and is_over(run, before)]
            for key in runs[:limit]:
                del self._runs[key]
            requests = [key for key, record in self._requests.items() if is_over(record, before)]
            for name in requests[:limit]:
                del self._requests[name]
            kept = [event for event in self._events if event.received_at >= before]
            events = len(self._events) - len(kept)
            self._events = deque(kept, maxlen=self._events.maxlen)
        return sum(len(removed[:limit]) for removed in (final, runs, requests)) + events

    def check(self) -> None:
        """Memory can always be written."""


class FaultyStore:
    """A store around another one. `before` plans what happens ahead of the nth call of a method from now on.

    The action may raise (StoreUnavailable, StoreConflict), or do what another instance would do at that moment.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        self._plans: dict[tuple[str, int], Callable[[], object]] = {}
        self._down = False

    def before(self, call: str, action: Callable[[], object], *, nth: int = 1) -> None:
        """Plan an action ahead of the nth call of a method from now on."""
        self._plans[call, self.calls[call] + nth] = action

    def conflict(self, call: str, *, nth: int = 1) -> None:
        """Have the nth call lose its compare-and-set."""
        self.before(call, _conflict, nth=nth)

    def fail(self, call: str, *, nth: int = 1) -> None:
        """Have the nth call fail."""
        self.before(call, _unavailable, nth=nth)

    def go_down(self) -> None:
        """Have every call fail from now on."""
        self._down = True

    def come_back(self) -> None:
        """Have calls go through again."""
        self._down = False

    def _reach(self, call: str) -> Store:
        self.calls[call] += 1
        if self._down:
            _unavailable()
        if (action := self._plans.pop((call, self.calls[call]), None)) is not None:
            action()
        return self.inner

    def run(self, key: RunKey) -> tuple[Run | None, tuple[Wait, ...]]:
        """See the store around which this is."""
        return self._reach("run").run(key)

    def find_runs(self, run_id: str) -> Sequence[Run]:
        """See the store around which this is."""
        return self._reach("find_runs").find_runs(run_id)

    def find_wait(self, token: str) -> Wait | None:
        """See the store around which this is."""
        return self._reach("find_wait").find_wait(token)

    def put(self, run: Run | None, waits: Sequence[Wait]) -> tuple[Run | None, tuple[Wait, ...]]:
        """See the store around which this is."""
        return self._reach("put").put(run, waits)

    def due(self, target: str, *, before: datetime, limit: int, for_adf: bool = False) -> Sequence[Due]:
        """See the store around which this is."""
        return self._reach("due").due(target, before=before, limit=limit, for_adf=for_adf)

    def open_waits(self, factory: FactoryId, *, limit: int, pipeline: str | None = None) -> Sequence[OpenWait]:
        """See the store around which this is."""
        return self._reach("open_waits").open_waits(factory, limit=limit, pipeline=pipeline)

    def waits(self, which: WaitFilter, *, limit: int, cursor: str | None) -> tuple[Sequence[Wait], str | None]:
        """See the store around which this is."""
        return self._reach("waits").waits(which, limit=limit, cursor=cursor)

    def request(self, idempotency_key: str) -> StartRequest | None:
        """See the store around which this is."""
        return self._reach("request").request(idempotency_key)

    def save_request(self, record: StartRequest) -> StartRequest:
        """See the store around which this is."""
        return self._reach("save_request").save_request(record)

    def requests_at(self, place: str, *, limit: int) -> Sequence[StartRequest]:
        """See the store around which this is."""
        return self._reach("requests_at").requests_at(place, limit=limit)

    def unfinished_requests(self, *, before: datetime, limit: int) -> Sequence[StartRequest]:
        """See the store around which this is."""
        return self._reach("unfinished_requests").unfinished_requests(before=before, limit=limit)

    def drop_request(self, record: StartRequest) -> None:
        """See the store around which this is."""
        self._reach("drop_request").drop_request(record)

    def record_event(self, record: EventRecord) -> None:
        """See the store around which this is."""
        self._reach("record_event").record_event(record)

    def events(self, *, verdict: Verdict | None, run_id: str | None, limit: int) -> Sequence[EventRecord]:
        """See the store around which this is."""
        return self._reach("events").events(verdict=verdict, run_id=run_id, limit=limit)

    def breaker(self, name: str) -> Breaker:
        """See the store around which this is."""
        return self._reach("breaker").breaker(name)

    def save_breaker(self, breaker: Breaker) -> Breaker:
        """See the store around which this is."""
        return self._reach("save_breaker").save_breaker(breaker)

    def breakers(self) -> Sequence[Breaker]:
        """See the store around which this is."""
        return self._reach("breakers").breakers()

    def sweep(self, factory: FactoryId) -> Sweep:
        """See the store around which this is."""
        return self._reach("sweep").sweep(factory)

    def save_sweep(self, sweep: Sweep) -> Sweep:
        """See the store around which this is."""
        return self._reach("save_sweep").save_sweep(sweep)

    def repair(self, *, limit: int = 1_000) -> int:
        """See the store around which this is."""
        return self._reach("repair").repair(limit=limit)

    def purge(self, before: datetime, *, limit: int = 1_000) -> int:
        """See the store around which this is."""
        return self._reach("purge").purge(before, limit=limit)

    def check(self) -> None:
        """See the store around which this is."""
        self._reach("check").check()


def _compare(rows: dict[K, V], key: K, row: V) -> None:
    """Raise StoreConflict unless the row is as the writer read it (0: not there)."""
    found = rows.get(key)
    if (found.version if found is not None else "") != row.version:
        raise StoreConflict(key)


def _fits(wait: Wait, which: WaitFilter) -> bool:
    return (
        which.state in (None, wait.state)
        and which.target in (None, wait.task.target)
        and which.factory in (None, wait.key.factory)
    )


def _age(wait: Wait) -> tuple[datetime, str]:
    return (wait.registered_at, wait.token)


def _conflict() -> None:
    raise StoreConflict("somebody else was faster")


def _unavailable() -> None:
    raise StoreUnavailable("the store is down")


def _pipeline_of(wait: Wait) -> str | None:
    return wait.match.pipeline.lower() if wait.match is not None else None
