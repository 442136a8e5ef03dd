"""Tokens of Entra: which of them count, and for which app. The forged ones stand in a table."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bridge.adapters.entra_keys import EntraKeys
from bridge.adapters.entra_tokens import LEEWAY, MOST_CHARS, EntraTokens
from bridge.callers import TokenRefused, issuers
from bridge.config import EntraTrust
from tests.fakes.transport import ScriptedTransport
from tests.fakes_http.entra import (
    APP,
    BRIDGE_APP,
    OTHER_APP,
    TENANT,
    V1_ISSUER,
    FakeEntra,
    encoded,
    private_key,
    public_jwk,
)

ELSEWHERE = TENANT.replace("a", "e")
URI = "api://adf-bridge"
ENTRA = FakeEntra()
CANARY = "canary-in-the-token"
MARGIN = int(LEEWAY.total_seconds())


def tokens_of(entra: FakeEntra, **changes: Any) -> EntraTokens:
    """What checks tokens, with Entra's page behind it."""
    trust = EntraTrust(
        **{"tenant": TENANT, "audiences": frozenset({BRIDGE_APP, URI}), "authority": entra.authority, **changes}
    )
    session = requests.Session()
    session.mount("https://", ScriptedTransport(lambda request: entra.answer(request.path_url)))
    return EntraTokens(trust, EntraKeys(trust.keys_url, session))


def now() -> int:
    """The time, in seconds."""
    return int(time.time())


def unsigned(header: object, claims: object = None, signature: bytes = b"") -> str:
    """A token that nobody signed."""
    return ".".join([encoded(header), encoded(ENTRA.claims() if claims is None else claims), encoded(signature)])


