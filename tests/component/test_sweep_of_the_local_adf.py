"""The sweep's query, by the bridge's own adapter over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bridge.adapters.adf import DataFactory
from bridge.config import Secret
from bridge.model import FactoryId, RunReading, RunStatus
from bridge.ports import Refusal, RefusalKind, RunsPage
from tests.component.stand_ins import FACTORY_ID, TOKEN, Adf, activity, running_adf

RUNS = 130
FACTORY = FactoryId.parse(FACTORY_ID)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def adf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adf]:
    """A factory with 130 runs that have ended, one of them badly."""
    failing = activity("Load", localErrorCode="1", localFailTimes=1)
    with running_adf(tmp_path_factory.mktemp("adf"), {"many": [failing]}) as running:
        for run_id in [running.create_run("many") for _ in range(RUNS)]:
            running.wait_for(run_id)
        yield running


def query(adf: Adf, *, since: datetime, until: datetime) -> tuple[dict[str, RunReading], int]:
    """Read all pages of a window: the runs, and how many pages there were."""
    factory = DataFactory(endpoint=adf.process.url, token=Secret(TOKEN))
    found: dict[str, RunReading] = {}
    continuation: str | None = None
    for pages in range(1, 10):
        page = factory.query_runs(FACTORY, since=since, until=until, continuation=continuation)
        assert isinstance(page, RunsPage)
        found.update(page.readings)
        continuation = page.continuation
        if continuation is None:
            return found, pages
    raise AssertionError("pages without end")


def test_pages(adf: Adf) -> None:
    """S28: all runs of a window are found, a hundred on a page, with what ADF says of each."""
    now = datetime.now(UTC)
    found, pages = query(adf, since=now - HOUR, until=now + HOUR)
    statuses = [reading.status for reading in found.values()]
    assert (RUNS, 2) == (len(found), pages)
    assert (RUNS - 1, 1) == (statuses.count(RunStatus.SUCCEEDED), statuses.count(RunStatus.FAILED))


def test_the_window(adf: Adf) -> None:
    """What changed outside the window is not shown."""
    now = datetime.now(UTC)
    assert ({}, 1) == query(adf, since=now - 3 * HOUR, until=now - 2 * HOUR)


def test_adfs_own_clock(adf: Adf) -> None:
    """S31: a page tells what time it is by ADF's clock."""
    now = datetime.now(UTC)
    page = DataFactory(endpoint=adf.process.url, token=Secret(TOKEN)).query_runs(
        FACTORY, since=now - HOUR, until=now, continuation=None
    )
    assert isinstance(page, RunsPage)
    assert page.told_at is not None
    assert timedelta(seconds=5) > abs(page.told_at - now)


def test_throttled(adf: Adf) -> None:
    """S45: a query that ADF refuses is a refusal, with the time that it asks for; it is sent once."""
    adf.control.post("faults", {"op": "queryPipelineRuns", "status": 429, "retry_after": "7"})
    now = datetime.now(UTC)
    refusal = DataFactory(endpoint=adf.process.url, token=Secret(TOKEN)).query_runs(
        FACTORY, since=now - HOUR, until=now, continuation=None
    )
    assert isinstance(refusal, Refusal)
    assert (RefusalKind.THROTTLED, timedelta(seconds=7)) == (refusal.kind, refusal.retry_after)
