"""Between the Functions worker's HTTP objects and the API's own."""

from __future__ import annotations

from collections.abc import Callable

import azure.functions as func

from bridge import http_api
from bridge.app import App
from bridge.http_api import Request, Response
from bridge.wiring import get_app


def answer(call: Callable[[App, Request], Response], req: func.HttpRequest) -> func.HttpResponse:
    """Answer a request by a call of the API."""
    return _response(http_api.answer(call, get_app, _request(req)))


def health(req: func.HttpRequest) -> func.HttpResponse:
    """Answer `GET /health`, also when the settings are wrong."""
    return _response(http_api.health(get_app, _request(req)))


def _request(req: func.HttpRequest) -> Request:
    return Request(
        body=req.get_body(),
        headers={name.lower(): value for name, value in req.headers.items()},
        query=dict(req.params),
        path=dict(req.route_params),
    )


def _response(response: Response) -> func.HttpResponse:
    return func.HttpResponse(
        response.body,
        status_code=response.status,
        headers=dict(response.headers),
        mimetype=response.content_type,
    )
