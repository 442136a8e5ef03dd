"""Event Grid triggers: the webhook that Event Grid delivers to, both validation handshakes included.

The answers are those of Microsoft.Azure.WebJobs.Extensions.EventGrid, see
https://github.com/Azure/azure-sdk-for-net/tree/main/sdk/eventgrid/Microsoft.Azure.WebJobs.Extensions.EventGrid
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from local.functions_host.bindings import Function
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys, key_of
from local.functions_host.messages import TypedData
from local.functions_host.responses import not_found, unauthorized
from local.functions_host.worker import InvocationFailedError, InvocationInput

TYPE = "eventGridTrigger"
PATH = "/runtime/webhooks/EventGrid"

_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "OPTIONS"})
_PUBLIC_CLOUD = "eventgrid.azure.net"
_ORIGINS = frozenset(
    {
        _PUBLIC_CLOUD,
        "eventgrid.azure.us",
        "eventgrid.azure.cn",
        "eventgrid.azure.eaglex.ic.gov",
        "eventgrid.azure.microsoft.scloud",
    }
)
_MAX_DEPTH = 64  # what Json.NET reads, see https://github.com/JamesNK/Newtonsoft.Json/releases/tag/13.0.1
_JSON = json.JSONDecoder(strict=False)


class UnreadableBodyError(Exception):
    """A body that makes the real host's extension throw: the answer is 500 with an empty body."""


class EventGridTriggers:
    """Takes deliveries for every function with an Event Grid trigger."""

    def __init__(self, functions: Sequence[Function], invocations: Invocations, keys: Keys) -> None:
        """Pick the functions out."""
        self._invocations = invocations
        self._keys = keys
        self._functions = {function.name: function for function in functions if function.trigger_type == TYPE}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a delivery or a handshake.

        The order of the checks is the real host's: method, key (401), function name (404, case matters),
        then the kind of message. A body that cannot be read is 500, which Event Grid retries.
        """
        if request.method not in _METHODS:
            return not_found()
        if not self._keys.opens_event_grid(key_of(request.headers, request.query)):
            return unauthorized("Send the key eventgrid_extension in the query as code=KEY.")
        name = request.query.get("functionName", "")
        function = self._functions.get(name)
        if function is None:
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        if request.method == "OPTIONS":
            return _allow_origin(request)
        try:
            return await self._receive(function, request)
        except UnreadableBodyError:
            return web.Response(status=500)

    async def _receive(self, function: Function, request: web.Request) -> web.Response:
        match request.headers.get("aeg-event-type", "").lower():
            case "subscriptionvalidation":
                return _validate(parse_body(await request.read()))
            case "notification":
                return await self._notify(function, parse_body(await request.read()))
            case "unsubscribe":
                return web.Response(status=202)
            case _:
                return web.Response(status=400)

    async def _notify(self, function: Function, body: object) -> web.Response:
        """Run the function once per event, all at the same time. One failure fails the whole delivery."""
        events = body if isinstance(body, list) else [body]
        outcomes = await asyncio.gather(
            *(self._invocations.invoke(function, event_input(event), reason="Event Grid") for event in events),
            return_exceptions=True,
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, InvocationFailedError):
                raise failure
        if failures:
            return web.Response(status=500, text=f"Exception while executing function: Functions.{function.name}")
        return web.Response(status=202)


def event_input(event: object) -> InvocationInput:
    """One event as the worker takes it: JSON text."""
    text = json.dumps(event, ensure_ascii=False)
    # Half of a surrogate pair does not survive the way to the worker, which is UTF-8.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return InvocationInput(data=TypedData(json=text), metadata={})


def parse_body(body: bytes) -> list[Any] | dict[str, Any]:
    """Read a body as the real host does: the first JSON value counts, whatever follows; it is an object or
    an array.

    Raises UnreadableBodyError. Json.NET would also take comments and single quotes; Event Grid never sends
    them.
    """
    try:
        content, _ = _JSON.raw_decode(body.decode("utf-8-sig", "replace").lstrip())
    except (ValueError, RecursionError):
        raise UnreadableBodyError from None
    if not isinstance(content, list | dict) or _deeper_than(content, _MAX_DEPTH):
        raise UnreadableBodyError
    return content


def _validate(body: list[Any] | dict[str, Any]) -> web.Response:
    """Answer the handshake of both schemas: the code comes in an array, or in an object whose `data` is
    JSON in a string.
    """
    try:
        data = body[0]["data"] if isinstance(body, list) else body["data"]
        content: Any = parse_body(data.encode("utf-8", "replace")) if isinstance(data, str) else data
        code = content["validationCode"]
    except (KeyError, IndexError, TypeError):
        raise UnreadableBodyError from None
    return web.Response(text=json.dumps({"validationResponse": str(code)}))


def _allow_origin(request: web.Request) -> web.Response:
    """Answer the CloudEvents handshake, for Event Grid's own origins only. The real host names no allowed
    rate.

    See https://github.com/cloudevents/spec/blob/v1.0/http-webhook.md#4-abuse-protection
    """
    asked = request.headers.get("WebHook-Request-Origin", _PUBLIC_CLOUD)
    return web.Response(headers={"Webhook-Allowed-Origin": asked if asked in _ORIGINS else _PUBLIC_CLOUD})


def _deeper_than(content: object, limit: int) -> bool:
    """Whether arrays and objects are nested deeper than the limit."""
    level: list[object] = [content]
    for _ in range(limit):
        level = [
            child
            for parent in level
            if isinstance(parent, list | dict)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
        if not level:
            return False
    return True
