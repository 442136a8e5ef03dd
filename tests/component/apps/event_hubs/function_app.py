"""The app that the tests of Event Hubs triggers run: functions with and without a retry policy."""

import json
from typing import Any, List  # noqa: UP035 - the worker takes `list[…]` for no type at all

import azure.functions as func

app = func.FunctionApp()

seen: list[Any] = []  # what the functions were given, in order
troubled: set[str] = set()  # the functions that fail


@app.route("seen", auth_level=func.AuthLevel.ANONYMOUS)
async def list_seen(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what the other functions were given."""
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")


@app.route("trouble/{name}", auth_level=func.AuthLevel.ANONYMOUS, methods=["PUT", "DELETE"])
async def trouble(req: func.HttpRequest) -> func.HttpResponse:
    """Let a function fail, or succeed again."""
    (troubled.add if req.method == "PUT" else troubled.discard)(req.route_params["name"])
    return func.HttpResponse()


@app.event_hub_message_trigger("events", "Hub", "%HUB%", data_type="binary", cardinality="many")
@app.retry(strategy="fixed_delay", max_retry_count="-1", delay_interval="00:00:10")
def patient(events: List[func.EventHubEvent], context: func.Context) -> None:  # noqa: UP006 - as above
    """Take a batch, however often it takes."""
    take("patient", events, context)


@app.event_hub_message_trigger("events", "Hub", "hasty", data_type="string", cardinality="many")
def hasty(events: List[func.EventHubEvent], context: func.Context) -> None:  # noqa: UP006 - as above
    """Take a batch, or never."""
    take("hasty", events, context)


@app.event_hub_message_trigger("events", "Hub", "limited", data_type="binary", cardinality="many")
@app.retry(
    strategy="exponential_backoff", max_retry_count="2", minimum_interval="00:00:01", maximum_interval="00:00:09"
)
def limited(events: List[func.EventHubEvent], context: func.Context) -> None:  # noqa: UP006 - as above
    """Take a batch, or leave it after two more tries."""
    take("limited", events, context)


def take(name: str, events: Any, context: func.Context) -> None:
    """Note a batch, or fail."""
    if name in troubled:
        seen.append({"failed": name, "retry": context.retry_context.retry_count})
        raise RuntimeError("not now")
    seen.append(
        {
            "function": name,
            "bodies": [event.get_body().decode("utf-8", "replace") for event in events],
            "sequence_numbers": [event.sequence_number for event in events],
            "keys": [event.partition_key for event in events],
            "enqueued": all(event.enqueued_time is not None for event in events),
            "partition": events[0].metadata["PartitionContext"]["PartitionId"],
            "hub": events[0].metadata["PartitionContext"]["EventHubName"],
            "retry": [context.retry_context.retry_count, context.retry_context.max_retry_count],
        }
    )
