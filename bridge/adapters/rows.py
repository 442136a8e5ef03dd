"""How rows are written down: JSON, readable by every later release.

A field that is new in a release has a default, so an older row still reads; a field that a newer release added is
passed over by an older one. The version, which only the store knows, is not part of the text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from bridge.model import Breaker, Run, StartRequest, Wait

Row = TypeVar("Row", Run, Wait, StartRequest, Breaker)

SCHEMA: Final = 1


def encode(row: Row) -> str:
    """Return a row as JSON."""
    return msgspec.json.encode(stored(row, version="")).decode()


def decode(text: str, kind: type[Row], *, version: str) -> Row:
    """Return the row of a JSON text, with the store's version put in."""
    return replace(msgspec.json.decode(text, type=kind), version=version)


def stored(row: Row, *, version: str) -> Row:
    """Return a row as it stands once it is stored: with its version, and nothing in its story is news any more."""
    told: dict[str, Any] = {"news": 0} if hasattr(row, "news") else {}
    return replace(row, version=version, **told)
