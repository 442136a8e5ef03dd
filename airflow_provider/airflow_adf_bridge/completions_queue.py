"""The Service Bus queue that completions come through in mode queue: where a connection says that it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_adf_bridge.errors import AdfBridgeConfigurationError

DEFAULT_QUEUE = "adf-bridge-completions"

_NAMESPACE = re.compile(r"(?:sb://)?([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+)/?")


@dataclass(frozen=True)
class CompletionsQueue:
    """A queue in a namespace that is reached either as whoever this machine is, or by a connection string."""

    name: str
    namespace: str
    """The namespace's host name; empty with a connection string."""
    connection_string: str = field(repr=False)

    @classmethod
    def of(cls, extra: Mapping[str, Any], conn_id: str) -> CompletionsQueue:
        """Read it from a connection's extra. Raises AdfBridgeConfigurationError when it is not there, or twice."""
        namespace, connection_string = (
            _text(extra, "servicebus_namespace"),
            _text(extra, "servicebus_connection_string"),
        )
        if bool(namespace) == bool(connection_string):
            raise AdfBridgeConfigurationError(
                f"Mode queue needs servicebus_namespace (my-namespace.servicebus.windows.net) in the extra of "
                f"{conn_id}, or else servicebus_connection_string; there {'are both' if namespace else 'is neither'}."
            )
        if namespace:
            found = _NAMESPACE.fullmatch(namespace)
            if found is None:
                raise AdfBridgeConfigurationError(
                    f"servicebus_namespace in the extra of {conn_id} must be a host name such as "
                    f"my-namespace.servicebus.windows.net, not {namespace!r}."
                )
            namespace = found[1]
        elif "endpoint=" not in connection_string.lower():
            raise AdfBridgeConfigurationError(
                f"servicebus_connection_string in the extra of {conn_id} is none: it has no Endpoint."
            )
        return cls(_text(extra, "completions_queue") or DEFAULT_QUEUE, namespace, connection_string)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen in a log: the connection string, and the key in it."""
        if not self.connection_string:
            return ()
        key = re.search(r"SharedAccessKey=([^;]+)", self.connection_string, re.IGNORECASE)
        return (self.connection_string, *([key[1]] if key else []))


def _text(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    return value.strip() if isinstance(value, str) else ""
