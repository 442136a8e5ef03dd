"""Airflow's REST API v2, over requests: the fence and the resumption of a task that is parked in `awaiting_input`.

One pooled session per target; no redirect is followed and no cookie kept; each call is sent once, but for one renewal
of the sign-in. https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import quote

import requests

from bridge import masking, policy, views
from bridge.adapters.airflow_auth import Auth, SignInRefused, auth_for
from bridge.adapters.connecting import was_never_sent
from bridge.config import Target
from bridge.model import Completion, TaskRef
from bridge.ports import Accepted, Answer, ParkedPage, ParkedTask, Refusal, RefusalKind, TaskView

_TIMEOUT: Final = (3.05, 5.0)  # to connect, to read: seconds
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_SERVER_ERROR: Final = 500
_FORBIDDEN: Final = 403
_UNAVAILABLE: Final = 503
_DETAIL_CHARS: Final = 200
_PAGE: Final = 100  # the most that Airflow shows at once: `[api] maximum_page_limit`
_KINDS: Final = {
    401: RefusalKind.UNAUTHENTICATED,
    403: RefusalKind.FORBIDDEN,
    404: RefusalKind.NOT_FOUND,
    409: RefusalKind.CONFLICT,
    408: RefusalKind.UNAVAILABLE,
    429: RefusalKind.THROTTLED,
}
# What says something about one task, and so is believed only in Airflow's own words: a proxy in front of it has a 404
# for every path while Airflow is redeployed.
_ABOUT_ONE_TASK: Final = frozenset({RefusalKind.NOT_FOUND, RefusalKind.CONFLICT, RefusalKind.INVALID})
_NOT_AIRFLOWS: Final = Refusal(RefusalKind.UNAVAILABLE, "what was answered is not Airflow's: is the URL right?")
# Airflow 3 answers a JWT that it cannot read, or that has run out, with 403 and these words.
_BAD_JWT: Final = "Invalid JWT token"


class AirflowRest:
    """The port `Airflow`, for all configured targets."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._connections = {name: _Connection(target) for name, target in targets.items()}

    def read_task(self, task: TaskRef) -> TaskView | Refusal:
        """GET the task's answer, which shows the task instance with it; a task that never parked has none."""
        connection = self._connections[task.target]
        details = connection.call("GET", f"{_path(task)}/hitlDetails")
        if isinstance(details, Refusal):
            if details.kind is not RefusalKind.NOT_FOUND:
                return details
            instance = connection.call("GET", _path(task))
            return self._about(task, instance) if isinstance(instance, Refusal) else _read(instance, None)
        return _read(_object(details.get("task_instance")), _answer(details))

    def resume(self, task: TaskRef, completion: Completion) -> Accepted | Refusal:
        """PATCH the completion as the parked task's answer."""
        body = {"chosen_options": [completion.status.value], "params_input": views.completion_document(completion)}
        reply = self._connections[task.target].call("PATCH", f"{_path(task)}/hitlDetails", body)
        return self._about(task, reply) if isinstance(reply, Refusal) else Accepted()

    def parked(self, target: str, page: int) -> ParkedPage | Refusal:
        """GET a page of the answers of tasks that are parked; it needs no other permission than the fence."""
        query = f"?state=awaiting_input&order_by=ti_id&limit={_PAGE}&offset={page * _PAGE}"
        listed = self._connections[target].call("GET", f"/api/v2/dags/~/dagRuns/~/hitlDetails{query}")
        if isinstance(listed, Refusal):
            return _of_target(listed)
        details, total = listed.get("hitl_details"), listed.get("total_entries")
        shown = details if isinstance(details, list) else []
        tasks = [_parked(_object(_object(one).get("task_instance"))) for one in shown]
        return ParkedPage(tasks, more=isinstance(total, int) and bool(shown) and page * _PAGE + len(shown) < total)

    def check(self, target: str) -> Refusal | None:
        """GET a list that needs the sign-in and the permission to see waiting tasks."""
        reply = self._connections[target].call("GET", "/api/v2/dags/~/dagRuns/~/hitlDetails?limit=1")
        if isinstance(reply, Refusal):
            return _of_target(reply)
        return None if isinstance(reply.get("hitl_details"), list) else _NOT_AIRFLOWS

    def _about(self, task: TaskRef, refusal: Refusal) -> Refusal:
        """Return what a refusal says of a task: that it is not known only while the target answers otherwise.

        Whatever else may stand at the target's URL has a 404 for a task as well, and in the same words.
        """
        if refusal.kind is not RefusalKind.NOT_FOUND:
            return refusal
        return self.check(task.target) or refusal


