"""The numbers: how long, how often, how much."""

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import policy
from bridge.model import FactoryId
from tests.fakes.clock import START
from tests.fakes.samples import ARM_ID, FACTORY, MINUTE, OTHER_FACTORY, RULES, SECOND, STRANGE_ARM_ID, a_wait

JITTER = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10_000), JITTER)
def test_backoff_stays_within_bounds(failures: int, jitter: float) -> None:
    """A pause is never shorter than a second and never longer than five minutes, however much failed."""
    assert SECOND <= policy.backoff(failures, jitter) <= 5 * MINUTE


@given(st.integers(1, 1_000), JITTER)
def test_backoff_does_not_shrink(failures: int, jitter: float) -> None:
    """One more failure never makes the pause shorter."""
    assert policy.backoff(failures, jitter) <= policy.backoff(failures + 1, jitter)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (500, 300)])
def test_backoff_doubles(failures: int, seconds: int) -> None:
    """Pauses double from two seconds to five minutes, and chance takes off up to a half."""
    whole = timedelta(seconds=seconds)
    assert whole / 2 == policy.backoff(failures, 0.0)
    assert whole * 3 / 4 == policy.backoff(failures, 0.5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", timedelta(0)),
        ("30", 30 * SECOND),
        (" 30 ", 30 * SECOND),
        ("901", 15 * MINUTE),
        ("9" * 400, 15 * MINUTE),
        (format_datetime(START + MINUTE, usegmt=True), MINUTE),
        (format_datetime(START - MINUTE, usegmt=True), timedelta(0)),
        ("Sun, 01 Mar 2026 12:01:00 -0000", MINUTE),
        ("Sun, 01 Mar 2026 13:05:00 +0100", 5 * MINUTE),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 15 * MINUTE),
        ("Fri, 31 Dec 999999999999 23:59:59 GMT", None),
        ("Sun, 01 Mar 2026 12:01:00 +99999999999999", None),
        (None, None),
        ("", None),
        ("   ", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, expected: timedelta | None) -> None:
    """S12: Retry-After counts as seconds or as a date, clamped to 15 minutes; what is absurd is left aside."""
    assert expected == policy.retry_after(header, START)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,20} [A-Z][a-z]{2} \d{1,20} \d{1,20}:\d\d:\d\d [+-]\d{1,20}"))
def test_retry_after_never_raises(header: str) -> None:
    """S12: whatever a peer writes into Retry-After, it is a pause of at most 15 minutes, or none."""
    pause = policy.retry_after(header, START)
    assert pause is None or timedelta(0) <= pause <= 15 * MINUTE


@given(st.integers(1, 50), st.integers(0, 900), JITTER)
def test_later_is_never_before_the_peer_asked(failures: int, asked: int, jitter: float) -> None:
    """S12: a peer is not called before the time it asked for."""
    when = policy.later(START, failures=failures, asked=asked * SECOND, jitter=jitter)
    assert START + max(asked * SECOND, policy.backoff(failures, jitter)) == when


def test_later_without_a_wish() -> None:
    """Without Retry-After, the pause alone decides."""
    assert START + policy.backoff(3, 0.25) == policy.later(START, failures=3, asked=None, jitter=0.25)


def test_a_task_that_does_not_park_is_looked_at_less_and_less() -> None:
    """S02: looks at a task that has not parked come after 1, 2, 5, 10, 15 and 30 seconds, then every minute."""
    pauses = [policy.not_parked_again(START, looks) - START for looks in range(8)]
    assert [timedelta(seconds=s) for s in (1, 2, 5, 10, 15, 30, 60, 60)] == pauses


@pytest.mark.parametrize(
    ("registered_before", "seen_running", "held"),
    [
        (timedelta(0), False, 8 * SECOND),
        (7 * SECOND, False, 8 * SECOND),
        (9 * SECOND, False, 6 * SECOND),
        (15 * SECOND, False, timedelta(0)),
        (timedelta(hours=2), False, timedelta(0)),
        (timedelta(hours=2), True, 8 * SECOND),
        (timedelta(0), True, 8 * SECOND),
    ],
)
def test_the_hold(registered_before: timedelta, seen_running: bool, held: timedelta) -> None:
    """S02: a task is held after it was seen parked, at most until 15 s after registering unless it ran meanwhile."""
    seen = START + timedelta(hours=3)
    wait = a_wait(registered_at=seen - registered_before, seen_running_at=seen - SECOND if seen_running else None)
    assert seen + held == policy.deliver_from(wait, seen, 8 * SECOND)


@pytest.mark.parametrize(("reads", "seconds"), [(0, 1), (1, 1), (2, 2), (6, 32), (7, 60), (500, 60)])
def test_a_burst_of_events_costs_few_reads(reads: int, seconds: int) -> None:
    """S35: the more often a run was read, the longer the pause before an event has it read again, a minute at most."""
    assert timedelta(seconds=seconds) == policy.read_spacing(reads)


@given(st.text(), st.integers(60, 200))
def test_cutting(text: str, limit: int) -> None:
    """A text is at most as long as allowed, and unchanged when it is short enough."""
    short = policy.cut(text, limit)
    assert short is not None
    assert len(short) <= limit
    assert (short == text) == (len(text) <= limit)


def test_cutting_says_so() -> None:
    """S32: a text that was cut says that there is more, and keeps whole characters."""
    short = policy.cut("💥" * 5_000)
    assert short is not None
    assert ("💥💥", 4_000, True) == (short[:2], len(short), short.endswith("(cut; the monitor link shows all of it)"))
    assert policy.cut(None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", FACTORY),
        ("DEMO", FACTORY),
        ("other", OTHER_FACTORY),
        (ARM_ID, FACTORY),
        (ARM_ID.lower() + "/", FACTORY),
        (STRANGE_ARM_ID, None),
        ("adf-demo", None),
        ("", None),
        ("https://management.azure.com" + ARM_ID, None),
    ],
)
def test_the_allow_list(text: str, expected: FactoryId | None) -> None:
    """S37: only a factory on the allow-list is found, by its alias or its ARM id."""
    assert expected == RULES.factory(text)


def test_aliases() -> None:
    """A factory is shown by its alias, or by its name once it has left the configuration."""
    assert ("demo", "adf-strange") == (RULES.alias(FACTORY), RULES.alias(FactoryId.parse(STRANGE_ARM_ID)))
