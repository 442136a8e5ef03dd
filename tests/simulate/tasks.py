"""The tasks that wait: what the operator does in Airflow, what Airflow does to it, and what people do to both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from bridge import service
from bridge.commands import FindWait, do
from bridge.errors import AdfThrottled, AdfUnavailable, Problem, RequestInFlight, StoreUnavailable
from bridge.model import (
    Completion,
    FactoryId,
    Mode,
    OnAbandon,
    Outcome,
    RunKey,
    TaskRef,
    TriggerRequest,
    Wait,
    WaitRequest,
)
from bridge.policy import Rules
from tests.fakes.airflow import PARKED, Place, place_of
from tests.simulate.adf import SimAdf
from tests.simulate.airflow import IN_THE_END, PARKS_IN_TIME, Instance, SimAirflow
from tests.simulate.audit import SECRET
from tests.simulate.instance import Instance as BridgeInstance
from tests.simulate.timeline import Timeline, Violation

TRIES: Final = 4
# How many waits have their run cancelled when nobody waits: most, for few of their tasks are ever abandoned.
CANCELLING: Final = 0.7
PATIENCE: Final = 150.0
_MEDDLING: Final = (*("clear",) * 4, *("mark",) * 4, *("answer",) * 3, "remove", *("withdraw",) * 4)
# Just before the bridge answers, a clear (S15) and an answer (a 409) are what it cannot see coming: more of those.
_BETWEEN: Final = (*("clear",) * 7, *("mark",) * 2, *("answer",) * 6, "remove", *("withdraw",) * 2)
_AGAIN: Final = (StoreUnavailable, RequestInFlight, AdfThrottled, AdfUnavailable)


@dataclass(frozen=True)
class Host:
    """The parts of the world that a task meets."""

    timeline: Timeline
    airflow: SimAirflow
    adf: SimAdf
    bridges: Sequence[BridgeInstance]
    rules: Rules
    remember: Callable[[TaskRef, WaitRequest], None]
    meddling: float = 0  # how many of the parked tasks people do something to


@dataclass
class Attempt:
    """One try: its name, its request, and the run that it registers for unless it starts one."""

    task: TaskRef
    request: WaitRequest
    run: RunKey | None
    serial: int
    began: float
    busy: bool = False
    sent: int = 0
    parked: bool = False


class Task:
    """One task instance, from its first try to its end."""

    def __init__(self, host: Host, task: TaskRef, *, existing: bool) -> None:
        self._host = host
        self._timeline = host.timeline
        self._name = task
        self._existing = existing
        self._place: Place = place_of(task)
        self._nonces = 0
        self.row = Instance(task.task_instance_id)
        host.airflow.instances[self._place] = self.row
        self._attempt: Attempt | None = None

    @property
    def is_parked(self) -> bool:
        """Whether the task waits."""
        return self.row.state == PARKED

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to the task by itself."""
        return self.row.state in IN_THE_END

    # --- a try ---

    def execute(self) -> None:
        """Begin a try: a nonce, hence a token, of its own."""
        chance = self._timeline.random
        self._nonces += 1
        task = replace(
            self._name,
            try_number=self.row.try_number,
            task_instance_id=self.row.id,
            nonce=f"{self._name.task_id}-{self._nonces}",
        )
        short = chance.random() < 0.25
        length = timedelta(seconds=chance.uniform(20, 400)) if short else timedelta(hours=6)
        on_abandon = OnAbandon.CANCEL if chance.random() < CANCELLING else OnAbandon.LEAVE
        request = WaitRequest(task, Mode.RESUME, self._timeline.now() + length, on_abandon)
        run = self._a_run(task.target) if self._existing else None
        self.row.state, self.row.token, self.row.ended_at = "running", task.token, None
        self._attempt = attempt = Attempt(task, request, run, self.row.serial, self._timeline.seconds)
        self.row.on_resumed = lambda: self._woken(attempt)
        self.row.on_seen = lambda: self._meddle(attempt, _BETWEEN)
        self.row.on_failed = lambda: self._retry(attempt)
        self._host.remember(task, request)
        self._send(attempt)

    def _a_run(self, target: str) -> RunKey:
        chance = self._timeline.random
        known = list(self._host.adf.runs)
        if known and chance.random() < 0.6:
            return chance.choice(known)
        return self._host.adf.begin(chance.choice(list(self._host.rules.factories.values()))).key

    def _is_on(self, attempt: Attempt) -> bool:
        return attempt.serial == self.row.serial and self.row.state == "running" and attempt is self._attempt

    def _send(self, attempt: Attempt) -> None:
        """Ask the bridge; whatever happens to the request, it is repeated under its key until somebody answers."""
        if not self._is_on(attempt):
            return
        if self._timeline.seconds - attempt.began > PATIENCE:
            self._end("failed")
            return
        up = [one for one in self._host.bridges if one.up]
        attempt.busy = True
        attempt.sent += 1
        nth = attempt.sent

        def heard(result: Any) -> None:
            if not self._timeline.hits("answer to the operator lost", 0.05):
                attempt.busy = False
                self._answered(attempt, result)

        def failed(error: Exception) -> None:
            attempt.busy = False
            self._refused(attempt, error)

        def again() -> None:
            if attempt.busy and self._is_on(attempt) and nth == attempt.sent:
                self._send(attempt)

        if up and not self._timeline.hits("request of the operator lost", 0.05):
            self._timeline.random.choice(up).spawn(self._use_case(attempt), heard, failed)
            if self._timeline.hits("request of the operator doubled", 0.05):
                self._timeline.random.choice(up).spawn(self._use_case(attempt))
        self._timeline.after(30, again)

    def _use_case(self, attempt: Attempt) -> Any:
        if attempt.parked:
            return do(FindWait(attempt.task.token))
        if attempt.run is not None:
            return service.register_wait(attempt.run, attempt.request, self._host.rules)
        key = attempt.task.token
        factories = sorted(self._host.rules.factories.items())
        request = TriggerRequest(
            idempotency_key=key,
            body_hash=key,
            factory=factories[len(key + self._name.task_id) % len(factories)][1],
            pipeline="copy_orders",
            parameters={"key": key, "secret": SECRET},
            wait=attempt.request,
        )
        return service.start_run(request, self._host.rules)

    def _answered(self, attempt: Attempt, result: Any) -> None:
        if not self._is_on(attempt):
            return
        if result is None:
            self._timeline.happened["told the operator: not-found"] += 1
            self._fail(attempt)
            return
        completed = _completion(result)
        if completed is None:
            self._park_later(attempt)
            return
        if attempt.task.token not in self._host.airflow.crossed:
            self._host.airflow.completed(completed)
        self._end("success" if completed.status is Outcome.SUCCEEDED else "failed")

    def _refused(self, attempt: Attempt, error: Exception) -> None:
        if not isinstance(error, Problem):
            raise error
        if SECRET in error.detail:
            raise Violation("secret", f"{error.code} holds a parameter", attempt.task.token)
        if not self._is_on(attempt):
            return
        if isinstance(error, _AGAIN):
            pause = (error.retry_after or timedelta(seconds=2)).total_seconds()
            self._timeline.after(pause + self._timeline.random.random(), lambda: self._send(attempt))
        else:
            self._timeline.happened[f"told the operator: {error.code}"] += 1
            self._fail(attempt)

    def _park_later(self, attempt: Attempt) -> None:
        if self._timeline.hits("person: cleared while it ran", 0.1):
            self._timeline.after(self._timeline.random.uniform(0, 5), lambda: self._clear_running(attempt))
        late = self._timeline.hits("parks late", 0.1)
        delay = self._timeline.random.uniform(PARKS_IN_TIME, 40) if late else self._timeline.random.uniform(0, 8)
        # What counts is how long ago the bridge wrote the wait: a repeated request is later than that.
        self._timeline.after(delay, lambda: self._park(attempt))

    def _park(self, attempt: Attempt) -> None:
        if not self._is_on(attempt):
            return
        if self._timeline.hits("worker killed before parking", 0.03):
            self._fail(attempt)
            return
        row = self.row
        row.state, row.answer, row.has_parked, row.parked_at = PARKED, None, True, self._timeline.now()
        # Another try's answer woke it: that it parks a second time may cost it this try, as documented for S15.
        row.parked_again, attempt.parked = attempt.parked, True
        row.parked_late = self._timeline.seconds - attempt.began > PARKS_IN_TIME
        if self._timeline.chaos and self._timeline.random.random() < self._host.meddling:
            self._timeline.after(self._timeline.random.uniform(0, 200), lambda: self._meddle(attempt, _MEDDLING))

    def _woken(self, attempt: Attempt) -> None:
        """Go on after being resumed: an answer that is another try's is none, the bridge is asked again."""
        if attempt.serial != self.row.serial or self.row.state != "scheduled":
            return
        self.row.state = "running"
        answer = self.row.answer
        if answer is not None and answer.token not in (None, attempt.task.token):
            attempt.began = self._timeline.seconds
            self._send(attempt)
            return
        self._end("success" if answer is not None and answer.chosen == ("Succeeded",) else "failed")

    # --- what else happens to a task ---

    def _meddle(self, attempt: Attempt, deeds: Sequence[str]) -> None:
        """Have a person do one of some deeds to a parked task."""
        if not self._timeline.chaos or attempt.serial != self.row.serial or not self.is_parked:
            return
        chance = self._timeline.random
        match chance.choice(deeds):
            case "clear":
                self.clear(chance.choice((0.2, 20)) * chance.random())
            case "mark":
                self.mark(chance.choice(IN_THE_END))
            case "answer":
                self.answer()
            case "remove":
                self.remove()
            case _:
                self.withdraw()

    def clear(self, seconds: float) -> None:
        """Have a person clear the task; its next try begins so much later."""
        self._timeline.faults["person: cleared"] += 1
        self._again(None, seconds)

    def _clear_running(self, attempt: Attempt) -> None:
        if self._is_on(attempt):
            self._again("restarting", self._timeline.random.uniform(5, 30))

    def mark(self, state: str) -> None:
        """Have a person mark the task, or Airflow take it out of its DAG."""
        self._timeline.faults["person: marked"] += 1
        self._end(state)

    def answer(self) -> None:
        """Have a person answer in Required Actions."""
        self._timeline.faults["person: answered"] += 1
        self._host.airflow.answer_as_person(self.row)
        attempt = self._attempt
        assert attempt is not None
        self._timeline.after(1, lambda: self._woken(attempt))

    def remove(self) -> None:
        """Have the task instance deleted."""
        self._timeline.faults["person: removed the task"] += 1
        self._end("failed")
        self._host.airflow.instances.pop(self._place, None)

    def withdraw(self) -> None:
        """Have the task killed: the operator withdraws its wait."""
        self._timeline.faults["withdrawn"] += 1
        up = [one for one in self._host.bridges if one.up]
        if up and self._attempt is not None:
            self._timeline.random.choice(up).spawn(service.withdraw(self._attempt.task.token))
        self._end("failed")

    def _fail(self, attempt: Attempt) -> None:
        self._end("failed")
        self._retry(attempt)

    def _retry(self, attempt: Attempt) -> None:
        if attempt.serial == self.row.serial and self.row.try_number < TRIES and self._timeline.chaos:
            self._timeline.faults["retried"] += 1
            self._again("up_for_retry", self._timeline.random.uniform(1, 50))

    def _again(self, state: str | None, seconds: float) -> None:
        """Have another try: a new id at once, its number only when it runs."""
        row = self.row
        row.serial += 1
        row.state, row.token = state, ""
        if row.id is not None:
            row.id = f"{self._name.task_id}/{row.serial}"
        serial = row.serial
        self._timeline.after(seconds, lambda: self._next_try(serial))

    def _next_try(self, serial: int) -> None:
        if self.row.serial == serial:
            self.row.try_number += 1
            self.execute()

    def _end(self, state: str) -> None:
        self.row.state, self.row.ended_at = state, self._timeline.now()


def _completion(result: Any) -> Completion | None:
    """Read the completion out of an answer of the bridge, as the operator does."""
    if isinstance(result, service.StartAnswer):
        document = json.loads(result.document)
        told = document["completed"]
        key = RunKey(FactoryId.parse(document["run"]["factory"]), document["run"]["run_id"])
        if told is None:
            return None
        return Completion(told["token"], Outcome(told["status"]), key, watched_run_id=told["watched_run_id"])
    if isinstance(result, Wait):
        return result.completion
    wait = result.wait
    return wait.completion if wait is not None and wait.state.is_final else None
