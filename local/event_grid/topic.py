"""Custom topics, and who may publish to them.

Keys, signatures and tokens:
https://learn.microsoft.com/azure/event-grid/authenticate-with-access-keys-shared-access-signatures and
https://learn.microsoft.com/azure/event-grid/authenticate-with-microsoft-entra-id
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

from local.event_grid.grid_error import GridError
from local.event_grid.schema import Schema


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. `token` is the bearer token that it accepts beside its key; with None, it accepts none."""

    name: str
    endpoint: str
    key: str
    token: str | None
    input_schema: Schema

    @property
    def id(self) -> str:
        """The ARM id that the service writes into events of its own schema."""
        group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
        return f"{group}/providers/Microsoft.EventGrid/topics/{self.name}"

    def authorize(self, headers: Mapping[str, str], now: datetime) -> None:
        """Let the holder of the key, of a signature made with it, or of the token pass. Raises GridError
        (401).
        """
        key, signature = headers.get("aeg-sas-key"), headers.get("aeg-sas-token")
        scheme, _, credential = headers.get("Authorization", "").partition(" ")
        if signature is None and scheme.lower() == "sharedaccesssignature":
            signature = credential
        if key is not None:
            allowed = _equal(key, self.key)
        elif signature is not None:
            allowed = self._signed(signature, now)
        elif scheme.lower() == "bearer":
            allowed = self.token is not None and _equal(credential, self.token)
        else:
            message = "Request must contain one of the following authorization signature: aeg-sas-token, aeg-sas-key."
            raise GridError(401, message)
        if not allowed:
            host = (urlsplit(self.endpoint).netloc + urlsplit(self.endpoint).path).upper()
            raise GridError(401, f"The request authorization key is not authorized for {host}.")

    def _signed(self, signature: str, now: datetime) -> bool:
        """Whether this is a signature for this topic, made with its key, and not expired."""
        signed, _, encoded = signature.partition("&s=")
        parts = dict(part.partition("=")[::2] for part in signed.split("&"))
        try:
            expected = hmac.digest(base64.b64decode(self.key), signed.encode(), hashlib.sha256)
            expiry = datetime.fromisoformat(unquote(parts.get("e", "")))
        except (binascii.Error, ValueError):
            return False
        expiry = expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)
        resource = unquote(parts.get("r", "")).partition("?")[0]
        genuine = _equal(unquote(encoded), base64.b64encode(expected).decode())
        return genuine and resource == self.endpoint and expiry > now


def endpoint_of(url: str, name: str) -> str:
    """The endpoint of a topic of the service at `url`. Like a real one, it ends in /api/events."""
    return f"{url}/{quote(name)}/api/events"


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
