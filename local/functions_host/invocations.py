"""Running functions: ids, the time limit, the log line for each, and what still runs when the host stops."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta

from local.functions_host.bindings import Function
from local.functions_host.messages import TypedData
from local.functions_host.worker import InvocationFailedError, InvocationInput, Worker, current_invocation_id

_log = logging.getLogger("host.invocations")
_current: ContextVar[str | None] = ContextVar("invocation_id", default=None)


class Invocations:
    """Invokes the app's functions and knows which invocations are under way."""

    def __init__(self, worker: Worker, timeout: timedelta | None) -> None:
        """`timeout` is the host's `functionTimeout`; None means none."""
        self._worker = worker
        self._timeout = timeout
        self._running: dict[str, Function] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._background: set[asyncio.Task[None]] = set()

    async def invoke(self, function: Function, given: InvocationInput, *, reason: str) -> TypedData | None:
        """Run a function once and return its return value; `reason` goes to the log.

        Raises InvocationFailedError when it raises or takes longer than the time limit. A function that
        overran is reported as failed, but its thread cannot be killed and works on; the real host restarts
        the worker process then.
        """
        invocation_id = str(uuid.uuid4())
        self._running[invocation_id] = function
        self._idle.clear()
        token = _current.set(invocation_id)
        started = time.perf_counter()
        failure: InvocationFailedError | None = None
        try:
            async with asyncio.timeout(self._timeout.total_seconds() if self._timeout else None):
                return await self._worker.invoke(function, invocation_id, given)
        except TimeoutError:
            failure = InvocationFailedError(f"{function.name} took longer than functionTimeout ({self._timeout})")
            raise failure from None
        except InvocationFailedError as error:
            failure = error
            raise
        finally:
            self._write_outcome(reason, started, failure)
            _current.reset(token)
            del self._running[invocation_id]
            if not self._running:
                self._idle.set()

    def start(self, function: Function, given: InvocationInput, *, reason: str) -> None:
        """Run a function without waiting for it; a failure is logged, nothing more."""
        task = asyncio.create_task(self._run_unwatched(function, given, reason))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def finish(self, grace: timedelta) -> bool:
        """Wait until nothing runs any more, `grace` at most. Returns whether that was enough."""
        try:
            async with asyncio.timeout(grace.total_seconds()):
                await self._idle.wait()
        except TimeoutError:
            names = ", ".join(sorted({function.name for function in self._running.values()}))
            _log.warning("Stopping while %d invocations still run: %s", len(self._running), names)
            return False
        return True

    def current(self) -> Mapping[str, str]:
        """`function` and `invocation_id` of the invocation that the caller's thread or task belongs to, or
        nothing.
        """
        invocation_id = current_invocation_id() or _current.get()
        function = self._running.get(invocation_id) if invocation_id else None
        if invocation_id is None or function is None:
            return {}
        return {"function": function.name, "invocation_id": invocation_id}

    async def _run_unwatched(self, function: Function, given: InvocationInput, reason: str) -> None:
        with contextlib.suppress(InvocationFailedError):  # it is in the log, and nobody waits for the answer
            await self.invoke(function, given, reason=reason)

    def _write_outcome(self, reason: str, started: float, failure: InvocationFailedError | None) -> None:
        facts: dict[str, object] = {
            "reason": reason,
            "duration_ms": round((time.perf_counter() - started) * 1000, 1),
        }
        if failure is None:
            _log.info("Succeeded", extra=facts)
        else:
            _log.error("Failed: %s", failure, extra={**facts, "exception": failure.stack_trace or str(failure)})
