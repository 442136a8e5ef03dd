"""Table Storage as the simulator has it: the real store, on a table in memory whose calls fail, get lost or take long.

What is written is audited; and no row may ever stand there without the index rows that lead to it, but for those that
got lost on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, TypeVar

import msgspec
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

from bridge.adapters import table_index as index
from bridge.adapters import table_keys as keys
from bridge.adapters.rows import decode
from bridge.adapters.table_entity import text_of
from bridge.adapters.table_store import TableStore
from bridge.model import EventRecord, Run, StartRequest, Wait
from tests.fakes.tables import FakeTable, FakeTableClient, Place, problem
from tests.simulate.audit import Audit
from tests.simulate.timeline import Timeline, Violation

T = TypeVar("T")
Entity = Mapping[str, Any]

# A write takes a few seconds at most here.
GRACE: Final = timedelta(seconds=30)
_OF_REQUESTS: Final = (keys.PLACES, keys.UNFINISHED)
BEFORE: Final = ("table refused a call", "table unreachable")
AFTER: Final = ("table wrote and did not say so", "table was sent a write again")
WRITES: Final = frozenset({"upsert", "delete", "transaction"})
OVERLAPS: Final = 0.04


class Died(BaseException):
    """The process died inside a call of the store. No `except Exception` sees it."""


class InTurn(Executor):
    """Does one thing after the other, in the thread that asks: threads would make a world that never comes again."""

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **_: Any) -> Any:
        """Do it for each."""
        return map(fn, *iterables)


class Line:
    """The line from one instance to the table. Others act while a call is under way; a process may not live to hear."""

    def __init__(self, timeline: Timeline, trouble: float, lives: Callable[[], bool]) -> None:
        self._timeline = timeline
        self._trouble = trouble
        self._lives = lives

    def __call__(self, call: str, work: Callable[[], Any]) -> Any:
        """Carry a call to the table and its answer back."""
        self._take_time()
        fault = self._timeline.strikes(BEFORE, self._trouble)
        if fault == BEFORE[0]:
            raise problem(HttpResponseError, 503, "ServerBusy")
        if fault == BEFORE[1]:
            raise ServiceRequestError("no route")
        answer = work()
        if call in WRITES:
            fault = self._timeline.strikes(AFTER, self._trouble)
            if fault == AFTER[0]:
                raise ServiceResponseError("connection lost")
            if fault == AFTER[1]:
                answer = work()
        self._take_time()
        return answer

    def _take_time(self) -> None:
        if self._timeline.hits("others acted during a call of the store", OVERLAPS):
            self._timeline.meanwhile(self._timeline.random.uniform(0, 1.5))
            if not self._lives():
                raise Died


class SimTable:
    """The table, and the stores that instances have on it."""

    def __init__(self, timeline: Timeline, audit: Audit, trouble: float) -> None:
        self._timeline = timeline
        self._audit = audit
        self._trouble = trouble
        self._table = FakeTable(most_on_a_page=timeline.random.choice((2, 1_000)))
        self._table.on_change = self._changed
        self._ids = Random(timeline.random.random())  # noqa: S311 - the same seed, the same world
        self._needed: dict[Place, str] = {}
        self._places: dict[str, Sequence[Place]] = {}
        self._lost: dict[Place, datetime] = {}
        self._back: dict[str, datetime] = {}  # when the way to a request was there again, by its key

    def store(self, *, lives: Callable[[], bool], reach: Callable[[str], None]) -> TableStore:
        """Return the store of an instance. `lives` says whether the process that made it is still there."""
        client: Any = FakeTableClient(self._table, Line(self._timeline, self._trouble, lives))
        return TableStore(
            client,
            reach=reach,
            now=self._timeline.now,
            grace=GRACE,
            events_kept=60,
            readers=InTurn(),
            new_id=lambda: f"{self._ids.getrandbits(128):032x}",
        )

    # --- index rows ---

    def lose_an_index_row(self, number: int) -> None:
        """Have an index row vanish that leads to a wait, or to a request, which still needs it."""
        of_request = number % 2 == 1
        needed = [place for place in self._needed if place[0].startswith(_OF_REQUESTS) == of_request]
        needed += [place for place in needed if place[0] == keys.UNFINISHED] * 10  # there are few of these at a time
        there = [place for place in needed if self._table.find(place) is not None]
        if there:
            place = there[number % len(there)]
            self._timeline.faults["index row of a request lost" if of_request else "index row of a wait lost"] += 1
            self._lost[place] = self._timeline.now()
            self._table.delete(place)

    def check_index(self, before: datetime) -> None:
        """Raise Violation for an index row that was lost before that, and not written anew."""
        for place, token in self._needed.items():
            if place in self._lost and self._lost[place] < before:
                raise Violation("index", f"{place[0]} was lost and is not there again", token)

    def was_lost(self, key: str, since: datetime) -> bool:
        """Whether the way to the request of a key has been missing since a time, or was for a part of it."""
        missing = any(self._needed.get(place) == key for place in self._lost if place[0].startswith(keys.PLACES))
        return missing or (key in self._back and self._back[key] >= since)

    # --- what is written ---

    def _changed(self, old: Entity | None, new: Entity | None) -> None:
        entity = new or old
        match entity.get("kind") if entity is not None else None:
            case "wait":
                self._changed_wait(old, new)
            case "run":
                self._changed_run(old, new)
            case "hint":
                self._changed_hint(old, new)
            case "request":
                self._changed_request(old, new)
            case "event" if new is not None:
                self._audit.wrote_event(msgspec.json.decode(text_of(new), type=EventRecord))

    def _changed_run(self, old: Entity | None, new: Entity | None) -> None:
        if new is not None:
            self._audit.wrote_run(decode(text_of(new), Run, version=""))
        elif old is not None:
            self._audit.purged_run(decode(text_of(old), Run, version="").key)

    def _changed_wait(self, old: Entity | None, new: Entity | None) -> None:
        if new is not None:
            wait = decode(text_of(new), Wait, version="")
            self._audit.wrote_wait(wait)
            self._need("wait", wait.token, _ways_to(wait, new))
        elif old is not None:
            token = str(old["RowKey"]).removeprefix("wait;")
            self._need("wait", token, ())
            self._audit.purged_wait(token)

    def _changed_request(self, old: Entity | None, new: Entity | None) -> None:
        if new is not None:
            record = decode(text_of(new), StartRequest, version="")
            self._need("request", record.idempotency_key, _ways_to_request(record, new))
            self._audit.wrote_request(record)
        elif old is not None:
            key = decode(text_of(old), StartRequest, version="").idempotency_key
            self._need("request", key, ())
            self._back.pop(key, None)
            self._audit.on_request_gone(key)

    def _need(self, kind: str, name: str, places: Sequence[Place]) -> None:
        """Note which index rows a row needs from now on; they have to stand there."""
        for place in self._places.pop(f"{kind} {name}", ()):
            self._needed.pop(place, None)
        self._places[f"{kind} {name}"] = places
        for place in places:
            self._needed[place] = name
            if place not in self._lost and self._table.find(place) is None:
                raise Violation("index", f"the {kind} stands there without {place[0]}", name)

    def _changed_hint(self, old: Entity | None, new: Entity | None) -> None:
        entity = new or old
        assert entity is not None
        place = (entity["PartitionKey"], entity["RowKey"])
        if new is not None:
            was_lost = self._lost.pop(place, None) is not None
            if was_lost and place in self._needed and place[0].startswith(keys.PLACES):
                self._back[self._needed[place]] = self._timeline.now()
        elif place in self._needed and place not in self._lost:
            raise Violation("index", f"{place[0]} was removed, and is still needed", self._needed[place])


def _ways_to(wait: Wait, entity: Entity) -> Sequence[Place]:
    """Return where the index rows stand that a wait needs: none when nothing more happens to it."""
    if wait.state.is_final and wait.due_at is None:
        return ()
    hints = [index.token_hint(wait), index.age_hint(wait)]
    if entity["due_key"]:
        hints.append(index.due_hint(wait, entity["due_key"]))
    if entity["open_key"]:
        hints.append(index.open_hint(wait, entity["open_key"]))
        hints += [hint] if (hint := index.match_hint(wait, entity["open_key"])) is not None else []
    return [(hint.partition, hint.row) for hint in hints]


def _ways_to_request(record: StartRequest, entity: Entity) -> Sequence[Place]:
    """Return where the index rows stand that a trigger request needs: if it has a task, and as long as it is due."""
    places = [(keys.PLACES + keys.name(entity["place"]), entity["place_key"])] if entity["place_key"] else []
    return places if record.due_at is None else [*places, (keys.UNFINISHED, entity["finish_key"])]
