"""Runs whose start was never answered, found again in a Data Factory, also by a bridge that was killed meanwhile."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import requests

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    FUNCTION_KEY,
    Bridge,
    Json,
    adf_arguments,
    adf_settings,
    hosted_bridge,
    settings_of,
    token_of,
    wait_of,
)
from tests.component.stand_ins import Control, eventually
from tests.fakes_http.airflow import FakeAirflow, running_airflows

PATIENCE = timedelta(seconds=40)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Bridge]:
    """A bridge that may be killed."""
    with (
        running_airflows(["mortal"]) as airflows,
        LocalProcess("local.adf", adf_arguments(tmp_path / "pipelines"), log=tmp_path / "adf.log") as adf,
        hosted_bridge(tmp_path, {**adf_settings(adf.url, tmp_path), **settings_of(airflows["mortal"])}) as hosted,
    ):
        yield Bridge(hosted.process, airflows=airflows, adf=Control(adf.url), folder=tmp_path)


def loses(bridge: Bridge, **fault: object) -> None:
    """Have the Data Factory lose its next answer to a createRun, having started the run."""
    bridge.adf.post("faults", {"op": "createRun", "effect": "after", **fault})


def answered(bridge: Bridge, wait: Json) -> Json:
    """The answer to a request that is sent again, as the operator does, until there is one."""

    def ask() -> Json | None:
        answer = bridge.start(wait, pipeline="keyed")
        if answer.status_code == 202:
            return dict(answer.json())
        assert (409, "request-in-flight") == (answer.status_code, answer.json()["code"]), answer.text
        time.sleep(0.5)
        return None

    return eventually(ask, within=PATIENCE)


@pytest.mark.parametrize("fault", [{"status": 504}, {"drop": True}], ids=["504", "cut"])
def test_a_lost_answer(bridge: Bridge, airflow: FakeAirflow, fault: Json) -> None:
    """S19: a run that was started and not answered is adopted; createRun is sent once, the task gets the run's end."""
    before, task = bridge.count("createRun"), airflow.task()
    wait = wait_of(airflow, task)
    loses(bridge, **fault)
    answer = answered(bridge, wait)
    assert ("adopted", before + 1) == (answer["start"]["how"], bridge.count("createRun"))
    task.park()
    assert "delivered" == bridge.complete(token_of(wait), answer["run"]["run_id"])["state"]


def test_two_equal_requests(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S19: of two mapped tasks with equal parameters and lost answers each gets the run that carries its own key."""
    waits = [wait_of(airflow, airflow.task(map_index=index)) for index in range(2)]
    loses(bridge, times=2, status=503)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda wait: answered(bridge, wait), waits))
    keys = {run["runId"]: run["parameters"].get("bridge_key") for run in bridge.adf.get("runs")["runs"]}
    assert [token_of(wait) for wait in waits] == [keys[answer["run"]["run_id"]] for answer in answers]


def test_killed_right_after_create_run(mortal: Bridge) -> None:
    """S19, S24: a bridge that is killed while Data Factory starts a run finds it when the request is repeated."""
    airflow = mortal.airflows["mortal"]
    task = airflow.task()
    wait = wait_of(airflow, task)
    loses(mortal, delay_s=20)
    asking = threading.Thread(target=_ask, args=(mortal, wait), daemon=True)
    asking.start()
    eventually(lambda: mortal.adf.get("runs")["runs"])
    mortal.process.kill()
    mortal.process.start()
    asking.join()
    answer = answered(mortal, wait)
    (run,) = mortal.adf.get("runs")["runs"]
    assert ("adopted", run["runId"], 1) == (
        answer["start"]["how"],
        answer["run"]["run_id"],
        mortal.count("createRun"),
    )


def test_nobody_asks_again(mortal: Bridge) -> None:
    """S19, S24: a killed bridge finishes what it had begun, though nobody asks again; who does later is answered so."""
    airflow = mortal.airflows["mortal"]
    wait = wait_of(airflow, airflow.task())
    loses(mortal, delay_s=20)
    asking = threading.Thread(target=_ask, args=(mortal, wait), daemon=True)
    asking.start()
    eventually(lambda: mortal.adf.get("runs")["runs"])
    mortal.process.kill()
    _age(mortal.folder / "bridge.sqlite3")
    mortal.process.start()
    asking.join()

    def is_waited_for() -> bool:
        mortal.tick()
        return mortal.call("GET", f"/waits/{token_of(wait)}").status_code == 200

    eventually(is_waited_for, within=PATIENCE)
    answer = mortal.start(wait, pipeline="keyed")
    assert ("true", "adopted", 1) == (
        answer.headers["Idempotent-Replay"],
        answer.json()["start"]["how"],
        mortal.count("createRun"),
    )


def _age(store: Path) -> None:
    """Have the only request in a store be some minutes old."""
    with closing(sqlite3.connect(store)) as db, db:
        (text,) = db.execute("SELECT row FROM requests").fetchone()
        row = json.loads(text)
        for name in ("received_at", "lease_until", "finish_at"):
            row[name] = (datetime.fromisoformat(row[name]) - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
        db.execute("UPDATE requests SET row = ?", (json.dumps(row),))


def _ask(bridge: Bridge, wait: Json) -> None:
    """Send a request that is never answered."""
    with pytest.raises(requests.ConnectionError):
        bridge.start(wait, pipeline="keyed")


def test_a_try_takes_over_the_run(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S14: the next try of a task waits for the run of the one before; with other parameters it has its own."""
    before, task = bridge.count("createRun"), airflow.task()
    first = bridge.started(wait_of(airflow, task))
    task.try_number += 1
    wait = wait_of(airflow, task)
    again = bridge.start(wait, previous={"do": "reattach", "after": "retry"}).json()
    task.try_number += 1
    reattach = {"do": "reattach", "after": "retry"}
    third = bridge.start(wait_of(airflow, task), previous=reattach, parameters={"secret": "x"}).json()
    assert (("reattached", first), "started", before + 2) == (
        (again["start"]["how"], again["run"]["run_id"]),
        third["start"]["how"],
        bridge.count("createRun"),
    )
    assert "The previous try ran with other parameters." == third["start"]["why"]


def test_no_wait_yet(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S19: who asks for a wait whose run is looked for is told so."""
    wait = wait_of(airflow, airflow.task())
    bridge.adf.post("faults", {"op": "createRun", "status": 503})
    assert (409, "request-in-flight") == (
        (answer := bridge.start(wait)).status_code,
        answer.json()["code"],
    )
    shown = bridge.call("GET", f"/waits/{token_of(wait)}")
    assert (404, True) == (shown.status_code, "is looked for" in shown.json()["detail"])
    assert FUNCTION_KEY not in shown.text


def test_among_more_runs_than_a_page_shows(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S19: a run is found among more of its pipeline's than Data Factory shows on a page."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bridge.started(pipeline="keyed"), range(110)))
    wait = wait_of(airflow, airflow.task())
    loses(bridge, status=504)
    assert "adopted" == answered(bridge, wait)["start"]["how"]
