"""One bridge for all tests of the app; each test that may upset an Airflow gets one of its own."""

from collections.abc import Iterator

import pytest

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    EVENT_GRID_KEY,
    Bridge,
    adf_arguments,
    adf_settings,
    hosted_bridge,
    settings_of,
)
from tests.component.queued_bridge import Queued, queued_bridge
from tests.component.stand_ins import Control, running_event_grid
from tests.fakes_http.airflow import FakeAirflow, running_airflows

CALLER_SECRET = "canary-caller-secret"
_FREE = tuple(f"team_{number:02}" for number in range(40))


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """The bridge, a Data Factory whose runs nobody tells of, and an Event Grid."""
    folder = tmp_path_factory.mktemp("bridge")
    with (
        running_airflows([*_FREE, "held", "guarded", "observed", "trap"]) as airflows,
        running_event_grid(folder) as event_grid,
        LocalProcess("local.adf", adf_arguments(folder / "pipelines"), log=folder / "adf.log") as adf,
    ):
        settings = {**adf_settings(adf.url, folder), "BRIDGE_INLINE_SECONDS": "2"}
        for name in _FREE:
            settings |= settings_of(airflows[name])
        settings |= settings_of(airflows["held"], HOLD_SECONDS="1.5")
        settings |= settings_of(airflows["guarded"], CALLER_SECRET=CALLER_SECRET)
        settings |= settings_of(airflows["observed"], OBSERVE="true")
        with hosted_bridge(folder, settings) as hosted:
            _subscribe(event_grid, hosted.process)
            yield Bridge(
                hosted.process,
                airflows=airflows,
                adf=Control(adf.url),
                folder=folder,
                event_grid=event_grid,
                _free=list(_FREE),
            )


def _subscribe(event_grid: LocalProcess, functions: LocalProcess) -> None:
    url = f"{functions.url}/runtime/webhooks/EventGrid?functionName=run_event&code={EVENT_GRID_KEY}"
    subscription = {
        "name": "run-event",
        "topic": "runs",
        "endpoint_type": "AzureFunction",
        "endpoint_url": url,
        "event_delivery_schema": "CloudEventSchemaV1_0",
    }
    Control(event_grid.url).post("subscriptions", subscription)


@pytest.fixture
def airflow(bridge: Bridge) -> Iterator[FakeAirflow]:
    """An Airflow that this test has for itself."""
    airflow = bridge.fresh_airflow()
    yield airflow
    bridge.give_back(airflow)


@pytest.fixture(scope="session")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queued]:
    """A bridge whose requests and events come by queues. Tests may kill it, and start it again."""
    with queued_bridge(tmp_path_factory.mktemp("queued")) as queued:
        yield queued
