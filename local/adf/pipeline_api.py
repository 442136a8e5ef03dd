"""ARM's REST API for pipelines: read, put, deleted, with ETags.

See https://learn.microsoft.com/rest/api/datafactory/pipelines
"""

import json
import re
import uuid

from aiohttp import web

from local.adf.arm_error import ArmError, bad_request
from local.adf.factory import Factory
from local.adf.json_body import read_object
from local.adf.pipeline import Pipeline, parse_pipeline
from local.adf.pipelines import Pipelines
from local.json_value import FieldError, JsonObject

# https://learn.microsoft.com/rest/api/datafactory/pipelines/create-or-update#uri-parameters
_NAME = re.compile(r"[A-Za-z0-9_][^<>*#.%&:\\+?/]{0,259}")
_ANY = "*"


class PipelineApi:
    """Answers requests for a factory's pipelines."""

    def __init__(self, pipelines: Pipelines) -> None:
        """Serve these pipelines."""
        self._pipelines = pipelines

    def find(self, factory: Factory, name: str) -> Pipeline:
        """A pipeline. Raises ArmError (404)."""
        return self._pipelines.get(factory, name)

    def all(self, factory: Factory) -> web.Response:
        """Every pipeline of a factory, on one page."""
        return web.json_response({"value": [_to_arm(factory, one) for one in self._pipelines.all(factory)]})

    def get(self, request: web.Request, factory: Factory, name: str) -> web.Response:
        """One pipeline; 304 where the caller has this version already."""
        found = self.find(factory, name)
        if _etag(found) in _tags(request, "If-None-Match"):
            return web.Response(status=304)
        return web.json_response(_to_arm(factory, found))

    async def put(self, request: web.Request, factory: Factory, name: str) -> web.Response:
        """Create a pipeline or change it; 412 where the standing version is not the one that the caller means."""
        self._check_version(request, self._pipelines.find(factory, name))
        body = await read_object(request, "The request body must be a JSON object with properties.")
        if not _NAME.fullmatch(name):
            raise bad_request(f"The pipeline name '{name}' is not valid.", target=f"pipeline/{name}")
        try:
            pipeline = parse_pipeline({"name": name, "properties": body.get("properties")})
        except FieldError as error:
            message = f"Invalid resource request. Resource type: 'Pipeline', Resource name: '{name}' 'Error: {error}'."
            raise bad_request(message, target=f"pipeline/{name}") from error
        self._pipelines.deploy(factory, pipeline)
        return web.json_response(_to_arm(factory, pipeline))

    def delete(self, factory: Factory, name: str) -> web.Response:
        """Delete a pipeline; 204 where there is none."""
        return web.Response(status=200 if self._pipelines.delete(factory, name) else 204)

    def _check_version(self, request: web.Request, standing: Pipeline | None) -> None:
        """Refuse to write over another version than the caller means (412)."""
        wanted, unwanted = _tags(request, "If-Match"), _tags(request, "If-None-Match")
        tag = None if standing is None else _etag(standing)
        refused = (wanted and tag not in wanted and not (_ANY in wanted and tag)) or (
            tag is not None and (tag in unwanted or _ANY in unwanted)
        )
        if refused:
            raise ArmError(412, "PreconditionFailed", "The condition of the request's ETag headers is not met.")


def _to_arm(factory: Factory, pipeline: Pipeline) -> JsonObject:
    """See https://learn.microsoft.com/rest/api/datafactory/pipelines/get."""
    return {
        "id": f"{factory.id}/pipelines/{pipeline.name}",
        "name": pipeline.name,
        "type": "Microsoft.DataFactory/factories/pipelines",
        "etag": _etag(pipeline),
        "properties": pipeline.properties,
    }


def _etag(pipeline: Pipeline) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(pipeline.properties, sort_keys=True)))


def _tags(request: web.Request, header: str) -> set[str]:
    """The ETags in a header, without quotes."""
    given = request.headers.get(header, "")
    return {tag.strip().removeprefix("W/").strip('"') for tag in given.split(",") if tag.strip()}
