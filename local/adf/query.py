"""Queries over runs: a window of time, filters, an order, pages.

See https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/query-by-factory and
https://learn.microsoft.com/rest/api/datafactory/activity-runs/query-by-pipeline-run
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from local.adf.arm_error import ArmError, bad_request
from local.json_value import JsonObject, JsonValue

PAGE_SIZE = 100

_OPERATORS = frozenset({"Equals", "NotEquals", "In", "NotIn"})

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """One condition on one operand. Values are compared without regard to case, times as times."""

    operand: str
    operator: str
    values: tuple[str, ...]

    def admits(self) -> Callable[[str | datetime | None], bool]:
        """Return what says whether a run with some value of the operand is wanted."""
        texts, wanted = {value.lower() for value in self.values}, self.operator in {"Equals", "In"}

        def admits(actual: str | datetime | None) -> bool:
            if isinstance(actual, datetime):
                return (actual in {parse_time(value, self.operand) for value in self.values}) is wanted
            return ((actual or "").lower() in texts) is wanted

        return admits


@dataclass(frozen=True, slots=True)
class RunQuery:
    """One query. `order` holds operands with whether they descend; `offset` is how many runs earlier pages
    had.
    """

    after: datetime
    before: datetime
    filters: tuple[RunFilter, ...]
    order: tuple[tuple[str, bool], ...]
    offset: int
    digest: str


# "Not only the latest" asks for every run, not for the others.
_EVERY_RUN = RunFilter("LatestOnly", "Equals", ("false",))


def parse_query(body: JsonValue, *, operands: frozenset[str]) -> RunQuery:
    """Read the body of a query. Raises ArmError (400).

    The continuation token counts in the body and nowhere else; with other conditions than it was made for it
    is refused.
    """
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object with lastUpdatedAfter and lastUpdatedBefore.")
    conditions = {name: value for name, value in body.items() if name != "continuationToken"}
    digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
    return RunQuery(
        after=parse_time(body.get("lastUpdatedAfter"), "lastUpdatedAfter"),
        before=parse_time(body.get("lastUpdatedBefore"), "lastUpdatedBefore"),
        filters=tuple(one for one in map(partial(_filter, operands), _items(body, "filters")) if one != _EVERY_RUN),
        order=tuple(_order(item, operands) for item in _items(body, "orderBy")),
        offset=_offset(body.get("continuationToken"), digest),
        digest=digest,
    )


def page(
    query: RunQuery,
    items: Iterable[Item],
    *,
    operands: Mapping[str, Callable[[Item], str | datetime | None]],
    last_updated: Callable[[Item], datetime],
    to_arm: Callable[[Item], JsonObject],
) -> JsonObject:
    """One page of what the query finds, as ARM writes it. The token is there only where more follows."""
    filters = [(operands[one.operand], one.admits()) for one in query.filters]
    found = [
        item
        for item in items
        if query.after <= last_updated(item) <= query.before
        and all(admits(operand(item)) for operand, admits in filters)
    ]
    for operand, descending in reversed(query.order):
        found.sort(key=lambda item: _sortable(operands[operand](item)), reverse=descending)
    end = query.offset + PAGE_SIZE
    answer: JsonObject = {"value": [to_arm(item) for item in found[query.offset : end]]}
    if end < len(found):
        answer["continuationToken"] = base64.urlsafe_b64encode(f"{query.digest}:{end}".encode()).decode()
    return answer


def parse_time(value: JsonValue, field: str) -> datetime:
    """Read an ISO 8601 time; one without an offset is UTC. Raises ArmError (400)."""
    if not isinstance(value, str):
        raise bad_request(f"The property '{field}' is required.")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise bad_request(f"The value '{value}' of the property '{field}' is not a valid date and time.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _filter(operands: frozenset[str], item: JsonValue) -> RunFilter:
    if not isinstance(item, dict):
        raise bad_request("A filter must be an object with operand, operator and values.")
    operator = item.get("operator")
    if operator not in _OPERATORS:
        raise bad_request(
            f"The filter operator '{operator}' is not supported. Supported are {', '.join(sorted(_OPERATORS))}."
        )
    values = item.get("values")
    if not isinstance(values, list) or not values:
        raise bad_request("A filter needs a list of values.")
    texts = tuple(value if isinstance(value, str) else json.dumps(value) for value in values)
    return RunFilter(_operand(item.get("operand"), operands), str(operator), texts)


def _order(item: JsonValue, operands: frozenset[str]) -> tuple[str, bool]:
    if not isinstance(item, dict) or item.get("order") not in {"ASC", "DESC"}:
        raise bad_request("An order must be an object with orderBy and order, which is ASC or DESC.")
    return _operand(item.get("orderBy"), operands), item["order"] == "DESC"


def _operand(value: JsonValue, operands: frozenset[str]) -> str:
    if not isinstance(value, str) or value not in operands:
        raise bad_request(f"The operand '{value}' is not supported. Supported are {', '.join(sorted(operands))}.")
    return value


def _items(body: JsonObject, field: str) -> Sequence[JsonValue]:
    value = body.get(field)
    if value is not None and not isinstance(value, list):
        raise bad_request(f"The property '{field}' must be a list.")
    return value or ()


def _offset(token: JsonValue, digest: str) -> int:
    if token is None:
        return 0
    refusal = ArmError(400, "InvalidContinuationToken", "The continuation token is not one of this query's.")
    if not isinstance(token, str):
        raise refusal
    try:
        made_for, _, offset = base64.urlsafe_b64decode(token).decode().partition(":")
        place = int(offset)
    except (binascii.Error, ValueError) as error:
        raise refusal from error
    if made_for != digest:
        raise refusal
    return place


def _sortable(value: str | datetime | None) -> tuple[bool, str | datetime]:
    """A key that puts what has no value yet last. The values of one operand are of one kind."""
    return value is None, "" if value is None else value
