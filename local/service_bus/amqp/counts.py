"""How much has happened since the start, or since the counts were set back."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """Connections, links, and operations by name. `most` is the highest number of connections at one time."""

    connections: int = 0
    most_connections: int = 0
    links: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    idle_detaches: int = 0

    def operation(self, op: str) -> None:
        """A client has asked for something, or was given a message ("deliver")."""
        self.operations[op] += 1

    def describe(self, *, open_connections: int, open_links: int) -> dict[str, Any]:
        """The counts as the control calls show them."""
        return {
            "connections": {
                "open": open_connections, "opened": self.connections, "most_at_once": self.most_connections
            },
            "links": {"open": open_links, "opened": dict(self.links), "detached_idle": self.idle_detaches},
            "operations": dict(self.operations),
        }  # fmt: skip
