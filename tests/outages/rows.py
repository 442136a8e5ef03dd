"""The outages: what is killed, and when the runs of a row's tasks end meanwhile, a third at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.outages.crowd import Crowd
from tests.outages.outage_stack import OutageStack

DOWN_SECONDS = 5.0
"""How long something stays dead, at least."""
IDLE_FACTOR = 0.03
"""What the broker's clock is sped up by for the idle detach: ten minutes are 18 s."""
IDLE_DETACHES = 2
_LOST_TO_IDLENESS = "IdleTimerExpired"


@dataclass(frozen=True)
class Happened:
    """What was seen of an outage, and why it was not the one that was meant, if so."""

    seen: str
    trouble: str = ""


@dataclass(frozen=True)
class Row:
    """An outage with a name. `outage` ends all three thirds of the runs."""

    name: str
    outage: Callable[[OutageStack, Crowd], Happened]


def one_of_two_triggerers(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill the triggerer that has most of the tasks, and start none in its place."""
    waiting = stack.listeners(crowd)
    share = {one: sum(pid in one.pids for pid in waiting.values()) for one in stack.triggerers}
    victim = max(share, key=lambda one: share[one])
    dead = victim.pids
    crowd.end_part()
    stack.kill_triggerer(victim)
    crowd.end_part()
    orphans = {token for token, pid in waiting.items() if pid in dead}
    stack.until(lambda: not orphans & _listened_by(stack, crowd, dead), "the other triggerer to take the tasks over")
    crowd.end_part()
    taken = f"{len(orphans)} of them were with the one that was killed, {crowd.size - len(orphans)} with the other"
    return Happened(taken, "" if orphans else "the triggerer that was killed had none of the tasks")


def _listened_by(stack: OutageStack, crowd: Crowd, pids: set[int]) -> set[str]:
    """The open waits that these processes were the last to listen for."""
    is_open = {wait["token"] for wait in crowd.dag_run.waits() if wait["state"] == "open"}
    return {token for token, pid in stack.listeners(crowd).items() if pid in pids} & is_open


def the_triggerer(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill the only triggerer, and start another after a while."""
    [victim] = stack.triggerers
    dead = victim.pids
    crowd.end_part()
    stack.kill_triggerer(victim)
    crowd.end_part()
    time.sleep(DOWN_SECONDS)
    stack.start_triggerer()
    stack.until(lambda: not _listened_by(stack, crowd, dead), "the new triggerer to listen")
    crowd.end_part()
    return Happened("there was none until two thirds of the runs had ended")


def the_broker_twice(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill Service Bus while everybody waits, and once more while completions are on their way."""
    stack.broker.kill()
    crowd.end_part()
    time.sleep(DOWN_SECONDS)
    stack.broker.start()
    stack.until(stack.sessions_held, "the triggerer to attach its session again")
    crowd.end_part()
    stack.broker.kill()
    time.sleep(DOWN_SECONDS)
    stack.broker.start()
    crowd.end_part()
    return Happened(f"dead twice, for {DOWN_SECONDS:.0f} s")


def the_functions_host(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill the bridge as events come in, and let more come while it is gone."""
    crowd.end_part()
    stack.azure.functions.kill()
    crowd.end_part()
    time.sleep(DOWN_SECONDS)
    stack.azure.functions.start()
    crowd.end_part()
    return Happened(f"dead for {DOWN_SECONDS:.0f} s")


def idle_links(stack: OutageStack, crowd: Crowd) -> Happened:
    """Let Service Bus detach the link of the session for its idleness, again and again."""
    [listening] = stack.triggerers
    before = _idle_detaches(listening.log)
    stack.broker.kill()
    stack.broker.args = (*stack.broker.args, "--clock-factor", str(IDLE_FACTOR))
    stack.broker.start()
    stack.until(lambda: _idle_detaches(listening.log) >= before + IDLE_DETACHES, "the session's link to be detached")
    crowd.end_part()
    stack.until(
        lambda: _idle_detaches(listening.log) >= before + IDLE_DETACHES + 1, "the session's link to be detached again"
    )
    crowd.end_part()
    crowd.end_part()
    return Happened(f"the session's link detached {_idle_detaches(listening.log) - before} times")


def _idle_detaches(log: Path) -> int:
    """How often a triggerer has logged that it lost the session to idleness."""
    return log.read_text(encoding="utf-8", errors="replace").count(_LOST_TO_IDLENESS)


ROWS = (
    Row("one of two triggerers killed", one_of_two_triggerers),
    Row("the only triggerer killed, another started", the_triggerer),
    Row("Service Bus killed, twice", the_broker_twice),
    Row("the Functions host killed", the_functions_host),
    Row("idle links detached", idle_links),
)
