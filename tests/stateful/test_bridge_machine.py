"""Any order of events, deaths, clears and faults: whatever Hypothesis thinks of, every promise is kept."""

from __future__ import annotations

import pytest
from hypothesis import Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulate.breaks import BREAKS
from tests.simulate.timeline import Violation
from tests.stateful.machine import SETTINGS, BridgeMachine


def test_every_promise_is_kept() -> None:
    """A hundred and fifty stories of thirty steps each break no promise."""
    run_state_machine_as_test(BridgeMachine, settings=SETTINGS)


@pytest.mark.parametrize("rule", ["no-sweep", "no-fence", "lease-taken-over", "reattach-to-any-task's-run"])
def test_a_broken_rule_is_caught(rule: str) -> None:
    """Without one of its rules, the bridge breaks a promise in one of these stories."""
    quietly = settings(SETTINGS, phases=(Phase.generate,), verbosity=Verbosity.quiet, max_examples=1_000)
    with BREAKS[rule](), pytest.raises(Violation):
        run_state_machine_as_test(BridgeMachine, settings=quietly)
