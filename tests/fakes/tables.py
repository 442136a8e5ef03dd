"""One table of Azure Table Storage in memory, for code that speaks to it through the SDK's `TableClient`.

Kept are the calls that the bridge's store makes and what decides about them: ETags and their conditions, transactions
that happen or do not, pages in the order of keys, the SDK's errors. A contract test compares it with Azurite. In one
thing it differs from that, as Azure does: a property that is asked for by its name and is not there is None.
"""

from __future__ import annotations

import bisect
import itertools
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableEntity, TableErrorCode, TableTransactionError, UpdateMode

T = TypeVar("T")
Entity = Mapping[str, Any]
Place = tuple[str, str]
Change = tuple[Place, "Entity | None"]

MOST_ON_A_PAGE: Final = 1_000
MOST_IN_A_TRANSACTION: Final = 100
_TERM: Final = re.compile(r"(\w+) (eq|lt|le|gt|ge) (@\w+|true|false)")
_HOLDS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda one, other: bool(one == other),
    "lt": lambda one, other: bool(one < other),
    "le": lambda one, other: bool(one <= other),
    "gt": lambda one, other: bool(one > other),
    "ge": lambda one, other: bool(one >= other),
}


@dataclass(frozen=True, slots=True)
class Row:
    """An entity as it stands in the table."""

    entity: Entity
    etag: str


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison of a condition."""

    name: str
    operator: str
    value: Any

    def holds(self, entity: Entity) -> bool:
        """Whether an entity fits; one without that property does not."""
        return self.name in entity and _HOLDS[self.operator](entity[self.name], self.value)


def changed_nothing(old: Entity | None, new: Entity | None) -> None:
    """Hear of a change without doing anything about it."""


class FakeTable:
    """The service's side. `on_change` hears of each entity that was written or deleted, after all of them were.

    A page ends when it is full, and when it has cost the look at so many entities: then it may be empty, with more to
    come. `looked_at` counts the entities that queries have looked at, whether they fitted or not.
    """

    def __init__(self, *, most_on_a_page: int = MOST_ON_A_PAGE, most_looked_at: int = sys.maxsize) -> None:
        self.is_there = False
        self.looked_at = 0
        self.on_change: Callable[[Entity | None, Entity | None], None] = changed_nothing
        self.most_on_a_page = most_on_a_page
        self.most_looked_at = most_looked_at
        self._partitions: list[str] = []
        self._keys: dict[str, list[str]] = {}
        self._rows: dict[Place, Row] = {}
        self._writes = itertools.count(1)
        self._lock = threading.RLock()

    def find(self, place: Place) -> Row | None:
        """Return what stands at a place."""
        return self._rows.get(place)

    def places(self) -> Sequence[Place]:
        """Return every place where an entity stands, in the order of keys."""
        return [(partition, key) for partition in self._partitions for key in self._keys[partition]]

    def delete(self, place: Place) -> None:
        """Delete an entity, as nobody but a test does."""
        self.apply([(place, None)], checks=())

    def apply(self, changes: Sequence[Change], *, checks: Sequence[Callable[[], None]]) -> list[str]:
        """Make changes, all or none: none when a check raises. Return the ETags of what was written."""
        with self._lock:
            for check in checks:
                check()
            olds = [self._rows.get(place) for place, _ in changes]
            etags = [self._set(place, new) for place, new in changes]
        for old, (_, new) in zip(olds, changes, strict=True):
            self.on_change(old.entity if old is not None else None, new)
        return etags

    def _set(self, place: Place, entity: Entity | None) -> str:
        partition, key = place
        if entity is None:
            if self._rows.pop(place, None) is not None:
                self._keys[partition].remove(key)
            return ""
        if place not in self._rows:
            if partition not in self._keys:
                self._keys[partition] = []
                bisect.insort(self._partitions, partition)
            bisect.insort(self._keys[partition], key)
        etag = f"W/\"datetime'{next(self._writes)}'\""
        self._rows[place] = Row(entity, etag)
        return etag

    def page(self, terms: Sequence[Term], after: Place | None, size: int) -> tuple[list[Row], Place | None]:
        """Return a page of what fits, and after which place the next one begins (None: there is no more)."""
        found: list[Row] = []
        size = min(size, self.most_on_a_page)
        of_partition = [term for term in terms if term.name == "PartitionKey"]
        of_row = [term for term in terms if term.name != "PartitionKey"]
        with self._lock:
            for number, place in enumerate(self._places(of_partition, of_row, after), start=1):
                self.looked_at += 1
                row = self._rows[place]
                if all(term.holds(row.entity) for term in of_row):
                    found.append(row)
                if len(found) == size or number == self.most_looked_at:
                    return found, place
        return found, None

    def _places(self, terms: Sequence[Term], of_row: Sequence[Term], after: Place | None) -> Iterator[Place]:
        """Yield the places after one in the partitions that fit; in a single one, those whose keys fit as well."""
        start, key = after if after is not None else ("", "")
        for partition in self._partitions[self._first(terms, start) :]:
            if not all(term.holds({"PartitionKey": partition}) for term in terms):
                return  # partitions are sorted, and all conditions on them are bounds
            keys = self._keys[partition]
            first = bisect.bisect_right(keys, key) if partition == start else 0
            end = len(keys)
            for term in of_row if terms[0].operator == "eq" else ():
                if term.name == "RowKey":
                    first = max(first, bisect.bisect_right(keys, term.value)) if term.operator == "gt" else first
                    end = min(end, bisect.bisect_left(keys, term.value)) if term.operator == "lt" else end
            for row_key in keys[first:end]:
                yield partition, row_key

    def _first(self, terms: Sequence[Term], start: str) -> int:
        """Return where the first partition is that fits, and is not before the start."""
        first = bisect.bisect_left(self._partitions, start)
        for term in terms:
            bound = bisect.bisect_right if term.operator == "gt" else bisect.bisect_left
            if term.operator in ("eq", "ge", "gt"):
                first = max(first, bound(self._partitions, term.value))
        return first


def _carry(call: str, work: Callable[[], T]) -> T:
    """Carry a call to the table and its answer back: nothing goes wrong."""
    del call
    return work()


class FakeTableClient:
    """The SDK's client, as far as the store uses it. `carry` takes each call to the table, and may lose it."""

    def __init__(self, table: FakeTable, carry: Callable[[str, Callable[[], Any]], Any] = _carry) -> None:
        self._table = table
        self._carry = carry

    def get_entity(
        self, partition_key: str, row_key: str, *, select: Sequence[str] | None = None, **_: object
    ) -> TableEntity:
        """Return an entity; raise ResourceNotFoundError."""

        def get() -> TableEntity:
            self._exists()
            row = self._table.find((partition_key, row_key))
            if row is None:
                raise problem(ResourceNotFoundError, 404, TableErrorCode.RESOURCE_NOT_FOUND)
            return _shown(row, select)

        found: TableEntity = self._carry("get", get)
        return found

    def query_entities(
        self,
        query_filter: str,
        *,
        parameters: Mapping[str, Any],
        select: Sequence[str] | None = None,
        results_per_page: int = MOST_ON_A_PAGE,
    ) -> Query:
        """Return the entities that fit; asked for page by page."""
        terms = [
            Term(name, operator, parameters[value[1:]] if value.startswith("@") else value == "true")
            for name, operator, value in _terms(query_filter)
        ]

        def read(after: Place | None) -> tuple[list[TableEntity], Place | None]:
            def read() -> tuple[list[TableEntity], Place | None]:
                self._exists()
                rows, last = self._table.page(terms, after, results_per_page)
                return [_shown(row, select) for row in rows], last

            page: tuple[list[TableEntity], Place | None] = self._carry("query", read)
            return page

        return Query(read)

    def upsert_entity(self, entity: Mapping[str, Any], mode: UpdateMode) -> dict[str, Any]:
        """Write an entity, whatever stood there."""
        assert mode is UpdateMode.REPLACE, "merging is not done here"

        def upsert() -> dict[str, Any]:
            self._exists()
            (etag,) = self._table.apply([(_place(entity), dict(entity))], checks=())
            return {"etag": etag}

        written: dict[str, Any] = self._carry("upsert", upsert)
        return written

    def delete_entity(
        self,
        partition_key: str,
        row_key: str,
        *,
        etag: str | None = None,
        match_condition: MatchConditions | None = None,
    ) -> None:
        """Delete an entity. Like the SDK's, it does not mind that there is none, nor any table."""
        place = (partition_key, row_key)

        def delete() -> None:
            if self._table.find(place) is None:
                return
            checks = [lambda: self._check_etag(place, etag, match_condition, ResourceModifiedError)]
            self._table.apply([(place, None)], checks=checks)

        self._carry("delete", delete)

    def submit_transaction(self, operations: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Write or delete entities of one partition, all or none."""
        partitions = {operation[1]["PartitionKey"] for operation in operations}
        if len(partitions) > 1:
            raise ValueError("Partition Keys must all be the same")
        if len(operations) > MOST_IN_A_TRANSACTION:
            raise problem(TableTransactionError, 400, TableErrorCode.INVALID_INPUT)

        def submit() -> list[Mapping[str, Any]]:
            self._exists()
            planned = [self._planned(operation) for operation in operations]
            if len({place for (place, _), _ in planned}) < len(planned):
                raise problem(TableTransactionError, 400, TableErrorCode.INVALID_DUPLICATE_ROW)
            etags = self._table.apply([change for change, _ in planned], checks=[check for _, check in planned])
            return [{"etag": etag} for etag in etags]

        written: list[Mapping[str, Any]] = self._carry("transaction", submit)
        return written

    def create_table(self) -> None:
        """Make the table."""

        def create() -> None:
            if self._table.is_there:
                raise problem(ResourceExistsError, 409, TableErrorCode.TABLE_ALREADY_EXISTS)
            self._table.is_there = True

        self._carry("create table", create)

    def close(self) -> None:
        """Nothing is open."""

    def _exists(self) -> None:
        if not self._table.is_there:
            raise problem(ResourceNotFoundError, 404, TableErrorCode.TABLE_NOT_FOUND)

    def _planned(self, operation: Any) -> tuple[Change, Callable[[], None]]:
        """Return what an operation of a transaction changes, and what has to hold for it."""
        kind, entity, options = operation if len(operation) == 3 else (*operation, {})
        place = _place(entity)
        if kind == "create":
            return (place, dict(entity)), lambda: self._check_free(place)
        if kind == "upsert":
            assert options["mode"] is UpdateMode.REPLACE, "merging is not done here"
            return (place, dict(entity)), lambda: None
        condition = (options.get("etag"), options.get("match_condition"), TableTransactionError)
        if kind == "update":
            assert options["mode"] is UpdateMode.REPLACE, "merging is not done here"
            return (place, dict(entity)), lambda: self._check_etag(place, *condition)
        assert kind == "delete", kind
        return (place, None), lambda: self._check_etag(place, *condition)

    def _check_free(self, place: Place) -> None:
        if self._table.find(place) is not None:
            raise problem(TableTransactionError, 409, TableErrorCode.ENTITY_ALREADY_EXISTS)

    def _check_etag(
        self, place: Place, etag: str | None, condition: MatchConditions | None, kind: type[HttpResponseError]
    ) -> None:
        row = self._table.find(place)
        if row is None:
            raise problem(kind, 404, TableErrorCode.RESOURCE_NOT_FOUND)
        if condition is MatchConditions.IfNotModified and row.etag != etag:
            raise problem(kind, 412, TableErrorCode.UPDATE_CONDITION_NOT_SATISFIED)


class Query:
    """What a query found: to be read page by page, each as the table is then."""

    def __init__(self, read: Callable[[Place | None], tuple[list[TableEntity], Place | None]]) -> None:
        self._read = read

    def by_page(self) -> Pages:
        """Return the pages."""
        return Pages(self._read)


class Pages:
    """The pages of a query. A page that could not be read is asked for again by the next call."""

    def __init__(self, read: Callable[[Place | None], tuple[list[TableEntity], Place | None]]) -> None:
        self._read = read
        self._after: Place | None = None
        self._is_over = False

    def __iter__(self) -> Pages:
        return self

    def __next__(self) -> list[TableEntity]:
        if self._is_over:
            raise StopIteration
        page, self._after = self._read(self._after)
        self._is_over = self._after is None
        return page


def problem(kind: type[HttpResponseError], status: int, code: TableErrorCode | str) -> HttpResponseError:
    """Return an error as the SDK raises it."""
    name = code.value if isinstance(code, TableErrorCode) else code
    error = kind(message=f"0:{name}\nErrorCode:{name}")
    error.status_code = status
    setattr(error, "error_code", code)  # noqa: B010 - only some of the SDK's errors declare it
    return error


def _place(entity: Entity) -> Place:
    return str(entity["PartitionKey"]), str(entity["RowKey"])


def _shown(row: Row, select: Sequence[str] | None) -> TableEntity:
    entity = row.entity
    # What is asked for by name and is not there is null. Azurite leaves it out: https://github.com/Azure/Azurite/issues/2535
    shown = TableEntity(entity if select is None else {name: entity.get(name) for name in select})
    shown._metadata = {"etag": row.etag, "timestamp": None}
    return shown


@lru_cache(maxsize=64)
def _terms(condition: str) -> Sequence[tuple[str, str, str]]:
    """Take a condition apart; only comparisons that all have to hold are known here."""
    found = [_TERM.fullmatch(term) for term in condition.split(" and ")]
    assert all(found), condition
    return [(match[1], match[2], match[3]) for match in found if match is not None]
