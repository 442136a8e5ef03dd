"""Timers in the local Functions host: schedules, start-up, missed runs, no overlap, and running one by
hand.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.functions_host.bindings import BindingError, Function, parse_function
from local.functions_host.invocations import Invocations
from local.functions_host.messages import TypedData
from local.functions_host.triggers.timer import TimerStatus, TimerStatusFiles, TimerTriggers
from local.functions_host.worker import InvocationFailedError, InvocationInput, Worker
from tests.component.hosted_app import FUNCTION_KEY, MASTER_KEY, HostedApp, hosted_app

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class JumpingClock:
    """A clock on which waiting takes no time; at `end` nothing is due any more."""

    def __init__(self, end: datetime) -> None:
        self.time = NOON
        self.end = end
        self.ended = asyncio.Event()

    def now(self) -> datetime:
        """The time on this clock."""
        return self.time

    async def sleep_until(self, moment: datetime) -> None:
        """Jump to the moment, or, past the end, never return."""
        if moment > self.end:
            self.ended.set()
            await asyncio.Event().wait()
        self.time = max(self.time, moment)


class RecordingWorker(Worker):
    """A worker whose functions take a while on the clock, note when they ran, and may fail."""

    def __init__(self, clock: JumpingClock, takes: timedelta, *, fails: bool) -> None:
        super().__init__()
        self.clock = clock
        self.takes = takes
        self.fails = fails
        self.runs: list[tuple[timedelta, dict[str, Any]]] = []

    async def invoke(self, function: Function, invocation_id: str, given: InvocationInput) -> TypedData | None:
        """Note the run."""
        self.runs.append((self.clock.now() - NOON, json.loads(given.data.__dict__["json"])))
        self.clock.time += self.takes
        await asyncio.sleep(0)
        if self.fails:
            raise InvocationFailedError("boom")
        return None


def run_timer(
    schedule: str,
    *,
    status: TimerStatusFiles | None = None,
    takes: timedelta = timedelta(),
    minutes: float = 1,
    fails: bool = False,
    **trigger: object,
) -> list[tuple[timedelta, dict[str, Any]]]:
    """Run one timer on a jumping clock from noon on; return when it ran, and what it was given."""
    binding = {"type": "timerTrigger", "name": "timer", "schedule": schedule, **trigger}

    async def run() -> list[tuple[timedelta, dict[str, Any]]]:
        clock = JumpingClock(NOON + timedelta(minutes=minutes))
        worker = RecordingWorker(clock, takes, fails=fails)
        function = parse_function("tick", "1", [json.dumps(binding)])
        timers = TimerTriggers([function], Invocations(worker, None), status or TimerStatusFiles(None), clock)
        timers.start()
        await clock.ended.wait()
        await timers.stop(timedelta(seconds=1))
        return worker.runs

    return asyncio.run(run())


def seconds(runs: list[tuple[timedelta, dict[str, Any]]]) -> list[float]:
    """When the runs were, in seconds after noon."""
    return [at.total_seconds() for at, _ in runs]


def test_timer_keeps_its_schedule() -> None:
    """A timer runs whenever its schedule says, and not at the start."""
    assert [15, 30, 45, 60] == seconds(run_timer("*/15 * * * * *"))


def test_time_span_schedule() -> None:
    """A time span runs the timer again and again after that time."""
    assert [20, 40, 60] == seconds(run_timer("00:00:20"))


def test_timer_never_overlaps_itself() -> None:
    """A run that takes longer than the schedule's interval makes the timer skip, not overlap or catch up."""
    assert [10, 40] == seconds(run_timer("*/10 * * * * *", takes=timedelta(seconds=25)))


def test_failing_timer_goes_on() -> None:
    """A failed run is not repeated, and the next one comes on schedule."""
    assert [20, 40, 60] == seconds(run_timer("*/20 * * * * *", fails=True))


def test_run_on_startup() -> None:
    """A timer that asks for it runs at the start, without being past due."""
    runs = run_timer("0 */5 * * * *", minutes=5, runOnStartup=True)
    assert [0, 300] == seconds(runs)
    assert [False, False] == [given["IsPastDue"] for _, given in runs]


