"""A small part of what ``python -m tests.simulate`` tries: interleaved instances under faults, from fixed seeds."""

from __future__ import annotations

from typing import Final

import pytest

from bridge.commands import Point
from tests.simulate.breaks import BREAKS
from tests.simulate.simulation import Simulated, simulate

SEED: Final = 1
RUNS: Final = 1_200
FAULTS: Final = frozenset(
    {
        "S15: cleared between fence and PATCH",
        "adf 401",
        "adf 403",
        "adf 429",
        "adf 5xx",
        "adf createRun without an answer",
        "adf read of an older state",
        "adf refused createRun",
        "adf unreachable",
        "airflow 401",
        "airflow 403",
        "airflow 404",
        "airflow 409",
        "airflow 409 for nothing",
        "airflow 429",
        "airflow 5xx",
        "airflow outage",
        "airflow time-out",
        "airflow time-out after applying",
        "airflow unreachable",
        "answer to the operator lost",
        "crash after an effect",
        "crash before a command",
        "event dead-lettered",
        "event delayed, reordered",
        "event delivered again",
        "event doubled",
        "event dropped",
        "event forged",
        "instance stalled for a minute",
        "parks late",
        "peer answered slowly",
        "person acts between fence and PATCH",
        "person: answered",
        "person: cleared",
        "person: marked",
        "person: removed the task",
        "request of the operator doubled",
        "request of the operator lost",
        "retried",
        "store conflict",
        "store unavailable",
        "store wrote and did not say so",
        "withdrawn",
        "worker killed before parking",
    }
)


@pytest.fixture(scope="module")
def found() -> Simulated:
    """What a simulation of the bridge as it is came to."""
    return simulate(SEED, RUNS)


def test_no_promise_is_broken(found: Simulated) -> None:
    """Nothing is lost, wrong or done twice, whatever happens in between."""
    assert None is found.violation
    assert found.runs >= RUNS


def test_every_fault_happened(found: Simulated) -> None:
    """What the simulator says it tries, it tries."""
    assert frozenset(found.faults) == FAULTS


def test_instances_died_at_most_points(found: Simulated) -> None:
    """Instances die right after effects of nearly every kind; the long simulation has every one."""
    assert len(found.points) >= len(Point) - 2


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same world: faults, crashes and outcomes agree to the last one."""
    one, other = simulate(7, 100), simulate(7, 100)
    assert (one.faults, one.points, one.outcomes, one.runs) == (other.faults, other.points, other.outcomes, other.runs)


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_caught(rule: str) -> None:
    """Without any one of its rules the bridge breaks a promise, and the simulator notices."""
    assert simulate(SEED, 2_000, rule=rule).violation is not None
