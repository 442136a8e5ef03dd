"""A small part of what ``python -m tests.simulate`` tries: interleaved instances under faults, from fixed seeds."""

from __future__ import annotations

from typing import Final

import pytest

from tests.simulate.breaks import BREAKS
from tests.simulate.faults import FAULTS, OUTCOMES, POINTS, STATES
from tests.simulate.report import FULL, OFTEN, too_rare
from tests.simulate.simulation import Simulated, simulate
from tests.simulate.world import Episode

SEED: Final = 1
SOON: Final = 2  # a seed with which what is broken shows early
RUNS: Final = 1_200


@pytest.fixture(scope="module")
def found() -> Simulated:
    """What a simulation of the bridge as it is came to."""
    return simulate(SEED, RUNS)


def test_no_promise_is_broken(found: Simulated) -> None:
    """Nothing is lost, wrong or done twice, whatever happens in between."""
    assert None is found.violation
    assert found.runs >= RUNS


def test_every_fault_happened(found: Simulated) -> None:
    """What the simulator says it tries, it tries: every fault, and nothing that it does not tell of."""
    assert frozenset(FAULTS) == frozenset(found.faults)


def test_instances_died_at_most_points(found: Simulated) -> None:
    """Instances die at points of nearly every kind; the full simulation has a hundred deaths at each."""
    assert frozenset(found.points) <= frozenset(POINTS)
    assert len(found.points) >= len(POINTS) - 3


def test_airflow_showed_nearly_every_state(found: Simulated) -> None:
    """Tasks are seen in states of nearly every kind, and in none that the simulator does not tell of."""
    assert frozenset(found.shown) <= frozenset(STATES)
    assert len(found.shown) >= len(STATES) - 3


def test_what_is_too_rare_is_told() -> None:
    """A full simulation complains of what it has tried too seldom; a short one does not."""
    told = Simulated(runs=FULL)
    tables = ((told.faults, FAULTS), (told.points, POINTS), (told.shown, STATES), (told.happened, OUTCOMES))
    for counts, names in tables:
        counts.update(dict.fromkeys(names, OFTEN))
    assert [] == list(too_rare(told))
    told.faults["adf 401"] -= 1
    assert ["adf 401 (99)"] == list(too_rare(told))
    told.runs = FULL - 1
    assert [] == list(too_rare(told))


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same world: every row and every count agree to the last one."""
    one, other = Episode("7/3"), Episode("7/3")
    assert one.run() == other.run()
    assert one.audit.every_wait() == other.audit.every_wait()
    assert one.timeline.faults == other.timeline.faults


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_caught(rule: str) -> None:
    """Without any one of its rules the bridge breaks a promise, and the simulator notices."""
    assert simulate(SOON, 4_000, rule=rule).violation is not None
