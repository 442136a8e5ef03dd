"""The storm at its full size: ``python -m tests.relay [--runs N] [--seed N] [--lose PERCENT]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.relay.scenario import Outcome, running_stage, storm


def main() -> int:
    """Let the runs end, and print what came of it; 1 when a task was told anything but the true end, once."""
    parser = argparse.ArgumentParser(prog="python -m tests.relay", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lose", type=float, default=10, metavar="PERCENT", help="how many records are never written")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_stage(Path(folder)) as stage:
        found = storm(stage, asked.runs, seed=asked.seed, lose_percent=asked.lose, within=timedelta(minutes=5))
        answers = len(stage.airflow.patches)
    sys.stdout.write(_report(found, answers))
    return 1 if found.wrong or answers != asked.runs else 0


def _report(found: Outcome, answers: int) -> str:
    reads = ", ".join(f"{count}: {runs} runs" for count, runs in sorted(found.calls_per_run.items()))
    facts = {
        "runs": f"{len(found.runs)}, all told within {found.took.total_seconds():.1f} s of their ends",
        "records": f"{found.records} written, each twice and shuffled",
        "records lost": f"{found.lost}, of which {found.lost_ends} tell an end",
        "event hub": f"{found.hub_messages} messages",
        "topic": f"{found.events} events",
        "learnt by": f"event {found.by['event']}, sweep {found.by['sweep']}",
        "answers to Airflow": f"{answers}, wrong {len(found.wrong)}",
        "calls of ADF": ", ".join(f"{name} {count}" for name, count in sorted(found.calls.items())),
        "getRun for a run": reads,
    }
    return "".join(f"{name:20}{fact}\n" for name, fact in facts.items()) + "".join(f"{one}\n" for one in found.wrong)


if __name__ == "__main__":
    sys.exit(main())
