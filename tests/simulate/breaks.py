"""Rules that can be taken out, to see that the simulator notices: each is the bridge with one rule broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from unittest.mock import patch

from azure.data.tables import UpdateMode

from bridge import decide, masking, policy
from bridge.adapters.table_access import Write
from bridge.adapters.table_index import Hint
from bridge.adapters.table_plan import plan
from bridge.adapters.table_store import TableStore
from bridge.commands import CreateRun, DropRequest, FindWait, LoadRun, Now, Point, Put, do
from bridge.decide import delivery, queueing
from bridge.model import (
    Mode,
    Run,
    RunEvent,
    RunKey,
    RunReading,
    StartRequest,
    TriggerRequest,
    Wait,
    WaitRequest,
    WaitState,
)
from bridge.policy import Rules
from bridge.ports import Accepted, Due, OpenWait, Refusal, RefusalKind, TaskView
from bridge.service import abandoning, checking, receiving, starting
from bridge.service import reading as reading_of_runs
from tests.simulate.broken_starts import BROKEN
from tests.simulate.instance import Instance

Break = Callable[[], AbstractContextManager[object]]


def _upsert(write: Write) -> Any:
    """Let whoever writes last win."""
    return "upsert", dict(write.entity), {"mode": UpdateMode.REPLACE}


def _same_try(wait: Wait, seen: TaskView) -> None:
    """Take any try of the task for the one that waits."""


def _believe(key: RunKey, rules: Rules, claimed: str | None = None, *_: object) -> Any:
    """Settle the waits by what the event said."""
    run, _ = yield from do(LoadRun(key))
    assert run is not None
    assert run.hint is not None
    reading = RunReading(run.hint, run.hint.value, watched_run_id=claimed)
    return (yield from checking.settle_run(key, reading, rules))


def _acknowledge_first() -> Any:
    receive = Instance.receive

    def acknowledging(self: Instance, raw: str, acknowledge: Any) -> None:
        acknowledge(None)
        receive(self, raw, lambda _: None)

    return acknowledging


_plan_sweep = decide.plan_sweep


def _sweep_young(sweep: Any, waits: Sequence[OpenWait], now: datetime) -> decide.SweepPlan:
    plan = _plan_sweep(sweep, waits, now)
    young = frozenset(one.run_id for one in waits if now - one.registered_at < timedelta(minutes=1))
    return replace(plan, runs=young)


_apply_reading = decide.apply_reading


def _apply_any(run: Run | None, key: RunKey, reading: RunReading, now: datetime) -> Run:
    return _apply_reading(replace(run, status=None) if run is not None else None, key, reading, now)


def _at_once(wait: Wait, seen_waiting_at: datetime, hold: timedelta) -> datetime:
    return seen_waiting_at


def _trust_409(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> decide.Settle | None:
    if refusal.kind is RefusalKind.CONFLICT:
        return decide.Settle(replace(wait, state=WaitState.DELIVERED, due_at=None))
    return _on_refusal(wait, refusal, now, jitter)


_on_refusal = decide.on_refusal


def _give_up(wait: Wait, refusal: Refusal, now: datetime, jitter: float) -> decide.Settle | None:
    if refusal.kind is RefusalKind.UNAVAILABLE:
        return decide.Settle(replace(wait, state=WaitState.GONE, due_at=None))
    return _on_refusal(wait, refusal, now, jitter)


_claim = decide.claim


def _claim_for_good(wait: Wait, now: datetime) -> Wait | None:
    claimed = _claim(wait, now)
    return replace(claimed, due_at=None) if claimed is not None else None


_judge_event = decide.judge_event


def _forget_hint(
    event: RunEvent, run: Run | None, waits: Sequence[Wait], now: datetime, rules: Rules, *, key: RunKey
) -> decide.Judgement:
    return replace(_judge_event(event, run, waits, now, rules, key=key), run=None)


def _soon(now: datetime, *, failures: int, asked: timedelta | None, jitter: float) -> datetime:
    return now + timedelta(seconds=1)


def _unmasked(text: str, secrets: object) -> str:
    return text


def _past_early(wait: Wait, now: datetime) -> bool:
    return wait.state is WaitState.OPEN and now >= wait.deadline - timedelta(minutes=5)


def _never(*_: object) -> bool:
    return False


def _settle_unless_registered(run: Run, waits: Sequence[Wait], now: datetime) -> tuple[Wait, ...]:
    """Let the first wait of a run be the only one."""
    return _settle(run, waits[:1], now)


_settle = decide.settle


def _leave_paused(due: Sequence[Due], breaker: Any, now: datetime) -> Sequence[Due]:
    return () if breaker.is_open else due


def _no_postponing(waits: Sequence[Wait], *_: object) -> tuple[Wait, ...]:
    """Take a refusal of ADF's for the end of the story."""
    return tuple(replace(wait, state=WaitState.GONE, due_at=None) for wait in waits if wait.state is WaitState.OPEN)


def _resume_anything(wait: Wait, seen: TaskView | Refusal, now: datetime, rules: Rules, jitter: float) -> Any:
    return decide.Send(wait)


def _trust_200(
    wait: Wait, reply: Accepted | Refusal, seen: TaskView | Refusal, now: datetime, jitter: float
) -> decide.Settle:
    return decide.Settle(replace(wait, state=WaitState.DELIVERED, due_at=None))


def _retry_create(request: TriggerRequest, reserved: StartRequest, rules: Rules) -> Any:
    """Take a createRun without an answer for one that was not sent."""
    answer = yield from do(CreateRun(request.factory, request.pipeline, request.parameters, point=Point.RUN_CREATED))
    if not isinstance(answer, Refusal):
        return (yield from starting._record_start(reserved, answer.run_id))
    yield from do(DropRequest(reserved, point=Point.START_REFUSED))
    raise starting._start_refused(request, replace(answer, kind=RefusalKind.THROTTLED))


