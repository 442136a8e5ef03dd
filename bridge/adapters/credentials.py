"""Who the bridge is to Azure: the app's managed identity; on a laptop, a fixed token for an endpoint on loopback."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy

from bridge.config import Secret

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

# The SDK would wait 300 s for a token, several times. But the call that wants it is to be over soon: above all
# createRun, which must not be sent once it is held to be over (policy.START_LEASE).
_BRISK: Final[dict[str, Any]] = {"connection_timeout": 3, "read_timeout": 10, "retry_total": 1}
_lock = threading.Lock()
_credential: TokenCredential | None = None


def azure_credential() -> TokenCredential:
    """Return the process's one credential (a credential per call would fetch a token per call).

    A user-assigned identity is chosen by AZURE_CLIENT_ID, which azure-identity reads by itself.
    https://learn.microsoft.com/python/api/azure-identity/azure.identity.defaultazurecredential
    """
    global _credential  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _credential is None:
            from azure.identity import DefaultAzureCredential

            _credential = DefaultAzureCredential(exclude_interactive_browser_credential=True, **_BRISK)
        return _credential


class FixedToken(SansIOHTTPPolicy[Any, Any]):
    """Signs requests with a fixed bearer token. Azure's own policy refuses plain http, even on loopback."""

    def __init__(self, token: Secret) -> None:
        super().__init__()
        self._token = token

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Set the header."""
        request.http_request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