def test_missed_run_is_made_up_for_once(tmp_path: Path) -> None:
    """A restarted host runs a timer that was due meanwhile once, and says that it is past due."""
    status = TimerStatusFiles(tmp_path)
    status.write("tick", TimerStatus(last=NOON - timedelta(hours=3), next=NOON - timedelta(hours=2)))
    runs = run_timer("0 0 * * * *", status=status, minutes=60)
    assert [(0, True), (3600, False)] == [(at.total_seconds(), given["IsPastDue"]) for at, given in runs]
    assert (NOON - timedelta(hours=3)).isoformat() == runs[0][1]["ScheduleStatus"]["Last"]
    assert TimerStatus(NOON + timedelta(hours=1), NOON + timedelta(hours=2)) == status.read("tick")


def test_frequent_timers_have_no_memory(tmp_path: Path) -> None:
    """A timer that runs more often than once a minute keeps no status, as on Azure."""
    status = TimerStatusFiles(tmp_path)
    runs = run_timer("*/30 * * * * *", status=status)
    assert [None, None] == [given["ScheduleStatus"] for _, given in runs]
    assert status.read("tick") is None


def test_wrong_schedule_names_the_function() -> None:
    """A schedule that cannot be read stops the start, and says which function it belongs to."""
    with pytest.raises(BindingError, match="tick"):
        run_timer("every day")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedApp]:
    """One running host for all tests of this file."""
    with hosted_app(tmp_path_factory.mktemp("timers")) as app:
        yield app


def test_timers_run_in_the_host(host: HostedApp) -> None:
    """The app's timers run by themselves, their schedules filled in from app settings."""
    host.wait_for({"start": False})
    host.wait_for({"tick": False})


def test_a_host_without_schedules(tmp_path: Path) -> None:
    """Told so, the host runs a timer only when it is asked for by hand."""
    with hosted_app(tmp_path, "--no-schedules") as host:
        asked = host.call("POST", "/admin/functions/tick", headers={"x-functions-key": MASTER_KEY}, json={"input": ""})
        assert 202 == asked.status_code
        host.wait_for({"tick": False})
        assert {"start": False} not in host.seen()  # it runs when the host starts


@pytest.mark.parametrize("key", [None, "wrong", FUNCTION_KEY])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/admin/functions/take"), ("GET", "/admin/functions"), ("GET", "/admin/host/status")],
)
def test_admin_needs_the_master_key(host: HostedApp, method: str, path: str, key: str | None) -> None:
    """Without the master key the host's own API is closed."""
    headers = {"x-functions-key": key} if key else {}
    assert 401 == host.call(method, path, headers=headers, json={"input": "{}"}).status_code


def test_running_by_hand(host: HostedApp) -> None:
    """A function that is not an HTTP one can be run at once; the answer does not wait for it."""
    master = {"x-functions-key": MASTER_KEY}
    response = host.call("POST", "/admin/functions/take", headers=master, json={"input": '{"id": "by hand"}'})
    assert (202, b"") == (response.status_code, response.content)
    host.wait_for({"event": {"id": "by hand"}, "text": '{"id": "by hand"}'})
    assert 202 == host.call("POST", "/admin/functions/Tick", headers=master, json={}).status_code


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("nobody", b"{}", 404),
        ("take", b"", 400),
        ("take", b"[]", 400),
        ("anyone", b"{}", 400),
        ("take", b'{"input": "{"}', 400),
    ],
)
def test_running_by_hand_refuses(host: HostedApp, name: str, body: bytes, status: int) -> None:
    """A wrong name, a body that is no object, input that is no event, and an HTTP function are refused."""
    response = host.call("POST", f"/admin/functions/{name}", headers={"x-functions-key": MASTER_KEY}, data=body)
    assert status == response.status_code


def test_admin_describes_the_app(host: HostedApp) -> None:
    """The host tells its state, and every function with its bindings."""
    master = {"x-functions-key": MASTER_KEY}
    assert "Running" == host.call("GET", "/admin/host/status", headers=master).json()["state"]
    functions = host.call("GET", "/admin/functions", headers=master).json()
    types = {function["name"]: function["config"]["bindings"][0]["type"] for function in functions}
    assert {"anyone": "httpTrigger", "take": "eventGridTrigger", "tick": "timerTrigger"}.items() <= types.items()
