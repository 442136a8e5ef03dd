"""Run events that come by a queue, into which Event Grid puts them: kept there while the app cannot take them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from bridge.app import App
from bridge.errors import StoreUnavailable

PAUSE: Final = timedelta(seconds=10)


def take(app: App, body: bytes) -> None:
    """Take in one message, the JSON of an event, as from Event Grid itself; what makes no sense is written down.

    Raises StoreUnavailable when nothing could be written, after a pause: the host has it delivered again at once, and
    its deliveries are counted.
    """
    try:
        app.receive(body.decode("utf-8-sig", errors="replace"))
    except StoreUnavailable as problem:
        app.pause(problem.retry_after or PAUSE)
        raise
