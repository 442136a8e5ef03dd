"""The one stack that all end-to-end tests share, and what is shown when one of them fails."""

import time
from collections.abc import Generator, Iterator, Sequence

import pytest
import requests

from local.airflow import AirflowApiError
from tests.e2e.dag_run import DagRun
from tests.e2e.report import tell
from tests.e2e.stack import Stack

_STARTS = "starts"
_SHARES_RUN = "shares_run"
_TAKEN_BEFORE = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_STARTS}(dag_id, cleared=False): the test finds a run of this DAG parked, or cleared once it had parked; "
        "all of these are started before the tests",
    )
    config.addinivalue_line("markers", f"{_SHARES_RUN}: the tries of the test's DAG runs have one run together")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One Airflow and one bridge, with the DAG runs that the chosen tests ask for."""
    asked = _asked_for(request.session.items)
    begin = time.monotonic()
    with Stack(tmp_path_factory.mktemp("e2e")) as stack:
        up = time.monotonic()
        stack.prepare([dag_id for dag_id, _ in asked])
        stack.clear_prepared([dag_id for dag_id, cleared in asked if cleared])
        parked = time.monotonic()
        tell(
            f"Airflow {stack.airflow.version} (live, version asked from its API), Airflow API {stack.airflow_api()}",
            f"up in {up - begin:.0f} s, {len(asked)} DAG runs parked in {parked - up:.0f} s",
        )
        yield stack


@pytest.fixture
def load(request: pytest.FixtureRequest, stack: Stack) -> DagRun:
    """A run of the DAG that the test's marker names, with its tasks parked."""
    marker = request.node.get_closest_marker(_STARTS)
    assert marker is not None
    return stack.take(marker.args[0])


@pytest.fixture(autouse=True)
def one_run_per_try(request: pytest.FixtureRequest, stack: Stack) -> Iterator[None]:
    """Whatever a test does to its DAG runs, every try has exactly one run in Data Factory, or all have it together."""
    request.node.stash[_TAKEN_BEFORE] = before = len(stack.taken)
    yield
    shares_run = request.node.get_closest_marker(_SHARES_RUN) is not None
    for dag_run in stack.taken[before:]:
        if shares_run:
            dag_run.check_one_run()
        else:
            dag_run.check_one_run_per_try()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failed test's DAG runs from all sides."""
    report = yield
    values = getattr(item, "funcargs", {}).values()
    stack = next((value for value in values if isinstance(value, Stack)), None)
    if report.failed and stack is not None:
        shared = [value for value in values if isinstance(value, DagRun)]
        own = stack.taken[item.stash.get(_TAKEN_BEFORE, 0) :]
        for dag_run in dict.fromkeys([*shared, *own]):
            report.sections.append(("DAG run", _described(dag_run)))
        report.sections.append(("logs", stack.log_tails()))
    return report


def _asked_for(items: Sequence[pytest.Item]) -> list[tuple[str, bool]]:
    """The DAGs that tests ask for, in order, and whether to be cleared; the tests of a class share its runs."""
    marks = (marked for item in items for marked in item.iter_markers_with_node(_STARTS))
    asked = dict.fromkeys((node.nodeid, str(mark.args[0]), bool(mark.kwargs.get("cleared"))) for node, mark in marks)
    return [(dag_id, cleared) for _, dag_id, cleared in asked]


def _described(dag_run: DagRun) -> str:
    try:
        return dag_run.describe()
    except (requests.RequestException, AirflowApiError, AssertionError, TimeoutError) as error:
        return f"{dag_run.dag_id} / {dag_run.run_id} cannot be shown: {error}"
