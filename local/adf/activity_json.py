"""Activities as they stand in a pipeline's JSON.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#activity-json
"""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from local.adf.graph import CONDITIONS, Activity, Branch, Dependency, Outcome, Policy, every_activity, needs
from local.adf.time_span import parse_time_span
from local.json_value import FieldError, JsonObject, JsonValue, flag, number, optional_text, text, texts

# Control activities have no time-out and no retries; a policy of theirs can only hide what they show.
_CONTROL = frozenset({"ExecutePipeline", "Fail", "IfCondition", "SetVariable", "Wait"})
_BRANCHES = {"IfCondition": ("ifTrueActivities", "ifFalseActivities")}
_DEFAULT_TIMEOUT = "0.12:00:00"


def parse_activities(value: JsonValue) -> tuple[Activity, ...]:
    """Read a pipeline's activities. Raises FieldError where they cannot be put in order."""
    activities = _graph(value, "activities")
    counts = Counter(activity.name for activity in every_activity(activities))
    for name, count in counts.items():
        if count > 1:
            raise FieldError(f"two activities have the same name: {name}")
    return activities


def as_object(value: JsonValue, what: str) -> JsonObject:
    """A value that must be an object. Raises FieldError."""
    if not isinstance(value, dict):
        raise FieldError(f"{what} must be an object")
    return value


def _graph(value: JsonValue, what: str) -> tuple[Activity, ...]:
    activities = tuple(_activity(item) for item in _as_list(value, what))
    _check_arrows(activities)
    return activities


def _activity(item: JsonValue) -> Activity:
    body = as_object(item, "an activity")
    kind = text(body, "type")
    type_properties = as_object(body.get("typeProperties", {}), "typeProperties")
    inactive = body.get("state") == "Inactive"
    return Activity(
        name=text(body, "name"),
        type=kind,
        depends_on=tuple(_dependency(one) for one in _as_list(body.get("dependsOn", []), "dependsOn")),
        type_properties=type_properties,
        user_properties=_user_properties(body),
        policy=_policy(as_object(body.get("policy", {}), "policy"), control=kind in _CONTROL),
        inactive_outcome=Outcome(optional_text(body, "onInactiveMarkAs") or "Succeeded") if inactive else None,
        branches={name: Branch(_graph(type_properties.get(name, []), name)) for name in _BRANCHES.get(kind, ())},
    )


def _policy(body: JsonObject, *, control: bool) -> Policy:
    secure_input, secure_output = flag(body, "secureInput"), flag(body, "secureOutput")
    if control:
        return Policy(secure_input=secure_input, secure_output=secure_output)
    timeout, retry = body.get("timeout", _DEFAULT_TIMEOUT), body.get("retry", 0)
    if isinstance(timeout, str) and not timeout.startswith("@"):
        parse_time_span(timeout)
    if isinstance(retry, int | float):
        number(body, "retry", 0)
    interval = timedelta(seconds=number(body, "retryIntervalInSeconds", 30))
    return Policy(retry, interval, timeout, secure_input, secure_output)


def _dependency(item: JsonValue) -> Dependency:
    body = as_object(item, "a dependency")
    conditions = frozenset(texts(body, "dependencyConditions"))
    if not conditions or not conditions <= CONDITIONS:
        raise FieldError(f"dependencyConditions must be among {', '.join(sorted(CONDITIONS))}")
    return Dependency(text(body, "activity"), conditions)


def _user_properties(body: JsonObject) -> Mapping[str, JsonValue]:
    items = [as_object(item, "a user property") for item in _as_list(body.get("userProperties", []), "userProperties")]
    return {text(item, "name"): item.get("value") for item in items}


def _check_arrows(activities: tuple[Activity, ...]) -> None:
    """Refuse arrows from nowhere, and circles."""
    names = {activity.name for activity in activities}
    for activity in activities:
        for dependency in activity.depends_on:
            if dependency.activity not in names:
                raise FieldError(f"activity {activity.name} depends on {dependency.activity}, which does not exist")
    placed: set[str] = set()
    while len(placed) < len(names):
        free = {one.name for one in activities if one.name not in placed and needs(one) <= placed}
        if not free:
            raise FieldError(f"the activities depend on each other in a circle: {', '.join(sorted(names - placed))}")
        placed |= free


def _as_list(value: JsonValue, what: str) -> list[JsonValue]:
    if not isinstance(value, list):
        raise FieldError(f"{what} must be a list")
    return value
