"""A late request of an earlier try, where there is no Airflow to ask whether that one is over."""

from datetime import timedelta
from typing import Any

import pytest

from bridge import policy, service
from bridge.errors import RequestInFlight
from bridge.model import Continuation, Mode, NewTry, PreviousTry, TaskRef
from tests.fakes import bench as benches
from tests.fakes.bench import Bench
from tests.fakes.listener import EDGE
from tests.fakes.samples import MINUTE, a_request, a_task, a_trigger

RETRY = a_task(target="edge", try_number=2, nonce="nonce-2", task_instance_id="ti-2")


@pytest.fixture
def bench() -> Bench:
    """A bridge without a way to Airflow; the second try of a task has asked for a run."""
    settings: dict[str, Any] = {**benches.EDGE}
    bench = Bench(**settings)
    ask(bench, RETRY, Continuation(PreviousTry.REATTACH, NewTry.RETRY))
    return bench


def ask(bench: Bench, task: TaskRef, previous: Continuation | None = None) -> None:
    """Ask for a run, for a try of the task."""
    request = a_trigger(task, previous=previous, wait=a_request(task, mode=Mode.QUEUE))
    bench.app.run(service.start_run(request, bench.app.rules))


def test_a_late_request_is_put_off(bench: Bench) -> None:
    """S14: an earlier try's request that comes shortly after a later one's starts nothing, and may come again."""
    bench.clock.advance(MINUTE)
    with pytest.raises(RequestInFlight) as caught:
        ask(bench, EDGE)
    assert (policy.OVERTAKEN_AGAIN, 1, None) == (
        caught.value.retry_after,
        len(bench.adf.creates),
        bench.store.inner.request(EDGE.token),
    )


def test_the_last_moment(bench: Bench) -> None:
    """What is asked to wait is asked to wait no longer than it is put off."""
    bench.clock.advance(policy.OVERTAKEN_FOR - timedelta(seconds=3))
    with pytest.raises(RequestInFlight) as caught:
        ask(bench, EDGE)
    assert timedelta(seconds=3) == caught.value.retry_after


def test_a_dag_run_made_anew(bench: Bench) -> None:
    """S47: the first try of a DAG run made anew has its run ten minutes after the old one's last request."""
    bench.clock.advance(policy.OVERTAKEN_FOR)
    ask(bench, EDGE)
    assert (2, 0) == (len(bench.adf.creates), sum(bench.airflow.calls.values()))
