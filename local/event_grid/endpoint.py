"""What a subscription's queue knows of the endpoint that receives its events."""

from collections.abc import Sequence
from typing import Protocol

from local.event_grid.delivery import Delivery


class Endpoint(Protocol):
    """Takes events."""

    async def send(self, batch: Sequence[Delivery]) -> int | None:
        """Hand over events, all or none; how that ended, as a status of HTTP, or None where nothing was answered."""

    async def close(self) -> None:
        """Let go of connections."""
