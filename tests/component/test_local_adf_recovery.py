"""Runs that are run again in the local Data Factory, and lost answers of createRun, by the bridge's own adapter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from bridge.adapters.adf import DataFactory
from bridge.config import Secret
from bridge.model import FactoryId, Recovery, RecoveryMode, RunKey, RunReading
from bridge.ports import PipelineDeclaration, Refusal, RefusalKind, RunsPage, Started
from tests.component.adf_stage import control, execute, expression, held, set_variable
from tests.component.stand_ins import FACTORY_ID, TOKEN, Adf, activity, eventually, running_adf

FACTORY = FactoryId.parse(FACTORY_ID)
OTHER_FACTORY = FactoryId.parse(FACTORY_ID.replace("adf-demo", "adf-other"))
HOUR = timedelta(hours=1)
DAY = {"day": {"type": "string"}}


def chain(*activities: dict[str, Any]) -> list[dict[str, Any]]:
    """Put activities behind each other."""
    for before, after in pairwise(activities):
        after["dependsOn"] = [{"activity": before["name"], "dependencyConditions": ["Succeeded"]}]
    return [*activities]


def fails_once(name: str) -> dict[str, Any]:
    """An activity that fails the first time that a day's run gets to it."""
    return activity(name, localErrorCode="2200", localFailTimes=1, localFailTimesPer="@pipeline().parameters.day")


FIVE = {
    "activities": chain(activity("a"), activity("b"), activity("c"), fails_once("d"), activity("e")),
    "parameters": {**DAY, "rows": {"type": "int", "defaultValue": 7}, "tags": {"type": "array", "defaultValue": ["x"]}},
}
PIPELINES = {
    "five": FIVE,
    "like five": FIVE,
    "twice": {"activities": chain(activity("a"), fails_once("b"), fails_once("c"), activity("d")), "parameters": DAY},
    "with variables": {
        "activities": chain(
            activity("a"),
            control("Pause", "Wait", waitTimeInSeconds=0),
            set_variable("Keep", "kept", expression("@pipeline().RunId")),
            fails_once("b"),
            set_variable("Show", "shown", expression("@concat(activity('a').status, ' ', variables('kept'))")),
        ),
        "variables": {"kept": {"type": "String"}, "shown": {"type": "String"}},
        "parameters": DAY,
    },
    "parent": {
        "activities": chain(
            activity("a"), execute("five", parameters={"day": expression("@pipeline().parameters.day")})
        ),
        "parameters": DAY,
    },
    "held": {"activities": chain(activity("a"), held("b"))},
    "narrow": {"activities": [held()], "concurrency": 1},
}


class Bridge:
    """The bridge's adapter on the local Data Factory."""

    def __init__(self, adf: Adf) -> None:
        self.adf = adf
        self.port = DataFactory(endpoint=adf.process.url, token=Secret(TOKEN))

    def start(self, pipeline: str, recovery: Recovery | None = None, **parameters: object) -> str:
        """Start a run, or run one again."""
        answer = self.port.create_run(FACTORY, pipeline, parameters, recovery)
        assert isinstance(answer, Started), answer
        return answer.run_id

    def play(self, pipeline: str, recovery: Recovery | None = None, **parameters: object) -> tuple[str, str | None]:
        """The same, and wait for the end."""
        run_id = self.start(pipeline, recovery, **parameters)
        return run_id, self.adf.wait_for(run_id).status

    def read(self, run_id: str) -> RunReading:
        """The run as the bridge reads it."""
        reading = self.port.read_run(RunKey(FACTORY, run_id))
        assert isinstance(reading, RunReading)
        return reading

    def ran(self, run_id: str) -> list[str]:
        """The names of the activities that the run executed."""
        return [one.activity_name for one in self.adf.activity_runs(run_id)]

    def search(self, pipeline: str) -> dict[str, RunReading]:
        """The runs of a pipeline."""
        now = datetime.now(UTC)
        page = self.port.search_runs(FACTORY, pipeline, since=now - HOUR, until=now + HOUR, continuation=None)
        assert isinstance(page, RunsPage)
        return dict(page.readings)

    def refused(self, pipeline: str, recovery: Recovery, factory: FactoryId = FACTORY) -> str:
        """Why a run is not run again."""
        answer = self.port.create_run(factory, pipeline, {}, recovery)
        assert isinstance(answer, Refusal)
        assert RefusalKind.INVALID is answer.kind
        return answer.detail


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """One for all tests of this module; each has days, or pipelines, of its own."""
    args = ("--factory", FACTORY_ID.replace("adf-demo", "adf-other"), "--most-queued", "1")
    with running_adf(tmp_path_factory.mktemp("adf"), PIPELINES, *args) as adf:
        yield Bridge(adf)


