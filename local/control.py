"""What the control calls of the stand-ins share. They live under /_local/, which no Azure service has."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from local.faults import FaultPlan, read_faults
from local.json_value import FieldError, JsonValue

PREFIX = "/_local"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def read_body(request: web.Request) -> JsonValue:
    """The JSON body of a control call; None when it is empty. Raises FieldError."""
    raw = await request.read()
    try:
        body: JsonValue = json.loads(raw) if raw else None
    except ValueError as error:
        raise FieldError(f"the body must be JSON: {error}") from error
    return body


async def read_object(request: web.Request) -> dict[str, JsonValue]:
    """The JSON object in the body of a control call; an empty body is an empty object. Raises FieldError."""
    body = await read_body(request)
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise FieldError("the body must be a JSON object")
    return body


def refuse(status: int, reason: str) -> web.Response:
    """The answer to a control call that cannot be done."""
    return web.json_response({"error": reason}, status=status)


@web.middleware
async def explain_bad_fields(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 400 with the reason where a control call's body is wrong."""
    try:
        return await handler(request)
    except FieldError as error:
        return refuse(400, str(error))


def fault_routes(faults: FaultPlan) -> list[web.RouteDef]:
    """`GET`, `POST` and `DELETE /_local/faults`."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response(faults.to_json())

    async def add(request: web.Request) -> web.Response:
        faults.add(read_faults(await read_body(request)))
        return web.json_response(faults.to_json(), status=201)

    async def clear(_: web.Request) -> web.Response:
        faults.clear()
        return web.json_response(faults.to_json())

    path = f"{PREFIX}/faults"
    return [web.get(path, show), web.post(path, add), web.delete(path, clear)]
