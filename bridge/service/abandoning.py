"""Finding out that nobody waits for a run any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from bridge import decide, policy
from bridge.commands import (
    FindWait,
    Jitter,
    ListOpen,
    ListParked,
    ListRequests,
    LoadRun,
    Now,
    Point,
    Put,
    ReadTask,
    UseCase,
    do,
)
from bridge.errors import StoreConflict
from bridge.model import FactoryId, TaskRef
from bridge.policy import Rules
from bridge.ports import Refusal
from bridge.service.breakers import enter, leave, target_breaker
from bridge.service.cancelling import cancel_abandoned


@dataclass(frozen=True, slots=True)
class Watched:
    """What a look for abandoned tasks did: pages listed, tasks read singly, waits that turned out to be abandoned."""

    pages: int = 0
    looks: int = 0
    abandoned: int = 0


class Look(Enum):
    """What a look at a single task came to."""

    NOTHING_NEW = auto()
    ABANDONED = auto()
    TROUBLE = auto()  # the target cannot be asked now


def watch(factory: FactoryId, rules: Rules) -> UseCase[Watched]:
    """Look after the tasks that wait for a factory's runs and want them cancelled when they wait no more."""
    waits = yield from do(ListOpen(factory, policy.OPEN_WAITS))
    pages = looks = abandoned = 0
    for target in sorted(rules.targets):
        tasks = decide.watched(waits, target)
        if not tasks:
            continue
        listed, tasks = yield from _nominate(target, tasks)
        pages += listed
        jitter = yield from do(Jitter())
        for token, task in decide.in_turn(tasks, jitter).items():
            looks += 1
            found = yield from look(token, task)
            if found is Look.TROUBLE:
                break  # nothing is proven; the next look is an interval away
            if found is Look.ABANDONED:
                abandoned += 1
                yield from cancel_abandoned(token, rules)
    return Watched(pages, looks, abandoned)


def _nominate(target: str, tasks: Mapping[str, TaskRef]) -> UseCase[tuple[int, dict[str, TaskRef]]]:
    """Leave out the tasks that are shown as parked; no more pages are read than there are tasks to look for."""
    left = dict(tasks)
    for number in range(policy.PARKED_PAGES):
        if len(left) <= number:
            return number, left
        breaker = yield from enter(target_breaker(target))
        if isinstance(breaker, Refusal):
            return number, {}
        page = yield from do(ListParked(target, number, point=Point.PARKED_LISTED))
        yield from leave(breaker, page if isinstance(page, Refusal) else None)
        if isinstance(page, Refusal):
            return number + 1, {}
        left = decide.nominated(left, page.tasks)
        if not page.more:
            return number + 1, left
    return policy.PARKED_PAGES, left


def look(token: str, task: TaskRef) -> UseCase[Look]:
    """Read one task that may wait no more, and write down what that proves."""
    breaker = yield from enter(target_breaker(task.target))
    if isinstance(breaker, Refusal):
        return Look.TROUBLE
    seen = yield from do(ReadTask(task, point=Point.TASK_LOOKED_AT))
    yield from leave(breaker, seen if isinstance(seen, Refusal) else None)
    if isinstance(seen, Refusal):
        return Look.NOTHING_NEW if seen.kind in decide.ABOUT_ONE_THING else Look.TROUBLE
    wait = yield from do(FindWait(token))
    if wait is None:
        return Look.NOTHING_NEW
    requests = yield from do(ListRequests(task.place, policy.EARLIER_TRIES))
    _, waits = yield from do(LoadRun(wait.key))
    after = decide.on_look(wait, seen, requests, waits, (yield from do(Now())))
    if after is None:
        return Look.NOTHING_NEW
    try:
        yield from do(Put(None, (after,), point=Point.WAIT_WATCHED))
    except StoreConflict:
        return Look.NOTHING_NEW  # it changed meanwhile: the next look decides anew
    return Look.ABANDONED if after.cancels else Look.NOTHING_NEW
