"""The hook: the bridge's HTTP API, and what the connection says about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import requests

from airflow_adf_bridge import __version__
from airflow_adf_bridge.airflow_api import BaseHook, mask_secret
from airflow_adf_bridge.bridge_url import bridge_url
from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.entra import EntraAuth, default_credential
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRefusedError, AdfBridgeUnreachableError
from airflow_adf_bridge.patience import Patience

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and seconds without a byte. Starting a run includes a call of Data Factory and a cold start."""

PATIENCE = timedelta(minutes=2)
"""How long a read, or a cancel, is repeated while the bridge cannot be reached."""

_TARGET = re.compile(r"[a-z0-9_]+")
_ARM_ID = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.DataFactory/factories/{}"


class AdfBridgeHook(BaseHook):
    """Calls the bridge that a connection of type `adf_bridge` names.

    `pause` sleeps, `clock` counts seconds, `credential` makes what signs in to Entra; tests give their own.
    """

    conn_name_attr = "adf_bridge_conn_id"
    default_conn_name = "adf_bridge_default"
    conn_type = "adf_bridge"
    hook_name = "ADF bridge"

    def __init__(
        self,
        adf_bridge_conn_id: str = default_conn_name,
        *,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        credential: Callable[[], Any] = default_credential,
    ) -> None:
        """Name the connection; it is read at the first use."""
        super().__init__()
        self.adf_bridge_conn_id = adf_bridge_conn_id
        self._pause = pause
        self._clock = clock
        self._credential = credential

    # ---- what the connection says

    @cached_property
    def connection(self) -> Any:  # noqa: ANN401 (Airflow 2 and 3 have classes of their own)
        """The Airflow connection."""
        return self.get_connection(self.adf_bridge_conn_id)

    @cached_property
    def url(self) -> str:
        """The root of the bridge's API, `https://…/api`. Raises AdfBridgeConfigurationError."""
        return bridge_url(self.connection.host, self.connection.schema, self.connection.port)

    @cached_property
    def target(self) -> str:
        """This Airflow's name on the bridge, in lower case. Raises AdfBridgeConfigurationError."""
        target = self._extra("target").lower()
        if not _TARGET.fullmatch(target):
            raise AdfBridgeConfigurationError(
                f"Connection {self.adf_bridge_conn_id} needs target in its extra: this Airflow's name on the bridge "
                "(letters, digits, underscore), as in BRIDGE_AIRFLOW__<TARGET>__URL there."
            )
        return target

    @cached_property
    def mode(self) -> str:
        """How the connection wants its tasks to wait; empty when it does not say."""
        return self._extra("mode").lower()

    @cached_property
    def completions_queue(self) -> CompletionsQueue:
        """The queue that completions come through in mode queue. Raises AdfBridgeConfigurationError."""
        queue = CompletionsQueue.of(self.connection.extra_dejson, self.adf_bridge_conn_id)
        for secret in queue.secrets:
            mask_secret(secret)
        return queue

    def factory(self, factory_name: str | None = None, resource_group_name: str | None = None) -> str:
        """Return the factory as the bridge takes it: an ARM id where the parts are known, else an alias.

        What an operator does not say comes from the connection's extra. Raises AdfBridgeConfigurationError.
        """
        if not factory_name:
            if resource_group_name:
                raise AdfBridgeConfigurationError("resource_group_name says nothing without factory_name.")
            if factory := self._extra("factory"):
                return factory
            raise AdfBridgeConfigurationError(
                f"Name the factory: factory_name on the operator, or factory in the extra of {self.adf_bridge_conn_id}."
            )
        if factory_name.startswith("/"):
            return factory_name
        subscription = self._extra("subscription_id")
        group = resource_group_name or self._extra("resource_group_name")
        if subscription and group:
            return _ARM_ID.format(subscription, group, factory_name)
        if resource_group_name:
            raise AdfBridgeConfigurationError(
                f"resource_group_name needs subscription_id in the extra of {self.adf_bridge_conn_id}. "
                "Or leave the group away and give factory_name the factory's alias on the bridge, or its ARM id."
            )
        return factory_name

    def _extra(self, name: str) -> str:
        value = self.connection.extra_dejson.get(name)
        return value.strip() if isinstance(value, str) else ""

    # ---- calls

    def start_run(
        self, body: Mapping[str, Any], *, key: str, patience: timedelta, queue_patience: timedelta | None = None
    ) -> dict[str, Any]:
        """Ask for a run, again and again under the same key until there is an answer, and return that answer.

        The bridge starts at most one run for one key. Where Data Factory takes no further run for now (too many are
        queued), it is asked for `queue_patience` instead of `patience`. Raises AdfBridgeRefusedError for a final
        refusal, or when `queue_patience` has run out, and AdfBridgeUnreachableError when `patience` has.
        """
        what = f"to start pipeline {body.get('pipeline')!r}"
        end = Patience(self._clock, patience, queue_patience)
        return self._call("POST", "/runs", what, end, json=body, headers={"Idempotency-Key": key})

    def cancel_run(
        self,
        run_id: str,
        *,
        factory: str | None = None,
        recursive: bool = True,
        token: str | None = None,
        patience: timedelta = PATIENCE,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> dict[str, Any]:
        """Cancel a run, `recursive`ly those that it started; return `run`, and `cancel`: accepted or not-running.

        With the `token` of a wait that is given up, a run that others wait for goes on: `cancel` is waited-for then.
        `factory` is needed for a run that the bridge does not know. Doing it twice does no harm. Raises as `start_run`.
        """
        named = {"factory": factory, "token": token}
        body = {"recursive": recursive, **{name: value for name, value in named.items() if value}}
        path = f"/runs/{quote(run_id, safe='')}/cancel"
        what = f"to cancel run {run_id}"
        return self._call("POST", path, what, Patience(self._clock, patience), timeout=timeout, json=body)

    def register_wait(self, body: Mapping[str, Any], *, patience: timedelta) -> dict[str, Any]:
        """Ask to be told how a run ends, again and again until there is an answer, and return that answer.

        The run is one that exists (`run_id`) or one that is to be found (`match`). The bridge keeps one wait for one
        token, however often it is asked. Raises as `start_run`.
        """
        match = body.get("match")
        run = f"a run of pipeline {match.get('pipeline')!r}" if isinstance(match, Mapping) else f"run {body['run_id']}"
        return self._call("POST", "/waits", f"to wait for {run}", Patience(self._clock, patience), json=body)

    def register_waits(
        self, bodies: Sequence[Mapping[str, Any]], *, patience: timedelta, timeout: tuple[float, float] = TIMEOUT
    ) -> list[dict[str, Any]]:
        """Register waits that a listener serves, at most 500; return what each was answered, in their order.

        An answer is that of `register_wait`, or has `token` and `problem`. Raises as `start_run`.
        """
        what = f"to wait for {len(bodies)} {'run' if len(bodies) == 1 else 'runs'}"
        patient = Patience(self._clock, patience)
        answer = self._call("POST", "/waits/batch", what, patient, timeout=timeout, json={"waits": list(bodies)})
        waits = answer.get("waits")
        if not isinstance(waits, list) or len(waits) != len(bodies):
            raise AdfBridgeUnreachableError(f"The bridge at {self.url} did not answer {what} with as many answers.")
        return [one if isinstance(one, dict) else {} for one in waits]

    def get_wait(self, token: str, *, patience: timedelta = PATIENCE) -> dict[str, Any]:
        """Return the wait of that token with its run, and `completed` when the run has ended. Raises as `start_run`."""
        return self._call("GET", f"/waits/{quote(token, safe='')}", "to show the wait", Patience(self._clock, patience))

    def get_run(self, run_id: str) -> dict[str, Any]:
        """Return what the bridge knows of a run, and its waits. Raises as `start_run`."""
        return self._call("GET", f"/runs/{quote(run_id, safe='')}", "to show the run", Patience(self._clock, PATIENCE))

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the bridge answers, is well configured and knows this Airflow, for Airflow's connection test."""
        try:
            target = self.target
            response = self._send("GET", "/health")
            health = _object(response)
        except AdfBridgeConfigurationError as error:
            return False, str(error)
        except requests.RequestException as error:
            return False, f"The bridge at {self.url} cannot be reached: {_reason(error)}"
        if not response.ok or health.get("status") not in {"ok", "degraded"}:
            reasons = "; ".join(str(one) for one in health.get("errors") or ()) or "no reason given"
            if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                reasons = "the function key was not accepted"
            return False, f"The bridge answered {response.status_code} {health.get('status', '')}: {reasons}"
        targets = health.get("targets")
        if isinstance(targets, Mapping) and target not in targets:
            return False, f"The bridge has no target {target!r}. It has: {', '.join(sorted(targets)) or 'none'}"
        return True, f"adf-bridge {health.get('version', '')} is {health['status']}"

    def apart(self) -> AdfBridgeHook:
        """Return a hook of the same connection with a session of its own, for another thread. Airflow is not asked."""
        other = type(self)(self.adf_bridge_conn_id, pause=self._pause, clock=self._clock, credential=self._credential)
        other.__dict__["connection"] = self.connection
        other.get_conn().auth = self._session.auth  # with the token that it holds
        return other

    def get_conn(self) -> requests.Session:
        """Return the pooled session; it carries the function key, and signs in to Entra if it is told to."""
        return self._session

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        session.headers["User-Agent"] = f"airflow-provider-adf-bridge/{__version__}"
        session.headers["Accept"] = "application/json, application/problem+json"
        if self.connection.password:
            session.headers["x-functions-key"] = self.connection.password
        if secret := self._extra("caller_secret"):
            session.headers["x-adf-bridge-caller-secret"] = secret
        if scope := self._extra("entra_scope"):
            session.auth = EntraAuth(scope, self._credential)
        return session

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401
        """Send a request; one whose token was refused is sent once more with a new one."""
        options.setdefault("timeout", TIMEOUT)
        response = self._session.request(method, self.url + path, allow_redirects=False, **options)
        auth = self._session.auth
        is_refused = response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        if is_refused and isinstance(auth, EntraAuth) and auth.renew():
            return self._session.request(method, self.url + path, allow_redirects=False, **options)
        return response

    def _call(self, method: str, path: str, what: str, patience: Patience, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        while True:
            wanted: timedelta | None = None
            problem: Mapping[str, Any] = {}
            status = 0
            try:
                response = self._send(method, path, **options)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                trouble = _reason(error)
            else:
                if _is_answer(response):
                    return _object(response)
                problem, status = _problem(response), response.status_code
                if not _may_pass(response):
                    raise AdfBridgeRefusedError(what, status, problem)
                wanted = _retry_after(response)
                trouble = f"{status} {problem.get('detail', '')}".rstrip()
            seconds = patience.failed(wanted, queued=problem.get("code") == "adf-throttled")
            if seconds is None:
                if patience.queued:
                    raise AdfBridgeRefusedError(what, status, problem)
                raise AdfBridgeUnreachableError(
                    f"The bridge at {self.url} gave no usable answer {what} in {patience.seconds:g} s "
                    f"({patience.attempts} attempts). The last: {trouble}. Check the connection "
                    f"{self.adf_bridge_conn_id} and the bridge's /api/health.",
                    retry_after=wanted,
                )
            if patience.is_to_be_said():
                self._say(what, trouble, seconds, queued=patience.queued)
            self._pause(seconds)

    def _say(self, what: str, trouble: str, seconds: float, *, queued: bool) -> None:
        if queued:
            self.log.warning(
                "Data Factory is busy (%s). The start is delayed: the bridge is asked %s again and again.",
                trouble,
                what,
            )
        else:
            self.log.warning("The bridge could not be asked %s yet (%s). Again in %.0f s.", what, trouble, seconds)


def _is_answer(response: requests.Response) -> bool:
    """Whether this is what was asked for, and not a refusal, a redirect or somebody else's web page."""
    return response.ok and not response.is_redirect and bool(_object(response))


def _may_pass(response: requests.Response) -> bool:
    """Whether the same request may get another answer later."""
    status = response.status_code
    if status == HTTPStatus.CONFLICT:
        return _problem(response).get("code") == "request-in-flight"
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _retry_after(response: requests.Response) -> timedelta | None:
    """Read Retry-After, seconds or a date. https://httpwg.org/specs/rfc9110.html#field.retry-after."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)) - datetime.now(timezone.utc)


def _problem(response: requests.Response) -> Mapping[str, Any]:
    if response.is_redirect:
        return {"code": "redirected", "detail": "Redirects are not followed. Correct the connection's host."}
    if response.ok:
        return {"code": "not-a-bridge", "detail": "This is no answer of the bridge. Correct the connection's host."}
    return _object(response) or {"detail": response.reason}


def _object(response: requests.Response) -> dict[str, Any]:
    """Return the JSON object of a body, {} for anything else."""
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _reason(error: requests.RequestException) -> str:
    """Say what went wrong on the way, without the address that requests repeats."""
    inner = error.args[0] if error.args else None
    return f"{type(error).__name__} ({type(getattr(inner, 'reason', None) or inner or error).__name__})"
