"""Pipelines as Data Factory stores them in Git: {"name", "properties": {"activities": [...], "parameters":
{...}}}.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#pipeline-json
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from local.json_value import FieldError, JsonObject, JsonValue, number, optional_text, text, texts, whole_number


class Outcome(StrEnum):
    """How one activity ended, in the words of its dependants' conditions."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"


CONDITIONS = frozenset({*Outcome, "Completed"})


@dataclass(frozen=True, slots=True)
class Dependency:
    """One arrow into an activity: it may run when `activity` ended in one of these ways."""

    activity: str
    conditions: frozenset[str]

    def met_by(self, outcome: Outcome) -> bool:
        """Whether this outcome lets the dependent activity run. An activity that was skipped has not
        completed.
        """
        return outcome in self.conditions or ("Completed" in self.conditions and outcome is not Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Activity:
    """One box of a pipeline."""

    name: str
    type: str
    depends_on: tuple[Dependency, ...]
    type_properties: JsonObject
    user_properties: Mapping[str, JsonValue]
    retries: int
    retry_interval: timedelta
    inactive_outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter. `default` counts only where `has_default`."""

    name: str
    type: str
    has_default: bool
    default: JsonValue


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline, ready to run; `properties` are as they stand in its file."""

    name: str
    activities: tuple[Activity, ...]
    parameters: tuple[Parameter, ...]
    properties: JsonObject

    def activity(self, name: str) -> Activity | None:
        """The activity of that name."""
        return next((activity for activity in self.activities if activity.name == name), None)


def parse_pipeline(document: JsonValue) -> Pipeline:
    """Read the content of one pipeline file. Raises FieldError."""
    body = _object(document, "a pipeline")
    properties = _object(body.get("properties"), "properties")
    activities = tuple(_activity(item) for item in _list(properties.get("activities"), "activities"))
    _check_graph(activities)
    declared = _object(properties.get("parameters", {}), "parameters")
    parameters = tuple(_parameter(name, item) for name, item in declared.items())
    return Pipeline(text(body, "name"), activities, parameters, properties)


def _activity(item: JsonValue) -> Activity:
    body = _object(item, "an activity")
    policy = _object(body.get("policy", {}), "policy")
    inactive = body.get("state") == "Inactive"
    return Activity(
        name=text(body, "name"),
        type=text(body, "type"),
        depends_on=tuple(_dependency(one) for one in _list(body.get("dependsOn", []), "dependsOn")),
        type_properties=_object(body.get("typeProperties", {}), "typeProperties"),
        user_properties=_user_properties(body),
        retries=whole_number(policy, "retry", 0),
        retry_interval=timedelta(seconds=number(policy, "retryIntervalInSeconds", 30)),
        inactive_outcome=Outcome(optional_text(body, "onInactiveMarkAs") or "Succeeded") if inactive else None,
    )


def _dependency(item: JsonValue) -> Dependency:
    body = _object(item, "a dependency")
    conditions = frozenset(texts(body, "dependencyConditions"))
    if not conditions or not conditions <= CONDITIONS:
        raise FieldError(f"dependencyConditions must be among {', '.join(sorted(CONDITIONS))}")
    return Dependency(text(body, "activity"), conditions)


def _user_properties(body: JsonObject) -> Mapping[str, JsonValue]:
    items = [_object(item, "a user property") for item in _list(body.get("userProperties", []), "userProperties")]
    return {text(item, "name"): item.get("value") for item in items}


def _parameter(name: str, item: JsonValue) -> Parameter:
    body = _object(item, f"parameter {name}")
    return Parameter(name, text(body, "type").lower(), "defaultValue" in body, body.get("defaultValue"))


def _check_graph(activities: tuple[Activity, ...]) -> None:
    """Refuse two activities of one name, arrows from nowhere, and circles."""
    names = {activity.name for activity in activities}
    if len(names) < len(activities):
        raise FieldError("two activities have the same name")
    for activity in activities:
        for dependency in activity.depends_on:
            if dependency.activity not in names:
                raise FieldError(f"activity {activity.name} depends on {dependency.activity}, which does not exist")
    placed: set[str] = set()
    while len(placed) < len(names):
        free = {one.name for one in activities if one.name not in placed and _needs(one) <= placed}
        if not free:
            raise FieldError(f"the activities depend on each other in a circle: {', '.join(sorted(names - placed))}")
        placed |= free


def _needs(activity: Activity) -> set[str]:
    return {dependency.activity for dependency in activity.depends_on}


def downstream(pipeline: Pipeline, start: str) -> frozenset[str]:
    """The activity `start` and everything that depends on it, directly or not."""
    found = {start}
    while True:
        more = {one.name for one in pipeline.activities if _needs(one) & found} - found
        if not more:
            return frozenset(found)
        found |= more


def leaves(activities: Iterable[Activity]) -> list[Activity]:
    """The activities on which no other one depends."""
    activities = list(activities)
    needed = set().union(*map(_needs, activities))
    return [activity for activity in activities if activity.name not in needed]


def _object(value: JsonValue, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise FieldError(f"{what} must be an object")
    return value


def _list(value: JsonValue, what: str) -> list[JsonValue]:
    if not isinstance(value, list):
        raise FieldError(f"{what} must be a list")
    return value
