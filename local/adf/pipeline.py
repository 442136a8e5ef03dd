"""Pipelines as Data Factory stores them in Git: {"name", "properties": {"activities": [...], "parameters":
{...}, "variables": {...}, "concurrency": n}}.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities#pipeline-json
"""

from collections.abc import Iterator
from dataclasses import dataclass

from local.adf.activity_json import as_object, parse_activities
from local.adf.graph import Activity, every_activity
from local.json_value import FieldError, JsonObject, JsonValue, text

PARAMETER_TYPES = frozenset({"string", "securestring", "int", "float", "bool", "array", "object"})
VARIABLE_TYPES = frozenset({"string", "bool", "boolean", "array", "integer"})

# https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-data-factory-limits
_MOST_PARAMETERS = 50


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declared parameter or variable; its type is in lower case. `default` counts only where `has_default`."""

    name: str
    type: str
    has_default: bool
    default: JsonValue


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline, ready to run; `properties` are as they stand in its file. Without `concurrency`, any number of
    its runs go on at once.
    """

    name: str
    activities: tuple[Activity, ...]
    parameters: tuple[Declaration, ...]
    variables: tuple[Declaration, ...]
    concurrency: int | None
    properties: JsonObject

    def activity(self, name: str) -> Activity | None:
        """The activity of that name; those inside other activities are not looked at."""
        return next((activity for activity in self.activities if activity.name == name), None)

    def references(self) -> Iterator[str]:
        """The pipelines that this one runs."""
        for activity in every_activity(self.activities):
            if activity.type == "ExecutePipeline":
                yield referenced_pipeline(activity)


def parse_pipeline(document: JsonValue) -> Pipeline:
    """Read the content of one pipeline file. Raises FieldError."""
    body = as_object(document, "a pipeline")
    properties = as_object(body.get("properties"), "properties")
    pipeline = Pipeline(
        name=text(body, "name"),
        activities=parse_activities(properties.get("activities")),
        parameters=_declarations(properties, "parameters", PARAMETER_TYPES),
        variables=_declarations(properties, "variables", VARIABLE_TYPES),
        concurrency=_concurrency(properties.get("concurrency")),
        properties=properties,
    )
    if len(pipeline.parameters) > _MOST_PARAMETERS:
        raise FieldError(f"a pipeline can have {_MOST_PARAMETERS} parameters, not {len(pipeline.parameters)}")
    list(pipeline.references())
    return pipeline


def referenced_pipeline(activity: Activity) -> str:
    """The pipeline that an Execute Pipeline activity runs. Raises FieldError."""
    reference = as_object(activity.type_properties.get("pipeline"), f"activity {activity.name}: pipeline")
    return text(reference, "referenceName")


def _declarations(properties: JsonObject, field: str, types: frozenset[str]) -> tuple[Declaration, ...]:
    declared = as_object(properties.get(field, {}), field)
    found = tuple(_declaration(name, as_object(item, f"{field}: {name}")) for name, item in declared.items())
    for one in found:
        if one.type not in types:
            raise FieldError(f"{field}: {one.name} has the type {one.type!r}, which is not among {sorted(types)}")
    return found


def _declaration(name: str, body: JsonObject) -> Declaration:
    return Declaration(name, text(body, "type").lower(), "defaultValue" in body, body.get("defaultValue"))


def _concurrency(value: JsonValue) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FieldError("concurrency must be a whole number, one or more")
    return value
