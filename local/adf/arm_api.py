"""ARM's REST API for Data Factory, version 2018-06-01.

See https://learn.microsoft.com/rest/api/datafactory/
"""

import hmac
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import assert_never

from aiohttp import web

from local.adf.activity_run import ActivityRun
from local.adf.arm_error import ArmError, missing_authorization, wrong_token
from local.adf.arm_route import Operation, Route, find_route
from local.adf.calls import Call, CallLog
from local.adf.engine import Engine
from local.adf.factory import Factories, Factory
from local.adf.json_body import read_body, read_object
from local.adf.pipeline_api import PipelineApi
from local.adf.query import page, parse_query
from local.adf.recovery import Recovery
from local.adf.run import PipelineRun
from local.faults import FaultPlan, perform
from local.json_value import JsonObject, JsonValue

API_VERSION = "2018-06-01"

_RUN_OPERANDS: Mapping[str, Callable[[PipelineRun], str | datetime | None]] = {
    "PipelineName": lambda run: run.pipeline.name,
    "Status": lambda run: str(run.status),
    "RunStart": lambda run: run.start,
    "RunEnd": lambda run: run.end,
    "RunGroupId": lambda run: run.group_id,
    "LatestOnly": lambda run: str(run.is_latest),
}
_ACTIVITY_OPERANDS: Mapping[str, Callable[[ActivityRun], str | datetime | None]] = {
    "ActivityName": lambda execution: execution.activity.name,
    "ActivityType": lambda execution: execution.activity.type,
    "Status": lambda execution: str(execution.status),
    "ActivityRunStart": lambda execution: execution.start,
    "ActivityRunEnd": lambda execution: execution.end,
}


class ArmApi:
    """Answers ARM's requests for the declared factories."""

    def __init__(
        self,
        *,
        factories: Factories,
        pipelines: PipelineApi,
        engine: Engine,
        calls: CallLog,
        faults: FaultPlan,
        token: str,
    ) -> None:
        """Put the parts together; `token` is the only bearer token that is accepted."""
        self._factories = factories
        self._pipelines = pipelines
        self._engine = engine
        self._calls = calls
        self._faults = faults
        self._token = token

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request and log it."""
        route = find_route(request.method, request.rel_url.raw_path)
        call = Call(route.operation, route.run_id, route.pipeline) if route else Call("unknown")
        self._calls.add(call)
        try:
            response = await self._answer(request, route, call)
        except ArmError as error:
            response = error.response()
        if request.transport is not None and not request.transport.is_closing():
            call.status = response.status
        response.headers["x-ms-request-id"] = str(uuid.uuid4())
        return response

    async def _answer(self, request: web.Request, route: Route | None, call: Call) -> web.Response:
        """Judge a request in ARM's order: who calls, in which version, about which factory; then do it."""
        self._authenticate(request)
        _check_version(request)
        if route is None:
            raise ArmError(404, "InvalidResourceType", f"No resource or action is known at '{request.path}'.")
        factory = self._factories.find(route.factory)
        fault = self._faults.take(route.operation, run_id=route.run_id, pipeline=route.pipeline)
        return await perform(
            request,
            fault,
            lambda: self._act(request, route, factory, call),
            lambda planned: ArmError.of_fault(planned).response(),
        )

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            raise missing_authorization()
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise wrong_token()

    async def _act(self, request: web.Request, route: Route, factory: Factory, call: Call) -> web.Response:
        """Do what is asked for."""
        pipeline, run_id = route.pipeline or "", route.run_id or ""
        match route.operation:
            case Operation.GET_FACTORY:
                return web.json_response(_factory(factory))
            case Operation.LIST_PIPELINES:
                return self._pipelines.all(factory)
            case Operation.GET_PIPELINE:
                return self._pipelines.get(request, factory, pipeline)
            case Operation.PUT_PIPELINE:
                return await self._pipelines.put(request, factory, pipeline)
            case Operation.DELETE_PIPELINE:
                return self._pipelines.delete(factory, pipeline)
            case Operation.CREATE_RUN:
                return await self._create_run(request, factory, pipeline, call)
            case Operation.QUERY_RUNS:
                runs = [run for run in self._engine.runs.values() if run.factory == factory]
                return web.json_response(_page_of_runs(await read_body(request), runs))
            case Operation.GET_RUN:
                return web.json_response(self._engine.find(factory, run_id).to_arm())
            case Operation.CANCEL_RUN:
                recursive = request.query.get("isRecursive", "").lower() == "true"
                self._engine.cancel(self._engine.find(factory, run_id), recursive=recursive)
                return web.Response()
            case Operation.QUERY_ACTIVITY_RUNS:
                run = self._engine.find(factory, run_id)
                return web.json_response(_page_of_activity_runs(await read_body(request), run))
            case _:
                assert_never(route.operation)

    async def _create_run(self, request: web.Request, factory: Factory, name: str, call: Call) -> web.Response:
        pipeline = self._pipelines.find(factory, name)
        given = await read_object(request, "The request body must be a JSON object of parameters.")
        run = self._engine.start(factory, pipeline, given, _recovery(request))
        call.run_id = run.id
        return web.json_response({"runId": run.id})


def _check_version(request: web.Request) -> None:
    """Refuse a request without an API version, or with another one than there is."""
    version = request.query.get("api-version")
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if version != API_VERSION:
        message = (
            f"No registered resource provider found for API version '{version}' and type 'factories'. "
            f"The supported api-versions are '{API_VERSION}'."
        )
        raise ArmError(400, "NoRegisteredProviderFound", message)


def _recovery(request: web.Request) -> Recovery | None:
    query = request.query
    reference = query.get("referencePipelineRunId")
    if reference is None:
        return None
    return Recovery(
        reference_run_id=reference.lower(),
        is_recovery=query.get("isRecovery", "").lower() == "true",
        start_activity=query.get("startActivityName"),
        start_from_failure=query.get("startFromFailure", "").lower() == "true",
    )


def _factory(factory: Factory) -> JsonObject:
    """See https://learn.microsoft.com/rest/api/datafactory/factories/get."""
    return {
        "id": factory.id,
        "name": factory.name,
        "type": "Microsoft.DataFactory/factories",
        "location": "local",
        "properties": {"provisioningState": "Succeeded", "version": API_VERSION},
    }


def _page_of_runs(body: JsonValue, runs: list[PipelineRun]) -> JsonObject:
    return page(
        parse_query(body, operands=frozenset(_RUN_OPERANDS)),
        runs,
        operands=_RUN_OPERANDS,
        last_updated=lambda run: run.last_updated,
        to_arm=PipelineRun.to_arm,
    )


def _page_of_activity_runs(body: JsonValue, run: PipelineRun) -> JsonObject:
    return page(
        parse_query(body, operands=frozenset(_ACTIVITY_OPERANDS)),
        run.activity_runs,
        operands=_ACTIVITY_OPERANDS,
        last_updated=lambda execution: execution.end or execution.start,
        to_arm=run.activity_to_arm,
    )
