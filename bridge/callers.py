"""Who may call for a target: whoever sends its secret, or a token that Entra made for one of its apps.

A target with neither is open to everybody with a function key. The rules are here; how a token's signature is checked
is an adapter's (`Tokens`).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from bridge.config import EntraTrust, Target
from bridge.errors import CallerNotAllowed, FactoryNotAllowed
from bridge.model import FactoryId
from bridge.policy import Rules

CALLER_HEADER: Final = "x-adf-bridge-caller-secret"
# https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
_V1_ISSUERS: Final = {
    "login.partner.microsoftonline.cn": "https://sts.chinacloudapi.cn",
    "login.chinacloudapi.cn": "https://sts.chinacloudapi.cn",
}
_V1_ISSUER: Final = "https://sts.windows.net"


class TokenRefused(Exception):  # noqa: N818 - carries a refusal
    """A bearer token speaks for nobody. `reason` completes "the bearer token …" and holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Tokens(Protocol):
    """What the bridge must know of Entra."""

    def app_of(self, token: str) -> str:
        """Return the client id, in lower case, of the app that a token was made for.

        Raise TokenRefused for a token that does not count, and EntraUnavailable when that cannot be told.
        """
        ...

    def check(self) -> str | None:
        """Return why Entra's keys cannot be had right now, or None if they can."""
        ...


def issuers(trust: EntraTrust) -> dict[str, str]:
    """Return the issuers of a tenant's tokens, with the claim in which each names the app: version 2.0, then 1.0."""
    v1 = _V1_ISSUERS.get(urlsplit(trust.authority).hostname or "", _V1_ISSUER)
    return {f"{trust.authority}/{trust.tenant}/v2.0": "azp", f"{v1}/{trust.tenant}/": "appid"}


def app_in(claims: Mapping[str, Any], trust: EntraTrust) -> str:
    """Return the client id in the claims of a token whose signature, times and audience are right."""
    claim = issuers(trust).get(str(claims.get("iss")))
    if claim is None or str(claims.get("tid")).lower() != trust.tenant:
        raise TokenRefused("is from another tenant")
    app = claims.get(claim)
    if not isinstance(app, str) or not app:
        raise TokenRefused(f"names no app (`{claim}`)")
    return app.lower()


class Caller:
    """Who sends a request, by its headers (names in lower case)."""

    def __init__(
        self, headers: Mapping[str, str], targets: Mapping[str, Target], tokens: Tokens | None, rules: Rules
    ) -> None:
        self._secret = headers.get(CALLER_HEADER, "")
        scheme, _, token = headers.get("authorization", "").strip().partition(" ")
        self._token = token.strip() if scheme.lower() == "bearer" else ""
        self._targets = targets
        self._tokens = tokens
        self._rules = rules
        self._why_not = ""

    def check_target(self, target: str, factory: FactoryId) -> None:
        """Refuse a wait of a target, or a run with one, to others than its callers, and in factories not for them."""
        if not self._speaks_for([target]):
            raise CallerNotAllowed(f"Target {target} takes calls from its own callers only. {self._advice([target])}")
        allowed = self._rules.targets[target]
        if not allowed.may_use(factory):
            known = ", ".join(sorted(self._rules.alias(one) for one in allowed.factories))
            raise FactoryNotAllowed(
                f"Target {target} may use these, or have an operator add it to its FACTORIES on the bridge: {known}."
            )

    def check_wait(self, target: str) -> None:
        """Refuse to end a wait of a target for others than its callers. A target that is gone asks for nothing."""
        if target in self._targets and not self._speaks_for([target]):
            raise CallerNotAllowed(f"The wait is one of target {target}. {self._advice([target])}")

    def check_run(self, factory: FactoryId, waiting: Iterable[str] = ()) -> None:
        """Refuse to start a run without a wait, or to cancel one, where it is others' business.

        A run that tasks wait for is their targets' business: a caller of one of them may cancel it, and anybody if none
        of them asks who calls. A factory that targets name as theirs is the business of those that may use it.
        """
        targets = sorted(name for name in set(waiting) & set(self._targets) if not _is_open(self._targets[name]))
        if targets and not self._speaks_for(targets):
            raise CallerNotAllowed(f"Tasks of {_listed(targets)} wait for this run. {self._advice(targets)}")
        owners = sorted(name for name, rules in self._rules.targets.items() if rules.may_use(factory))
        is_named = any(factory in rules.factories for rules in self._rules.targets.values())
        if is_named and not self._speaks_for(owners):
            raise FactoryNotAllowed(f"This factory is for callers of {_listed(owners)}. {self._advice(owners)}")

    def _speaks_for(self, names: Iterable[str]) -> bool:
        """Whether the caller may speak for one of these targets. A token is looked at where no secret will do."""
        targets = [self._targets[name] for name in names]
        if any(_is_open(target) or self._knows_secret(target) for target in targets):
            return True
        apps = frozenset[str]().union(*(target.caller_apps for target in targets))
        return bool(apps) and self._is_one_of(apps)

    def _knows_secret(self, target: Target) -> bool:
        """Whether the caller sent a target's secret. Compared in constant time."""
        expected, given = target.caller_secret, self._secret.encode(errors="surrogatepass")
        return bool(expected) and hmac.compare_digest(expected.reveal().encode(), given)

    def _is_one_of(self, apps: frozenset[str]) -> bool:
        if not self._token or self._tokens is None:
            return False
        try:
            app = self._tokens.app_of(self._token)
        except TokenRefused as refused:
            self._why_not = f" The bearer token {refused.reason}."
            return False
        if app not in apps:
            self._why_not = " The bearer token is genuine, but of another app."
        return app in apps

    def _advice(self, names: Iterable[str]) -> str:
        """Say what was missing, without a word of what was sent."""
        targets = [self._targets[name] for name in names]
        ways = []
        if any(target.caller_secret for target in targets):
            ways.append(f"its secret in the header {CALLER_HEADER} (`caller_secret` in Airflow's connection)")
        if any(target.caller_apps for target in targets):
            ways.append("a bearer token of one of its CALLER_APPS (`entra_scope` in Airflow's connection)")
        return f"Send {', or '.join(ways)}.{self._why_not}"


def _is_open(target: Target) -> bool:
    return not target.caller_secret and not target.caller_apps


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
