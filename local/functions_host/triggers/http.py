"""HTTP triggers: route, method and key, then the function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from local.functions_host.bindings import BindingError, Function
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys, key_of
from local.functions_host.messages import RpcHttp, TypedData
from local.functions_host.responses import function_answer, not_found, unauthorized
from local.functions_host.routes import Route, RouteError, parse_route
from local.functions_host.worker import InvocationFailedError, InvocationInput

TYPE = "httpTrigger"


@dataclass(frozen=True)
class _Endpoint:
    """A function and where it is served. An empty `methods` stands for all."""

    function: Function
    route: Route
    methods: frozenset[str]
    auth_level: str


class HttpTriggers:
    """Serves every HTTP function of the app under the route prefix."""

    def __init__(self, functions: Sequence[Function], invocations: Invocations, keys: Keys, route_prefix: str) -> None:
        """Read the routes. Raises BindingError for one that cannot be read."""
        self._invocations = invocations
        self._keys = keys
        endpoints = [_endpoint(function, route_prefix) for function in functions if function.trigger_type == TYPE]
        self._endpoints = sorted(endpoints, key=lambda endpoint: endpoint.route.precedence)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request: 404 for no such route *or method*, 401 for no such key, else what the function
        says.

        A method that the route does not take is 404, not 405, on Azure:
        https://github.com/Azure/azure-functions-host/issues/10098
        """
        for endpoint in self._endpoints:
            if endpoint.methods and request.method not in endpoint.methods:
                continue
            parameters = endpoint.route.match(request.rel_url.raw_path)
            if parameters is not None:
                return await self._call(endpoint, request, parameters)
        return not_found()

    async def _call(self, endpoint: _Endpoint, request: web.Request, parameters: Mapping[str, str]) -> web.Response:
        if not self._keys.opens_function(key_of(request.headers, request.query), endpoint.auth_level):
            needed = "the master key" if endpoint.auth_level.lower() == "admin" else "a function key"
            return unauthorized(f"Send {needed} in the header x-functions-key, or in the query as code=KEY.")
        given = await _rpc_http(request, parameters)
        try:
            value = await self._invocations.invoke(endpoint.function, given, reason=f"{request.method} {request.path}")
        except InvocationFailedError:
            return web.Response(status=500)  # no body, as on Azure: the log has the exception
        return function_answer(value)


def _endpoint(function: Function, route_prefix: str) -> _Endpoint:
    trigger = function.trigger
    try:
        route = parse_route(f"{route_prefix}/{trigger.get('route') or function.name}")
    except RouteError as error:
        raise BindingError(f"the function {function.name} cannot be served: {error}") from None
    return _Endpoint(
        function=function,
        route=route,
        methods=frozenset(str(method).upper() for method in trigger.get("methods") or ()),
        auth_level=str(trigger.get("authLevel") or "function"),
    )


async def _rpc_http(request: web.Request, parameters: Mapping[str, str]) -> InvocationInput:
    """The request as the worker takes it: values of a repeated header or query field are joined by commas."""
    body = await request.read()
    http = RpcHttp(
        method=request.method,
        url=str(request.url),
        headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
        query={name: ",".join(request.query.getall(name)) for name in request.query},
        params=dict(parameters),
        body=TypedData(bytes=body) if body else TypedData(),
    )
    return InvocationInput(
        data=TypedData(http=http),
        metadata={},
        trace_parent=request.headers.get("traceparent", ""),
        trace_state=request.headers.get("tracestate", ""),
    )