def test_only_what_failed_runs_again(bridge: Bridge) -> None:
    """Of five activities the fourth fails; the recovery runs the fourth and the fifth, in the same group."""
    first, failed = bridge.play("five", day="monday")
    second, ended = bridge.play("five", Recovery(first), day="another day")

    assert ("Failed", "Succeeded") == (failed, ended)
    assert (["a", "b", "c", "d"], ["d", "e"]) == (bridge.ran(first), bridge.ran(second))
    assert [first] * 2 == [bridge.read(run_id).group for run_id in (first, second)]
    assert [False, True] == [bridge.adf.get(run_id).is_latest for run_id in (first, second)]
    shown = {"day": "monday", "rows": "7", "tags": '["x"]'}
    assert [(shown, True)] * 2 == [(one.parameters, one.by_hand) for one in map(bridge.read, (first, second))]


@pytest.mark.parametrize(
    ("recovery", "expected"),
    [
        (Recovery("", RecoveryMode.ALL), ["a", "b", "c", "d", "e"]),
        (Recovery("", RecoveryMode.FROM_ACTIVITY, "c"), ["c", "d", "e"]),
    ],
    ids=lambda value: str(value.mode) if isinstance(value, Recovery) else "",
)
def test_from_where_a_run_is_run_again(bridge: Bridge, recovery: Recovery, expected: list[str]) -> None:
    """All of it, or an activity and what follows it; in the same group either way."""
    first, _ = bridge.play("five", day=str(recovery.mode))
    second, ended = bridge.play("five", Recovery(first, recovery.mode, recovery.activity))

    assert ("Succeeded", expected, first) == (ended, bridge.ran(second), bridge.read(second).group)


def test_a_recovery_of_a_recovery(bridge: Bridge) -> None:
    """What succeeded in either of the runs before does not run again, and the group is that of the first."""
    first, _ = bridge.play("twice", day="monday")
    second, failed = bridge.play("twice", Recovery(first))
    third, ended = bridge.play("twice", Recovery(second))

    assert ("Failed", "Succeeded") == (failed, ended)
    assert [["a", "b"], ["b", "c"], ["c", "d"]] == [bridge.ran(one) for one in (first, second, third)]
    assert [(first, False), (first, False), (first, True)] == [
        (one.run_group_id, one.is_latest) for one in map(bridge.adf.get, (first, second, third))
    ]


def test_what_does_not_run_again_is_still_seen(bridge: Bridge) -> None:
    """Expressions see what an activity left in the run before; pauses and variables are made anew."""
    first, _ = bridge.play("with variables", day="monday")
    second, ended = bridge.play("with variables", Recovery(first))
    shown = [one.output["value"] for one in bridge.adf.activity_runs(second) if one.activity_name == "Show"]

    assert ("Succeeded", [f"Succeeded {second}"]) == (ended, shown)
    assert ["Pause", "Keep", "b", "Show"] == bridge.ran(second)


def test_a_cancelled_run_is_run_again(bridge: Bridge) -> None:
    """From the activity on that was cancelled."""
    first = bridge.start("held")
    eventually(lambda: bridge.ran(first) == ["a", "b"])
    bridge.port.cancel_run(RunKey(FACTORY, first), recursive=True)
    assert "Cancelled" == bridge.adf.wait_for(first).status
    second = bridge.start("held", Recovery(first))

    assert eventually(lambda: bridge.ran(second) == ["b"])
    bridge.adf.control.post(f"runs/{second}/finish", {"status": "Succeeded"})
    assert first == bridge.read(second).group


