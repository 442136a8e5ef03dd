"""One stack for each version of Airflow, and what its waiting costs Service Bus."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.queue_mode.queue_stack import CROWD, QueueStack

VERSIONS = ("3.3", "2.11")


@pytest.fixture(scope="module", params=VERSIONS)
def queued(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueStack]:
    """One Airflow of this version and one bridge, with tasks that wait; each version's tests run together."""
    begin = time.monotonic()
    with QueueStack(tmp_path_factory.mktemp("queue_mode"), request.param) as queued:
        up = time.monotonic()
        queued.prepare_all()
        queued.tell(
            f"live, version asked from its API; up in {up - begin:.0f} s, "
            f"{CROWD} tasks wait {time.monotonic() - up:.0f} s later"
        )
        yield queued


@pytest.fixture(autouse=True)
def one_run_per_try(queued: QueueStack) -> Iterator[None]:
    """Whatever a test does to its DAG runs, every try has exactly one run in Data Factory."""
    before = len(queued.taken)
    yield
    for dag_run in queued.taken[before:]:
        dag_run.check_one_run_per_try()
