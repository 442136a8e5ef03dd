"""The bridge's HTTP API for a triggerer: the hook, in one thread of its own, for whatever waits on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from airflow_adf_bridge.airflow_api import ask_airflow
from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.hooks import AdfBridgeHook

T = TypeVar("T")

ONCE = timedelta(0)
"""One attempt: whoever calls has all other waits to think of, and tries again by itself."""
TIMEOUT = (5.0, 60.0)
"""Seconds to connect, and seconds without a byte."""


class BridgeCalls:
    """Calls of one connection's bridge, one after the other.

    Airflow's own `sync_to_async` has a single thread for all triggers of a process: a slow bridge must not block it.
    """

    def __init__(self, conn_id: str) -> None:
        """Name the connection. It is read when it is needed."""
        self._conn_id = conn_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="adf-bridge-listener")
        self._hook: AdfBridgeHook | None = None

    async def queue(self) -> CompletionsQueue:
        """Return where completions come through. Raises AdfBridgeConfigurationError."""
        hook = await self._connected()
        queue: CompletionsQueue = await ask_airflow(
            lambda: hook.completions_queue, self._run
        )  # which masks its secrets
        return queue

    async def register(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Register waits; one attempt. Raises AdfBridgeRefusedError or AdfBridgeUnreachableError."""
        hook = await self._connected()
        return await self._run(lambda: hook.register_waits(bodies, patience=ONCE, timeout=TIMEOUT))

    async def show(self, token: str) -> dict[str, Any]:
        """Show a wait; one attempt. Raises as `register`."""
        hook = await self._connected()
        return await self._run(lambda: hook.get_wait(token, patience=ONCE))

    async def cancel(self, run_id: str, token: str, patience: timedelta) -> str:
        """Cancel the run of a wait that is given up, and return what came of it. Raises as `register`."""
        hook = await self._connected()
        answer = await self._run(lambda: hook.cancel_run(run_id, token=token, patience=patience, timeout=TIMEOUT))
        return str(answer["cancel"])

    def forget(self) -> None:
        """Read the connection anew before the next call: a secret may have been rotated."""
        self._hook = None

    def close(self) -> None:
        """Take no further calls; one that is under way is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _connected(self) -> AdfBridgeHook:
        if self._hook is None:
            self._hook = await ask_airflow(lambda: _hook_of(self._conn_id), self._run)
        return self._hook

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _hook_of(conn_id: str) -> AdfBridgeHook:
    """Return a hook whose connection is plain data: nothing of it asks Airflow again, from a thread that may not."""
    hook = AdfBridgeHook(conn_id)
    connection = hook.get_connection(conn_id)
    hook.__dict__["connection"] = SimpleNamespace(
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        password=connection.password,
        extra_dejson=dict(connection.extra_dejson),
    )
    return hook
