"""An event loop whose time passes only where everybody sleeps, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Never waits: the time that it was to wait for has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Look for what is ready."""
        assert timeout is not None, "everybody waits for something that never comes"
        self.passed += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Nothing outside of it may be waited for: no thread, no socket."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since it was made."""
        return float(self._virtual.passed)


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a story in virtual time, and end what it leaves behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.run_until_complete(_end_what_is_left())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end_what_is_left() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def now() -> float:
    """Seconds since the story began."""
    return asyncio.get_running_loop().time()


async def until(happened: Callable[[], bool]) -> None:
    """Let time pass until something has happened."""
    while not happened():  # noqa: ASYNC110 (this time costs none)
        await asyncio.sleep(0.01)
