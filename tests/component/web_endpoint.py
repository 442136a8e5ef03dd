"""An HTTP endpoint for Web activities: it records every request and gives the answers it was told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer. Without `silent`, it is sent at once; with it, never."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False


@dataclass(frozen=True)
class Request:
    """One request, with its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


@dataclass
class WebEndpoint:
    """What a path answers, one answer for each request, the last one for ever; and what came."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, *answers: Answer) -> str:
        """Say what a path answers, and return its address."""
        self.answers[path] = [*answers]
        return f"{self.url}{path}"

    def received(self, path: str) -> list[Request]:
        """The requests to a path."""
        return [request for request in self.requests if request.path.partition("?")[0] == path]

    def take(self, path: str) -> Answer:
        """The next answer of a path."""
        answers = self.answers.get(path.partition("?")[0], [Answer()])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def running_web_endpoint() -> Iterator[WebEndpoint]:
    """An endpoint on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.requests.append(Request(self.command, self.path, headers, raw.decode()))
            answer = endpoint.take(self.path)
            if answer.silent:
                endpoint.closing.wait(10)
                return
            body = answer.body.encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 -- the base class looks for these names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint = WebEndpoint(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.closing.set()
            server.shutdown()
            thread.join()
