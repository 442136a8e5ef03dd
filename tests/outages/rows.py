"""The outages: what is killed, and when the runs of a row's tasks end meanwhile, a third at a time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.local_azure import COMPLETIONS_QUEUE, EVENTS_QUEUE
from tests.outages.crowd import Crowd
from tests.outages.outage_stack import PATIENCE, OutageStack

TASKS = 10
"""How many tasks each row has, unless one asks for more or less."""
DOWN_SECONDS = 5.0
"""How long something stays dead, at least."""
IDLE_FACTOR = 0.03
"""What the broker's clock is sped up by for the idle detach: ten minutes are 18 s."""
LONG_LOCKS = (
    *("--queue", f"{COMPLETIONS_QUEUE},requires_session,lock_duration_s=300"),
    *("--queue", f"{EVENTS_QUEUE},lock_duration_s=300"),
)
"""Locks for that clock, 9 s. Those of a minute would be over in 2 s, before a slow machine has renewed them."""
IDLE_DETACHES = 2
_LOST_TO_IDLENESS = "IdleTimerExpired"
_REPLY_TO = re.compile(r"-(\d+)-[0-9a-f]{12}\b")
"""The process in a listener's name, which is host-process-chance."""


@dataclass(frozen=True)
class Happened:
    """What was seen of an outage, and why it was not the one that was meant, if so."""

    seen: str
    trouble: str = ""


@dataclass(frozen=True)
class Row:
    """An outage with a name. `outage` ends all three thirds of the runs. `triggerers` is how many there are before it,
    from when its tasks begin to wait.
    """

    name: str
    outage: Callable[[OutageStack, Crowd], Happened]
    triggerers: int = 1


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


def ends_without_a_triggerer(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill the only triggerer, end all runs, have every completion sent to it, and only then start another."""
    [victim] = stack.triggerers
    dead = victim.pids
    stack.kill_triggerer(victim)
    crowd.end_rest()
    stack.until(lambda: len(_told(stack, crowd, "delivered")) == crowd.size, "every completion to be sent")
    sent = _told(stack, crowd, "delivered")
    stack.start_triggerer()
    stack.until(lambda: not crowd.left(), "the tasks to end")
    answered = _told(stack, crowd, "answered")
    again = [token for token in sent if sent[token] in dead and answered.get(token, 0) not in {0, *dead}]
    seen = f"{len(again)} completions sent to the one that was killed, then in the answers to the new one"
    return Happened(seen, "" if len(again) == crowd.size else "not every completion was sent twice")


def _told(stack: OutageStack, crowd: Crowd, what: str) -> dict[str, int]:
    """By token, the process whose listener was told last, in a message (`delivered`) or an answer (`answered`)."""
    found: dict[str, int] = {}
    for wait in stack.full(crowd.dag_run):
        for line in wait["timeline"]:
            if line["what"] == what and (named := _REPLY_TO.search(line["detail"])):
                found[wait["token"]] = int(named[1])
    return found


def the_broker_twice(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill Service Bus while everybody waits, and once more while completions are on their way."""
    stack.broker.kill()
    crowd.end_part()
    time.sleep(DOWN_SECONDS)
    stack.start_broker()
    stack.until(stack.sessions_held, "the triggerer to attach its session again")
    crowd.end_part()
    stack.broker.kill()
    time.sleep(DOWN_SECONDS)
    stack.start_broker()
    crowd.end_part()
    return Happened(f"dead twice, for {DOWN_SECONDS:.0f} s")


def the_functions_host(stack: OutageStack, crowd: Crowd) -> Happened:
    """Kill the bridge as events come in, and let more come while it is gone."""
    crowd.end_part()
    stack.azure.functions.kill()
    crowd.end_part()
    time.sleep(DOWN_SECONDS)
    stack.azure.functions.start(PATIENCE)
    crowd.end_part()
    return Happened(f"dead for {DOWN_SECONDS:.0f} s")


def idle_links(stack: OutageStack, crowd: Crowd) -> Happened:
    """Let Service Bus detach the link of the session for its idleness, again and again."""
    [listening] = stack.triggerers
    before = _idle_detaches(listening.log)
    stack.broker.kill()
    stack.start_broker("--clock-factor", str(IDLE_FACTOR), *LONG_LOCKS)
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
    Row("one of two triggerers killed", one_of_two_triggerers, triggerers=2),
    Row("the only triggerer killed, another started", the_triggerer),
    Row("runs end between two triggerers", ends_without_a_triggerer),
    Row("the Functions host killed", the_functions_host),
    Row("idle links detached", idle_links),
    Row("Service Bus killed, twice", the_broker_twice),
)
"""In this order: the first leaves one triggerer, and the last an Event Grid that delivers nothing to the queue for five
minutes, because too much of what it delivered was not taken: as on Azure, the sweep finds what ends meanwhile.
"""
