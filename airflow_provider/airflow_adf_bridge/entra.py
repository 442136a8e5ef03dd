"""A bearer token of Entra, where the bridge takes calls for a target from an Entra app. Needs the extra `entra`."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import requests
from requests.auth import AuthBase

from airflow_adf_bridge.errors import AdfBridgeConfigurationError

EARLY = 300.0
"""Seconds before a token runs out in which it is not used any more: a request, and the clocks, need some."""


class EntraTokenUnavailableError(requests.ConnectionError):
    """Entra gave no token. It is tried again, like a bridge that cannot be reached; azure-identity logs why."""


def default_credential() -> Any:  # noqa: ANN401 (a class of azure-identity, which need not be there)
    """Return what signs in as this machine: by environment variables, a workload or a managed identity, and so on.

    https://learn.microsoft.com/python/api/azure-identity/azure.identity.defaultazurecredential
    """
    try:
        identity = import_module("azure.identity")
    except ImportError:
        raise AdfBridgeConfigurationError(
            "entra_scope in the connection's extra needs the package azure-identity, which is not installed: "
            'pip install "airflow-provider-adf-bridge[entra]"'
        ) from None
    return identity.DefaultAzureCredential()


class EntraAuth(AuthBase):
    """Signs requests with a token for `scope`, kept until shortly before it runs out. `clock` tells the Unix time."""

    def __init__(
        self, scope: str, credential: Callable[[], Any] = default_credential, clock: Callable[[], float] = time.time
    ) -> None:
        """Nothing is asked for until the first request."""
        self._scope = scope
        self._new_credential = credential
        self._clock = clock
        self._credential: Any = None
        self._token = ""
        self._until = 0.0
        self._is_new = False

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request. Raises AdfBridgeConfigurationError, or EntraTokenUnavailableError."""
        self._is_new = not self._token or self._clock() >= self._until
        if self._is_new:
            self._fetch()
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renew(self) -> bool:
        """Forget a token that was refused, and the credential, which keeps it too; False if it was a new one."""
        if self._is_new:
            return False
        self._credential, self._token = None, ""
        return True

    def _fetch(self) -> None:
        if self._credential is None:
            self._credential = self._new_credential()
        try:
            issued = self._credential.get_token(self._scope)
        except Exception as error:
            raise EntraTokenUnavailableError(error) from error
        self._token, self._until = issued.token, issued.expires_on - EARLY
