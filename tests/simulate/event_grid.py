"""Event Grid as the simulator has it: it drops, doubles, delays, reorders, delivers again, carries forgeries."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from bridge import policy
from bridge.model import RunKey, RunStatus
from tests.fakes.samples import ARM_ID, STRANGE_ARM_ID, cloud_event, grid_event
from tests.simulate.audit import CANARY, Audit
from tests.simulate.instance import Instance
from tests.simulate.timeline import Timeline, Violation
from tests.simulate.true_run import PIPELINE, TrueRun

DELIVERIES: Final = 3
_CLAIMS: Final = ("Succeeded", "Failed", "Cancelled")


class EventGrid:
    """Delivers what it is given, more or less, to any instance."""

    def __init__(
        self,
        timeline: Timeline,
        audit: Audit,
        bridges: Sequence[Instance],
        truth: Callable[[RunKey], TrueRun],
        drops: float = 0,
    ) -> None:
        self._timeline = timeline
        self._audit = audit
        self._bridges = bridges
        self._drops = drops
        self._truth = truth

    def tell_of(self, run: TrueRun) -> None:
        """Plan the events of a run, and what somebody forges about it.

        Of a wrapper that is one notice, while it goes on itself: about the child, or about itself if there is none.
        """
        if policy.is_wrapper(run.pipeline):
            child = self._truth(run.key)
            status = RunStatus.SUCCEEDED if child.outcome is RunStatus.SUCCEEDED else RunStatus.FAILED
            at = child.ends if run.child is not None else run.started
            self._timeline.at(at, lambda: self._publish(child.key, status, parent=run.key))
        else:
            self._tell_of_itself(run)
        if self._timeline.hits("event forged", 0.3):
            soon = self._timeline.random.choice((1, 60))  # before anybody is known to wait for the run, or later
            self._timeline.after(soon * self._timeline.random.random(), lambda: self.forge(run.key))

    def _tell_of_itself(self, run: TrueRun) -> None:
        for status, at in ((RunStatus.IN_PROGRESS, run.started), (run.outcome, run.ends)):
            self._timeline.at(at, lambda status=status: self._publish(run.key, status))  # type: ignore[misc]

    def _publish(self, key: RunKey, status: RunStatus, parent: RunKey | None = None) -> None:
        chance = self._timeline.random
        if self._timeline.hits("event dropped", self._drops):
            return
        if parent is None:
            raw = json.dumps((cloud_event if chance.random() < 0.8 else grid_event)(key, status.value))
        else:
            raw = json.dumps(notice(key, parent, status))
        times = 2 if self._timeline.hits("event doubled", 0.15) else 1
        for _ in range(times):
            late = self._timeline.hits("event delayed, reordered", 0.2)
            self._timeline.after(
                chance.uniform(5, 120) if late else chance.uniform(0, 1),
                lambda: self._deliver(raw, parent or key, is_end=status.is_terminal),
            )

    def forge(self, key: RunKey) -> None:
        """Send what nobody published: a false end, a run or factory unknown, or no event at all."""
        chance = self._timeline.random
        status = chance.choice(_CLAIMS)
        data = {"runId": key.run_id, "status": status, "message": CANARY, "parameters": {"password": CANARY}}
        document = chance.choice(
            (
                cloud_event(key, status),
                cloud_event(key, status, data=data),
                cloud_event(key, status, source=STRANGE_ARM_ID),
                cloud_event(RunKey(key.factory, "run-of-nobody"), status),
                cloud_event(key, "Paused"),
                notice(RunKey(key.factory, "run-of-nobody"), key, RunStatus(status)),
                notice(RunKey(key.factory, f"run-{chance.randint(1, 60)}"), key, RunStatus(status)),
                {"data": data, "password": CANARY, "source": ARM_ID},
            )
        )
        self._deliver(json.dumps(document), None, is_end=False)

    def _deliver(self, raw: str, key: RunKey | None, *, is_end: bool, nth: int = 1) -> None:
        """Deliver until somebody acknowledges. What was acknowledged has to be durable."""
        up = [one for one in self._bridges if one.up]
        done = False

        def acknowledged(_: object) -> None:
            nonlocal done
            done = True
            if key is not None and is_end:
                self._check_durable(key)

        def again() -> None:
            if done:
                return
            if nth >= DELIVERIES:
                self._timeline.faults["event dead-lettered"] += 1
                return
            self._timeline.faults["event delivered again"] += 1
            self._deliver(raw, key, is_end=is_end, nth=nth + 1)

        if up:
            self._timeline.random.choice(up).receive(raw, acknowledged)
        self._timeline.after(30.0, again)

    def _check_durable(self, key: RunKey) -> None:
        run = self._audit.run(key)
        if run is None or not (run.has_ended or (run.hint is not None and run.hint.is_terminal)):
            raise Violation("durable", f"the end of {key.run_id} was acknowledged, and is written nowhere")


def notice(key: RunKey, parent: RunKey, status: RunStatus) -> dict[str, Any]:
    """Return what a wrapper tells about the run that it wraps; about itself when that one never started."""
    child = key.run_id if key != parent else None
    data = {"runId": child, "parentRunId": parent.run_id, "pipelineName": PIPELINE, "status": status.value}
    return cloud_event(key, status.value, data=data)
