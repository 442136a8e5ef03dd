"""Entra as far as the bridge sees it: tokens signed with real RSA keys, and the page that shows their public halves."""

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

TENANT = "aaaaaaaa-1111-4222-8333-444444444444"
BRIDGE_APP = "bbbbbbbb-1111-4222-8333-444444444444"
APP, OTHER_APP = "cccccccc-1111-4222-8333-444444444444", "dddddddd-1111-4222-8333-444444444444"
V1_ISSUER = f"https://sts.windows.net/{TENANT}/"


@cache
def private_key(kid: str, bits: int = 2048) -> RSAPrivateKey:
    """The key of that name; making one takes a while."""
    assert kid
    return generate_private_key(public_exponent=65537, key_size=bits)


def public_jwk(kid: str, **changes: Any) -> dict[str, Any]:
    """A key's public half, as Entra shows it; it shows no `alg`."""
    shown = jwt.algorithms.RSAAlgorithm.to_jwk(private_key(kid).public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": shown["n"], "e": shown["e"], **changes}


def encoded(part: object) -> str:
    """A header or claims as they stand in a token."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class FakeEntra:
    """A tenant. `shown` are the keys on its page; `status` and `page`, if set, are answered instead."""

    authority: str = "https://login.microsoftonline.com"
    shown: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk("key-1")])
    status: int = 200
    page: bytes | None = None
    fetches: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """How the bridge is told of it; for the app with client id BRIDGE_APP."""
        return {
            "BRIDGE_ENTRA_TENANT": TENANT,
            "BRIDGE_ENTRA_AUDIENCE": BRIDGE_APP,
            "BRIDGE_ENTRA_AUTHORITY": self.authority,
        }

    def claims(self, app: str = APP, **changes: Any) -> dict[str, Any]:
        """The claims of a version 2.0 token for the bridge; a claim that is changed to None is left out."""
        now = int(time.time())
        claims = {
            "iss": f"{self.authority}/{TENANT}/v2.0",
            "aud": BRIDGE_APP,
            "tid": TENANT,
            "azp": app,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "ver": "2.0",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def v1_claims(self, app: str = APP, **changes: Any) -> dict[str, Any]:
        """The claims of a version 1.0 token."""
        return self.claims(**{"iss": V1_ISSUER, "azp": None, "appid": app, "ver": "1.0", **changes})

    def token(
        self, claims: Mapping[str, Any] | None = None, *, kid: str = "key-1", headers: Mapping[str, Any] | None = None
    ) -> str:
        """A token that says so, signed with that key."""
        said = self.claims() if claims is None else dict(claims)
        # PyJWT's own `encode` refuses to sign some of the nonsense that the tests need.
        return jwt.PyJWS().encode(
            json.dumps(said).encode(), private_key(kid), algorithm="RS256", headers={"kid": kid, **(headers or {})}
        )

    def answer(self, path: str) -> tuple[int, bytes]:
        """What a fetch of the page is answered."""
        self.fetches.append(path)
        if path != f"/{TENANT}/discovery/v2.0/keys":
            return 404, b"{}"
        return self.status, json.dumps({"keys": self.shown}).encode() if self.page is None else self.page


@contextmanager
def running_entra() -> Iterator[FakeEntra]:
    """A tenant whose page of keys is served on the loopback."""
    entra = FakeEntra()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = entra.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="entra")
    thread.start()
    entra.authority = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield entra
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
