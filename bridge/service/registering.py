"""Registering waits, and withdrawing them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge import decide
from bridge.commands import (
    FindWait,
    LoadRun,
    Now,
    Point,
    Put,
    UseCase,
    do,
)
from bridge.errors import (
    NotFound,
    StoreConflict,
)
from bridge.model import (
    Run,
    RunKey,
    StartRequest,
    Wait,
    WaitRequest,
)
from bridge.policy import Rules
from bridge.ports import RefusalKind
from bridge.service.checking import check_run
from bridge.service.contention import DECISION_TRIES, contended


@dataclass(frozen=True, slots=True)
class Registered:
    """A run and the wait that was registered for it, if one was asked for."""

    run: Run
    wait: Wait | None


def register_wait(key: RunKey, request: WaitRequest, rules: Rules) -> UseCase[Registered]:
    """Register a wait for an existing run; answer with the completion when the run has ended.

    A run that is news to the store is looked up first: nobody waits for one that ADF does not know.
    """
    existing = yield from do(FindWait(request.task.token))
    if existing is None:
        decide.check_deadline(request.deadline, (yield from do(Now())), field="deadline")
        if request.match is None:
            yield from _check_known(key, rules)
    elif existing.key != key:
        decide.check_free(existing)
    return (yield from register(key, request, rules))


def _check_known(key: RunKey, rules: Rules) -> UseCase[None]:
    known, _ = yield from do(LoadRun(key))
    if known is not None:
        return
    checked = yield from check_run(key, rules)
    if checked.refusal is not None and checked.refusal.kind is RefusalKind.NOT_FOUND:
        msg = f"ADF does not know run {key.run_id} in this factory."
        raise NotFound(msg)


def register(
    key: RunKey,
    request: WaitRequest | None,
    rules: Rules,
    *,
    pipeline: str | None = None,
    start: StartRequest | None = None,
    just_started: bool = False,
) -> UseCase[Registered]:
    """Write the wait, then look at the run: an event writes the run, then looks at the waits. One sees the other.

    `start` is the trigger request that the run answers to; raises RunTaken when it answers to another one.
    """
    for _ in range(DECISION_TRIES):
        known, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        run = known or Run(key=key, created_at=now)
        match = request.match if request is not None else None
        run = replace(run, pipeline=run.pipeline or pipeline, match=run.match or match)
        if start is not None:
            run = decide.owned(run, start)
        if request is None:
            run_row, _ = yield from _try_put(run, ())
            if run_row is None:
                continue
            return Registered(run_row, None)
        registration = decide.register(request, run, waits, now, rules, start=start, just_started=just_started)
        if not registration.writes:
            return Registered(run, registration.wait)
        run_row, written = yield from _try_put(run, (registration.wait,))
        if run_row is None:
            continue
        if not registration.ask_adf:
            return Registered(run_row, written[0])
        return (yield from _ask_and_answer(key, written[0], rules))
    raise contended()


def _try_put(run: Run, waits: tuple[Wait, ...]) -> UseCase[tuple[Run | None, tuple[Wait, ...]]]:
    try:
        return (yield from do(Put(run, waits, point=Point.WAIT_WRITTEN)))
    except StoreConflict:
        return None, ()


def _ask_and_answer(key: RunKey, wait: Wait, rules: Rules) -> UseCase[Registered]:
    """Ask ADF about a run that somebody just registered for; a run that has ended is answered at once."""
    yield from check_run(key, rules)
    for _ in range(DECISION_TRIES):
        run, waits = yield from do(LoadRun(key))
        now = yield from do(Now())
        current = next((row for row in waits if row.token == wait.token), wait)
        known = run or Run(key=key)
        taken = decide.take_inline(known, current, now, reply_to=wait.reply_to)
        if taken is None:
            return Registered(known, current)
        try:
            _, written = yield from do(Put(None, (taken,), point=Point.WAIT_WRITTEN))
        except StoreConflict:
            continue
        return Registered(known, written[0])
    raise contended()


def withdraw(token: str) -> UseCase[Wait]:
    """Stop waiting; a wait that is over stays as it is."""
    for _ in range(DECISION_TRIES):
        wait = yield from do(FindWait(token))
        if wait is None:
            msg = "No wait has this token."
            raise NotFound(msg)
        withdrawn = decide.withdraw(wait, (yield from do(Now())))
        if withdrawn is None:
            return wait
        try:
            _, written = yield from do(Put(None, (withdrawn,), point=Point.WAIT_WITHDRAWN))
        except StoreConflict:
            continue
        return written[0]
    raise contended()
