"""The composition root: reads the settings, chooses the adapters, and puts the app together at its first use."""

from __future__ import annotations

import gc
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bridge import commands, config
from bridge.app import App
from bridge.callers import Tokens
from bridge.errors import ConfigInvalid, FieldError
from bridge.executor import Executor, Sleepers, World, pass_by
from bridge.ports import Completions, NoCompletions, Store
from bridge.relay import Relay
from bridge.telemetry import Log

_lock = threading.Lock()
_app: App | None = None
_relay: Relay | None = None
_refused: str | None = None


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def sleep_until(self, when: datetime) -> None:
        """Sleep until then; it may be past already."""
        time.sleep(max(0.0, (when - self.now()).total_seconds()))


class SystemRandom:
    """Randomness for jitter; nothing secret hangs on it."""

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter is no cryptography


def get_app() -> App:
    """Return the process's app, made at the first call. Wrong settings raise ConfigInvalid, at every call anew."""
    global _app  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _app is None:
            _app = _checked_build()
            # What is loaded by now stays. A full garbage collection that walked it would stop every call for a while.
            gc.freeze()
        return _app


def has_relay() -> bool:
    """Whether the app has the function `relay`. This and the next two are read when the app is imported, none else."""
    return bool(config.relay_hub(os.environ))


def has_requests_queue() -> bool:
    """Whether the app has the function `run_request`."""
    return bool(config.requests_queue(os.environ))


def has_events_queue() -> bool:
    """Whether the app has the function `run_event_queued`."""
    return bool(config.events_queue(os.environ))


def get_relay() -> Relay:
    """Return the process's relay, made at the first call. Wrong settings raise ConfigInvalid, at every call anew."""
    global _relay  # noqa: PLW0603 - one per process is the point
    app = get_app()
    with _lock:
        if _relay is None:
            _relay = build_relay(app.config, app.log)
        return _relay


def _checked_build() -> App:
    global _refused  # noqa: PLW0603 - what was logged once is not logged at every call
    try:
        return build(config.load(os.environ))
    except ConfigInvalid as problem:
        if problem.detail != _refused:
            _refused = problem.detail
            Log().warning("config.invalid", detail=problem.detail)
        raise


def build(settings: config.Config, *, reach: Callable[[commands.Point], None] = pass_by) -> App:
    """Put an app together; an adapter's library is imported here at the earliest."""
    from bridge.adapters.adf import DataFactory
    from bridge.adapters.airflow_rest import AirflowRest

    # The SDKs log every request's URL at INFO.
    for chatty in ("azure", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    log = Log(settings.secrets())
    world = World(
        clock=SystemClock(),
        random=SystemRandom(),
        store=_store(settings, log),
        adf=DataFactory(endpoint=settings.adf_endpoint, token=settings.adf_token),
        airflow=AirflowRest({name: target for name, target in settings.targets.items() if target.url}),
        completions=_completions(settings),
    )
    threads = _threads()
    executor = Executor(world, sleepers=Sleepers(max(1, threads // 4)), reach=reach, tell=log.story)
    return App(settings, world, executor, log, threads=threads, tokens=_tokens(settings))


def build_relay(settings: config.Config, log: Log) -> Relay:
    """Put a relay together; raise ConfigInvalid where no topic is configured."""
    from bridge.adapters.event_grid import EventGridTopic

    if settings.topic is None:
        raise ConfigInvalid([FieldError("BRIDGE_TOPIC_ENDPOINT", "has to be set for the relay")])
    topic = EventGridTopic(endpoint=settings.topic.endpoint, key=settings.topic.key)
    return Relay(topic, list(settings.rules.factories.values()), SystemClock().now, log)


def _completions(settings: config.Config) -> Completions:
    """Return the way to the targets' queues, where any has one."""
    queues = {name: target.queue for name, target in settings.targets.items() if target.queue}
    if settings.bus is None or not queues:
        return NoCompletions()
    from bridge.adapters.service_bus import ServiceBusCompletions

    return ServiceBusCompletions(settings.bus, queues)


def _tokens(settings: config.Config) -> Tokens | None:
    """Return how tokens of Entra are checked, where a target takes any."""
    if settings.entra is None:
        return None
    from bridge.adapters.entra_keys import EntraKeys
    from bridge.adapters.entra_tokens import EntraTokens

    return EntraTokens(settings.entra, EntraKeys(settings.entra.keys_url))


def _store(settings: config.Config, log: Log) -> Store:
    if isinstance(settings.store, config.Tables):
        from bridge.adapters.table_access import connect
        from bridge.adapters.table_store import TableStore

        return TableStore(connect(settings.store.uri, settings.store.name), tell=log.unreadable)
    from bridge.adapters.sqlite_store import SqliteStore

    path = Path(settings.store.removeprefix("sqlite:///"))
    return SqliteStore(path, retention=settings.rules.retention, tell=log.unreadable)


def _threads() -> int:
    """Return how many threads the Functions worker runs sync functions in.

    https://learn.microsoft.com/azure/azure-functions/python-scale-performance-reference
    """
    text = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
    return int(text) if text.isdigit() and int(text) > 0 else min(32, (os.cpu_count() or 1) + 4)
