"""Telling a request that never left from one whose answer never came: the second may have been carried out."""

from __future__ import annotations

from typing import Final

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_NOT_CONNECTED: Final = (requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)


def was_never_sent(error: BaseException | None) -> bool:
    """Whether a failed request failed before it was sent: no address, no connection, no handshake."""
    if isinstance(error, (*_NOT_CONNECTED, NewConnectionError, ConnectTimeoutError)):
        return True
    # requests wraps urllib3's MaxRetryError, which holds the reason.
    inner = error.args[0] if error is not None and error.args else None
    return isinstance(getattr(inner, "reason", None), NewConnectionError | ConnectTimeoutError)