def signed_with_the_public_key() -> str:
    """A token signed by HMAC, with the public key in the place of the secret."""
    secret = private_key("key-1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = f"{encoded({'alg': 'HS256', 'kid': 'key-1'})}.{encoded(ENTRA.claims())}"
    return f"{body}.{encoded(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def with_other_claims() -> str:
    """A genuine token whose claims were changed after it was signed."""
    header, _, signature = ENTRA.token(ENTRA.claims(OTHER_APP)).split(".")
    return f"{header}.{encoded(ENTRA.claims(APP))}.{signature}"


def changed(**claims: Any) -> str:
    """A version 2.0 token with other claims, signed by Entra."""
    return ENTRA.token(ENTRA.claims(**claims))


FORGED: dict[str, tuple[Callable[[], str], str]] = {
    "empty": (lambda: "", "cannot be read"),
    "garbage": (lambda: CANARY, "cannot be read"),
    "dots": (lambda: f"..{CANARY}..", "cannot be read"),
    "not-base64": (lambda: f"ü.{CANARY}.ü", "cannot be read"),
    "half-a-surrogate-pair": (lambda: f"\ud800.{CANARY}.{CANARY}", "cannot be read"),
    "header-no-json": (lambda: f"{encoded(b'canary')}.e30.x", "cannot be read"),
    "header-no-object": (lambda: unsigned([CANARY]), "cannot be read"),
    "header-deep": (lambda: f"{encoded(b'[' * 9000)}.e30.x", "cannot be read"),
    "header-huge": (lambda: unsigned({"alg": "RS256", "kid": "key-1", "x": CANARY * 2000}), "is too long"),
    "alg-none": (lambda: unsigned({"alg": "none", "kid": "key-1"}), "is not signed with RS256"),
    "alg-missing": (lambda: unsigned({"kid": "key-1"}), "is not signed with RS256"),
    "alg-a-list": (lambda: unsigned({"alg": ["RS256"], "kid": "key-1"}), "is not signed with RS256"),
    "hmac-with-the-public-key": (signed_with_the_public_key, "is not signed with RS256"),
    "ps256": (lambda: unsigned({"alg": "PS256", "kid": "key-1"}), "is not signed with RS256"),
    "kid-missing": (lambda: unsigned({"alg": "RS256"}), "does not say which key"),
    "kid-empty": (lambda: unsigned({"alg": "RS256", "kid": ""}), "does not say which key"),
    "kid-a-number": (lambda: unsigned({"alg": "RS256", "kid": 7}), "cannot be read"),
    "kid-long": (lambda: unsigned({"alg": "RS256", "kid": "k" * 257}), "does not say which key"),
    "kid-unknown": (lambda: ENTRA.token(kid="key-2"), "a key that the tenant does not have"),
    "another-key": (lambda: ENTRA.token(kid="key-2", headers={"kid": "key-1"}), "a signature that does not hold"),
    "own-key-in-the-header": (
        lambda: ENTRA.token(
            kid="key-2", headers={"kid": "key-1", "jwk": public_jwk("key-2"), "jku": "https://example.com"}
        ),
        "a signature that does not hold",
    ),
    "no-signature": (lambda: unsigned({"alg": "RS256", "kid": "key-1"}), "a signature that does not hold"),
    "claims-changed": (with_other_claims, "a signature that does not hold"),
    "critical-extension": (lambda: ENTRA.token(headers={"crit": ["canary"], "canary": 1}), "cannot be read"),
    "aud-another": (lambda: changed(aud=OTHER_APP), "another audience"),
    "aud-of-graph": (lambda: changed(aud="https://graph.microsoft.com"), "another audience"),
    "aud-longer": (lambda: changed(aud=BRIDGE_APP + "/"), "another audience"),
    "aud-missing": (lambda: changed(aud=None), "lacks one of the claims"),
    "aud-a-number": (lambda: changed(aud=7), "cannot be read|another audience"),
    "aud-empty": (lambda: changed(aud=[]), "another audience|lacks"),
    "iss-another-tenant": (lambda: changed(iss=f"{ENTRA.authority}/{ELSEWHERE}/v2.0"), "is from another tenant"),
    "iss-another-authority": (lambda: changed(iss=f"https://example.com/{TENANT}/v2.0"), "is from another tenant"),
    "iss-longer": (lambda: changed(iss=f"{ENTRA.authority}/{TENANT}/v2.0/"), "is from another tenant"),
    "iss-missing": (lambda: changed(iss=None), "lacks one of the claims"),
    "iss-a-list": (lambda: changed(iss=[V1_ISSUER]), "cannot be read|is from another tenant"),
    "tid-another": (lambda: changed(tid=ELSEWHERE), "is from another tenant"),
    "tid-missing": (lambda: changed(tid=None), "is from another tenant"),
    "azp-missing": (lambda: changed(azp=None), "names no app"),
    "azp-a-list": (lambda: changed(azp=[APP]), "names no app"),
    "appid-in-version-2": (lambda: changed(azp=None, appid=APP), "names no app"),
    "azp-in-version-1": (lambda: ENTRA.token(ENTRA.v1_claims(appid=None, azp=APP)), "names no app"),
    "expired": (lambda: changed(exp=now() - MARGIN - 60), "has expired"),
    "exp-missing": (lambda: changed(exp=None), "lacks one of the claims"),
    "exp-a-word": (lambda: changed(exp=CANARY), "cannot be read"),
    "exp-infinite": (lambda: changed(exp=float("inf")), "cannot be read"),
    "not-yet": (lambda: changed(nbf=now() + MARGIN + 600), "is not valid yet"),
    "nbf-missing": (lambda: changed(nbf=None), "lacks one of the claims"),
    "claims-no-object": (
        lambda: unsigned({"alg": "RS256", "kid": "key-1"}, [CANARY]),
        "cannot be read|a signature that does not hold",
    ),
}


@pytest.mark.parametrize(("make", "reason"), FORGED.values(), ids=FORGED)
def test_forged_tokens(make: Callable[[], str], reason: str) -> None:
    """S46, S34: a token that is forged, of others or out of its time speaks for nobody; no word of it is repeated."""
    token = make()
    with pytest.raises(TokenRefused) as caught:
        tokens_of(FakeEntra()).app_of(token)
    assert re.search(reason, caught.value.reason)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert not [part for part in (*token.split("."), "canary") if part and part in shown]
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(ENTRA.claims, id="version-2"),
        pytest.param(ENTRA.v1_claims, id="version-1"),
        pytest.param(lambda: ENTRA.v1_claims(aud=URI), id="app-id-uri"),
        pytest.param(lambda: ENTRA.claims(aud=["https://example.com", URI]), id="several-audiences"),
        pytest.param(lambda: ENTRA.claims(APP.upper()), id="upper-case"),
        pytest.param(lambda: ENTRA.claims(tid=TENANT.upper()), id="upper-case-tenant"),
        pytest.param(lambda: ENTRA.claims(exp=now() - MARGIN + 60), id="just-expired"),
        pytest.param(lambda: ENTRA.claims(nbf=now() + MARGIN - 60, iat=now() + MARGIN - 60), id="of-a-fast-clock"),
    ],
)
def test_good_tokens(make: Callable[[], dict[str, Any]]) -> None:
    """S31: a token for the bridge names its app, in both versions, also where clocks are five minutes apart."""
    assert APP == tokens_of(FakeEntra()).app_of(ENTRA.token(make()))


@pytest.mark.parametrize("name", ["alg-none", "hmac-with-the-public-key", "garbage", "header-huge", "kid-missing"])
def test_what_makes_nobody_look_for_keys(name: str) -> None:
    """S38: a token that Entra cannot have signed is refused without asking Entra for anything."""
    entra = FakeEntra()
    with pytest.raises(TokenRefused):
        tokens_of(entra).app_of(FORGED[name][0]())
    assert [] == entra.fetches


def test_a_long_token_is_a_good_one() -> None:
    """A token of somebody who is in many groups is long, and counts."""
    token = ENTRA.token(ENTRA.claims(groups=[ELSEWHERE] * 200))
    assert (True, APP) == (8_000 < len(token) <= MOST_CHARS, tokens_of(FakeEntra()).app_of(token))


def test_issuers_of_sovereign_clouds() -> None:
    """In China version 1.0 tokens have an issuer of their own; elsewhere it is the same for all."""
    audiences = frozenset({BRIDGE_APP})
    china = EntraTrust(TENANT, audiences, "https://login.partner.microsoftonline.cn")
    government = EntraTrust(TENANT, audiences, "https://login.microsoftonline.us")
    assert {
        f"https://login.partner.microsoftonline.cn/{TENANT}/v2.0": "azp",
        f"https://sts.chinacloudapi.cn/{TENANT}/": "appid",
    } == issuers(china)
    assert [f"https://login.microsoftonline.us/{TENANT}/v2.0", V1_ISSUER] == list(issuers(government))
