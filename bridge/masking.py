"""Takes secrets out of texts: an error of ADF or of Airflow may repeat what it was sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

MASK: Final = "***"
_SHORTEST: Final = 4  # masking shorter ones would only blot out the text


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return a text without any of the secrets; the longest go first, so that one that contains another goes whole."""
    for secret in sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


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
