"""One table of Azure Table Storage: the calls that the store makes, with what can go wrong sorted into two.

Somebody else was faster (StoreConflict), or the table cannot be used right now (StoreUnavailable). A write whose answer
was lost is neither: the row is read back, and its `write` says whether the write was applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import requests
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ServiceRequestError
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient, UpdateMode
from requests.adapters import HTTPAdapter

from bridge.adapters.credentials import azure_credential
from bridge.adapters.table_entity import Entity, etag_of, wire_bytes
from bridge.errors import StoreConflict, StoreUnavailable

if TYPE_CHECKING:
    from azure.data.tables._table_batch import TransactionOperationType

T = TypeVar("T")

_RETRY_AFTER: Final = timedelta(seconds=5)
_MOST_CONNECTIONS: Final = 64
_LONGEST_PAUSE: Final = 2  # seconds between two attempts of one call
_PAGE: Final = 1_000  # the most that one answer holds
# https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
TRANSACTION_ROWS: Final = 100
_TRANSACTION_BYTES: Final = 3_500_000  # of 4 MiB
# https://learn.microsoft.com/rest/api/storageservices/table-service-error-codes
_NO_TABLE: Final = "TableNotFound"
_CONFLICTS: Final = frozenset(
    {
        (404, "ResourceNotFound"),
        (404, "EntityNotFound"),
        (409, "EntityAlreadyExists"),
        (412, "UpdateConditionNotSatisfied"),
        (412, "ConditionNotMet"),
    }
)
# Azurite's account, the same on every machine: it opens nothing but an emulator.
# https://learn.microsoft.com/azure/storage/common/storage-connect-azurite#authorize-with-the-well-known-account-key
EMULATOR_ACCOUNT: Final = "devstoreaccount1"
EMULATOR_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class _BriskTransport(RequestsTransport):  # type: ignore[misc]  # azure-core loads it lazily
    """A transport that pauses briefly. The SDK would sleep inside the call for as long as Retry-After of a 503 says."""

    def sleep(self, duration: float) -> None:
        """Pause between two attempts."""
        super().sleep(min(duration, _LONGEST_PAUSE))


def connect(uri: str, table: str, **options: Any) -> TableClient:  # noqa: ANN401 - the SDK's
    """Return a client of a table: as the app's identity, or with the emulator's key where the URI is plain http.

    It tries again, briefly: an invocation must not hang on its store. Further options are the SDK's.
    """
    emulated = uri.lower().startswith("http://")
    credential = AzureNamedKeyCredential(EMULATOR_ACCOUNT, EMULATOR_KEY) if emulated else azure_credential()
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_MOST_CONNECTIONS))
    settings: dict[str, Any] = {
        "transport": _BriskTransport(session=session, session_owner=True),
        "retry_total": 2,
        "retry_backoff_factor": 0.2,
        "retry_backoff_max": _LONGEST_PAUSE,
        "connection_timeout": 3,
        "read_timeout": 5,
        **options,
    }
    return TableClient(uri, table, credential=credential, **settings)


@dataclass(frozen=True, slots=True)
class Write:
    """An entity to be written: made (`etag` empty), or replaced if it is still as it was read."""

    entity: Entity
    etag: str = ""

    @property
    def _operation(self) -> TransactionOperationType:
        if not self.etag:
            return "create", dict(self.entity)
        return (
            "update",
            dict(self.entity),
            {"mode": UpdateMode.REPLACE, "etag": self.etag, "match_condition": MatchConditions.IfNotModified},
        )


class Table:
    """The table. It is made when a call finds that it is not there."""

    def __init__(self, client: TableClient) -> None:
        self._client = client

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(
        self, partition: str, row: str, *, select: Sequence[str] | None = None, patient: bool = True
    ) -> Entity | None:
        """Return an entity, or those of its properties that are asked for, or None. An impatient caller asks once."""
        options = {} if patient else {"retry_total": 0}

        def get() -> Entity:
            return self._client.get_entity(partition, row, select=list(select) if select else None, **options)

        try:
            return self._call(get)
        except StoreConflict:
            return None

    def pages(
        self, condition: str, *, select: Sequence[str] | None = None, size: int = _PAGE, **values: str
    ) -> Iterator[list[Entity]]:
        """Yield the entities that fit an OData condition, page by page, in the order of their keys.

        `@name` in the condition stands for a value. A page may be short, or empty, with more to come.
        """
        found = self._client.query_entities(
            condition, parameters=values, select=list(select) if select else None, results_per_page=min(size, _PAGE)
        ).by_page()
        while (page := self._call(lambda: next(found, None))) is not None:
            yield list(page)

    def upsert(self, entity: Entity) -> None:
        """Write an entity, whatever was there."""
        self._call(lambda: self._client.upsert_entity(dict(entity), mode=UpdateMode.REPLACE))

    def upsert_all(self, entities: Sequence[Entity]) -> None:
        """Write entities of one partition, 100 at most, whatever was there: all of them or none."""
        if len(entities) == 1:
            self.upsert(entities[0])
        elif entities:
            self._transact([("upsert", dict(entity), {"mode": UpdateMode.REPLACE}) for entity in entities])

    def delete(self, partition: str, row: str, *, etag: str | None = None) -> bool:
        """Delete an entity, unless it was changed since it was read with that ETag; return whether it is gone.

        It need not have been there.
        """
        condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag is not None else {}

        def delete() -> None:
            self._client.delete_entity(partition, row, **condition)  # type: ignore[call-overload]

        try:
            self._call(delete)
        except StoreConflict:
            return False
        return True

    def delete_all(self, entities: Sequence[Entity]) -> None:
        """Delete entities of one partition, those that are unchanged; in transactions as far as nobody interferes."""
        for start in range(0, len(entities), TRANSACTION_ROWS):
            some = entities[start : start + TRANSACTION_ROWS]
            operations: list[TransactionOperationType] = [
                ("delete", dict(entity), {"etag": etag_of(entity), "match_condition": MatchConditions.IfNotModified})
                for entity in some
            ]
            try:
                self._transact(operations)
            except StoreConflict:
                for entity in some:
                    self.delete(entity["PartitionKey"], entity["RowKey"], etag=etag_of(entity))

    def discard(self, partition: str, rows: Sequence[str]) -> None:
        """Delete entities of one partition, 100 at most, whatever they are; they need not have been there."""
        try:
            if len(rows) > 1:
                self._transact([("delete", {"PartitionKey": partition, "RowKey": row}) for row in rows])
                return
        except StoreConflict:
            pass  # one of them was not there: then each by itself
        for row in rows:
            self.delete(partition, row)

    def write(self, writes: Sequence[Write]) -> list[str]:
        """Write entities of one partition in one transaction; return their ETags. StoreConflict: nothing was changed.

        More than a transaction holds (100 entities, 4 MiB) is written in several, one after the other.
        """
        return [etag for group in _groups(writes) for etag in self._write(group)]

    def _write(self, writes: Sequence[Write]) -> list[str]:
        try:
            return self._transact([write._operation for write in writes])  # noqa: SLF001 - of this module
        except (StoreConflict, StoreUnavailable) as error:
            # The answer of an earlier attempt may have been lost: then it is our own write that is in the way.
            applied = self._applied(writes) if _may_be_applied(error) else None
            if applied is None:
                raise
            return applied

    def _applied(self, writes: Sequence[Write]) -> list[str] | None:
        """Return the ETags of writes that were applied and not overwritten since, or None."""
        found = []
        for write in writes:
            etag = self._read_back(write)
            if etag is None:
                return None
            found.append(etag)
        return found

    def _read_back(self, write: Write) -> str | None:
        try:
            entity = self.get(write.entity["PartitionKey"], write.entity["RowKey"], select=["write"], patient=False)
        except StoreUnavailable:
            return None
        return etag_of(entity) if entity is not None and entity.get("write") == write.entity["write"] else None

    def _transact(self, operations: list[TransactionOperationType]) -> list[str]:
        answers = self._call(lambda: self._client.submit_transaction(operations))
        return [str(answer.get("etag", "")) for answer in answers]

    def _call(self, action: Callable[[], T]) -> T:
        try:
            try:
                return action()
            except HttpResponseError as error:
                if _code(error) != _NO_TABLE:
                    raise
            self._make_table()
            return action()
        except AzureError as error:
            raise _sorted(error) from error

    def _make_table(self) -> None:
        try:
            self._client.create_table()
        except ResourceExistsError:
            return


def _groups(writes: Sequence[Write]) -> Iterator[list[Write]]:
    group: list[Write] = []
    size = 0
    for write in writes:
        own = wire_bytes(write.entity)
        if group and (len(group) == TRANSACTION_ROWS or size + own > _TRANSACTION_BYTES):
            yield group
            group, size = [], 0
        group.append(write)
        size += own
    if group:
        yield group


def _may_be_applied(error: StoreConflict | StoreUnavailable) -> bool:
    """Whether a write may have been applied all the same; not if the last attempt did not even reach the service."""
    return not isinstance(error.__cause__, ServiceRequestError)


def _code(error: HttpResponseError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code))


def _sorted(error: AzureError) -> StoreConflict | StoreUnavailable:
    if isinstance(error, HttpResponseError):
        if (error.status_code, _code(error)) in _CONFLICTS:
            return StoreConflict(_code(error))
        what = f"{error.status_code} {_code(error)}"
    else:
        what = type(error).__name__
    msg = f"Table Storage could not be used ({what}). The caller may try again."
    return StoreUnavailable(msg, retry_after=_RETRY_AFTER)
