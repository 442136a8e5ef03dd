"""What a listener talks to, in memory: a bridge that keeps waits, and a queue with sessions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from virtual_time import now

from airflow_adf_bridge.completions_queue import CompletionsQueue
from airflow_adf_bridge.listener import Listener
from airflow_adf_bridge.session import SessionTakenError

QUEUE = CompletionsQueue("adf-bridge-completions", "demo.servicebus.windows.net", "")
LATER = timedelta(days=7)


def body(token: str, deadline: timedelta = LATER) -> dict[str, Any]:
    """A wait, as a trigger hands it on."""
    return {"token": token, "run_id": f"run-{token}", "deadline": (datetime.now(timezone.utc) + deadline).isoformat()}


def completion(token: str, status: str = "Succeeded") -> dict[str, Any]:
    """How its run ended."""
    return {"schema": "completion/v1", "token": token, "status": status}


@dataclass
class Bridge:
    """Keeps what is registered. `refusals` are raised first, one a call; `problems` are answered once."""

    batches: list[tuple[float, list[Mapping[str, Any]]]] = field(default_factory=list)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: deque[Exception] = field(default_factory=deque)
    problems: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    forgotten: int = 0
    closed: bool = False
    settings: CompletionsQueue | Exception = QUEUE

    @property
    def registered(self) -> list[list[str]]:
        """The tokens of each call."""
        return [[one["token"] for one in batch] for _, batch in self.batches]

    @property
    def reply_tos(self) -> list[str]:
        """Where to each call wanted to be told."""
        return [batch[0]["reply_to"] for _, batch in self.batches]

    async def queue(self) -> CompletionsQueue:
        """The connection's queue."""
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    async def register(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer a batch, after a moment."""
        self.batches.append((now(), list(bodies)))
        await asyncio.sleep(0.05)
        if self.refusals:
            raise self.refusals.popleft()
        return [self._answer(one["token"]) for one in bodies]

    def _answer(self, token: str) -> dict[str, Any]:
        if token in self.problems:
            return {"token": token, "problem": self.problems.pop(token)}
        return {"run": {}, "completed": self.ended.get(token)}

    async def show(self, token: str) -> dict[str, Any]:
        """Answer for one wait."""
        self.shown.append(token)
        if self.refusals:
            raise self.refusals.popleft()
        return {"wait": {}, "completed": self.ended.get(token)}

    def forget(self) -> None:
        """The connection is to be read anew."""
        self.forgotten += 1

    def close(self) -> None:
        """No more calls."""
        self.closed = True


class Session:
    """A session that is held; what is put into it comes out, and an exception ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.messages: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()

    async def completions(self) -> AsyncIterator[Mapping[str, Any]]:
        """What comes, until it is lost."""
        while True:
            message = await self.messages.get()
            if isinstance(message, Exception):
                raise message
            yield message

    async def close(self) -> None:
        """Give it back."""
        self.closed = True


@dataclass
class Broker:
    """Gives sessions out. `refusals` are raised first, one an attempt; `ghosts` are sessions that are held."""

    sessions: list[Session] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    refusals: deque[Exception] = field(default_factory=deque)
    ghosts: int = 0

    async def attach(self, queue: CompletionsQueue, session_id: str) -> Any:
        """Give a session out, after a moment."""
        self.attempts.append(now())
        await asyncio.sleep(0.5)
        if self.refusals:
            raise self.refusals.popleft()
        if self.ghosts:
            self.ghosts -= 1
            raise SessionTakenError(session_id)
        self.sessions.append(Session(session_id))
        return self.sessions[-1]

    @property
    def held(self) -> list[Session]:
        """The sessions that are not given back."""
        return [one for one in self.sessions if not one.closed]

    def tell(self, *tokens: str) -> None:
        """Send completions to the session that is held."""
        for token in tokens:
            self.held[-1].messages.put_nowait(completion(token))


@dataclass
class Scene:
    """A listener between the two. Make it where an event loop runs."""

    bridge: Bridge = field(default_factory=Bridge)
    broker: Broker = field(default_factory=Broker)
    listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        """Begin to listen."""
        self.listener = Listener(self.bridge, self.broker.attach)

    def wait(self, *tokens: str, deadline: timedelta = LATER) -> list[asyncio.Task[Mapping[str, Any]]]:
        """Let triggers wait."""
        bodies = [body(token, deadline) for token in tokens]
        return [
            asyncio.ensure_future(self.listener.completion(one["token"], one, datetime.fromisoformat(one["deadline"])))
            for one in bodies
        ]
