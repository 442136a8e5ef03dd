"""Triggers, their listener and azure-servicebus together, against the local Service Bus and a bridge over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import virtual_time
from bridge_stand_in import BridgeStandIn, token_of
from service_bus import LocalServiceBus, until

from airflow_adf_bridge import listener, session, triggers
from airflow_adf_bridge.errors import AdfBridgeConfigurationError
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.triggers import AdfBridgeTrigger

# azure-servicebus leaves the socket of a lost connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

BEGAN = "2026-01-01T00:00:00+00:00"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServiceBus]:
    """A Service Bus for all tests; each listens to a session of its own."""
    broker = LocalServiceBus(tmp_path_factory.mktemp("service-bus"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker(process: LocalServiceBus) -> LocalServiceBus:
    """The Service Bus when nobody is connected, its counts at nothing."""
    until(lambda: process.control("GET", "counts")["connections"]["open"] == 0)
    process.control("DELETE", "counts")
    return process


class Triggerer:
    """One event loop in a thread, as in a triggerer process, and the triggers that run there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._running: list[Any] = []
        self.fired: dict[str, Any] = {}

    def run(self, *running: AdfBridgeTrigger) -> None:
        """Start triggers."""
        self._running += [asyncio.run_coroutine_threadsafe(self._run(one), self._loop) for one in running]

    async def _run(self, trigger: AdfBridgeTrigger) -> None:
        async for event in trigger.run():
            self.fired[trigger.token] = event.payload

    def end(self) -> None:
        """End as at a restart: all triggers are cancelled, the loop ends."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
def triggerers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Triggerer]]:
    """Start triggerers; those that still run are ended. Nothing is held back after an early completion."""
    monkeypatch.setattr(triggers, "HOLD", 0.0)
    started: list[Triggerer] = []

    def start() -> Triggerer:
        started.append(Triggerer())
        return started[-1]

    yield start
    for one in started:
        if one._thread.is_alive():
            one.end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def connected(connect: Callable[..., AdfBridgeHook], broker: LocalServiceBus) -> None:
    """A connection to both."""
    connect({"servicebus_namespace": "", "servicebus_connection_string": broker.connection_string})


def a_trigger(bridge: BridgeStandIn, number: int = 0) -> AdfBridgeTrigger:
    """A trigger that waits for a run of its own, which the bridge knows."""
    bridge.begin(f"run-{number}", "ingest", BEGAN)
    task = {
        "dag_id": "nightly",
        "run_id": "manual__1",
        "task_id": f"ingest-{number}",
        "map_index": -1,
        "try_number": 1,
        "task_instance_id": None,
        "nonce": "n",
    }
    deadline = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
    wait = {"target": "demo", "task": task, "deadline": deadline, "run_id": f"run-{number}"}
    return AdfBridgeTrigger("adf_bridge_default", token_of(wait), {**wait, "factory": "sales", "mode": "queue"})


def tell(bridge: BridgeStandIn, broker: LocalServiceBus, *tokens: str) -> dict[str, Any]:
    """End runs, and send their completions to whoever has registered for them last."""
    completions = {token: bridge.complete(token, "Succeeded") for token in tokens}
    (reply_to,) = {bridge.waits[token]["reply_to"] for token in tokens}
    broker.send(reply_to, *completions.values())
    return completions


@pytest.mark.usefixtures("connected")
def test_fifty_triggers_are_one_connection(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer]
) -> None:
    """Fifty tasks that wait in one triggerer have one connection, one session and one call; all are told, by token."""
    running = [a_trigger(bridge, number) for number in range(50)]
    triggerer = triggerers()
    triggerer.run(*running)
    until(lambda: len(bridge.waits) == 50)
    counts = broker.control("GET", "counts")["connections"]
    completions = tell(bridge, broker, *(one.token for one in reversed(running)))
    until(lambda: len(triggerer.fired) == 50)
    assert ({"open": 1, "opened": 1, "most_at_once": 1}, 1) == (counts, len(bridge.batches))
    assert (completions, [bridge.batches[0][0]["reply_to"]]) == (triggerer.fired, broker.sessions())
    until(lambda: broker.messages() == 0)


@pytest.mark.usefixtures("connected")
def test_a_completion_before_the_trigger_is_told_by_the_bridge(
    bridge: BridgeStandIn, triggerers: Callable[[], Triggerer]
) -> None:
    """S01: a run that has ended before its trigger runs completes it by the answer to its registration."""
    bridge.end_at_once = "Failed"
    trigger, triggerer = a_trigger(bridge), triggerers()
    triggerer.run(trigger)
    until(lambda: triggerer.fired)
    assert bridge.completed[trigger.token] == triggerer.fired[trigger.token]


@pytest.mark.usefixtures("connected")
def test_what_is_no_completion_of_ours_is_dropped(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer]
) -> None:
    """S26: messages for other tokens, and such as are no completion, are settled and harm no other."""
    trigger, triggerer = a_trigger(bridge), triggerers()
    triggerer.run(trigger)
    until(lambda: bridge.waits)
    reply_to = bridge.batches[0][0]["reply_to"]
    broker.send(reply_to, {"token": "f" * 64, "status": "Failed"}, b"\xff", b"[]", b"{}", b'{"token": 7}', b"[" * 9999)
    completions = tell(bridge, broker, trigger.token)
    until(lambda: triggerer.fired)
    assert completions == triggerer.fired
    until(lambda: broker.messages() == 0)


@pytest.mark.usefixtures("connected")
def test_a_triggerer_that_is_restarted_registers_anew(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer]
) -> None:
    """A restarted triggerer listens under another name, registers everything, and is told what was sent to the old."""
    running = [a_trigger(bridge, number) for number in range(3)]
    first = triggerers()
    first.run(*running)
    until(lambda: len(bridge.waits) == 3)
    first.end()
    until(lambda: broker.sessions() == [])
    before = tell(bridge, broker, running[0].token)
    second = triggerers()
    second.run(*(AdfBridgeTrigger(**one.serialize()[1]) for one in running))
    until(lambda: len(second.fired) == 1 and len(bridge.batches) == 2)
    after = tell(bridge, broker, running[1].token, running[2].token)
    until(lambda: len(second.fired) == 3)
    assert ({**before, **after}, {}, [], 2) == (
        second.fired,
        first.fired,
        bridge.cancelled,
        len({batch[0]["reply_to"] for batch in bridge.batches}),
    )
    broker.control("DELETE", "messages?queue=adf-bridge-completions")


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("trouble", ["killed", "cut", "closed", "idle"])
def test_a_lost_connection_is_made_again(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer], trouble: str
) -> None:
    """S25: after a crash of the broker, a cut line or an idle detach, the session goes on and nothing is registered."""
    trigger, triggerer = a_trigger(bridge), triggerers()
    triggerer.run(trigger)
    until(lambda: bridge.waits)
    if trouble == "killed":
        broker.kill()
        broker.start()
    elif trouble == "idle":
        broker.control("DELETE", "links?queue=adf-bridge-completions")
    else:
        broker.control("DELETE", f"connections?{'abort' if trouble == 'cut' else 'close'}=1")
    completions = tell(bridge, broker, trigger.token)
    until(lambda: triggerer.fired)
    assert (completions, 1, [bridge.batches[0][0]["reply_to"]]) == (
        triggerer.fired,
        len(bridge.batches),
        broker.sessions(),
    )


@pytest.mark.usefixtures("connected")
def test_the_session_is_held_beyond_its_lock(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's lock is renewed while nothing comes."""
    monkeypatch.setattr(session, "RENEWED_AT", 0.0)
    triggerers().run(a_trigger(bridge))
    until(lambda: broker.control("GET", "counts")["operations"].get("renew-session-lock", 0) >= 2)
    assert (1, 1) == (len(broker.sessions()), len(bridge.batches))


