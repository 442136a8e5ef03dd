"""A transport for requests that answers from a script and keeps what was sent: the wire, without a socket."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

Answer = tuple[int, object] | tuple[int, object, Mapping[str, str]] | Exception


class _Head:
    """The head of a response as the standard library has it."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.msg = Message()
        for name, value in headers.items():
            self.msg[name] = value

    def isclosed(self) -> bool:
        """It was read to its end."""
        return True

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class ScriptedTransport(BaseAdapter):
    """Answers each request by `reply`; `sent` holds the requests, `options` what requests asked of the transport."""

    reply: Callable[[requests.PreparedRequest], Answer]
    sent: list[requests.PreparedRequest] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Answer a request."""
        self.sent.append(request)
        self.options.append(options)
        answer = self.reply(request)
        if isinstance(answer, Exception):
            raise answer
        body = answer[1]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = dict(answer[2]) if len(answer) > 2 else {}
        raw = HTTPResponse(io.BytesIO(content), headers=headers, status=answer[0], preload_content=False)
        setattr(raw, "_original_response", _Head(headers))  # noqa: B010 - it is typed as something larger
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        """Nothing is open."""

    def calls(self) -> list[str]:
        """Return what was sent: method and URL."""
        return [f"{request.method} {request.url}" for request in self.sent]
