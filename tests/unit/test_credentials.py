"""The app's identity, while nobody gives out tokens."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError

from bridge import policy
from bridge.adapters import adf, credentials


def test_a_token_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that does not answer fails a call soon: createRun is not sent when it is held to be over."""
    asked = list[tuple[float, float]]()

    def hang(*_: object, timeout: tuple[float, float], **__: Any) -> requests.Response:
        asked.append(timeout)
        raise requests.ReadTimeout

    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    monkeypatch.setattr(credentials, "_credential", None)
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", hang)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(ClientAuthenticationError):
        credentials.azure_credential().get_token("https://management.azure.com/.default")
    took = sum(map(sum, asked)) + adf._START_ONCE["connection_timeout"] + adf._START_ONCE["read_timeout"]
    assert (True, True) == (len(asked) > 1, timedelta(seconds=took) < policy.START_LEASE)
