"""The simulator's command line: ``python -m tests.simulate --seed N --runs M [--break RULE] [--episode K]``."""

from __future__ import annotations

import argparse
import sys

from tests.simulate.breaks import BREAKS
from tests.simulate.report import report, too_rare
from tests.simulate.simulation import simulate


def main() -> int:
    """Simulate; 1 when a promise was broken, or a full simulation has tried something too seldom."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=4_000)
    parser.add_argument("--episode", type=int, help="only this one: what a violation names")
    parser.add_argument("--break", dest="rule", choices=[*BREAKS, "each"], help="take a rule out; it has to be caught")
    asked = parser.parse_args()
    if asked.rule == "each":
        missed = 0
        for rule in BREAKS:
            found = simulate(asked.seed, asked.runs, rule=rule)
            missed += found.violation is None
            caught = f"caught in {found.runs:5} runs: {found.violation}" if found.violation else "NOT CAUGHT"
            sys.stdout.write(f"{rule:32} {caught}\n")
            sys.stdout.flush()
        return 1 if missed else 0
    found = simulate(asked.seed, asked.runs, rule=asked.rule, episode=asked.episode)
    sys.stdout.write(report(asked.seed, found))
    return 1 if found.violation is not None or too_rare(found) else 0


if __name__ == "__main__":
    sys.exit(main())
