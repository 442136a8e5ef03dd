"""Secrets: canaries that never come out, whatever goes wrong."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bridge import config, http_api, wiring
from bridge.callers import CALLER_HEADER
from bridge.http_api import Request
from bridge.model import RunKey, RunStatus
from bridge.ports import Refusal, RefusalKind
from tests.fakes.bench import ENVIRONMENT, Bench
from tests.fakes.samples import FACTORY, TASK, run_body

CALLER = "canary-caller-secret"
PARAMETER = "canary-parameter"


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    """A bridge whose every secret is a canary, with the log wide open."""
    caplog.set_level(logging.DEBUG)
    bench = Bench(BRIDGE_AIRFLOW__PROD__CALLER_SECRET=CALLER)
    bench.airflow.run(TASK)
    return bench


def everything(bench: Bench, caplog: pytest.LogCaptureFixture) -> str:
    """Return all that the bridge shows: lists, stories, runs, health, records and the log."""
    calls = [
        bench.call(http_api.list_events),
        bench.call(http_api.list_waits),
        bench.call(http_api.get_wait, path={"token": TASK.token}),
        bench.call(http_api.get_run, path={"run_id": "run-1"}),
        http_api.health(lambda: bench.app, Request()),
    ]
    record = bench.store.inner.request(TASK.token)
    return "".join([*(response.body for response in calls), repr(record), caplog.text])


def start(bench: Bench) -> str:
    """Start a run with a canary among its parameters and in its headers; return the answer."""
    body = run_body(parameters={"password": PARAMETER})
    headers = {"idempotency-key": TASK.token, CALLER_HEADER: CALLER, "authorization": "Bearer canary-header"}
    return bench.call(http_api.post_run, body=body, headers=headers, query={"code": "canary-key"}).body


def test_a_day_without_trouble(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """S34: parameters, keys and credentials of a run from start to end come out nowhere."""
    said = start(bench)
    (create,) = bench.adf.creates
    assert {"password": PARAMETER} == create.parameters
    bench.airflow.park(TASK)
    bench.adf.end(next(iter(bench.adf.runs)), RunStatus.SUCCEEDED)
    bench.event(key=next(iter(bench.adf.runs)), data={"runId": "run-1", "parameters": {"p": PARAMETER}})
    assert {"ti-1": 1} == bench.airflow.resumed
    assert "canary" not in said + everything(bench, caplog)


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_refusals(bench: Bench, caplog: pytest.LogCaptureFixture, kind: RefusalKind) -> None:
    """S34: a request that ADF refuses tells no secret, however it is refused."""
    bench.adf.create_script.append(Refusal(kind, "ADF answered no"))
    assert "canary" not in start(bench) + everything(bench, caplog)


def test_an_error_that_nobody_foresaw(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S34: an unforeseen error with secrets in its message is answered without it, and logged with them masked."""

    def breaks(*args: object) -> None:
        raise RuntimeError(f"https://airflow.example.com/?password=canary-password&secret={CALLER}")

    monkeypatch.setattr(bench.adf, "create_run", breaks)
    answer = start(bench)
    assert ("internal-error", True) == (json.loads(answer)["code"], "RuntimeError" in caplog.text)
    assert "canary" not in answer + caplog.text


def test_a_delivery_that_breaks(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S34: a delivery that breaks with secrets in its error shows none of them in the log or in the story."""

    def breaks(*args: object) -> None:
        raise RuntimeError("Authorization: Bearer canary-token, password canary-password")

    start(bench)
    monkeypatch.setattr(bench.airflow, "read_task", breaks)
    bench.adf.end(next(iter(bench.adf.runs)), RunStatus.SUCCEEDED)
    bench.event(key=next(iter(bench.adf.runs)))
    assert "attend.failed" in caplog.text
    assert "canary" not in everything(bench, caplog)


@pytest.mark.parametrize("raw", ["{canary", '{"specversion": "1.0", "data": "canary"}', '{"canary": NaN}'])
def test_events_that_cannot_be_read(bench: Bench, caplog: pytest.LogCaptureFixture, raw: str) -> None:
    """S34: an event that cannot be read is listed and logged without its content."""
    start(bench)
    bench.app.receive(raw)
    assert "canary" not in everything(bench, caplog)


def test_a_row_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S34: the key of a row that cannot be read is logged, and a secret in it is masked: a caller names the runs."""
    file = tmp_path / "bridge.db"
    app = wiring.build(config.load({**ENVIRONMENT, "BRIDGE_STORE": f"sqlite:///{file}"}))
    app.store.check()
    with closing(sqlite3.connect(file)) as connection, connection:
        row = (FACTORY.key, "run-canary-password", 1, 1, '{"newer": true}')
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", row)
    app.store.run(RunKey(FACTORY, "run-canary-password"))
    (line,) = [one.message for one in caplog.records if "store.row-unreadable" in one.message]
    assert (True, False) == ("run-***" in line, "canary" in line)
