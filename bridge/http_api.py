"""The HTTP API: requests in, documents out, every failure a problem with a stable code (RFC 9457).

Knows nothing of Azure Functions; `function_app.py` hands in plain requests. docs/api.md describes it for callers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from bridge import decide, http_requests, service, triggering, views
from bridge.app import App, invalid_health
from bridge.callers import Caller
from bridge.errors import ConfigInvalid, FieldError, InvalidFields, NotFound, Problem, TryAgain
from bridge.model import FactoryId, RunKey, Verdict, WaitState, is_run_id
from bridge.ports import WaitFilter
from bridge.telemetry import Log

MOST_LISTED: Final = 500
LISTED: Final = 50
BATCH_AGAIN: Final = timedelta(seconds=1)
_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; header names in lower case."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response with a JSON body."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def answer(call: Callable[[App, Request], Response], get_app: Callable[[], App], request: Request) -> Response:
    """Answer a call; the only place where an unforeseen error becomes a response."""
    log = Log()
    try:
        app = get_app()
        log = app.log
        return call(app, request)
    except ConfigInvalid as problem:
        return problem_response(problem)  # it was logged when it was found
    except Problem as problem:
        log.warning("call.refused", code=problem.code, status=problem.status, detail=problem.detail)
        return problem_response(problem)
    except Exception as error:  # noqa: BLE001 - the entry point: logged with its trace, answered without it
        log.failure("call.failed", error, call=call.__name__)
        return problem_response(Problem("It was logged; nothing was promised. Send the request again."))


def problem_response(problem: Problem) -> Response:
    """Return a problem as application/problem+json (https://www.rfc-editor.org/rfc/rfc9457)."""
    retry_after = _retry_after(problem)
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return Response(problem.status, _dump(problem_document(problem)), headers, content_type="application/problem+json")


def problem_document(problem: Problem) -> dict[str, Any]:
    """Return a problem as the object that stands in a body."""
    return {
        "type": f"urn:adf-bridge:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "errors": [{"field": error.field, "message": error.message} for error in problem.errors],
    }


def _retry_after(problem: Problem) -> int | None:
    """Return after how many seconds a call may be sent again."""
    return None if problem.retry_after is None else max(1, math.ceil(problem.retry_after.total_seconds()))


# --- calls ------------------------------------------------------------------------------------------------------------


def post_run(app: App, request: Request) -> Response:
    """`POST /runs`: start a run, optionally with a wait for it."""
    started = triggering.start(app, request.body, request.headers.get("idempotency-key"), request.headers)
    headers = {"Idempotent-Replay": "true"} if started.replay else {}
    return Response(202, started.document, headers)


def get_run(app: App, request: Request) -> Response:
    """`GET /runs/{run_id}`: what the bridge knows of a run."""
    runs = app.store.find_runs(request.path["run_id"])
    known = next((run for run in runs if run.key.factory in app.rules.factories.values()), None)
    if known is None:
        msg = "The bridge knows no run with this id: nobody waits for it, and it was not started through the bridge."
        raise NotFound(msg)
    _, waits = app.store.run(known.key)
    document = {"run": views.run_document(known, app.rules), "waits": [views.wait_document(wait) for wait in waits]}
    return Response(200, _dump(document))


def cancel_run(app: App, request: Request) -> Response:
    """`POST /runs/{run_id}/cancel`: cancel a run, and the runs that it started unless told otherwise."""
    document = http_requests.load_object(request.body or b"{}", most=app.config.max_body_bytes)
    asked = http_requests.run_cancel(document, app.rules)
    run_id = request.path["run_id"]
    if not is_run_id(run_id):
        raise InvalidFields([FieldError("run_id", "is no run id")])
    key = RunKey(asked.factory or _only_factory(app, run_id), run_id)
    waits = app.run(service.waiting_for(key))
    _caller(app, request).check_run(key.factory, [wait.task.target for wait in waits if not wait.state.is_final])
    if asked.token is not None and decide.is_waited_for_besides(asked.token, waits):
        run, _ = app.store.run(key)
        shown = views.run_document(run, app.rules) if run is not None else None
        return Response(202, _dump({"run": shown, "cancel": "waited-for"}))
    cancelled = app.run(service.cancel_run(key, app.rules, recursive=asked.recursive))
    cancel = "accepted" if cancelled.accepted else "not-running"
    return Response(202, _dump({"run": views.run_document(cancelled.run, app.rules), "cancel": cancel}))


def _only_factory(app: App, run_id: str) -> FactoryId:
    """Return the factory of a run that the bridge knows."""
    allowed = app.rules.factories.values()
    known = [run.key.factory for run in app.store.find_runs(run_id) if run.key.factory in allowed]
    if not known:
        msg = "The bridge knows no run with this id. Name its `factory`, and it asks Data Factory."
        raise NotFound(msg)
    if len(known) > 1:
        raise InvalidFields([FieldError("factory", "is missing: runs of several factories have this id")])
    return known[0]


def post_wait(app: App, request: Request) -> Response:
    """`POST /waits`: wait for a run that exists."""
    document = http_requests.load_object(request.body, most=app.config.max_body_bytes)
    return Response(200, _dump(_register(app, _caller(app, request), document)))


def _register(app: App, caller: Caller, body: object) -> dict[str, Any]:
    asked = http_requests.run_wait(body, app.rules)
    caller.check_target(asked.wait.task.target, asked.key.factory)
    registered = app.run(service.register_wait(asked.key, asked.wait, app.rules))
    return views.registration_document(registered.run, registered.wait, app.rules)


def post_waits(app: App, request: Request) -> Response:
    """`POST /waits/batch`: register many waits, each for itself: one that is refused does not fail the others."""
    document = http_requests.load_object(request.body, most=app.config.max_body_bytes)
    caller = _caller(app, request)

    def answer_one(body: object, *, in_time: bool) -> dict[str, Any]:
        return _answer_one(app, caller, body) if in_time else _refused_one(body, _too_late())

    return Response(200, _dump({"waits": app.batch(http_requests.wait_batch(document), answer_one)}))


def _answer_one(app: App, caller: Caller, body: object) -> dict[str, Any]:
    """Answer one wait of a batch with its registration, or with what is wrong."""
    try:
        return _register(app, caller, body)
    except Problem as problem:
        app.log.warning("call.refused", code=problem.code, status=problem.status, detail=problem.detail)
        return _refused_one(body, problem)
    except Exception as error:  # noqa: BLE001 - as in `answer`: one wait does not fail the others
        app.log.failure("call.failed", error, call="post_waits")
        return _refused_one(body, Problem("It was logged; nothing was promised. Send the request again."))


def _refused_one(body: object, problem: Problem) -> dict[str, Any]:
    document = {**problem_document(problem), "retry_after": _retry_after(problem)}
    return {"token": http_requests.token_of(body), "problem": document}


def _too_late() -> TryAgain:
    return TryAgain("The batch took too long to get to this wait. Send it again.", retry_after=BATCH_AGAIN)


def get_wait(app: App, request: Request) -> Response:
    """`GET /waits/{token}`: a wait and its story."""
    token = request.path["token"]
    wait = app.store.find_wait(token)
    if wait is None:
        raise NotFound(decide.no_wait(app.store.request(token)))
    run, _ = app.store.run(wait.key)
    document = {
        "wait": {**views.wait_document(wait), "timeline": views.timeline_document(wait)},
        "run": views.run_document(run, app.rules) if run is not None else None,
        "completed": views.completion_document(wait.completion) if wait.completion is not None else None,
    }
    return Response(200, _dump(document))


def list_waits(app: App, request: Request) -> Response:
    """`GET /waits?state=&target=&factory=&limit=&cursor=`: waits, the newest first."""
    factory = request.query.get("factory")
    which = WaitFilter(
        state=_word(request, "state", WaitState),
        target=request.query.get("target", "").lower() or None,
        factory=http_requests.allowed_factory(factory, app.rules) if factory else None,
    )
    waits, cursor = app.store.waits(which, limit=_limit(request), cursor=request.query.get("cursor"))
    return Response(200, _dump({"waits": [views.wait_document(wait) for wait in waits], "next": cursor}))


def delete_wait(app: App, request: Request) -> Response:
    """`DELETE /waits/{token}`: stop waiting. The run goes on."""
    known = app.store.find_wait(request.path["token"])
    if known is not None:
        _caller(app, request).check_wait(known.task.target)
    wait = app.run(service.withdraw(request.path["token"]))
    return Response(200, _dump({"wait": views.wait_document(wait)}))


def list_events(app: App, request: Request) -> Response:
    """`GET /events?verdict=&run_id=&limit=`: the last run events and what became of each."""
    records = app.store.events(
        verdict=_word(request, "verdict", Verdict), run_id=request.query.get("run_id"), limit=_limit(request)
    )
    return Response(200, _dump({"events": [views.event_document(record) for record in records]}))


def health(get_app: Callable[[], App], request: Request) -> Response:
    """`GET /health`: can the bridge do its work, and if not, what is missing? Tells wrong settings, too."""
    try:
        get_app()
    except ConfigInvalid as problem:
        return Response(503, _dump(invalid_health(problem)))
    return answer(_health, get_app, request)


def _health(app: App, request: Request) -> Response:
    del request
    document = app.health()
    return Response(200 if document["status"] != "failed" else 503, _dump(document))


# --- parts ------------------------------------------------------------------------------------------------------------


def _caller(app: App, request: Request) -> Caller:
    """Who sends a request: asked before anything is done for a target."""
    return Caller(request.headers, app.config.targets, app.tokens, app.rules)


def _word(request: Request, name: str, words: type[Any]) -> Any:  # noqa: ANN401 - the enumeration's member
    text = request.query.get(name)
    if not text:
        return None
    try:
        return words(text)
    except ValueError:
        allowed = ", ".join(word.value for word in words)
        raise InvalidFields([FieldError(name, f"has to be one of {allowed}")]) from None


def _limit(request: Request) -> int:
    text = request.query.get("limit") or str(LISTED)
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) <= MOST_LISTED):
        raise InvalidFields([FieldError("limit", f"has to be a whole number from 1 to {MOST_LISTED}")])
    return int(text)


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document)
