"""The table in memory, which tests and the simulator run on: call by call it answers as a real emulator does."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import UpdateMode

from bridge.adapters.table_access import connect
from tests.fakes.tables import FakeTable, FakeTableClient

CALLS: Final = 400
PARTITIONS: Final = ("due;dev", "due;prod", "run;a")
ROWS: Final = ("1", "2;x", "3")
CONDITIONS: Final = (
    "PartitionKey eq @one",
    "PartitionKey eq @one and RowKey lt @row",
    "PartitionKey eq @one and RowKey gt @row",
    "PartitionKey gt @one and PartitionKey lt @other",
    "PartitionKey ge @one and PartitionKey lt @other and state eq @state",
    "PartitionKey gt @one and PartitionKey lt @other and live eq true",
    "PartitionKey gt @one and PartitionKey lt @other and place gt @none",
    "PartitionKey gt @one and PartitionKey lt @other and since lt @row and live eq false",
)
FAILURES: Final = {
    ("ResourceNotFoundError", 404, "ResourceNotFound"),
    ("ResourceModifiedError", 412, "UpdateConditionNotSatisfied"),
    ("TableTransactionError", 404, "ResourceNotFound"),
    ("TableTransactionError", 409, "EntityAlreadyExists"),
    ("TableTransactionError", 412, "UpdateConditionNotSatisfied"),
}


class Client:
    """A client, with the ETags that it has seen of each entity: the last one, and one before."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.etags: dict[tuple[str, str], list[str]] = {}

    def etag(self, place: tuple[str, str], age: int) -> str:
        """Return an ETag that the entity has, had, or never had."""
        known: list[str] = ["W/\"datetime'2020-01-01'\"", *self.etags.get(place, ())]
        return known[max(-1 - age, -len(known))]

    def outcome(self, call: Callable[[Client], Any]) -> Any:
        """Return what a call answers, or how it fails."""
        try:
            return call(self)
        except HttpResponseError as error:
            code = getattr(error, "error_code", None)
            return type(error).__name__, error.status_code, str(getattr(code, "value", code))


def seen(client: Client, entity: Any) -> dict[str, Any]:
    """Return an entity without its ETag, which is remembered."""
    place = (entity.get("PartitionKey", ""), entity.get("RowKey", ""))
    client.etags.setdefault(place, []).append(entity.metadata["etag"])
    return dict(entity)


def without_nulls(entity: Any) -> dict[str, Any]:
    """Return what an entity has of what was asked for: Azurite leaves out what it has not, Azure says null."""
    return {name: value for name, value in entity.items() if value is not None}


def a_call(chance: Random) -> Callable[[Client], Any]:
    """Return something to do to a table."""
    place = chance.choice(PARTITIONS), chance.choice(ROWS)
    age = chance.choice((0, 0, 1))
    kind = chance.choice(("get", "get", "select", "upsert", "delete", "delete if", "query", "query", "transaction"))
    entity = _an_entity(chance, place)
    if kind == "get":
        return lambda client: seen(client, client.client.get_entity(*place))
    if kind == "select":
        return lambda client: without_nulls(client.client.get_entity(*place, select=["state", "RowKey"]))
    if kind == "upsert":
        return lambda client: client.client.upsert_entity(entity, mode=UpdateMode.REPLACE) and None
    if kind == "delete":
        return lambda client: client.client.delete_entity(*place)
    if kind == "delete if":
        condition = MatchConditions.IfNotModified
        return lambda client: client.client.delete_entity(
            *place, etag=client.etag(place, age), match_condition=condition
        )
    return _a_query(chance) if kind == "query" else _a_transaction(chance, place[0])


def _an_entity(chance: Random, place: tuple[str, str]) -> dict[str, Any]:
    return {
        "PartitionKey": place[0],
        "RowKey": place[1],
        "state": chance.choice(("open", "due", "käse 💥")),
        "live": chance.random() < 0.5,
        "since": chance.choice(ROWS),
        "schema": 1,
        **chance.choice(({}, {"place": ""}, {"place": "1"})),
    }


def _a_query(chance: Random) -> Callable[[Client], Any]:
    condition, size = chance.choice(CONDITIONS), chance.choice((1, 2, 1_000))
    values = {
        "one": chance.choice(PARTITIONS),
        "other": chance.choice(PARTITIONS),
        "row": chance.choice(ROWS),
        "state": "käse 💥",
        "none": "",
    }
    used = {name: value for name, value in values.items() if f"@{name}" in condition}

    def query(client: Client) -> Any:
        pages = client.client.query_entities(condition, parameters=used, results_per_page=size).by_page()
        found = [[seen(client, entity) for entity in page] for page in pages]
        return [one for page in found for one in page], max((len(page) for page in found), default=0)

    return query


def _a_transaction(chance: Random, partition: str) -> Callable[[Client], Any]:
    planned = [
        (chance.choice(("create", "update", "update", "delete", "upsert")), (partition, row), chance.choice((0, 0, 1)))
        for row in chance.sample(ROWS, chance.choice((1, 1, 2, 3)))
    ]
    entities = {place: _an_entity(chance, place) for _, place, _ in planned}

    def transact(client: Client) -> Any:
        operations: list[Any] = []
        for kind, place, age in planned:
            condition = {"etag": client.etag(place, age), "match_condition": MatchConditions.IfNotModified}
            match kind:
                case "create":
                    operations.append((kind, entities[place]))
                case "upsert":
                    operations.append((kind, entities[place], {"mode": UpdateMode.REPLACE}))
                case "update":
                    operations.append((kind, entities[place], {"mode": UpdateMode.REPLACE, **condition}))
                case _:
                    operations.append((kind, entities[place], condition))
        answers = client.client.submit_transaction(operations)
        for (kind, place, _), answer in zip(planned, answers, strict=True):
            if kind != "delete":
                client.etags.setdefault(place, []).append(str(answer["etag"]))
        return len(answers)

    return transact


def test_the_double_is_like_the_emulator(azurite: str, table_name: str) -> None:
    """Call by call, the table in memory answers and fails as the emulator does, and holds the same in the end."""
    real, double = Client(connect(azurite, table_name)), Client(FakeTableClient(FakeTable()))
    chance = Random("calls")  # noqa: S311 - the same calls each time
    for early in (lambda one: one.client.get_entity("p", "r"), lambda one: one.client.delete_entity("p", "r")):
        assert real.outcome(early) == double.outcome(early)
    for client in (real, double):
        client.client.create_table()
    told = []
    for _ in range(CALLS):
        call = a_call(chance)
        expected, actual = real.outcome(call), double.outcome(call)
        assert expected == actual
        told.append(expected)
    assert FAILURES == {one for one in told if isinstance(one, tuple) and isinstance(one[0], str)}
    real.client.close()
