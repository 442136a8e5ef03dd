"""Signing in to Airflow: a user's password exchanged for a JWT, a fixed bearer token, or HTTP basic."""

from __future__ import annotations

import threading
from typing import Final, Protocol

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from bridge.config import Target
from bridge.ports import Refusal, RefusalKind

_TIMEOUT: Final = (3.05, 5.0)
_CREATED: Final = (200, 201)
_REFUSED: Final = (400, 401, 403, 422)


class SignInRefused(Exception):  # noqa: N818 - carries a refusal
    """No token could be had; `refusal` says why, without the credentials."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Auth(Protocol):
    """Signs requests; being an `AuthBase` also keeps requests from looking into ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        ...

    def renew(self) -> bool:
        """Forget what is cached; False if there is nothing to renew."""
        ...


def auth_for(target: Target, session: requests.Session) -> Auth:
    """Return the sign-in that a target is configured for."""
    if target.auth == "password":
        return PasswordAuth(target, session)
    if target.auth == "basic":
        return BasicAuth(target)
    return BearerAuth(target)


class BearerAuth(AuthBase):
    """A token that somebody else made, such as Astronomer's deployment tokens."""

    def __init__(self, target: Target) -> None:
        self._token = target.token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return request

    def renew(self) -> bool:
        """Return False: only an operator can give another token."""
        return False


class BasicAuth(AuthBase):
    """User name and password with every request."""

    def __init__(self, target: Target) -> None:
        self._basic = HTTPBasicAuth(target.username.encode(), target.password.reveal().encode())

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        self._basic(request)
        return request

    def renew(self) -> bool:
        """Return False: there is nothing else to try."""
        return False


class PasswordAuth(AuthBase):
    """A JWT for user name and password from `POST /auth/token`, cached for the process and renewed when refused.

    One thread signs in for all. A sign-in that fails fails for those that waited for it, too: were each to try after
    the other, a target that does not answer would hold the last of them for minutes.
    https://airflow.apache.org/docs/apache-airflow/stable/security/api.html
    """

    def __init__(self, target: Target, session: requests.Session) -> None:
        self._target = target
        self._session = session
        self._lock = threading.Lock()
        self._token: str | None = None
        self._refusal: Refusal | None = None  # the last one
        self._used = threading.local()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request, having signed in if need be."""
        before = self._refusal
        with self._lock:
            if self._token is None and self._refusal is not None and self._refusal is not before:
                raise SignInRefused(self._refusal)
            if self._token is None:
                self._token = self._sign_in()
            self._used.token = self._token
        request.headers["Authorization"] = f"Bearer {self._used.token}"
        return request

    def renew(self) -> bool:
        """Forget the token that this thread used, unless another thread has fetched a new one meanwhile."""
        with self._lock:
            if self._token == getattr(self._used, "token", None):
                self._token = None
        return True

    def _sign_in(self) -> str:
        try:
            return self._fetch_token()
        except SignInRefused as refused:
            self._refusal = refused.refusal
            raise

    def _fetch_token(self) -> str:
        body = {"username": self._target.username, "password": self._target.password.reveal()}
        try:
            response = self._session.post(
                self._target.url + "/auth/token",
                json=body,
                auth=_unsigned,
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            detail = f"Airflow could not be reached to sign in ({type(error).__name__})"
            raise SignInRefused(Refusal(RefusalKind.UNREACHABLE, detail)) from None
        if response.status_code in _REFUSED:
            detail = f"Airflow refused the user name or password ({response.status_code} from /auth/token)"
            raise SignInRefused(Refusal(RefusalKind.UNAUTHENTICATED, detail))
        token = _token_in(response)
        if token is None:
            detail = f"Airflow's /auth/token answered {response.status_code} and no token"
            raise SignInRefused(Refusal(RefusalKind.UNREACHABLE, detail))
        return token


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _token_in(response: requests.Response) -> str | None:
    if response.status_code not in _CREATED:
        return None
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    token = document.get("access_token") if isinstance(document, dict) else None
    return token if isinstance(token, str) and token else None
