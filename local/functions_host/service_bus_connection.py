"""Which Service Bus a function's `connection` means.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#connections
"""

import base64
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential
from azure.servicebus.aio import ServiceBusClient

from local.functions_host.bindings import BindingError

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_A_DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class BusConnection:
    """A connection string, or the name of a namespace that the host signs in to."""

    connection_string: str | None = field(repr=False)
    namespace: str | None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ServiceBusClient]:
        """A client that tries nothing twice. The local broker takes any token, and has no TLS."""
        if self.connection_string is not None:
            async with ServiceBusClient.from_connection_string(self.connection_string, retry_total=0) as client:
                yield client
            return
        namespace = self.namespace or ""
        local = namespace.partition(":")[0] in _LOOPBACK
        credential: AsyncTokenCredential = _AnyToken() if local else DefaultAzureCredential()
        async with credential, ServiceBusClient(namespace, credential, use_tls=not local, retry_total=0) as client:
            yield client


def bus_connection(function: str, name: str, settings: Mapping[str, str] | None = None) -> BusConnection:
    """Resolve a connection by app settings: NAME, or NAME__fullyQualifiedNamespace. Raises BindingError."""
    known = os.environ if settings is None else settings
    connection_string, namespace = known.get(name), known.get(f"{name}__fullyQualifiedNamespace")
    if not connection_string and not namespace:
        raise BindingError(
            f"the function {function} uses the connection {name}, but there is neither an app setting {name} "
            f"nor {name}__fullyQualifiedNamespace"
        )
    return BusConnection(connection_string or None, namespace)


class _AnyToken(AsyncTokenCredential):
    """Makes tokens that are well formed and that nobody signed."""

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        """Make one for a day."""
        until = int(time.time()) + _A_DAY_SECONDS
        head, claims = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "none"}, {"exp": until})
        )
        return AccessToken(f"{head}.{claims}.", until)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""
