"""Activities and the arrows between them: a pipeline's, and those inside an If Condition.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#activity-dependency
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from local.json_value import JsonObject, JsonValue


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
class Policy:
    """How often an activity is tried, how long it may take, and what of it is not shown.

    `retry` and `timeout` may be expressions; without a time-out, an activity may take as long as it likes.
    """

    retry: JsonValue = 0
    retry_interval: timedelta = timedelta(seconds=30)
    timeout: JsonValue = None
    secure_input: bool = False
    secure_output: bool = False


@dataclass(frozen=True, slots=True)
class Activity:
    """One box of a pipeline. `branches` are the graphs inside it, by the type property that holds them."""

    name: str
    type: str
    depends_on: tuple[Dependency, ...]
    type_properties: JsonObject
    user_properties: Mapping[str, JsonValue]
    policy: Policy
    inactive_outcome: Outcome | None
    branches: "Mapping[str, Branch]"


class Graph(Protocol):
    """Anything that consists of activities."""

    @property
    def activities(self) -> tuple[Activity, ...]:
        """The activities, in the order in which they were written."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The activities inside another one."""

    activities: tuple[Activity, ...]


def every_activity(activities: Iterable[Activity]) -> Iterator[Activity]:
    """These activities and all those inside them."""
    for activity in activities:
        yield activity
        for branch in activity.branches.values():
            yield from every_activity(branch.activities)


def needs(activity: Activity) -> set[str]:
    """The activities on which this one depends."""
    return {dependency.activity for dependency in activity.depends_on}


def downstream(graph: Graph, start: str) -> frozenset[str]:
    """The activity `start` and everything that depends on it, directly or not."""
    found = {start}
    while True:
        more = {one.name for one in graph.activities if needs(one) & found} - found
        if not more:
            return frozenset(found)
        found |= more


def leaves(graph: Graph) -> list[Activity]:
    """The activities on which no other one depends."""
    needed = set().union(*map(needs, graph.activities))
    return [activity for activity in graph.activities if activity.name not in needed]
