"""What a triggerer process has one of, however many tasks wait in it: a session of the completions queue.

The listener attaches its session first and then registers its waits with the bridge, so that nothing falls in between.
The answer to a registration tells what has ended already, also what had been sent to a listener that is gone; a message
tells the rest. Nothing is asked again and again, but for the lease: everything is registered anew every 15 minutes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from airflow_adf_bridge.bridge_calls import BridgeCalls
from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.errors import (
    AdfBridgeConfigurationError,
    AdfBridgeError,
    AdfBridgeListenerError,
    AdfBridgeRefusedError,
    AdfBridgeUnreachableError,
)
from airflow_adf_bridge.registry import NEVER, Registry, pause
from airflow_adf_bridge.reply_to import new_reply_to
from airflow_adf_bridge.session import CompletionsSession, SessionTakenError, open_session

log = logging.getLogger(__name__)

GATHER = 0.2
"""Seconds for which registrations are gathered into one call."""
LEASE = 15 * 60.0
"""Seconds after which everything is registered anew; up to a fifth less."""
ATTACH_PATIENCE = 30.0
"""Seconds that registrations wait for the session. Then they go ahead: the queue keeps what comes for the session."""
ATTACH_TIMEOUT = 60.0
"""Seconds after which an attempt to attach the session is given up."""
LINGER = 60.0
"""Seconds that the session is held after the last task has gone."""
MARGIN = 5 * 60.0
"""Seconds after a wait's deadline in which the bridge should have said that it has passed."""
LEAST = 60.0
"""Seconds that a trigger waits at least, however late it begins: for a bridge that answers at the second attempt."""
SAID_EVERY = 10 * 60.0
"""Seconds after which the same trouble is a warning again."""

_BAD_REQUESTS = (
    HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
)  # fmt: skip


