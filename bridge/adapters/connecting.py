"""Telling a request that never left from one whose answer never came: the second may have been carried out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_NOT_CONNECTED: Final = (requests.ConnectTimeout, requests.exceptions.ProxyError)
# A certificate is looked at before anything is sent. Any other trouble with TLS may come after.
_BEFORE_SENDING: Final = (NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError)


def was_never_sent(error: BaseException | None) -> bool:
    """Whether a failed request failed before it was sent: no address, no connection, a certificate that is refused."""
    return isinstance(error, _NOT_CONNECTED) or any(isinstance(one, _BEFORE_SENDING) for one in _causes(error))


def _causes(error: object) -> Iterator[object]:
    """Yield an error and those that it wraps: requests wraps urllib3's MaxRetryError, whose `reason` wraps ssl's."""
    while isinstance(error, BaseException):
        yield error
        error = getattr(error, "reason", None) or (error.args[0] if error.args else None)