def test_a_parent_and_its_child_are_run_again(bridge: Bridge) -> None:
    """A parent's recovery starts another child; a child's is a run by hand, in the child's group."""
    parent, _ = bridge.play("parent", day="tuesday")
    child = bridge.port.child(RunKey(FACTORY, parent), bridge.read(parent))
    assert isinstance(child, str)
    child_again, ended = bridge.play("five", Recovery(child))
    parent_again, parent_ended = bridge.play("parent", Recovery(parent))
    other_child = bridge.port.child(RunKey(FACTORY, parent_again), bridge.read(parent_again))

    assert ("Succeeded", "Succeeded") == (ended, parent_ended)
    assert (["d", "e"], ["Run"]) == (bridge.ran(child_again), bridge.ran(parent_again))
    assert (child, True, False) == (
        bridge.read(child_again).group,
        bridge.read(child_again).by_hand,
        bridge.read(child).by_hand,
    )
    assert other_child not in (None, child, child_again)


def test_what_cannot_be_run_again(bridge: Bridge) -> None:
    """A run of another pipeline, of another factory, and from an activity that there is not: nothing starts."""
    first, _ = bridge.play("five", day="wednesday")
    before = len(bridge.adf.control.get("runs")["runs"])

    assert "ReferencedPipelineRunNotValid" in bridge.refused("like five", Recovery(first))
    assert "ReferencedPipelineRunNotValid" in bridge.refused("five", Recovery(first), OTHER_FACTORY)
    assert "nowhere" in bridge.refused("five", Recovery(first, RecoveryMode.FROM_ACTIVITY, "nowhere"))
    assert before == len(bridge.adf.control.get("runs")["runs"])


def test_a_run_is_found_while_its_answer_is_held_back_and_after_it_was_lost(bridge: Bridge) -> None:
    """S20: a createRun whose answer comes late and never arrives has started one run, which a search shows."""
    bridge.adf.control.post("faults", {"op": "createRun", "effect": "after", "delay_s": 2, "drop": True})
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(bridge.port.create_run, FACTORY, "like five", {"day": "5 o'clock", "rows": 3})
        early = eventually(lambda: bridge.search("like five"))
        assert not answer.done()
        refusal = answer.result()

    assert isinstance(refusal, Refusal)
    assert RefusalKind.UNAVAILABLE is refusal.kind
    ((run_id, found),) = bridge.search("like five").items()
    assert [run_id] == [*early]
    assert ({"day": "5 o'clock", "rows": "3", "tags": '["x"]'}, run_id, True) == (
        found.parameters,
        found.group,
        found.by_hand,
    )


def test_an_answer_can_be_late(bridge: Bridge) -> None:
    """A createRun whose answer is held back for a while is answered with its run."""
    bridge.adf.control.post("faults", {"op": "createRun", "effect": "after", "delay_s": 0.3})

    assert bridge.read(bridge.start("five", day="thursday")).by_hand


def test_a_full_queue(bridge: Bridge) -> None:
    """The bridge is told that it may come later, and nothing was started."""
    started = [bridge.start("narrow") for _ in range(2)]
    refusal = bridge.port.create_run(FACTORY, "narrow", {})
    assert isinstance(refusal, Refusal)
    assert RefusalKind.THROTTLED is refusal.kind
    assert sorted(started) == sorted(bridge.search("narrow"))


def test_what_a_pipeline_declares(bridge: Bridge) -> None:
    """The names of its parameters and their defaults; nothing of a pipeline that there is not."""
    five = PipelineDeclaration("five", frozenset({"day", "rows", "tags"}), defaults={"rows": 7, "tags": ["x"]})
    assert five == bridge.port.pipeline(FACTORY, "five", fresh=False)
    assert bridge.port.pipeline(FACTORY, "five__notified", fresh=False) is None
    assert bridge.port.pipeline(FACTORY, "nothing", fresh=False) is None
