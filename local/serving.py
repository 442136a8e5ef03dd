"""An aiohttp application as a local service: bound to the loopback, announced when ready, gone soon after
SIGTERM.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping

from aiohttp import web

from local.process import announce

LOOPBACK = "127.0.0.1"

# How long requests that are under way may still take once the service was told to stop.
_SHUTDOWN_SECONDS = 0.5
# A full garbage collection walks everything that thousands of runs consist of, and answers nothing for half a second.
_NO_FULL_COLLECTION = 2**31 - 1


def run(build: Callable[[str], web.Application], *, port: int, facts: Callable[[str], Mapping[str, object]]) -> None:
    """Serve until SIGTERM or SIGINT, then return.

    `build` makes the application for the address it will have; `facts` are what the LISTENING line says
    beside `url`. Port 0 takes any free one.
    """
    gc.set_threshold(*gc.get_threshold()[:2], _NO_FULL_COLLECTION)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(_serve(build, port, facts))


async def _serve(
    build: Callable[[str], web.Application], port: int, facts: Callable[[str], Mapping[str, object]]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = socket.create_server((LOOPBACK, port))
    url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    runner = web.AppRunner(build(url), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        announce(output=None, url=url, **facts(url))
        await stop.wait()
    finally:
        await runner.cleanup()
