"""The name under which a triggerer process listens: the id of its session, and the `reply_to` of its waits."""

from __future__ import annotations

import os
import re
import secrets
import socket

HOST_LENGTH = 80
"""Characters of the host's name that are kept; the bridge takes 128 in all."""


def new_reply_to(host: str | None = None, pid: int | None = None) -> str:
    """Return a name that no other process has, and no earlier one had."""
    name = re.sub(r"[^A-Za-z0-9._~-]", "-", socket.gethostname() if host is None else host)[:HOST_LENGTH]
    return f"{name or 'triggerer'}-{os.getpid() if pid is None else pid}-{secrets.token_hex(6)}"
