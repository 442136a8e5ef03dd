"""How a task asks for its run: as the operator's hook does, again and again under the same key until it is answered.

The rules are those of `AdfBridgeHook` in the provider, which only an environment with Airflow can import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from random import Random
from threading import Event
from typing import Any

import requests

_TIMEOUT_SECONDS = (10.0, 60.0)
_LONGEST_PAUSE_SECONDS = 30.0


class RefusedError(Exception):
    """The bridge's answer is final; `code` is its problem's."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.code = str(problem.get("code") or status)


class GivenUpError(Exception):
    """The soak ended before there was an answer."""


class Caller:
    """One operator's way to the bridge; `stop` ends its patience."""

    def __init__(self, url: str, function_key: str, stop: Event, chance: Random) -> None:
        self.attempts = 0
        self._url = url
        self._stop = stop
        self._chance = chance
        self._session = requests.Session()
        self._session.headers["x-functions-key"] = function_key

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def start_run(self, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """`POST /runs` until there is an answer. Raises RefusedError and GivenUpError."""
        return self._call("POST", "/runs", json=body, headers={"Idempotency-Key": key})

    def get_wait(self, token: str) -> dict[str, Any]:
        """`GET /waits/{token}` until there is an answer. Raises RefusedError and GivenUpError."""
        return self._call("GET", f"/waits/{token}")

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        failures = 0
        while not self._stop.is_set():
            self.attempts += 1
            wanted: float | None = None
            try:
                response = self._session.request(method, self._url + path, timeout=_TIMEOUT_SECONDS, **options)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                pass
            else:
                document = _object(response)
                if response.ok and document:
                    return document
                if not _may_pass(response, document):
                    raise RefusedError(response.status_code, document)
                wanted = _retry_after(response)
            failures += 1
            self._stop.wait(self._pause(failures, wanted))
        raise GivenUpError

    def _pause(self, failures: int, wanted: float | None) -> float:
        if wanted is not None:
            return min(max(wanted, 0.5), _LONGEST_PAUSE_SECONDS)
        return float(min(2.0 ** (failures - 1), _LONGEST_PAUSE_SECONDS) * self._chance.uniform(0.75, 1.25))


def _may_pass(response: requests.Response, problem: Mapping[str, Any]) -> bool:
    """Whether the same request may get another answer later."""
    status = HTTPStatus(response.status_code)
    if status is HTTPStatus.CONFLICT:
        return problem.get("code") == "request-in-flight"
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status is HTTPStatus.TOO_MANY_REQUESTS


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _object(response: requests.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except requests.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
