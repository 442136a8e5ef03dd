"""What `make load` makes of what it measured."""

import math
from dataclasses import replace

import pytest

from benchmarks.figures import Measured, Phase, broken, percentile, report
from benchmarks.load import Delivery, Waiting

GOOD = Phase(sent=2, accepted=2, resumed_once=2, latencies=[0.01, 0.02], answers=[0.02, 0.03], lateness=[0.0, 0.0])
KEPT = Measured(alone=GOOD, together=GOOD, slow=GOOD, slow_kept=2, slow_callers=8, drain_seconds=30)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([float(number) for number in range(1, 101)], 99, 99.0),
        ([float(number) for number in range(1, 102)], 99, 100.0),
        ([1.0, 2.0], 100, 2.0),
        ([5.0], 50, 5.0),
        ([], 99, math.inf),
    ],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    """A percentile is a value that was measured: the nearest rank."""
    assert expected == percentile(values, percent)


def test_a_phase_is_read_off_both_sides() -> None:
    """Latencies run from sending to the answer in Airflow; a task that was answered twice does not count as once."""
    sent = [
        Delivery(Waiting("fast", name, "run"), sent_at=100.0, answered_at=answered, status=status, late=0.001)
        for name, answered, status in (("a", 100.5, 202), ("b", 131.0, 202), ("c", 100.5, 500))
    ]
    phase = Phase.of(sent, {"a": {"at": 100.25, "sent": 1}, "b": {"at": 101.0, "sent": 2}})
    assert (3, 1, 1, [0.25, 1.0]) == (phase.sent, phase.accepted, phase.resumed_once, phase.latencies)


def test_kept_promises_break_nothing() -> None:
    """When all was kept there is nothing to say."""
    assert [] == broken(KEPT)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (replace(KEPT, together=replace(GOOD, latencies=[0.01, 0.041])), "the ratio is over 2"),
        (replace(KEPT, slow=replace(GOOD, accepted=1)), "an event was not acknowledged, or too late"),
        (replace(KEPT, slow_kept=1), "a wait for the slow target was lost"),
        (
            replace(KEPT, together=replace(GOOD, resumed_once=1)),
            "a task was not resumed in time, or not exactly once",
        ),
    ],
)
def test_a_broken_promise_is_told(found: Measured, expected: str) -> None:
    """Each promise has its own words when it is broken."""
    assert [expected] == broken(found)


def test_the_report_shows_the_ratio() -> None:
    """The report says by how much the fast target's p99 rose."""
    found = replace(KEPT, together=replace(GOOD, latencies=[0.01, 0.03]))
    assert "p99 of the fast target: 1.50 x its p99 alone" in report(found).splitlines()
