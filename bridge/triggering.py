"""Starting a run for a caller, however the request came: read, checked against who calls, then started."""

from __future__ import annotations

from collections.abc import Mapping

from bridge import http_requests, service
from bridge.app import App
from bridge.callers import Caller


def start(app: App, body: bytes, key: str | None, headers: Mapping[str, str]) -> service.StartAnswer:
    """Start what the body of a trigger request asks for; `headers` tell who calls, their names are in lower case."""
    document = http_requests.load_object(body, most=app.config.max_body_bytes)
    trigger = http_requests.trigger_request(document, key, app.rules)
    caller = Caller(headers, app.config.targets, app.tokens, app.rules)
    if trigger.wait is not None:
        caller.check_target(trigger.wait.task.target, trigger.factory)
    else:
        caller.check_run(trigger.factory)
    return app.run(service.start_run(trigger, app.rules))
