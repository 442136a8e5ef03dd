"""The JSON in a request's body."""

import json

from aiohttp import web

from local.adf.arm_error import ArmError, bad_request
from local.json_value import JsonObject, JsonValue


async def read_body(request: web.Request) -> JsonValue:
    """The body; None when it is empty. Raises ArmError (400)."""
    raw = await request.read()
    try:
        body: JsonValue = json.loads(raw) if raw else None
    except ValueError as error:
        message = f"The request content was invalid and could not be deserialized: '{error}'."
        raise ArmError(400, "InvalidRequestContent", message) from error
    return body


async def read_object(request: web.Request, refusal: str) -> JsonObject:
    """The object in the body; an empty body is an empty one. Raises ArmError (400)."""
    body = await read_body(request)
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise bad_request(refusal)
    return body
