"""The tasks that wait: what the operator does in Airflow, what Airflow does to it, and what people do to both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from bridge import service
from bridge.commands import FindWait, do
from bridge.errors import (
    AdfThrottled,
    AdfUnavailable,
    Problem,
    RequestInFlight,
    StoreUnavailable,
    UnknownOutcome,
)
from bridge.model import (
    Completion,
    FactoryId,
    Mode,
    NewTry,
    OnAbandon,
    Outcome,
    RunKey,
    TaskRef,
    Wait,
    WaitRequest,
)
from tests.fakes.airflow import PARKED, Place, place_of
from tests.simulate.airflow import IN_THE_END, PARKS_IN_TIME, Instance
from tests.simulate.asking import Asked
from tests.simulate.attempt import Attempt, Host
from tests.simulate.audit import SECRET
from tests.simulate.caller import Caller
from tests.simulate.captures import Captures
from tests.simulate.timeline import Violation

TRIES: Final = 4
LONGEST_PAUSE: Final = 30.0
RETRIED: Final = 0.9  # of the tries whose run has failed
_MEDDLING: Final = (*("clear",) * 5, *("mark",) * 4, *("answer",) * 3, "remove", *("remake",) * 2, *("withdraw",) * 4)
# Just before the bridge answers, a clear (S15) and an answer (a 409) are what it cannot see coming: more of those.
_BETWEEN: Final = (*("clear",) * 7, *("mark",) * 2, *("answer",) * 6, "remove", *("withdraw",) * 2)
_REMEMBERED: Final = 300  # seconds; a record of the simulated bridge lasts for six minutes
_AGAIN: Final = (StoreUnavailable, RequestInFlight, AdfThrottled, AdfUnavailable)


class Task:
    """One task instance, from its first try to its end."""

    def __init__(self, host: Host, task: TaskRef, asked: Asked, *, existing: bool) -> None:
        self._host = host
        self._captures = Captures(host)
        self._timeline = host.timeline
        self._name = task
        self._asked = asked
        self._existing = existing
        self._late: list[Attempt] = []
        self._after: NewTry | None = None
        self._since_try = 1
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

    @property
    def awaited(self) -> RunKey | None:
        """The run of somebody else's that the task waits for, or is about to."""
        return self._attempt.run if self._attempt is not None and not self.is_over else None

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
        if self._after is not None and self._timeline.hits("parameters changed for a later try", 0.1):
            self._asked = self._asked.changed(chance)
        asked, is_starting = self._asked, not self._existing
        keeps = is_starting and asked.keeps(another_may_follow=task.try_number < TRIES)
        wait = WaitRequest(task, Mode.RESUME, self._timeline.now() + length, asked.on_abandon, keep_for_next_try=keeps)
        self.row.state, self.row.token, self.row.ended_at = "running", task.token, None
        self._attempt = attempt = Attempt(
            wait,
            asked.request(wait, self._after, self._since_try) if is_starting else None,
            self._a_run() if self._existing else None,
            self.row.serial,
            self._timeline.seconds,
            asked.patience,
            is_at_stake=is_starting and asked.on_abandon is OnAbandon.CANCEL and not keeps,
        )
        self.row.on_resumed = lambda: self._woken(attempt)
        self.row.on_seen = lambda: self._meddle(attempt, _BETWEEN)
        self.row.on_failed = lambda: self._retry(attempt)
        self._host.remember(wait)
        if attempt.request is not None:
            self._host.starts.requests[task.token] = attempt.request
            self._host.starts.callers[task.token] = lambda: self._dies(attempt)
        if self._timeline.hits("operator told to end before it parked", 0.06):
            self._timeline.after(chance.choice((1, 10, 60)) * chance.random(), lambda: self._told_to_end(attempt))
        self._send(attempt)

    def _a_run(self) -> RunKey:
        chance = self._timeline.random
        until = self._timeline.now() + timedelta(hours=1)
        known = [run.key for run in self._host.adf.runs.values() if run.ends < until]
        if known and chance.random() < 0.6:
            return chance.choice(known)
        return self._host.adf.begin(chance.choice(list(self._host.rules.factories.values()))).key

    def _is_on(self, attempt: Attempt) -> bool:
        return attempt.serial == self.row.serial and self.row.state == "running" and attempt is self._attempt

    def _let_late_ones_arrive(self) -> None:
        """Have what was sent before its worker died arrive while this try asks, or after: as long as it is known."""
        for late in self._late:
            seconds = self._timeline.random.choice((0.5, 3, 40)) * self._timeline.random.random()
            if self._timeline.seconds - late.began < _REMEMBERED:
                self._timeline.after(seconds, partial(self._arrive, late))
        self._late.clear()

    def _send(self, attempt: Attempt) -> None:
        """Ask the bridge; whatever happens to the request, it is repeated under its key until somebody answers."""
        if not self._is_on(attempt):
            return
        if self._timeline.seconds - attempt.began > attempt.patience:
            self._timeline.happened["the operator gave up: start_timeout"] += 1
            self._fail(attempt)
            return
        if self._timeline.hits("worker killed while it asked", 0.03):
            self._late.append(attempt)
            self._fail(attempt)
            return
        self._let_late_ones_arrive()
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
            self._timeline.random.choice(up).spawn(self._use_case(attempt), heard, failed, attempt.caller)
            if self._timeline.hits("request of the operator doubled", 0.05):
                self._timeline.random.choice(up).spawn(self._use_case(attempt), caller=attempt.caller)
        self._timeline.after(30, again)

    def _arrive(self, late: Attempt) -> None:
        """Have a request reach the bridge although nobody hears the answer."""
        self._host.ask(self._use_case(late), late.caller)

    def _use_case(self, attempt: Attempt) -> Any:
        if attempt.parked:
            return do(FindWait(attempt.task.token))
        if attempt.request is not None:
            return service.start_run(attempt.request, self._host.rules)
        assert attempt.run is not None
        return service.register_wait(attempt.run, attempt.wait, self._host.rules)

    def _answered(self, attempt: Attempt, result: Any) -> None:
        if isinstance(result, service.StartAnswer):
            attempt.told = self._host.starts.told(attempt.task.token, result.document)
            self._captures.take(attempt)
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
        self._finish(attempt, succeeded=completed.status is Outcome.SUCCEEDED)

    def _refused(self, attempt: Attempt, error: Exception) -> None:
        if not isinstance(error, Problem):
            raise error
        if SECRET in error.detail:
            raise Violation("secret", f"{error.code} holds a parameter", attempt.task.token)
        if isinstance(error, UnknownOutcome):
            self._host.starts.told_unknown(attempt.task.token)
            self._captures.take(attempt)
        if not self._is_on(attempt):
            return
        if isinstance(error, _AGAIN):
            pause = min((error.retry_after or timedelta(seconds=2)).total_seconds(), LONGEST_PAUSE)
            self._timeline.after(pause + self._timeline.random.random(), lambda: self._send(attempt))
        else:
            self._timeline.happened[f"told the operator: {error.code}"] += 1
            self._fail(attempt)

    def _park_later(self, attempt: Attempt) -> None:
        if self._timeline.hits("person: cleared while it ran", 0.1):
            self._timeline.after(self._timeline.random.uniform(0, 5), lambda: self._clear_running(attempt))
        late = self._timeline.hits("parks late", 0.1)
        delay = self._timeline.random.uniform(PARKS_IN_TIME, 40) if late else self._timeline.random.uniform(0, 8)
        if attempt.is_at_stake and self._timeline.hits("operator told to end before it parked", 0.3):
            self._timeline.after(delay * self._timeline.random.random(), lambda: self._told_to_end(attempt))
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
        self._finish(attempt, succeeded=answer is not None and answer.chosen == ("Succeeded",))

    def _finish(self, attempt: Attempt, *, succeeded: bool) -> None:
        """End a try as its run has; Airflow makes another one of some that failed."""
        if not succeeded and self._timeline.random.random() < RETRIED:
            self._fail(attempt)
            return
        self._end("success" if succeeded else "failed")
        if self._timeline.hits("person: cleared when it had ended", 0.15):
            self._timeline.after(self._timeline.random.uniform(1, 60), lambda: self._clear_ended(attempt))

    # --- what else happens to a task ---

    def _meddle(self, attempt: Attempt, deeds: Sequence[str]) -> None:
        """Have a person do one of some deeds to a parked task."""
        if not self._timeline.chaos or attempt.serial != self.row.serial or not self.is_parked:
            return
        chance = self._timeline.random
        match chance.choice(deeds):
            case "clear":
                self.clear(chance.choice((0.2, 20, 180)) * chance.random())
            case "mark":
                self.mark(chance.choice(IN_THE_END))
            case "answer":
                self.answer()
            case "remove":
                self.remove()
            case "remake":
                self.remake(chance.uniform(1, 60))
            case _:
                self.withdraw()

    def clear(self, seconds: float) -> None:
        """Have a person clear the task; its next try begins so much later."""
        self._timeline.faults["person: cleared"] += 1
        self._again(None, seconds, NewTry.CLEAR)

    def _clear_ended(self, attempt: Attempt) -> None:
        if attempt.serial == self.row.serial and self.is_over and self._timeline.chaos:
            self._again(None, self._a_while(), NewTry.CLEAR)

    def _a_while(self) -> float:
        """Draw how long it takes until a task that is to run again does: now and then, a pool is full."""
        return self._timeline.random.uniform(1, self._timeline.random.choice((40, 40, 180)))

    def _clear_running(self, attempt: Attempt) -> None:
        if self._is_on(attempt):
            self._again("restarting", self._timeline.random.uniform(5, 30), NewTry.CLEAR)

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

    def remake(self, seconds: float) -> None:
        """Have the DAG run deleted, and made again under the same names: its tasks begin with their first try."""
        if self.row.id is None:
            return  # an Airflow without ids of task instances has no state to park in
        self._timeline.faults["person: deleted the DAG run and made it again"] += 1
        serial = self.row.serial + 1
        self._end("failed")
        self.row = self._host.airflow.instances[self._place] = Instance(self._id(serial), serial=serial)
        self._after, self._since_try = None, 1

        def begin() -> None:
            if self.row.serial == serial:
                self.execute()

        self._timeline.after(seconds, begin)

    def withdraw(self) -> None:
        """Have the task killed: the operator withdraws its wait."""
        self._timeline.faults["withdrawn"] += 1
        up = [one for one in self._host.bridges if one.up]
        if up and self._attempt is not None:
            self._timeline.random.choice(up).spawn(service.withdraw(self._attempt.task.token))
        self._end("failed")

    def _told_to_end(self, attempt: Attempt) -> None:
        """Have the operator's process end before it has parked, having cancelled what no try can take over."""
        if not self._is_on(attempt):
            return
        if attempt.is_at_stake and attempt.told is not None:
            use_case = service.cancel_run(attempt.told, self._host.rules, recursive=True)
            self._host.ask(use_case, Caller(is_operator=True))
        self._fail(attempt)

    def _fail(self, attempt: Attempt) -> None:
        self._end("failed")
        self._retry(attempt)

    def _dies(self, attempt: Attempt) -> None:
        """Have the operator die before it has heard anything; there is no other try."""
        if self._is_on(attempt):
            self._end("failed")

    def _retry(self, attempt: Attempt) -> None:
        if attempt.serial == self.row.serial and self.row.try_number < TRIES and self._timeline.chaos:
            self._timeline.faults["retried"] += 1
            self._again("up_for_retry", self._a_while(), NewTry.RETRY)

    def _again(self, state: str | None, seconds: float, after: NewTry) -> None:
        """Have another try: a new id at once, its number only when it runs."""
        self._after = after
        row = self.row
        if after is NewTry.CLEAR:
            self._since_try = row.try_number + 1
        row.serial += 1
        row.state, row.token = state, ""
        if row.id is not None:
            row.id = self._id(row.serial)
        serial = row.serial
        self._timeline.after(seconds, lambda: self._next_try(serial))

    def _id(self, serial: int) -> str:
        return f"{self._name.task_id}[{self._name.map_index}]/{serial}"

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
