"""Tokens for `$cbs`: any that is well formed and has not expired is good. No signature is verified.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas
"""

import base64
import binascii
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

from local.service_bus.errors import UnauthorizedError

KINDS = frozenset({"servicebus.windows.net:sastoken", "jwt"})
_SAS = "SharedAccessSignature "
_PARTS_OF_A_JWT = 3


def check(token: object, kind: object, now: datetime) -> None:
    """Raise UnauthorizedError where a token is malformed or has expired.

    azure-servicebus calls a shared access signature a "jwt", too.
    """
    if kind not in KINDS or not isinstance(token, str):
        raise UnauthorizedError(f"InvalidToken: {kind} is no type of token that is known here.")
    try:
        until = _sas_expiry(token) if token.startswith(_SAS) else _jwt_expiry(token)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise UnauthorizedError("InvalidSignature: The token has an invalid signature.") from error
    if until is not None and until <= now:
        raise UnauthorizedError("ExpiredToken: The token is expired.")


def _sas_expiry(token: str) -> datetime | None:
    values = parse_qs(token.removeprefix(_SAS), strict_parsing=True)
    if not all(values[name][0] for name in ("sr", "sig")):
        raise ValueError(token)
    return datetime.fromtimestamp(int(values["se"][0]), UTC)


def _jwt_expiry(token: str) -> datetime | None:
    parts = token.split(".")
    if len(parts) != _PARTS_OF_A_JWT:
        raise ValueError(len(parts))
    _, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    return datetime.fromtimestamp(int(claims["exp"]), UTC) if "exp" in claims else None
