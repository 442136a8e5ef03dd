"""The host's own API under /admin: its status, the list of functions, and running one by hand.

See https://learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http
"""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from aiohttp import web

from local.functions_host.bindings import Function
from local.functions_host.event_hub_input import batch_input
from local.functions_host.event_hub_log import HubMessage
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys, key_of
from local.functions_host.messages import FIRST_RUN, TypedData
from local.functions_host.responses import json_answer, not_found, unauthorized
from local.functions_host.service_bus_input import text_input
from local.functions_host.triggers import event_grid, event_hub, http, service_bus, timer
from local.functions_host.worker import InvocationInput

PREFIX = "/admin/"


class Admin:
    """Answers everything under /admin, for the master key only."""

    def __init__(self, functions: Sequence[Function], invocations: Invocations, keys: Keys) -> None:
        """Serve these functions."""
        self._functions = {function.name.lower(): function for function in functions}
        self._invocations = invocations
        self._keys = keys
        self._started = time.monotonic()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request."""
        path = request.path.lower().rstrip("/")
        if path == "/admin/host/ping":
            return web.Response(status=200)
        if not self._keys.opens_admin(key_of(request.headers, request.query)):
            return unauthorized("Send the master key in the header x-functions-key, or in the query as code=KEY.")
        match request.method, path.removeprefix(PREFIX).split("/"):
            case "GET", ["host", "status"]:
                return json_answer(self._status())
            case "GET", ["functions"]:
                return json_answer([self._describe(function) for function in self._functions.values()])
            case method, ["functions", name] if name in self._functions:
                return await self._about(self._functions[name], method, request)
            case _:
                return not_found()

    async def _about(self, function: Function, method: str, request: web.Request) -> web.Response:
        """Describe a function, or run it."""
        if method == "POST":
            return await self._run(function, request)
        return json_answer(self._describe(function)) if method == "GET" else not_found()

    def _status(self) -> dict[str, object]:
        return {
            "id": "local",
            "state": "Running",
            "version": f"local-{version('azure-functions-runtime')}",
            "processUptime": int((time.monotonic() - self._started) * 1000),
        }

    def _describe(self, function: Function) -> dict[str, object]:
        return {
            "name": function.name,
            "language": "python",
            "isDisabled": False,
            "config": {"name": function.name, "bindings": [dict(binding) for binding in function.bindings]},
        }

    async def _run(self, function: Function, request: web.Request) -> web.Response:
        """Start a function that is not an HTTP one, and answer 202 without waiting for it.

        The body is `{"input": text}`; the text is what the trigger would hand over. A timer needs none: `{}`.
        """
        if function.trigger_type == http.TYPE:
            return _refuse(f"{function.name} is an HTTP function: call its route.")
        try:
            body: Any = json.loads(await request.read())
            given = _input(function, body.get("input"))
        except (ValueError, TypeError, AttributeError):
            return _refuse('Send {"input": text}; for an Event Grid trigger the text is an event in JSON.')
        self._invocations.start(function, given, reason="This function was programmatically called")
        return web.Response(status=202)


def _input(function: Function, text: Any) -> InvocationInput:  # noqa: ANN401 - from a body
    """The text that was sent, in the shape that the function's trigger takes. Raises ValueError or TypeError."""
    match function.trigger_type:
        case timer.TYPE:
            return timer.timer_input(None, past_due=False)
        case event_grid.TYPE:
            return event_grid.event_input(json.loads(text))
        case event_hub.TYPE:
            message = HubMessage(0, 0, None, datetime.now(UTC), text.encode())
            return batch_input(function.trigger, "", [message], FIRST_RUN)
        case service_bus.TYPE:
            return text_input(function.trigger, str(text))
        case _:
            return InvocationInput(data=TypedData(string=text), metadata={})


def _refuse(detail: str) -> web.Response:
    return json_answer({"message": detail}, status=400)
