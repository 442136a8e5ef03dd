"""The hook's token of Entra: fetched when it is needed, kept, renewed once, and never shown."""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bridge_stand_in import BridgeStandIn

from airflow_adf_bridge.entra import EARLY, EntraAuth
from airflow_adf_bridge.errors import AdfBridgeConfigurationError, AdfBridgeRefusedError, AdfBridgeUnreachableError
from airflow_adf_bridge.hooks import AdfBridgeHook

Connect = Callable[..., AdfBridgeHook]
SCOPE = "api://adf-bridge/.default"
BODY = {"factory": "sales", "pipeline": "ingest"}
MINUTE = timedelta(minutes=1)
REFUSED = {"code": "caller-not-allowed", "detail": "The bearer token has expired."}


@dataclass
class FakeCredential:
    """What azure-identity offers, as far as it is used. `troubles` are raised first, one a call."""

    now: float = 1_800_000_000.0
    made: int = 0
    scopes: list[str] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)

    def make(self) -> "FakeCredential":
        """Make the credential."""
        self.made += 1
        return self

    def get_token(self, scope: str) -> SimpleNamespace:
        """Return a new token for an hour."""
        self.scopes.append(scope)
        if self.troubles:
            raise self.troubles.pop(0)
        return SimpleNamespace(token=f"canary-token-{len(self.scopes)}", expires_on=self.now + 3600)


@pytest.fixture
def credential() -> FakeCredential:
    """Somebody whom Entra knows."""
    return FakeCredential()


@pytest.fixture
def signed_in(connect: Connect, credential: FakeCredential) -> Iterator[AdfBridgeHook]:
    """A hook whose connection has a scope."""
    hook = connect({"entra_scope": SCOPE})
    hook._credential = credential.make
    session = hook.get_conn()
    assert isinstance(session.auth, EntraAuth)
    session.auth._clock = lambda: credential.now
    return hook


def sent(bridge: BridgeStandIn) -> list[str]:
    """The tokens that arrived."""
    return [call.headers.get("authorization", "") for call in bridge.calls]


def test_one_token_serves_many_calls(
    bridge: BridgeStandIn, signed_in: AdfBridgeHook, credential: FakeCredential
) -> None:
    """A token is fetched for the first call, beside the function key, and kept until shortly before it runs out."""
    assert ([], 0) == (credential.scopes, credential.made)
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    credential.now += 3600 - EARLY - 1
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    credential.now += 1
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    assert ["Bearer canary-token-1"] * 2 + ["Bearer canary-token-2"] == sent(bridge)
    assert ([SCOPE, SCOPE], 1) == (credential.scopes, credential.made)
    assert {"function-key-canary"} == {call.headers["x-functions-key"] for call in bridge.calls}


def test_without_a_scope_nobody_signs_in(bridge: BridgeStandIn, connect: Connect) -> None:
    """A connection without `entra_scope` sends no token, and needs no azure-identity."""
    connect().start_run(BODY, key="k1", patience=MINUTE)
    assert [""] == sent(bridge)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_renewed_once(
    bridge: BridgeStandIn, signed_in: AdfBridgeHook, credential: FakeCredential, status: int
) -> None:
    """S46: a kept token that is refused is renewed once; a new one that is refused is the end."""
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    bridge.refuse(status, REFUSED)
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    tokens = ["Bearer canary-token-1", "Bearer canary-token-1", "Bearer canary-token-2"]
    assert (tokens, 2) == (sent(bridge), credential.made)
    bridge.refuse(status, REFUSED)
    bridge.refuse(status, REFUSED)
    with pytest.raises(AdfBridgeRefusedError, match="Set caller_secret, or entra_scope"):
        signed_in.start_run(BODY, key="k1", patience=MINUTE)
    assert [*tokens, "Bearer canary-token-2", "Bearer canary-token-3"] == sent(bridge)


