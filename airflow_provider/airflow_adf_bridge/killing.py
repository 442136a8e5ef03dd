"""What a task still does when its process is told to end: Airflow gives it five seconds.

Airflow calls on_kill in the handler of SIGTERM, on the main thread, wherever that was: in the middle of a request, or
with a lock held. So the bridge is called from a thread of its own, through a session of its own and without asking
Airflow for anything, and is waited for only so long; the log, whose lock may be one of those, is written last.
After on_kill the task goes on where it was, until it ends by itself or is killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from airflow_adf_bridge.hooks import AdfBridgeHook

LIMIT = timedelta(seconds=4)
"""In all. Airflow follows its SIGTERM with SIGKILL after 5 s."""
TIMEOUT = (2.0, 3.0)
"""Seconds to connect, and seconds without a byte."""


def cancel_in_time(hook: AdfBridgeHook, run_id: str, token: str | None, limit: timedelta = LIMIT) -> str:
    """Ask the bridge to cancel the run of a wait that is given up, unless others wait for it.

    Returns what came of it: "accepted", "not-running", "waited-for", or why it is not known. Raises nothing, and takes
    `limit` at most.
    """

    def ask() -> str:
        return str(hook.apart().cancel_run(run_id, token=token, patience=limit, timeout=TIMEOUT)["cancel"])

    return _said_in_time(ask, limit)


def _said_in_time(ask: Callable[[], str], limit: timedelta) -> str:
    said: list[str] = []

    def say() -> None:
        try:
            said.append(ask())
        except Exception as error:  # noqa: BLE001 (on_kill is an entry point: whatever happens is said, and that is all)
            said.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=say, name="adf-bridge-on-kill", daemon=True)
    thread.start()
    thread.join(limit.total_seconds())
    return said[0] if said else f"no answer in {limit.total_seconds():g} s"
