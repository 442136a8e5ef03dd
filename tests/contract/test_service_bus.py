"""What holds of Service Bus holds of the local one, as the unmodified azure-servicebus sees it."""

from concurrent.futures import Future

import pytest

from tests.contract import service_bus_broker, service_bus_faults, service_bus_queues, service_bus_sessions
from tests.contract.service_bus import ELSEWHERE, Case, Cases

# The SDK, when its connection is cut; asyncio says the second when the loop was closed before that was noticed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:loop is closed:ResourceWarning"),
]

Running = dict[tuple[Case, str], "Future[None]"]

EVERYWHERE = Cases([*service_bus_queues.CASES, *service_bus_sessions.CASES])
ONLY_LOCAL = Cases([*service_bus_broker.CASES, *service_bus_faults.CASES])
"""What only the local one can do: counts, clocks, crashes, faults."""


@pytest.mark.parametrize(("case", "kind"), [*EVERYWHERE.each(), *([] if ELSEWHERE else ONLY_LOCAL.each())])
def test_service_bus(running: Running, case: Case, kind: str) -> None:
    """What the case says holds."""
    assert None is running[case, kind].result(timeout=60), case.body.__doc__
