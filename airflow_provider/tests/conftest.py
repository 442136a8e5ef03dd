"""What the provider's tests share: a bridge, a connection, a clock that nobody waits for, and Airflow's worker side."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import airflow
import pytest
from bridge_stand_in import BridgeStandIn

from airflow_adf_bridge import waiting
from airflow_adf_bridge.airflow_api import CAN_PARK
from airflow_adf_bridge.hooks import AdfBridgeHook

NEEDS_PARKING = ["test_resume_mode.py"]
"""What only an Airflow can show that has `awaiting_input`."""

collect_ignore = [] if CAN_PARK else NEEDS_PARKING
MODES = ["resume", "queue"] if CAN_PARK else ["queue"]


def pytest_configure(config: pytest.Config) -> None:
    """Let Airflow 2 warn of itself: what it imports is older than what it warns of."""
    if airflow.__version__.startswith("2."):
        config.addinivalue_line(
            "filterwarnings", "ignore::DeprecationWarning:(airflow|flask|marshmallow|sqlalchemy|wtforms)"
        )
        config.addinivalue_line("filterwarnings", "ignore::airflow.exceptions.RemovedInAirflow3Warning")


@dataclass
class Clock:
    """Seconds that pass when somebody pauses, and only then."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now += seconds

    def read(self) -> float:
        """Tell the time."""
        return self.now


@dataclass
class TaskInstance:
    """A running task instance, as far as an operator sees it."""

    dag_id: str = "nightly"
    run_id: str = "manual__1"
    task_id: str = "ingest"
    map_index: int | None = -1
    try_number: int = 1
    max_tries: int = 0
    id: uuid.UUID = field(default_factory=lambda: uuid.UUID("01a202b4-64e9-7c79-a1d4-98e001b84b61"))
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom."""
        self.xcoms[key] = value

    def retried(self, retries: int) -> TaskInstance:
        """The next try after this one failed: another id, and no XComs. `retries` is how many it had."""
        return self._next(retries if self.try_number == 1 else self.max_tries)

    def cleared(self, retries: int) -> TaskInstance:
        """The next try after a person cleared the task."""
        return self._next(self.try_number + retries)

    def _next(self, max_tries: int) -> TaskInstance:
        return replace(
            self, try_number=self.try_number + 1, max_tries=max_tries, id=uuid.UUID(int=self.id.int + 1), xcoms={}
        )


@dataclass
class Supervisor:
    """The worker's other half: keeps what a task asks of people, and takes whatever else it is told.

    `meanwhile` happens while the task asks, or just before it is deferred: the last thing that it does.
    """

    asked: list[Any] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def send(self, msg: Any) -> None:
        """Take one message."""
        if type(msg).__name__ == "CreateHITLDetailPayload":
            self.meanwhile()
            self.asked.append(msg)


@pytest.fixture
def bridge() -> Iterator[BridgeStandIn]:
    """A bridge that listens."""
    stand_in = BridgeStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def clock() -> Clock:
    """A clock at zero."""
    return Clock()


@pytest.fixture
def ti() -> TaskInstance:
    """A first try of an unmapped task."""
    return TaskInstance()


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """What receives the request to park."""
    supervisor, deferred = Supervisor(), waiting.deferred

    def after_what_happens_meanwhile(*args: Any, **kwargs: Any) -> BaseException:
        supervisor.meanwhile()
        return deferred(*args, **kwargs)

    monkeypatch.setattr(waiting, "deferred", after_what_happens_meanwhile)
    if CAN_PARK:
        monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """How a task waits: in every mode that this Airflow has."""
    return str(request.param)


@pytest.fixture
def connect(
    bridge: BridgeStandIn, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AdfBridgeHook]]:
    """Make a hook whose connection leads to the bridge; fields and extras can be given otherwise."""
    hooks: list[AdfBridgeHook] = []

    def make(extra: dict[str, Any] | None = None, **fields: Any) -> AdfBridgeHook:
        connection = {
            "conn_type": "adf_bridge",
            "host": "127.0.0.1",
            "schema": "http",
            "port": bridge.port,
            "password": "function-key-canary",
            "extra": {
                "target": "demo",
                "factory": "sales",
                "servicebus_namespace": "demo.servicebus.windows.net",
                **(extra or {}),
            },
            **fields,
        }
        monkeypatch.setenv("AIRFLOW_CONN_ADF_BRIDGE_DEFAULT", json.dumps(connection))
        hooks.append(AdfBridgeHook(pause=clock.pause, clock=clock.read))
        return hooks[-1]

    yield make
    for hook in hooks:
        hook.get_conn().close()
