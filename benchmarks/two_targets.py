"""One slow target does not hold up the other: ``python -m benchmarks.two_targets [--seconds N] [--rate EVENTS/S]``.

Runs of two targets end all the time, half of them each. One target's Airflow answers every request after 20 s. What
counts is how long the other's tasks wait: from sending the event to the webhook until Airflow has the answer. The peer
is the same target alone, in the same run: for half the time before, and for half after.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Measured, Phase, broken, report
from benchmarks.load import Delivery, Load
from benchmarks.stage import staged
from bridge.policy import SETTLED_AFTER

FOLDER: Final = Path(".cache") / "load"
_LATE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0


def main() -> int:
    """Measure and print; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_targets", description="Measure two targets.")
    parser.add_argument("--seconds", type=float, default=120, help="how long each phase takes")
    parser.add_argument("--rate", type=float, default=50, help="events a second, of both targets together")
    parser.add_argument("--delay", type=float, default=20, help="seconds after which the slow target answers")
    parser.add_argument("--drain", type=float, default=180, help="seconds in which all is resumed afterwards")
    asked = parser.parse_args()
    _tell(f"load average before: {os.getloadavg()[0]:.2f}, on {os.cpu_count()} processors")
    with staged(FOLDER) as stage:
        found = asyncio.run(_measure(Load(stage), asked))
    _tell(f"load average after: {os.getloadavg()[0]:.2f}")
    _tell(report(found))
    wrong = broken(found)
    _tell("\n".join(f"BROKEN: {one}" for one in wrong) or "all kept")
    return 1 if wrong else 0


async def _measure(load: Load, asked: argparse.Namespace) -> Measured:
    each = max(2, round(asked.seconds * asked.rate / 2))
    half = each // 2
    async with load:
        made = await load.prepare([("fast", 2 * each), ("slow", each)], _tell)
        before, after, beside = made["fast"][:half], made["fast"][half:each], made["fast"][each:]
        await asyncio.sleep(SETTLED_AFTER.total_seconds())

        _tell(f"alone: {len(before)} events of the fast target, {asked.rate / 2:g} a second")
        alone = await load.tell_of_ends(before, asked.rate / 2, _tell)

        _tell(f"together: {2 * each} events, {asked.rate:g} a second; the slow target answers after {asked.delay:g} s")
        await load.set_delay("slow", asked.delay)
        plan = list(chain.from_iterable(zip(beside, made["slow"], strict=True)))
        together = await load.tell_of_ends(plan, asked.rate, _tell)
        # A wait may go from one state to the next between two looks, and is one wait all the same.
        kept = set[str]().union(*[await load.tokens("slow", state) for state in ("open", "due", "delivered")])

        _tell("the slow target is quick again")
        await load.set_delay("slow", 0)
        drain_seconds = await _until_resumed(load, "slow", each, asked.drain)

        _tell(f"alone again: {len(after)} events of the fast target, {asked.rate / 2:g} a second")
        alone += await load.tell_of_ends(after, asked.rate / 2, _tell)
        await _until_resumed(load, "fast", 2 * each, _LATE_SECONDS)
        fast, slow = await load.airflow("fast"), await load.airflow("slow")
    resumed = {"fast": fast["resumed"], "slow": slow["resumed"]}
    _keep(FOLDER / "deliveries.csv", {"alone": alone, "together": together}, resumed)
    return Measured(
        alone=Phase.of(alone, resumed["fast"]),
        together=Phase.of([one for one in together if one.waiting.target == "fast"], resumed["fast"]),
        slow=Phase.of([one for one in together if one.waiting.target == "slow"], resumed["slow"]),
        slow_kept=len(kept),
        slow_callers=slow["most_callers"],
        drain_seconds=drain_seconds,
    )


async def _until_resumed(load: Load, target: str, expected: int, seconds: float) -> float:
    """Wait until so many tasks have been resumed, so many seconds at most; return how many seconds it took."""
    began = time.monotonic()
    while await load.resumed(target) < expected and time.monotonic() - began < seconds:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic() - began


def _keep(path: Path, phases: Mapping[str, Sequence[Delivery]], resumed: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down every delivery, for who wants to look closer."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        columns = ("phase", "target", "task", "run_id", "late", "sent_at", "status", "answered_after", "resumed_after")
        rows.writerow(columns)
        for phase, deliveries in phases.items():
            for one in deliveries:
                waiting, task = one.waiting, resumed[one.waiting.target].get(one.waiting.task_id)
                after = f"{task['at'] - one.sent_at:.4f}" if task is not None else ""
                times = (f"{one.late:.4f}", f"{one.sent_at:.4f}", one.status, f"{one.answered_after:.4f}", after)
                rows.writerow((phase, waiting.target, waiting.task_id, waiting.run_id, *times))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
