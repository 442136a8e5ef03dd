"""Every binding of the Function app, and nothing else. What they do is told in `bridge.http_api` and `bridge.app`."""

from __future__ import annotations

from typing import List  # noqa: UP035 - the worker takes `list[…]` for no type at all

import azure.functions as func

from bridge import azure_bus, azure_http, http_api, queue_events, queue_requests
from bridge.config import BUS, CONNECTION, EVENTS, HUB, REQUESTS
from bridge.wiring import get_app, get_relay, has_events_queue, has_relay, has_requests_queue

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.event_grid_trigger(arg_name="event")
def run_event(event: str) -> None:
    """A run changed status, says Event Grid (CloudEvents 1.0 or Event Grid schema)."""
    get_app().receive(event)


@app.timer_trigger(arg_name="timer", schedule="*/15 * * * * *", use_monitor=False)
def tick(timer: func.TimerRequest) -> None:
    """Deliver what is due, ask ADF again where an end was not confirmed, expire deadlines."""
    del timer
    get_app().tick()


if has_relay():
    # The host goes on to the next messages after a failure, too, but not before the retry policy has come to its end.
    # https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies
    @app.event_hub_message_trigger(
        arg_name="messages", event_hub_name=f"%{HUB}%", connection=CONNECTION, data_type="binary", cardinality="many"
    )
    @app.retry(strategy="fixed_delay", max_retry_count="-1", delay_interval="00:00:10")
    def relay(messages: List[func.EventHubEvent]) -> None:  # noqa: UP006 - as above
        """Runs changed status, say diagnostic settings: tell Event Grid."""
        get_relay().relay([message.get_body() for message in messages])


if has_requests_queue():

    @app.service_bus_queue_trigger(arg_name="message", queue_name=f"%{REQUESTS}%", connection=BUS)
    def run_request(message: func.ServiceBusMessage) -> None:
        """Start a pipeline run, optionally with a wait for it: the body of `POST /runs`, in a message."""
        queue_requests.take(get_app(), azure_bus.request_message(message))


if has_events_queue():

    @app.service_bus_queue_trigger(arg_name="message", queue_name=f"%{EVENTS}%", connection=BUS)
    def run_event_queued(message: func.ServiceBusMessage) -> None:
        """A run changed status, says Event Grid, by way of a queue."""
        queue_events.take(get_app(), message.get_body())


@app.route("runs", methods=["POST"])
def trigger_run(req: func.HttpRequest) -> func.HttpResponse:
    """Start a pipeline run, optionally with a wait for it."""
    return azure_http.answer(http_api.post_run, req)


@app.route("runs/{run_id}", methods=["GET"])
def get_run(req: func.HttpRequest) -> func.HttpResponse:
    """Show what the bridge knows of a run."""
    return azure_http.answer(http_api.get_run, req)


@app.route("runs/{run_id}/cancel", methods=["POST"])
def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    """Cancel a run."""
    return azure_http.answer(http_api.cancel_run, req)


@app.route("waits", methods=["POST"])
def register_wait(req: func.HttpRequest) -> func.HttpResponse:
    """Wait for a run that exists."""
    return azure_http.answer(http_api.post_wait, req)


@app.route("waits/batch", methods=["POST"])
def register_waits(req: func.HttpRequest) -> func.HttpResponse:
    """Wait for many runs."""
    return azure_http.answer(http_api.post_waits, req)


@app.route("waits", methods=["GET"])
def list_waits(req: func.HttpRequest) -> func.HttpResponse:
    """List waits."""
    return azure_http.answer(http_api.list_waits, req)


@app.route("waits/{token}", methods=["GET"])
def get_wait(req: func.HttpRequest) -> func.HttpResponse:
    """Show a wait and its story."""
    return azure_http.answer(http_api.get_wait, req)


@app.route("waits/{token}", methods=["DELETE"])
def delete_wait(req: func.HttpRequest) -> func.HttpResponse:
    """Stop waiting."""
    return azure_http.answer(http_api.delete_wait, req)


@app.route("events", methods=["GET"])
def list_events(req: func.HttpRequest) -> func.HttpResponse:
    """List the last run events and what became of each."""
    return azure_http.answer(http_api.list_events, req)


@app.route("health", methods=["GET"])
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Tell whether the bridge can do its work."""
    return azure_http.health(req)