_put = TableStore.put


def _hints_later(self: TableStore, run: Run | None, waits: Sequence[Wait]) -> Any:
    """Write the rows first, then the index rows that lead to them."""
    late: list[Hint] = []
    with patch.object(self._index, "add", late.extend):
        written = _put(self, run, waits)
    self._index.add(late)
    return written


def _hints_gone_first(self: TableStore, run: Run | None, waits: Sequence[Wait]) -> Any:
    """Remove the index rows that led to what a row was, then write the row."""
    for wait in waits:
        self._index.remove(plan(wait, self._new_id()).dropped)
    return _put(self, run, waits)


def _no_repair(store: TableStore, *, limit: int) -> int:
    return 0


def _take_the_list_for_proof(token: str, task: object) -> Any:
    """Take a task that is not listed as parked for one that waits no more."""
    wait = yield from do(FindWait(token))
    if wait is None or wait.state is not WaitState.OPEN:
        return abandoning.Look.NOTHING_NEW
    now = yield from do(Now())
    yield from do(
        Put(None, (replace(wait, state=WaitState.STALE, cancels=True, due_at=now),), point=Point.WAIT_WATCHED)
    )
    return abandoning.Look.ABANDONED


def _any_child(reading: RunReading, key: RunKey) -> bool:
    """Believe an event that names another run as the child."""
    return True


def _nobody_else(*_: object) -> None:
    """Cancel whoever else may wait."""


_listened_to = queueing.listened_to
_register = decide.register


def _not_again(
    request: WaitRequest, known: Run, waits: Sequence[Wait], now: datetime, rules: Rules, **more: Any
) -> Any:
    """Tell a listener nothing about a wait that was delivered already."""
    found = next((one for one in waits if one.token == request.task.token), None)
    if found is not None and found.mode is Mode.QUEUE and found.state is WaitState.DELIVERED:
        return decide.Registration(replace(found, completion=None))
    return _register(request, known, waits, now, rules, **more)


def _first_wins(wait: Wait, reply_to: str, now: datetime) -> Wait:
    """Leave a wait with the listener that registered it first."""
    return _listened_to(wait, wait.reply_to or reply_to, now)


def _only_the_last(wait: Wait, reply_to: str, now: datetime) -> Wait:
    """Tell nobody but the listener that registered last."""
    return replace(_listened_to(wait, reply_to, now), earlier=())


def _swap(*places: tuple[object, str, object]) -> Break:
    """Return a way to put something else in some places, and to undo that."""

    def apply() -> AbstractContextManager[object]:
        stack = ExitStack()
        for owner, name, other in places:
            stack.enter_context(patch.object(owner, name, other))
        return stack

    return apply


BREAKS: Final[dict[str, Break]] = {
    "no-compare-and-set": _swap((Write, "_operation", property(_upsert))),
    "index-never-repaired": _swap((TableStore, "repair", _no_repair)),
    "hint-after-row": _swap((TableStore, "put", _hints_later)),
    "hint-removed-before-row": _swap((TableStore, "put", _hints_gone_first)),
    "no-fence": _swap((delivery, "other_try", _same_try)),
    "no-look-at-the-task": _swap((decide, "on_task", _resume_anything)),
    "event-not-verified": _swap((receiving, "check_claim", _believe), (receiving, "check_run", _believe)),
    "ack-before-write": _swap((Instance, "receive", _acknowledge_first())),
    "hint-not-kept": _swap((decide, "judge_event", _forget_hint)),
    "sweep-ignores-old-waits": _swap((decide, "plan_sweep", _sweep_young)),
    "no-sweep": _swap((decide, "is_sweep_due", _never)),
    "terminal-not-absorbing": _swap((decide, "apply_reading", _apply_any)),
    "only-the-first-wait": _swap((decide, "settle", _settle_unless_registered)),
    "lost-createRun-is-refused": _swap((starting, "_create_run", _retry_create)),
    "no-hold": _swap((policy, "deliver_from", _at_once)),
    "200-is-done": _swap((decide, "after_reply", _trust_200)),
    "409-is-done": _swap((decide, "on_refusal", _trust_409)),
    "5xx-is-the-end": _swap((decide, "on_refusal", _give_up)),
    "404-is-the-end": _swap((policy, "MISSING_GRACE", timedelta(0))),
    "adf-refusal-is-the-end": _swap((decide, "postpone", _no_postponing)),
    "lost-due-time-after-crash": _swap((decide, "claim", _claim_for_good)),
    "pause-without-probe": _swap((decide, "to_attend", _leave_paused), (decide, "may_call", _never)),
    "no-backoff": _swap((policy, "later", _soon), (policy, "not_parked_again", lambda now, looks: now)),
    "expired-too-early": _swap((decide, "is_past_deadline", _past_early)),
    "child-not-verified": _swap((reading_of_runs, "_is_child", _any_child)),
    "a-list-is-proof": _swap((abandoning, "look", _take_the_list_for_proof)),
    "cancel-though-others-wait": _swap((decide, "keeps_running", _nobody_else)),
    "delivered-is-not-answered-again": _swap((decide, "register", _not_again)),
    "last-registration-does-not-win": _swap((queueing, "listened_to", _first_wins)),
    "only-the-last-listener-is-told": _swap((queueing, "listened_to", _only_the_last)),
    "parameters-not-masked": _swap((masking, "masked", _unmasked)),
    **{name: _swap(*places) for name, places in BROKEN.items()},
}
