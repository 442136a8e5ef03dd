"""The waits that a listener serves: who waits for each, and when the bridge is to be told of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BATCH = 500
"""Waits that the bridge takes in one call."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to register a wait, at most."""
NEVER = float("inf")


@dataclass
class Registered:
    """One wait. Times are those of the event loop's clock."""

    body: Mapping[str, Any]
    due: float
    """When it is to be registered (again); NEVER while it is registered."""
    attempts: int = 0
    futures: set[asyncio.Future[Mapping[str, Any]]] = field(default_factory=set)


class Registry:
    """The waits by token. A token may be waited for twice: a trigger may run twice for a moment."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waits: dict[str, Registered] = {}
        self.news = asyncio.Event()
        """Set when a wait has become due."""

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._waits)

    def join(self, token: str, body: Mapping[str, Any]) -> asyncio.Future[Mapping[str, Any]]:
        """Wait for a token; it is to be registered now."""
        loop = asyncio.get_running_loop()
        wait = self._waits.setdefault(token, Registered(body, NEVER))
        wait.due = min(wait.due, loop.time())
        future: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        wait.futures.add(future)
        self.news.set()
        return future

    def leave(self, token: str, future: asyncio.Future[Mapping[str, Any]]) -> None:
        """Stop waiting."""
        wait = self._waits.get(token)
        if wait is not None:
            wait.futures.discard(future)
            if not wait.futures:
                del self._waits[token]

    def hand_over(self, token: str, completion: Mapping[str, Any]) -> bool:
        """Give a completion to whoever waits for it; False when nobody does."""
        wait = self._waits.pop(token, None)
        for future in wait.futures if wait else ():
            if not future.done():
                future.set_result(completion)
        return wait is not None

    def fail(self, tokens: Iterable[str], error: BaseException) -> None:
        """Tell whoever waits for these that there is no use in it."""
        for token in tokens:
            wait = self._waits.pop(token, None)
            for future in wait.futures if wait else ():
                if not future.done():
                    future.set_exception(error)

    def fail_all(self, error: BaseException) -> None:
        """Tell everybody."""
        self.fail(list(self._waits), error)

    def all_due(self) -> None:
        """Have everything registered anew, now."""
        now = asyncio.get_running_loop().time()
        for wait in self._waits.values():
            wait.due = min(wait.due, now)
        self.news.set()

    def next_due(self) -> float:
        """When the next one is due; NEVER when none is."""
        return min((wait.due for wait in self._waits.values()), default=NEVER)

    def batch(self) -> dict[str, Mapping[str, Any]]:
        """Return what is due, the longest overdue first, at most as many as the bridge takes at once."""
        now = asyncio.get_running_loop().time()
        due = sorted((wait.due, token) for token, wait in self._waits.items() if wait.due <= now)
        return {token: self._waits[token].body for _, token in due[:BATCH]}

    def done(self, token: str) -> None:
        """Take note that the bridge knows of a wait."""
        if wait := self._waits.get(token):
            wait.due, wait.attempts = NEVER, 0

    def again(self, tokens: Iterable[str], wanted: float | None = None) -> None:
        """Try these again later, all at one time: after `wanted` seconds, or a pause that grows."""
        waits = [wait for token in tokens if (wait := self._waits.get(token))]
        for wait in waits:
            wait.attempts += 1
        due = asyncio.get_running_loop().time() + pause(max((wait.attempts for wait in waits), default=1), wanted)
        for wait in waits:
            wait.due = due


def pause(attempt: int, wanted: float | None = None) -> float:
    """Seconds before the next attempt: at least what was asked for, else doubling; with jitter."""
    least = min(2.0 ** min(attempt - 1, 10), LONGEST_PAUSE) if wanted is None else min(max(wanted, 0.5), LONGEST_PAUSE)
    return least * random.uniform(1.0, 1.25)  # noqa: S311 (jitter is no cryptography)
