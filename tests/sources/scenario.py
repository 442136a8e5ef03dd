"""All rows on one local Azure, at the same time where one does not disturb another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from azure.core.messaging import CloudEvent

from local.local_azure import FACTORY_ID
from tests import stage as stages
from tests.component.stand_ins import TERMINAL, write_pipeline
from tests.sources import rows
from tests.sources.rows import End, Row, Seen, Source, Topic
from tests.stage import Stage, Waiting

_AT_ONCE = 8
_TOPIC_IS_DOWN = {"op": "publish", "status": 503, "times": 1_000_000}
# What a completion may take beyond the interval of whoever finds out.
_ALLOWANCE = timedelta(seconds=5)

Json = dict[str, Any]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Pace:
    """How fast it all goes. With `ticks` the timer is run all the time, else every 15 seconds, as it is deployed."""

    sweep: timedelta
    retry_factor: float
    queued: timedelta
    ticks: bool

    @property
    def timer(self) -> timedelta:
        """How often the timer runs."""
        return timedelta(seconds=1 if self.ticks else 15)

    def latest(self, source: Source | None) -> timedelta:
        """How long after the end of all runs a task is told at the latest."""
        interval = {Source.LOOK: self.timer, Source.SWEEP: self.sweep + self.timer}
        return interval.get(source or Source.NOTICE, timedelta(0)) + _ALLOWANCE

    @property
    def patience(self) -> timedelta:
        """How long anything is waited for: as long as a notice is tried, a sweep, and a while."""
        return timedelta(seconds=90 * self.retry_factor) + 2 * self.sweep + timedelta(seconds=60)


DEPLOYED = Pace(timedelta(seconds=60), 1, timedelta(seconds=0.5), ticks=False)
HURRIED = Pace(timedelta(seconds=10), 0.02, timedelta(seconds=0.5), ticks=True)


@dataclass(frozen=True)
class Play:
    """The stage, the pace, and everything that one may do to the runs on it."""

    stage: Stage
    pace: Pace

    def start(self, row: Row) -> Waiting:
        """Start a row's run, with a task that waits for it."""
        name = row.name.translate({ord(sign): "_" for sign in " :,'"})
        return self.stage.start_run(row.pipeline, task_id=name)

    def end(self, row: Row, waiting: Waiting) -> None:
        """Bring a row's run to its end."""
        match row.end:
            case End.SUCCEEDS:
                self.stage.end(self._innermost(waiting.run_id), "Succeeded")
            case End.FAILS:
                self.stage.end(self._innermost(waiting.run_id), "Failed", rows.WHY)
            case End.WRAPPER_CANCELLED:
                self.stage.cancel(waiting.run_id)
            case End.CHILD_CANCELLED:
                self.stage.cancel(self._innermost(waiting.run_id))
            case End.BY_ITSELF:
                pass

    def until(self, probe: Callable[[], Found | None], what: str) -> Found:
        """Ask until the answer is true, and return it."""
        deadline = time.monotonic() + self.pace.patience.total_seconds()
        while not (found := probe()):
            assert time.monotonic() < deadline, f"no {what}"
            time.sleep(0.05)
        return found

    def until_held(self, waiting: Waiting) -> None:
        """Return when the innermost run is under way."""
        self.until(lambda: self._is_held(self._innermost(waiting.run_id)), "run under way")

    def until_ended(self, *waiting: Waiting) -> None:
        """Return when the runs that were started have ended, after which nothing is sent to the topic any more."""
        ids = [one.run_id for one in waiting]
        self.until(lambda: all(run["status"] in TERMINAL for run in map(self.stage.runs().get, ids) if run), "end")

    def until_told(self, *waiting: Waiting) -> None:
        """Return when the tasks know."""
        stages.until(self.stage, *waiting, within=self.pace.patience, ticks=self.pace.ticks)

    def align(self) -> None:
        """Let a sweep pass: the next one, which shows every end, is an interval away."""
        self.stage.sweep()

    def topic_goes_down(self) -> None:
        """Let the topic refuse everything."""
        self.stage.event_grid.post("faults", _TOPIC_IS_DOWN)

    def topic_comes_back(self) -> None:
        """Let it take everything again."""
        self.stage.event_grid.delete("faults")

    def until_refused(self, waiting: Waiting) -> None:
        """Return when a notice was tried in vain."""
        self.until(lambda: "Failed" in self._tries(waiting.run_id), "notice that failed")

    def seen(self, row: Row, waiting: Waiting) -> Seen:
        """What came of a row."""
        runs, child_id = self.stage.runs(), self.stage.child_of(waiting.run_id)
        started, child = runs[waiting.run_id], runs.get(child_id or "")
        wrapper = started if started["pipelineName"].endswith("__notified") else None
        question = waiting.task.question
        assert question is not None
        assert question.responded_at is not None
        ends = [datetime.fromisoformat(run["runEnd"]) for run in (child, started) if run is not None]
        source = self._source(waiting, ends[-1], question.responded_at)
        return Seen(
            row=row,
            told=waiting.told,
            source=source,
            wrapper=wrapper["status"] if wrapper is not None else None,
            child=child["status"] if child is not None else None if wrapper is not None else started["status"],
            message=question.params_input["message"],
            wrapper_says=wrapper["message"] if wrapper is not None else None,
            after=question.responded_at - ends[0],
            too_late=question.responded_at - max(ends) > self.pace.latest(source),
        )

    def _source(self, waiting: Waiting, ended_at: datetime, told_at: datetime) -> Source:
        """An event that was confirmed; else a read of that one run after it had ended; else the sweep."""
        about = (waiting.run_id, self.stage.child_of(waiting.run_id))
        verdicts = [event["verdict"] for run_id in about if run_id for event in self.stage.events(run_id)]
        if "matched" in verdicts:
            return Source.NOTICE
        reads = [
            datetime.fromisoformat(call["at"])
            for call in self.stage.adf.get("calls")["log"]
            if (call["op"], call["run_id"]) == ("getRun", waiting.run_id)
        ]
        return Source.LOOK if any(ended_at <= at <= told_at for at in reads) else Source.SWEEP

    def _innermost(self, run_id: str) -> str:
        child = self.stage.child_of(run_id)
        return self._innermost(child) if child is not None else run_id

    def _is_held(self, run_id: str) -> bool:
        return any(one["status"] == "InProgress" for one in self.stage.runs()[run_id]["activities"] if _is_load(one))

    def _tries(self, run_id: str) -> list[str]:
        activities = self.stage.runs()[run_id]["activities"]
        return [one["status"] for one in activities if one["activityName"].startswith("Notify")]


