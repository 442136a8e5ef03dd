"""The host's own answers, those that no function gives."""

import json

from aiohttp import web

from local.functions_host.messages import TypedData


def unauthorized(detail: str) -> web.Response:
    """401 for a missing or wrong key. Azure's has an empty body; here it tells what to do."""
    problem = {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "unauthorized",
        "detail": detail,
    }
    return web.Response(status=401, text=json.dumps(problem), content_type="application/problem+json")


def not_found() -> web.Response:
    """404 for a path, or for a path and a method, that no function serves."""
    return web.Response(status=404)


def json_answer(content: object, status: int = 200) -> web.Response:
    """An answer of the host's own API."""
    return web.json_response(content, status=status)


def function_answer(value: TypedData | None) -> web.Response:
    """What an HTTP function returned, as the response that the host makes of it."""
    kind = value.WhichOneof("data") if value is not None else None
    if value is None or kind is None:
        return web.Response(status=204)
    if kind != "http":
        return web.Response(text=str(getattr(value, kind)))
    http = getattr(value, kind)
    body = http.body.bytes if http.body is not None else b""
    response = web.Response(status=int(http.status_code), body=body)
    for name, text in http.headers.items():
        response.headers[name] = text
    return response
