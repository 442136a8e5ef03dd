"""What else may answer at a target's URL, while Airflow is redeployed or the URL is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests

from bridge import service
from bridge.adapters import airflow_rest
from bridge.adapters.airflow_rest import AirflowRest
from bridge.config import Secret, Target
from bridge.model import RunKey, RunStatus, WaitState
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import Bench, ended_unnoticed
from tests.fakes.samples import FACTORY, MINUTE, TASK, a_task
from tests.fakes.transport import Answer as Reply
from tests.fakes.transport import ScriptedTransport

HOUR = timedelta(hours=1)
NGINX = b"<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>"
OTHERS = [
    pytest.param((404, NGINX), id="nginx"),
    pytest.param((404, b"default backend - 404"), id="ingress"),
    pytest.param((404, {"message": "no Route matched with those values"}), id="gateway"),
    pytest.param((404, {"error": "API route not found"}), id="airflow-under-another-path"),
    pytest.param((404, {"detail": "Not Found"}), id="another-fastapi-app"),
    pytest.param((404, {"detail": "Not Found", "status": 404, "title": "Not Found"}), id="problem-json"),
    pytest.param((400, NGINX), id="http-to-an-https-port"),
    pytest.param((302, b"", {"Location": "https://login.example.com"}), id="login"),
    pytest.param((307, b"", {"Location": "https://status.example.com"}), id="maintenance-redirect"),
    pytest.param((200, {"status": "maintenance"}), id="maintenance-json"),
    pytest.param((200, NGINX), id="maintenance-page"),
]


class InItsPlace:
    """Puts something else at the URL of target `prod`, and takes it away again."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
        self.transport = ScriptedTransport(lambda request: reply)
        original = airflow_rest.new_session

        def session() -> requests.Session:
            made = original()
            made.mount("https://", self.transport)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(airflow_rest, "new_session", session)
            self.airflow = AirflowRest(
                {"prod": Target("prod", "https://airflow.example.com", "bearer", token=Secret("canary-token"))}
            )
        self._patch = monkeypatch
        for call in ("read_task", "resume", "parked", "check"):
            monkeypatch.setattr(bench.airflow, call, getattr(self.airflow, call))

    def go(self) -> None:
        """Let Airflow answer again."""
        self._patch.undo()


@pytest.fixture
def bench() -> Bench:
    """A bridge with a task that has been parked for long, whose run has ended unnoticed so far."""
    return ended_unnoticed()


@pytest.mark.parametrize("reply", OTHERS)
def test_two_hours_of_something_else(bench: Bench, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
    """S07, S10: what is not Airflow closes no wait, however long it answers: the target is paused, then all goes on."""
    other = InItsPlace(bench, monkeypatch, reply)
    bench.event()
    bench.pass_time(2 * HOUR)
    paused = bench.store.inner.breaker(service.target_breaker("prod"))
    assert (WaitState.DUE, True) == (bench.wait().state, paused.is_open)
    assert len(other.transport.sent) < 450  # three calls an attempt at most, and an attempt a minute
    other.go()
    bench.pass_time(6 * MINUTE)
    assert (WaitState.DELIVERED, {"ti-1": 1}) == (bench.wait().state, bench.airflow.resumed)


@pytest.mark.parametrize("reply", OTHERS)
def test_something_else_is_no_sign_of_life(bench: Bench, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
    """S07: a target that is paused stays paused, whatever answers the probe in its place."""
    bench.airflow.down["prod"] = Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached")
    bench.event()
    bench.pass_time(10 * MINUTE)
    since = bench.store.inner.breaker(service.target_breaker("prod")).since
    InItsPlace(bench, monkeypatch, reply)
    bench.pass_time(10 * MINUTE)
    paused = bench.store.inner.breaker(service.target_breaker("prod"))
    assert (True, since) == (paused.is_open, paused.since)


def test_a_run_that_was_deleted_is_gone_beside_others(bench: Bench) -> None:
    """S10: a task that Airflow does not know, while it knows others, is gone after ten minutes; the target works."""
    other: dict[str, Any] = {"task": a_task(task_id="other", task_instance_id="ti-other"), "key": RunKey(FACTORY, "o")}
    bench.adf.begin(other["key"])
    bench.airflow.run(other["task"])
    bench.register(**other)
    bench.airflow.park(other["task"])
    bench.airflow.remove(TASK)
    bench.event()
    bench.pass_time(11 * MINUTE)
    bench.adf.end(other["key"], RunStatus.SUCCEEDED)
    bench.event(key=other["key"])
    assert [WaitState.GONE, WaitState.DELIVERED] == [bench.wait().state, bench.wait(other["task"]).state]
