"""The app that the tests of the Functions host run: each kind of trigger, at each level, well and badly
behaved.
"""

import json
import logging
import os
import threading
from typing import Any

import azure.functions as func

app = func.FunctionApp()
log = logging.getLogger("shop")

print("imported")  # noqa: T201 - must not get in the way of the LISTENING line

seen: list[Any] = []  # what the functions were given, in order
release = threading.Event()
together = threading.Barrier(3)


def answer(content: object, status: int = 200) -> func.HttpResponse:
    """Return a JSON response."""
    return func.HttpResponse(json.dumps(content), status_code=status, mimetype="application/json")


@app.route("open", auth_level=func.AuthLevel.ANONYMOUS, methods=["GET"])
def anyone(req: func.HttpRequest) -> func.HttpResponse:
    """Answer anyone."""
    return answer("open")


@app.route("echo/{kind}/{number:int?}", auth_level=func.AuthLevel.FUNCTION, methods=["POST", "PUT"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the request."""
    content = {
        "method": req.method,
        "route": dict(req.route_params),
        "query": dict(req.params),
        "header": req.headers.get("X-Colour"),
        "body": req.get_body().decode(),
    }
    return func.HttpResponse(
        json.dumps(content), status_code=201, mimetype="application/json", headers={"X-Echo": "yes"}
    )


@app.route("vault", auth_level=func.AuthLevel.ADMIN, methods=["GET"])
async def vault(req: func.HttpRequest) -> str:
    """Answer the master key's owner; a plain string is a response, too."""
    return "vault"


@app.route("boom", auth_level=func.AuthLevel.ANONYMOUS)
def boom(req: func.HttpRequest) -> func.HttpResponse:
    """Fail."""
    log.warning("about to fail\nfor 💥")
    raise RuntimeError("the shelf broke")


@app.route("slow", auth_level=func.AuthLevel.ANONYMOUS)
def slow(req: func.HttpRequest) -> func.HttpResponse:
    """Wait until `release` is called, for ten seconds at most."""
    log.info("slow begins")
    return answer(release.wait(float(req.params.get("seconds", "10"))))


@app.route("settings", auth_level=func.AuthLevel.FUNCTION)
def settings(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the app settings of the bridge."""
    return answer({name: value for name, value in os.environ.items() if name.startswith("BRIDGE_")})


@app.route("release", auth_level=func.AuthLevel.ANONYMOUS)
async def let_go(req: func.HttpRequest) -> func.HttpResponse:
    """Let `slow` go on."""
    release.set()
    return answer("released")


@app.route("seen", auth_level=func.AuthLevel.ANONYMOUS)
async def list_seen(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what the other functions were given."""
    return answer(seen)


@app.event_grid_trigger(arg_name="event")
def take(event: str) -> None:
    """Take an event; `fail` in its data makes it fail."""
    content = json.loads(event)
    log.info("took an event")
    if isinstance(content, dict) and content.get("data") == "fail":
        raise ValueError("the canary must not leave the log")
    seen.append({"event": content, "text": event})


@app.event_grid_trigger(arg_name="event")
def run_event(event: str) -> None:
    """Take a run event, as the bridge does."""
    seen.append({"run_event": json.loads(event)["type"]})


@app.event_grid_trigger(arg_name="event")
def meet(event: str) -> None:
    """Wait until three events are here at once."""
    together.wait(timeout=5)
    seen.append("met")


@app.timer_trigger(schedule="%TICK%", arg_name="timer")
def tick(timer: func.TimerRequest) -> None:
    """Count, slower than the schedule."""
    seen.append({"tick": timer.past_due})


@app.timer_trigger(schedule="0 0 3 * * *", arg_name="timer", run_on_startup=True)
def at_start(timer: func.TimerRequest) -> None:
    """Run once at the start, and then nightly."""
    seen.append({"start": timer.past_due})
