"""Access keys, and what each of them opens."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

FUNCTION_KEY_HEADER = "x-functions-key"


@dataclass(frozen=True)
class Keys:
    """The app's keys. `function` opens functions, `event_grid` the Event Grid webhook, `master` everything.

    See https://learn.microsoft.com/azure/azure-functions/function-keys-how-to
    """

    function: str = field(repr=False)
    event_grid: str = field(repr=False)
    master: str = field(repr=False)

    def opens_function(self, given: str | None, auth_level: str) -> bool:
        """Whether a key may call a function of this level: `anonymous`, `function` or `admin`.

        An unknown level is closed to all but the master key.
        """
        level = auth_level.lower()
        if level == "anonymous" or _same(given, self.master):
            return True
        return level == "function" and _same(given, self.function)

    def opens_event_grid(self, given: str | None) -> bool:
        """Whether a key may deliver events."""
        return _same(given, self.event_grid) or _same(given, self.master)

    def opens_admin(self, given: str | None) -> bool:
        """Whether a key may use the host's own API under /admin."""
        return _same(given, self.master)


def key_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The key that a request brings: the header `x-functions-key` or, only without that header, the query's
    `code`.
    """
    return headers.get(FUNCTION_KEY_HEADER, query.get("code"))


def _same(given: str | None, expected: str) -> bool:
    """Compare in constant time. A header may hold bytes that are no UTF-8: they arrive as surrogates."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