def _is_load(execution: Json) -> bool:
    return bool(execution["activityName"] == "Load")


@contextmanager
def running_play(folder: Path, pace: Pace) -> Iterator[Play]:
    """Start everything."""
    settings = {"BRIDGE_SWEEP_SECONDS": f"{pace.sweep.total_seconds():.0f}"}
    adf = (
        *("--retry-factor", str(pace.retry_factor), "--queued-seconds", str(pace.queued.total_seconds())),
        *("--most-queued", "1"),
    )
    with stages.running_stage(Stage, folder, rows.PIPELINES, settings=settings, adf=adf) as stage:
        yield Play(stage, pace)


def prepare(play: Play) -> None:
    """Change a pipeline behind its wrapper's back, take all places of another, and add one without a wrapper."""
    folder = play.stage.azure.pipelines
    write_pipeline(folder, "strict", rows.STRICT)
    write_pipeline(folder, "tells", rows.telling(play.stage.azure.ready["topic_endpoint"]))
    placed, waiting = play.stage.create_run("busy"), play.stage.create_run("busy")
    play.until(lambda: play.stage.runs()[placed]["status"] == "InProgress", "run that takes the place")
    assert "Queued" == play.stage.runs()[waiting]["status"]


def perform(play: Play) -> list[Seen]:
    """Play all rows. Runs end right after a sweep: what no notice tells has to wait for the next one."""
    prepare(play)
    played = [row for row in rows.ROWS if row is not rows.FORGED]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        held = [row for row in played if row.end is not End.BY_ITSELF]
        waiting = dict(zip(held, pool.map(play.start, held), strict=True))
        list(pool.map(play.until_held, waiting.values()))
        play.align()
        _down_and_back(play, waiting)
        rest = [row for row in played if row.end is End.BY_ITSELF]
        waiting |= zip(rest, pool.map(play.start, rest), strict=True)
        up = [row for row in played if row.topic is not Topic.DOWN and row is not rows.AFTER_FORGED]
        list(pool.map(lambda row: play.end(row, waiting[row]), [row for row in up if row.topic is Topic.UP]))
        play.until_ended(*(waiting[row] for row in up))
    play.until_told(*(waiting[row] for row in up if row.end is not End.WRAPPER_CANCELLED))
    forged = _forge(play, waiting[rows.AFTER_FORGED], play.stage.child_of(waiting[rows.SUCCESS].run_id) or "")
    _down(play, waiting)
    play.align()
    play.end(rows.AFTER_FORGED, waiting[rows.AFTER_FORGED])
    play.until_told(*waiting.values())
    play.until_ended(*waiting.values())
    found = {row: play.seen(row, one) for row, one in waiting.items()} | {rows.FORGED: forged}
    return [found[row] for row in rows.ROWS]


def _down_and_back(play: Play, waiting: dict[Row, Waiting]) -> None:
    """Let the topic refuse the first notice of some runs, and take the second."""
    play.topic_goes_down()
    back = [row for row in waiting if row.topic is Topic.BACK]
    for row in back:
        play.end(row, waiting[row])
    for row in back:
        play.until_refused(waiting[row])
    play.topic_comes_back()


def _down(play: Play, waiting: dict[Row, Waiting]) -> None:
    """Let the topic be down until some runs have ended, their notices in vain."""
    play.topic_goes_down()
    lost = [row for row in waiting if row.topic is Topic.DOWN]
    for row in lost:
        play.end(row, waiting[row])
    play.until_ended(*(waiting[row] for row in lost))
    play.topic_comes_back()


def _forge(play: Play, waiting: Waiting, other: str) -> Seen:
    """Tell the topic that another run, which succeeded, is the one that the wrapper waits for."""
    data = {"runId": other, "parentRunId": waiting.run_id, "pipelineName": "load", "status": "Succeeded"}
    event = CloudEvent(
        source=FACTORY_ID,
        type="AdfBridge.PipelineRun.Succeeded",
        id=f"forged/{other}",
        subject=f"pipelines/load/runs/{other}",
        data=data,
    )
    play.stage.publish(event)
    known = play.until(lambda: [one for one in play.stage.events(other) if one["id"] == event.id], "verdict")
    runs, child = play.stage.runs(), play.stage.child_of(waiting.run_id)
    return Seen(
        row=rows.FORGED,
        told=waiting.told,
        source=None,
        wrapper=runs[waiting.run_id]["status"],
        child=runs[child or ""]["status"],
        message=f"{known[0]['verdict']}: {known[0]['reason']}".replace(other, "…"),
        wrapper_says=None,
    )