class Calls(Protocol):
    """What a listener asks of the bridge, and of the connection: see BridgeCalls."""

    async def queue(self) -> CompletionsQueue: ...  # noqa: D102
    async def register(self, bodies: list[Mapping[str, Any]]) -> list[dict[str, Any]]: ...  # noqa: D102
    async def show(self, token: str) -> dict[str, Any]: ...  # noqa: D102
    def forget(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


OpenSession = Callable[[CompletionsQueue, str], Awaitable[CompletionsSession]]


class Listener:
    """Serves all waits of one event loop that share a connection. Ends by itself when it has had none for a while."""

    def __init__(self, calls: Calls, attach: OpenSession = open_session) -> None:
        """Begin to listen. Needs a running event loop."""
        self.reply_to = new_reply_to()
        self.closed = False
        self._calls = calls
        self._attach = attach
        self._waits = Registry()
        self._attached = asyncio.Event()
        self._fatal: AdfBridgeConfigurationError | None = None
        self._trouble = ""
        self._said: dict[str, float] = {}
        self._unused: asyncio.TimerHandle | None = None
        self._tasks = [_alone(self._listen()), _alone(self._keep_registered())]

    async def completion(self, token: str, body: Mapping[str, Any], deadline: datetime) -> Mapping[str, Any]:
        """Return how the run of a wait ended, as soon as the bridge tells.

        Raises AdfBridgeRefusedError when the bridge would not wait, AdfBridgeConfigurationError when nothing can be
        listened to, and AdfBridgeListenerError when nothing was heard until some time after the deadline.
        """
        if self._fatal is not None:
            raise self._fatal
        future = self._waits.join(token, body)
        if self._unused is not None:
            self._unused.cancel()
            self._unused = None
        left = (deadline - datetime.now(timezone.utc)).total_seconds()
        try:
            return await asyncio.wait_for(future, max(left + MARGIN, LEAST))
        except asyncio.TimeoutError:
            return await self._last_word(token, deadline)
        finally:
            self._waits.leave(token, future)
            if not self._waits and not self.closed and self._unused is None:
                self._unused = asyncio.get_running_loop().call_later(LINGER, self._close_unless_used)

    def close(self) -> None:
        """Stop listening, and give the session back."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        self._calls.close()

    def _close_unless_used(self) -> None:
        if not self._waits:
            self.close()

    # ---- the session

    async def _listen(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                queue = await self._calls.queue()
                session = await asyncio.wait_for(self._attach(queue, self.reply_to), ATTACH_TIMEOUT)
            except SessionTakenError:
                log.info("The session %s is held by a connection that was lost; going on as another.", self.reply_to)
                self.reply_to = new_reply_to()
                self._attached.clear()
                self._waits.all_due()
            except AdfBridgeConfigurationError as error:
                self._give_up(error)
                return
            except Exception as error:  # noqa: BLE001 (whatever azure-servicebus raises, the next attempt may succeed)
                self._tell("The completions queue cannot be listened to", error)
                self._calls.forget()
            else:
                attempt = 0
                await self._serve(session)
            await asyncio.sleep(pause(max(attempt, 1)))

    async def _serve(self, session: CompletionsSession) -> None:
        """Hand over what comes, until the session or its connection is lost."""
        log.info("Listening to session %s of the completions queue.", self.reply_to)
        self._trouble = ""
        self._said.clear()
        self._attached.set()
        try:
            async for completion in session.completions():
                if not self._waits.hand_over(completion["token"], completion):
                    log.debug("A completion came for %s, which nobody waits for here.", completion["token"])
        except Exception as error:  # noqa: BLE001 (as above)
            log.info("The session %s was lost (%s); attaching it again.", self.reply_to, _short(error))
        finally:
            await session.close()

    def _give_up(self, error: AdfBridgeConfigurationError) -> None:
        """End for everybody. The next task to wait makes another listener, which reads the connection anew."""
        log.error("Nothing can be listened to: %s", error)
        self._fatal = error
        self.closed = True
        self._waits.fail_all(error)
        asyncio.get_running_loop().call_soon(self.close)

    # ---- the registrations

    async def _keep_registered(self) -> None:
        clock = asyncio.get_running_loop().time
        lease_ends = clock() + _lease()
        while True:
            await self._until(min(self._waits.next_due(), lease_ends))
            if clock() >= lease_ends:
                self._waits.all_due()
                lease_ends = clock() + _lease()
            if self._waits.next_due() > clock():
                continue
            await asyncio.sleep(GATHER)
            if not self._attached.is_set():
                await _within(self._attached.wait(), ATTACH_PATIENCE)
            if batch := self._waits.batch():
                await self._register(batch)

    async def _until(self, moment: float) -> None:
        """Sleep until then, or until there is news."""
        seconds = None if moment == NEVER else max(moment - asyncio.get_running_loop().time(), 0.0)
        await _within(self._waits.news.wait(), seconds)
        self._waits.news.clear()

    async def _register(self, batch: dict[str, Mapping[str, Any]]) -> None:
        reply_to = self.reply_to
        try:
            answers = await self._calls.register([{**body, "reply_to": reply_to} for body in batch.values()])
        except AdfBridgeUnreachableError as error:
            self._tell("Waits could not be registered", error)
            self._waits.again(batch, None if error.retry_after is None else error.retry_after.total_seconds())
        except AdfBridgeRefusedError as error:
            if error.status in _BAD_REQUESTS:
                self._waits.fail(batch, error)
                return
            # A key that was rotated, an address that leads elsewhere: nothing that one of these tasks has done.
            self._tell("Waits could not be registered", error)
            self._calls.forget()
            self._waits.again(batch)
        except Exception as error:  # noqa: BLE001 (a connection that cannot be read: the next attempt may succeed)
            self._tell("Waits could not be registered", error)
            self._calls.forget()
            self._waits.again(batch)
        else:
            for token, answer in zip(batch, answers, strict=True):
                self._take(token, answer, current=reply_to == self.reply_to)

    def _take(self, token: str, answer: Mapping[str, Any], *, current: bool) -> None:
        """Act on the answer to one registration; `current` tells whether it was for the session that is held now."""
        completed, problem = answer.get("completed"), answer.get("problem")
        if isinstance(completed, Mapping):
            self._waits.hand_over(token, completed)
        elif isinstance(problem, Mapping):
            wanted, status = problem.get("retry_after"), problem.get("status")
            status = status if isinstance(status, int) else 0
            if isinstance(wanted, (int, float)) or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._waits.again([token], wanted if isinstance(wanted, (int, float)) else None)
            else:
                self._waits.fail([token], AdfBridgeRefusedError("to wait for the run", status, problem))
        elif not answer:
            self._waits.again([token])
        elif current:
            self._waits.done(token)

    # ---- the end

    async def _last_word(self, token: str, deadline: datetime) -> Mapping[str, Any]:
        """Ask the bridge itself, once."""
        why = self._trouble
        try:
            answer = await self._calls.show(token)
        except AdfBridgeError as error:
            why = str(error)
        else:
            if isinstance(completed := answer.get("completed"), Mapping):
                return completed
            why = why or "The bridge says that it still waits: look at its /api/health and at the wait's timeline."
        raise AdfBridgeListenerError(
            f"Nothing was heard of the run by its deadline ({deadline:%Y-%m-%d %H:%M:%SZ}). {why} "
            "The run itself may go on."
        )

    def _tell(self, what: str, error: BaseException) -> None:
        """Keep the trouble for whoever runs out of time, and log it now and then."""
        self._trouble = f"{what}: {_short(error)}"
        now = asyncio.get_running_loop().time()
        if now - self._said.get(what, -SAID_EVERY) >= SAID_EVERY:
            self._said[what] = now
            log.warning("%s (tried again and again): %s", what, error)
        else:
            log.info("%s: %s", what, _short(error))


_LISTENERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Listener]] = WeakKeyDictionary()


def listener_of(conn_id: str) -> Listener:
    """Return the listener that the running event loop has for a connection; make it if there is none."""
    listeners = _LISTENERS.setdefault(asyncio.get_running_loop(), {})
    listener = listeners.get(conn_id)
    if listener is None or listener.closed:
        listener = listeners[conn_id] = Listener(BridgeCalls(conn_id))
    return listener


def _alone(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run it outside the context of the trigger that happens to be the first: what it logs is not that task's."""
    return contextvars.Context().run(asyncio.get_running_loop().create_task, work)


async def _within(event: Coroutine[Any, Any, Any], seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event, seconds)
    except asyncio.TimeoutError:
        return


def _lease() -> float:
    return LEASE * random.uniform(0.8, 1.0)  # noqa: S311 (jitter is no cryptography)


def _short(error: BaseException) -> str:
    """One line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
