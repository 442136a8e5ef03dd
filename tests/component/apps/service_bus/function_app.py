"""The app that the tests of Service Bus triggers run: a function for each of two queues."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import azure.functions as func

app = func.FunctionApp()

SEEN = Path(os.environ["SEEN"])  # survives a kill: what the functions were given, one line of JSON each
HOLD = SEEN.with_name("hold")  # while there is such a file, functions hang
_lock = threading.Lock()


@app.route("seen", auth_level=func.AuthLevel.ANONYMOUS)
def list_seen(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what the other functions were given."""
    lines = SEEN.read_text(encoding="utf-8").splitlines() if SEEN.exists() else []
    return func.HttpResponse(json.dumps([json.loads(line) for line in lines]), mimetype="application/json")


@app.service_bus_queue_trigger("message", "BRIDGE_SERVICEBUS", "%QUEUE%", data_type="binary")
def take(message: func.ServiceBusMessage) -> None:
    """Take a message; one that says so fails."""
    body = message.get_body().decode("utf-8", "replace")
    note({"begun": body, "delivery": message.delivery_count})
    while HOLD.exists():
        time.sleep(0.01)
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
