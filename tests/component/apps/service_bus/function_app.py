"""The app that the tests of Service Bus triggers run: a function for each of two queues."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import azure.functions as func

app = func.FunctionApp()

SEEN = Path(os.environ["SEEN"])  # survives a kill: what the functions were given, one line of JSON each
_lock = threading.Lock()
_let_go = threading.Event()
_let_go.set()


@app.route("seen", auth_level=func.AuthLevel.ANONYMOUS)
def list_seen(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what the other functions were given."""
    lines = SEEN.read_text(encoding="utf-8").splitlines() if SEEN.exists() else []
    return func.HttpResponse(json.dumps([json.loads(line) for line in lines]), mimetype="application/json")


@app.route("hold", auth_level=func.AuthLevel.ANONYMOUS, methods=["PUT", "DELETE"])
def hold(req: func.HttpRequest) -> func.HttpResponse:
    """Let the functions hang, or go on."""
    (_let_go.clear if req.method == "PUT" else _let_go.set)()
    return func.HttpResponse()


@app.service_bus_queue_trigger("message", "BUS", "%QUEUE%", data_type="binary")
def take(message: func.ServiceBusMessage) -> None:
    """Take a message; one that says so fails."""
    body = message.get_body().decode("utf-8", "replace")
    note({"begun": body, "delivery": message.delivery_count})
    _let_go.wait(30)
    if body.startswith("fail"):
        raise RuntimeError("not this one")
    note({"done": body})


@app.service_bus_queue_trigger("message", "Named", "told")
def describe(message: func.ServiceBusMessage) -> None:
    """Note everything that is known of a message."""
    assert message.enqueued_time_utc is not None
    note(
        {
            "body": message.get_body().decode(),
            "id": message.message_id,
            "delivery": message.delivery_count,
            "properties": message.application_properties,
            "user_properties": message.user_properties,
            "content_type": message.content_type,
            "subject": message.subject,
            "correlation_id": message.correlation_id,
            "sequence_number": message.sequence_number,
            "time_to_live": message.time_to_live and message.time_to_live.total_seconds(),
            "expires": message.expires_at_utc is not None,
            "locked": bool(message.lock_token) and message.locked_until is not None,
        }
    )


def note(content: Any) -> None:
    """Write a line, at once."""
    with _lock, SEEN.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
