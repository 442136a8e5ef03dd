"""Bearer tokens of Entra, checked by PyJWT: RS256 and nothing else, with the tenant's own keys.

https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from bridge.adapters.entra_keys import EntraKeys
from bridge.callers import TokenRefused, app_in, issuers
from bridge.config import EntraTrust

LEEWAY: Final = timedelta(minutes=5)
MOST_CHARS: Final = 16_384
_ALGORITHM: Final = "RS256"
_KID_CHARS: Final = 256
_REQUIRED: Final = ("exp", "nbf", "aud", "iss")


class EntraTokens:
    """The port `Tokens`."""

    def __init__(self, trust: EntraTrust, keys: EntraKeys) -> None:
        self._trust = trust
        self._keys = keys

    def app_of(self, token: str) -> str:
        """Return the client id of the app that a token was made for; see the port."""
        if len(token) > MOST_CHARS:
            raise TokenRefused("is too long")
        key = self._keys.find(_kid(token))
        if key is None:
            raise TokenRefused("is signed with a key that the tenant does not have")
        return app_in(self._claims(token, key), self._trust)

    def check(self) -> str | None:
        """Return why Entra's keys cannot be had right now, or None if they can."""
        return self._keys.check()

    def _claims(self, token: str, key: Any) -> dict[str, Any]:  # noqa: ANN401 - a key of cryptography
        import jwt

        said = {
            jwt.ExpiredSignatureError: "has expired",
            jwt.ImmatureSignatureError: "is not valid yet",
            jwt.InvalidAudienceError: "was made for another audience than BRIDGE_ENTRA_AUDIENCE",
            jwt.InvalidIssuerError: "is from another tenant",
            jwt.InvalidSignatureError: "has a signature that does not hold",
            jwt.MissingRequiredClaimError: "lacks one of the claims " + ", ".join(_REQUIRED),
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=list(self._trust.audiences),
                issuer=list(issuers(self._trust)),
                leeway=LEEWAY,
                options={"require": list(_REQUIRED)},
            )
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise TokenRefused(said.get(type(error), "cannot be read")) from None
        return claims


def _kid(token: str) -> str:
    """Return which key a token says it is signed with. What is not signed as Entra signs makes nobody look for keys."""
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenRefused("cannot be read") from None
    if header.get("alg") != _ALGORITHM:
        raise TokenRefused(f"is not signed with {_ALGORITHM}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _KID_CHARS:
        raise TokenRefused("does not say which key it is signed with")
    return kid
