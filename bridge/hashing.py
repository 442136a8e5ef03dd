"""Hashes of JSON: equal for equal documents, whatever the order of their keys."""

from __future__ import annotations

import hashlib
import json


def canonical_hash(document: object) -> str:
    """Return the SHA-256, as hex, of a document's canonical JSON (keys sorted, no spaces, ASCII escapes)."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
