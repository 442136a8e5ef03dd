"""An endpoint that receives events: it records every request and answers as it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request, with its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Webhook:
    """What the endpoint answers, and what it has received.

    `statuses` answer the next deliveries, one each; then it is 200. `answers_validation` says whether it consents,
    and `other_code` is what it answers instead of the code that it was sent.
    """

    url: str
    answers_validation: bool = True
    other_code: str | None = None
    allowed_origin: str | None = "eventgrid.azure.net"
    statuses: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.let_go.set()

    @property
    def deliveries(self) -> list[Received]:
        """The notifications among the requests."""
        return [one for one in self.received if one.headers.get("aeg-event-type") == "Notification"]

    def status_of(self, request: Received) -> tuple[int, dict[str, str], bytes]:
        """The answer to a request."""
        if request.method == "OPTIONS":
            allowed = {"WebHook-Allowed-Origin": self.allowed_origin} if self.allowed_origin else {}
            return 200, allowed, b""
        if request.headers.get("aeg-event-type") == "SubscriptionValidation":
            event = request.body[0] if isinstance(request.body, list) else request.body
            data = json.loads(event["data"]) if isinstance(event["data"], str) else event["data"]
            answer = (
                {"validationResponse": self.other_code or data["validationCode"]} if self.answers_validation else {}
            )
            return 200, {}, json.dumps(answer).encode()
        self.let_go.wait(10)
        return self.statuses.pop(0) if self.statuses else 200, {}, b""


class _Server(ThreadingHTTPServer):
    """Takes many connections at once; the library's own limit of five makes callers wait for seconds."""

    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a caller that did not wait for its answer."""


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    """An endpoint on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.command, self.path, headers, json.loads(raw) if raw else None)
            webhook.received.append(request)
            status, extra, body = webhook.status_of(request)
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_OPTIONS = do_POST  # noqa: N815 -- the base class looks for this name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        webhook = Webhook(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield webhook
        finally:
            webhook.let_go.set()
            server.shutdown()
            thread.join()
