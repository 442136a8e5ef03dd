"""A small soak: the Functions host under kill -9 while runs pass through it. The large one is `make soak`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.soak.plan import Moment, Plan
from tests.soak.report import report
from tests.soak.scene import Scene, running_scene
from tests.soak.soak import Soak
from tests.soak.tasks import Telling
from tests.soak.verdict import UNKNOWN, Account, judge

PLAN = Plan(runs=50, kills=5, at_once=25, hurry=True, patience=timedelta(minutes=1))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The bridge and all that it works with."""
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        monkeypatch.delenv(name)
    with running_scene(PLAN, tmp_path / "soak") as running:
        yield running


def test_killed_host(scene: Scene) -> None:
    """S24: every task is told its run's end exactly once, however often and whenever the host is killed."""
    soaked = Soak(PLAN, scene, print).run()
    told = report(soaked, scene.story)
    assert soaked.is_well, told
    assert {Moment.FENCE, Moment.PATCH_ARRIVED, Moment.PATCH_TAKEN, Moment.CREATE_RUN, Moment.ANY} == {
        kill.moment for kill in soaked.kills
    }
    assert "every promise was kept" in told


def told(token: str = "own", status: str = "Succeeded", run: str = "run", *, resumed: bool = True) -> Telling:
    """What a task was told."""
    return Telling("resumed" if resumed else "answered", token, status, run)


RUNS = {"run": "Succeeded"}


@pytest.mark.parametrize(
    ("account", "broken"),
    [
        pytest.param(Account("own", [told()], [told()], runs=RUNS), [], id="resumed"),
        pytest.param(Account("own", [told(resumed=False)], runs=RUNS), [], id="answered"),
        pytest.param(Account("own", refusal=UNKNOWN), [], id="unknown"),
        pytest.param(Account("own", refusal=UNKNOWN, runs={"run": "InProgress"}), ["not found"], id="not-found"),
        pytest.param(Account("own", [], [], runs=RUNS), ["lost"], id="told-nothing"),
        pytest.param(Account("own", refusal="wait-conflict", runs=RUNS), ["lost"], id="refused"),
        pytest.param(
            Account("own", [told(resumed=False)], [told()], runs=RUNS), ["duplicate"], id="answered-and-resumed"
        ),
        pytest.param(Account("own", [told()], [told(), told()], runs=RUNS), ["duplicate"], id="resumed-twice"),
        pytest.param(
            Account("own", [told()], [told()], runs={**RUNS, "again": "Failed"}), ["duplicate"], id="two-runs"
        ),
        pytest.param(Account("own", [told(status="Failed")], runs=RUNS), ["wrong"], id="another-status"),
        pytest.param(Account("own", [told(run="other")], runs=RUNS), ["wrong"], id="another-run"),
        pytest.param(Account("own", [told("other")], runs=RUNS), ["foreign"], id="another-task"),
    ],
)
def test_verdict(account: Account, broken: list[str]) -> None:
    """The verdict on a task rests on what the task, Airflow and Data Factory say."""
    assert broken == [one.promise for one in judge([account]).broken]
