"""The keys with which Entra signs a tenant's tokens: fetched when they are needed, kept for a day.

https://learn.microsoft.com/entra/identity-platform/signing-key-rollover
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import requests

from bridge.adapters.airflow_rest import new_session
from bridge.errors import EntraUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KEPT_FOR: Final = timedelta(hours=24)
# However many tokens name a key that is not known, Entra is asked no more often than this …
AGAIN: Final = timedelta(minutes=1)
# … or than this, as long as no keys could be had at all.
AGAIN_WITHOUT: Final = timedelta(seconds=10)
MOST_BYTES: Final = 262_144
SECONDS: Final = 5.0
_TIMEOUT: Final = (2.0, 3.0)  # to connect, to read: seconds
_OK: Final = 200
_LEAST_BITS: Final = 2048


class EntraKeys:
    """Finds a key by its id. Keys that are known serve on when new ones cannot be had."""

    def __init__(
        self, url: str, session: requests.Session | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._session = session or new_session()
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._problem = ""  # of the last attempt

    def find(self, kid: str) -> RSAPublicKey | None:
        """Return a key, or None if Entra has no such key; raise EntraUnavailable when that cannot be found out."""
        if kid in self._keys:
            self._renew_in_passing()
            return self._keys.get(kid)
        with self._lock:
            if kid not in self._keys:
                self._fetch_if_due()
            if kid not in self._keys and self._problem:
                raise EntraUnavailable(
                    f"Entra's signing keys cannot be had ({self._problem}), so the bearer token cannot be checked. "
                    "Send the request again later.",
                    retry_after=AGAIN_WITHOUT,
                )
            return self._keys.get(kid)

    def check(self) -> str | None:
        """Return why the keys cannot be had, or None; asks Entra no more often than tokens do."""
        with self._lock:
            self._fetch_if_due()
            return self._problem or None

    def _renew_in_passing(self) -> None:
        """Fetch keys that are too old; who comes meanwhile uses those that there are."""
        if self._clock() - self._fetched_at < KEPT_FOR.total_seconds() or not self._lock.acquire(blocking=False):
            return
        try:
            self._fetch_if_due()
        finally:
            self._lock.release()

    def _fetch_if_due(self) -> None:
        pause = AGAIN if self._keys else AGAIN_WITHOUT
        if self._clock() - self._tried_at < pause.total_seconds():
            return
        try:
            self._keys = _keys_in(self._fetch())
            self._problem, self._fetched_at = "", self._clock()
        except requests.RequestException as error:
            self._problem = type(error).__name__
        except (ValueError, RecursionError) as error:
            self._problem = str(error) if isinstance(error, _BadAnswerError) else "the answer is not JSON"
        self._tried_at = self._clock()

    def _fetch(self) -> object:
        """GET the keys: no redirect is followed, and neither the answer's size nor its time is left to the sender."""
        until = self._clock() + SECONDS
        with self._session.get(
            self._url, auth=_unsigned, timeout=_TIMEOUT, allow_redirects=False, stream=True
        ) as response:
            if response.status_code != _OK:
                raise _BadAnswerError(f"it answered {response.status_code}")
            body = b""
            for chunk in response.iter_content(16_384):
                body += chunk
                if len(body) > MOST_BYTES:
                    raise _BadAnswerError("the answer is too large")
                if self._clock() > until:
                    raise _BadAnswerError("the answer took too long")
        return json.loads(body)


class _BadAnswerError(ValueError):
    """What was answered are no keys. The message is our own words."""


def _keys_in(document: object) -> dict[str, RSAPublicKey]:
    """Return the keys for signatures in a JSON Web Key Set; what is something else, or broken, is passed over."""
    listed = document.get("keys") if isinstance(document, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    keys = {entry["kid"]: key for entry in entries if (key := _key_in(entry)) is not None}
    if not keys:
        raise _BadAnswerError("there were none in the answer")
    return keys


def _key_in(entry: dict[str, Any]) -> RSAPublicKey | None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm="RS256").key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_BITS else None


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking into ~/.netrc."""
    return request
