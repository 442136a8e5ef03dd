"""The host itself: the app's worker, its triggers, and the HTTP server in front of them."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

from aiohttp import web

from local.functions_host.admin import PREFIX as ADMIN_PREFIX
from local.functions_host.admin import Admin
from local.functions_host.bindings import BindingError, Function
from local.functions_host.event_hub_log import EventHubLog
from local.functions_host.host_json import HostSettings
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys
from local.functions_host.triggers import event_grid, event_hub, http, service_bus, timer
from local.functions_host.triggers.event_grid import EventGridTriggers
from local.functions_host.triggers.event_hub import EventHubTriggers
from local.functions_host.triggers.http import HttpTriggers
from local.functions_host.triggers.service_bus import ServiceBusTriggers
from local.functions_host.triggers.timer import SystemClock, TimerStatusFiles, TimerTriggers
from local.functions_host.worker import Worker

_MAX_BODY_BYTES = 100 * 1024 * 1024  # FUNCTIONS_REQUEST_BODY_SIZE_LIMIT's default
_GRACE = timedelta(seconds=10)
_RESERVED = ("admin", "runtime")
_SUPPORTED = frozenset({http.TYPE, event_grid.TYPE, event_hub.TYPE, service_bus.TYPE, timer.TYPE})
_log = logging.getLogger("host")


class Host:
    """Serves one app on loopback."""

    def __init__(
        self,
        worker: Worker,
        settings: HostSettings,
        keys: Keys,
        state: Path | None,
        *,
        retry_factor: float = 1.0,
        schedules: bool = True,
    ) -> None:
        """Put the triggers of an indexed app together. Raises BindingError for a declaration that cannot be
        served.

        What timers and event hubs remember is kept in the folder `state`. Every pause before a retry is multiplied
        by `retry_factor`. Without `schedules` a timer runs only when it is asked for by hand.
        """
        functions = worker.functions
        _check(functions, settings)
        self._schedules = schedules
        self._invocations = Invocations(worker, settings.function_timeout)
        self._http = HttpTriggers(functions, self._invocations, keys, settings.route_prefix)
        self._event_grid = EventGridTriggers(functions, self._invocations, keys)
        timer_status = TimerStatusFiles(state / "timers" if state else None)
        self._timers = TimerTriggers(functions, self._invocations, timer_status, SystemClock())
        self._event_hubs = EventHubTriggers(
            functions,
            self._invocations,
            keys,
            EventHubLog(state / "event_hubs.sqlite3" if state else None),
            batch_size=settings.event_batch_size,
            pause_factor=retry_factor,
        )
        self._service_bus = ServiceBusTriggers(functions, self._invocations, settings.service_bus)
        self._admin = Admin(functions, self._invocations, keys)
        self._runner: web.AppRunner | None = None

    @property
    def invocations(self) -> Invocations:
        """What runs at the moment."""
        return self._invocations

    async def start(self, port: int) -> str:
        """Serve on this port of 127.0.0.1 (0: a free one), start the timers, and return the URL."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE.total_seconds())
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        if self._schedules:
            self._timers.start()
        self._event_hubs.start()
        self._service_bus.start()
        bound = self._runner.addresses[0][1]
        return f"http://127.0.0.1:{bound}"

    async def stop(self) -> None:
        """Take no more requests, start nothing more, and let what runs finish (ten seconds at most)."""
        if self._runner is not None:
            await asyncio.gather(
                self._runner.cleanup(),
                self._timers.stop(_GRACE),
                self._event_hubs.stop(_GRACE),
                self._service_bus.stop(_GRACE),
            )

    async def _answer(self, request: web.Request) -> web.Response:
        """Pass a request to whoever serves its path; paths ignore case, as on Azure."""
        path = request.path.lower()
        if path == "/":
            return web.Response(text="Your function app is up and running.")
        if path.rstrip("/") == event_grid.PATH.lower():
            return await self._event_grid.answer(request)
        if path.startswith(event_hub.PREFIX):
            return await self._event_hubs.answer(request)
        if path.startswith(ADMIN_PREFIX):
            return await self._admin.answer(request)
        return await self._http.answer(request)


def _check(functions: tuple[Function, ...], settings: HostSettings) -> None:
    """Refuse routes that are the host's own; say which functions will not run by themselves here."""
    for function in functions:
        route = f"{settings.route_prefix}/{function.trigger.get('route') or function.name}".lstrip("/")
        if function.trigger_type == http.TYPE and route.split("/")[0].lower() in _RESERVED:
            raise BindingError(
                f"the function {function.name}: the route {route!r} conflicts with the host's own routes"
            )
        if function.trigger_type not in _SUPPORTED:
            _log.warning(
                "%s has a %s, which this host does not have: it runs only by POST /admin/functions/%s",
                function.name,
                function.trigger_type,
                function.name,
            )
