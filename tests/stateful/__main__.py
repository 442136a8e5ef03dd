"""The state machine with more time: ``python -m tests.stateful --examples N --steps M [--seed N] [--break RULE]``."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulate.breaks import BREAKS
from tests.stateful.machine import SETTINGS, BridgeMachine


def main() -> None:
    """Look for a story that breaks a promise. One that does is made as short as can be, and shown."""
    parser = argparse.ArgumentParser(prog="python -m tests.stateful", description=__doc__)
    parser.add_argument("--examples", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", dest="rule", choices=BREAKS, help="take a rule out; it should be caught")
    asked = parser.parse_args()
    thorough = settings(
        SETTINGS, max_examples=asked.examples, stateful_step_count=asked.steps, derandomize=False, print_blob=False
    )
    with ExitStack() as stack:
        if asked.rule is not None:
            stack.enter_context(BREAKS[asked.rule]())
        run_state_machine_as_test(seed(asked.seed)(BridgeMachine), settings=thorough)
    sys.stdout.write(f"seed {asked.seed}: {asked.examples} stories of {asked.steps} steps, no promise broken\n")


if __name__ == "__main__":
    main()
