"""Takes secrets out of texts: an error of ADF or of Airflow may repeat what it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
_SHORTEST: Final = 4  # masking shorter ones would only blot out the text


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return a text without any of the secrets."""
    return without(text, spelled(secrets))


def spelled(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the ways in which secrets may stand in a text, the longest first: one that contains another goes whole."""
    spellings = {spelling for one in secrets if len(one) >= _SHORTEST for spelling in _spellings(one)}
    return tuple(sorted(spellings, key=len, reverse=True))


def without(text: str, spellings: Iterable[str]) -> str:
    """Return a text with the mask in the place of each of these."""
    for spelling in spellings:
        text = text.replace(spelling, MASK)
    return text


def _spellings(secret: str) -> Iterator[str]:
    """Spell a secret as it may stand in a text: plain, in an address, as Python shows it in an error, as JSON."""
    yield secret
    yield quote(secret, safe="", errors="replace")
    yield quote(secret, errors="replace")
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]


def texts_in(value: object) -> Iterator[str]:
    """Find every text in a JSON value, but for the names in objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