def test_a_new_token_that_is_refused(bridge: BridgeStandIn, signed_in: AdfBridgeHook) -> None:
    """S46: a token that was fetched for the very call is not fetched again."""
    bridge.refuse(403, REFUSED)
    with pytest.raises(AdfBridgeRefusedError, match="caller-not-allowed"):
        signed_in.start_run(BODY, key="k1", patience=MINUTE)
    assert ["Bearer canary-token-1"] == sent(bridge)


def test_entra_out_of_reach_for_a_moment(
    bridge: BridgeStandIn, signed_in: AdfBridgeHook, credential: FakeCredential
) -> None:
    """S48: a token that cannot be had is asked for again; the bridge is not called without it."""
    credential.troubles += [OSError("canary"), RuntimeError("canary")]
    signed_in.start_run(BODY, key="k1", patience=MINUTE)
    assert (["Bearer canary-token-3"], 1) == (sent(bridge), credential.made)


def test_entra_out_of_reach(
    bridge: BridgeStandIn, signed_in: AdfBridgeHook, credential: FakeCredential, caplog: pytest.LogCaptureFixture
) -> None:
    """S48, S34: where no token is to be had the start fails after its patience, and says that it was the token."""
    caplog.set_level(logging.DEBUG)
    credential.troubles += [OSError("canary")] * 100
    with pytest.raises(AdfBridgeUnreachableError, match=r"EntraTokenUnavailableError \(OSError\)") as caught:
        signed_in.start_run(BODY, key="k1", patience=MINUTE)
    assert ([], False) == (sent(bridge), "canary" in caplog.text + str(caught.value))
    works, why = signed_in.test_connection()
    assert (False, True) == (works, "EntraTokenUnavailableError (OSError)" in why)


def test_the_token_is_not_shown(
    bridge: BridgeStandIn, signed_in: AdfBridgeHook, caplog: pytest.LogCaptureFixture
) -> None:
    """S34: the token is in no log and in no error, and follows no redirect."""
    caplog.set_level(logging.DEBUG)
    bridge.refuse(302, {}, Location="https://example.com/")
    bridge.refuse(500, {})
    for _ in range(2):
        with pytest.raises((AdfBridgeRefusedError, AdfBridgeUnreachableError)) as caught:
            signed_in.start_run({"factory": "sales"}, key="k1", patience=timedelta(0))
        assert "canary-token" not in str(caught.value)
    assert (2, False) == (len(bridge.calls), "canary-token" in caplog.text)


def test_azure_identity_is_missing(connect: Connect, bridge: BridgeStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection with a scope, on a machine without azure-identity, says what to install; nothing is sent."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    hook = connect({"entra_scope": SCOPE})
    with pytest.raises(AdfBridgeConfigurationError, match=r"airflow-provider-adf-bridge\[entra\]"):
        hook.start_run(BODY, key="k1", patience=MINUTE)
    works, why = hook.test_connection()
    assert (False, True, []) == (works, "azure-identity" in why, bridge.calls)


def test_azure_identity_is_there(connect: Connect, bridge: BridgeStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection with a scope signs in by azure-identity's DefaultAzureCredential."""
    credential = FakeCredential(now=4_000_000_000.0)
    module: Any = SimpleNamespace(DefaultAzureCredential=credential.make)
    monkeypatch.setitem(sys.modules, "azure", SimpleNamespace(identity=module))
    monkeypatch.setitem(sys.modules, "azure.identity", module)
    connect({"entra_scope": f" {SCOPE} "}).start_run(BODY, key="k1", patience=MINUTE)
    assert (["Bearer canary-token-1"], [SCOPE]) == (sent(bridge), credential.scopes)


def test_a_hook_apart_signs_in_as_well(connect: Connect, bridge: BridgeStandIn, credential: FakeCredential) -> None:
    """A hook for another thread signs in by itself, as the first one does."""
    first = connect({"entra_scope": SCOPE})
    first._credential = credential.make
    other = first.apart()
    other.start_run(BODY, key="k1", patience=MINUTE)
    other.get_conn().close()
    assert ["Bearer canary-token-1"] == sent(bridge)
