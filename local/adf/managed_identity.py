"""The factory's managed identity: which token it gets for which resource.

On Azure, Microsoft Entra ID issues the tokens; here they stand on the command line. See
https://learn.microsoft.com/azure/data-factory/data-factory-service-identity
"""

from collections.abc import Mapping


class ManagedIdentity:
    """Tokens by resource, whatever its case and with or without a slash at its end."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """Take the tokens, by resource."""
        self._tokens = {_key(resource): token for resource, token in tokens.items()}

    def token(self, resource: str) -> str | None:
        """The token for a resource, or None where there is none."""
        return self._tokens.get(_key(resource))


def _key(resource: str) -> str:
    return resource.rstrip("/").lower()