class Clock(datetime):
    """A clock that is ahead by some seconds, or behind."""

    ahead = 0.0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """The time that it shows."""
        return datetime.now(tz) + timedelta(seconds=cls.ahead)


@pytest.mark.usefixtures("connected")
def test_a_clock_that_is_ahead_is_named(
    bridge: BridgeStandIn,
    broker: LocalServiceBus,
    triggerers: Callable[[], Triggerer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S31: by a clock that is minutes ahead a session is lost at once: that is said, and the waits are registered."""
    monkeypatch.setattr(Clock, "ahead", 600.0)
    monkeypatch.setattr(session, "datetime", Clock)
    monkeypatch.setattr("airflow_adf_bridge.listener.ATTACH_PATIENCE", 0.0)
    trigger = a_trigger(bridge)
    triggerers().run(trigger)
    until(lambda: trigger.token in bridge.waits and "Set the clock" in caplog.text)
    until(lambda: broker.sessions() == [])


def test_a_clock_that_is_behind_costs_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """S31: a session's lock of a minute is renewed in time, though by this clock it lasts for ten minutes more."""
    monkeypatch.setattr(Clock, "ahead", -600.0)
    monkeypatch.setattr(session, "datetime", Clock)
    renewed: list[float] = []

    class Held:
        locked_until_utc = datetime.now(timezone.utc) + timedelta(minutes=1)

        async def renew_lock(self, timeout: float) -> None:
            renewed.append(virtual_time.now())

    class Receiver:
        session = Held()

        async def receive_messages(self, max_message_count: int) -> list[Any]:
            await asyncio.sleep(3600)
            return []

    async def story() -> None:
        held = session.CompletionsSession(None, Receiver(), None)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(anext(aiter(held.completions())), 59)
        assert [30.0] == [round(moment, 1) for moment in renewed]

    virtual_time.run(story())


@pytest.mark.usefixtures("connected")
def test_a_listener_that_is_not_needed_leaves(
    bridge: BridgeStandIn, broker: LocalServiceBus, triggerers: Callable[[], Triggerer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last task has gone the connection is closed; the next task opens another."""
    monkeypatch.setattr(listener, "LINGER", 0.1)
    trigger, again, triggerer = a_trigger(bridge), a_trigger(bridge, 1), triggerers()
    for number, one in enumerate((trigger, again), 1):
        triggerer.run(one)
        until(lambda: len(bridge.batches) == number)  # noqa: B023 (called at once)
        tell(bridge, broker, one.token)
        until(lambda: len(triggerer.fired) == number)  # noqa: B023
        until(lambda: broker.sessions() == [])
    until(lambda: broker.control("GET", "counts")["connections"]["open"] == 0)
    assert 2 == len({batch[0]["reply_to"] for batch in bridge.batches})


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("missing", ["azure.servicebus.aio", "azure.identity.aio"])
def test_a_package_that_is_missing_is_named(
    connect: Callable[..., AdfBridgeHook], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Without the extra `queue` the triggers end with what to install."""
    imported = session.import_module

    def import_module(name: str) -> Any:
        if name == missing:
            raise ImportError(name)
        return imported(name)

    monkeypatch.setattr(session, "import_module", import_module)
    queue = connect().completions_queue
    with pytest.raises(
        AdfBridgeConfigurationError, match=rf"{missing.split('.')[1]}.*airflow-provider-adf-bridge\[queue"
    ):
        asyncio.run(session.open_session(queue, "s"))