class _Connection:
    """One target: its session and its sign-in."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session = new_session()
        self._auth: Auth = auth_for(target, self._session)

    def call(self, method: str, path: str, body: object = None) -> Mapping[str, Any] | Refusal:
        """Send a request; sign in anew once if Airflow no longer accepts us. Returns the JSON object or a refusal."""
        reply = self._send(method, path, body)
        if isinstance(reply, Refusal) and reply.kind is RefusalKind.UNAUTHENTICATED and self._auth.renew():
            return self._send(method, path, body)
        return reply

    def _send(self, method: str, path: str, body: object) -> Mapping[str, Any] | Refusal:
        try:
            response = self._session.request(
                method,
                self._target.url + path,
                json=body,
                auth=self._auth,
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        except SignInRefused as refused:
            return refused.refusal
        except requests.Timeout as error:
            if was_never_sent(error):
                return Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached")
            return Refusal(RefusalKind.UNAVAILABLE, "Airflow did not answer in time")
        except (requests.RequestException, ValueError) as error:
            kind = RefusalKind.UNREACHABLE if was_never_sent(error) else RefusalKind.UNAVAILABLE
            return Refusal(kind, f"the connection to Airflow failed ({type(error).__name__})")
        if response.status_code not in _OK:
            return self._without_secrets(refusal_of(response), response)
        document = _json(response)
        return _NOT_AIRFLOWS if document is None else document

    def _without_secrets(self, refusal: Refusal, response: requests.Response) -> Refusal:
        """Return a refusal whose words, which are shown and kept, repeat nothing that we signed in with."""
        sent = response.request.headers.get("Authorization", "").partition(" ")[2]
        return replace(refusal, detail=masking.masked(refusal.detail, (*self._target.secrets(), sent)))


def new_session() -> requests.Session:
    """Return a session that keeps no cookies and has room for the threads that share it."""
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=2, pool_maxsize=16)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "adf-bridge"})
    return session


def refusal_of(response: requests.Response) -> Refusal:
    """Sort a response that is no success: one table for all of Airflow's status codes.

    Airflow says why in a JSON object with `detail`. https://fastapi.tiangolo.com/tutorial/handling-errors/
    """
    status = response.status_code
    detail = _detail(response)
    asked = policy.retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    said = f"Airflow answered {status}" + (f": {detail}" if detail else "")
    if status == _FORBIDDEN and detail == _BAD_JWT:
        return Refusal(RefusalKind.UNAUTHENTICATED, said)
    if status == _UNAVAILABLE and asked is not None:
        return Refusal(RefusalKind.THROTTLED, said, asked)
    if status in _REDIRECTS:
        return Refusal(RefusalKind.UNAVAILABLE, f"{said}, a redirect: the target's URL is not Airflow's own", asked)
    kind = _KINDS.get(status, RefusalKind.UNAVAILABLE if status >= _SERVER_ERROR else RefusalKind.INVALID)
    if kind in _ABOUT_ONE_TASK and not _object(_json(response)).get("detail"):
        return Refusal(RefusalKind.UNAVAILABLE, f"{said}, not in Airflow's words: is the URL right?", asked)
    return Refusal(kind, said, asked)


def _of_target(refusal: Refusal) -> Refusal:
    """Return a refused listing: that there is none is no answer about a task, it is not the API that was called."""
    if refusal.kind is not RefusalKind.NOT_FOUND:
        return refusal
    return replace(refusal, kind=RefusalKind.UNAVAILABLE, detail=f"{refusal.detail}: is the URL right?")


def _path(task: TaskRef) -> str:
    dag, run, name = (quote(part, safe="") for part in (task.dag_id, task.run_id, task.task_id))
    return f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{name}/{task.map_index}"


def _read(instance: Mapping[str, Any], answer: Answer | None) -> TaskView | Refusal:
    """Return what a task instance shows; without an id and a try it is none, and proves nothing."""
    is_one = isinstance(instance.get("id"), str) and isinstance(instance.get("try_number"), int)
    return _view(instance, answer) if is_one else _NOT_AIRFLOWS


def _view(instance: Mapping[str, Any], answer: Answer | None) -> TaskView:
    state = instance.get("state")
    number = instance.get("try_number")
    identity = instance.get("id")
    return TaskView(
        state=state if isinstance(state, str) else None,
        try_number=number if isinstance(number, int) else 0,
        task_instance_id=identity if isinstance(identity, str) else None,
        ended_at=_time(instance.get("end_date")),
        answer=answer,
    )


def _parked(instance: Mapping[str, Any]) -> ParkedTask:
    view = _view(instance, None)
    index = instance.get("map_index")
    return ParkedTask(
        dag_id=str(instance.get("dag_id")),
        run_id=str(instance.get("dag_run_id")),
        task_id=str(instance.get("task_id")),
        map_index=index if isinstance(index, int) else -1,
        try_number=view.try_number,
        task_instance_id=view.task_instance_id,
    )


def _answer(details: Mapping[str, Any]) -> Answer | None:
    if details.get("response_received") is not True:
        return None
    given = _object(details.get("params_input"))
    person = _object(details.get("responded_by_user"))
    chosen = details.get("chosen_options")
    token = given.get("token")
    name = person.get("name") or person.get("id")
    return Answer(
        token=token if isinstance(token, str) else None,
        by=name if isinstance(name, str) else None,
        at=_time(details.get("responded_at")),
        chosen=tuple(str(option) for option in chosen) if isinstance(chosen, list) else (),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _json(response: requests.Response) -> Mapping[str, Any] | None:
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _detail(response: requests.Response) -> str:
    detail = _object(_json(response)).get("detail")
    return (policy.cut(detail, _DETAIL_CHARS) or "") if isinstance(detail, str) else ""
