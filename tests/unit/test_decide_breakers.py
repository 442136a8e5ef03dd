"""When a target or a factory is left alone, and when it is called again."""

from datetime import datetime, timedelta

import pytest

from bridge import decide
from bridge.model import Breaker, WaitState
from bridge.ports import Due, Refusal, RefusalKind
from tests.fakes.clock import START
from tests.fakes.samples import MINUTE, SECOND

NAME = "target:prod"
OPEN = Breaker(NAME, reason="forbidden", detail="no", failures=1, since=START, probe_at=START + MINUTE, version="4")
PAUSING = [RefusalKind.UNAUTHENTICATED, RefusalKind.FORBIDDEN, RefusalKind.THROTTLED]
FAILING = [RefusalKind.UNAVAILABLE, RefusalKind.UNREACHABLE]
ABOUT_ONE_TASK = [RefusalKind.NOT_FOUND, RefusalKind.CONFLICT, RefusalKind.INVALID]


def after(breaker: Breaker, kind: RefusalKind, asked: timedelta | None = None) -> Breaker:
    """Return the breaker after one more refusal."""
    changed = decide.breaker_after(breaker, Refusal(kind, "no", asked), START, 0.5)
    assert changed is not None
    return changed


@pytest.mark.parametrize("kind", PAUSING)
def test_refused_credentials_pause_at_once(kind: RefusalKind) -> None:
    """S08: refused credentials, permissions and throttling pause the peer at the first refusal, saying since when."""
    breaker = after(Breaker(NAME), kind)
    assert (True, kind.value, START) == (breaker.is_open, breaker.reason, breaker.since)


@pytest.mark.parametrize("kind", FAILING)
def test_three_failures_in_a_row_pause(kind: RefusalKind) -> None:
    """S07: two failures in a row change nothing; the third one pauses the peer."""
    first = after(Breaker(NAME), kind)
    second = after(first, kind)
    third = after(second, kind)
    assert [False, False, True] == [breaker.is_open for breaker in (first, second, third)]


@pytest.mark.parametrize("kind", [*PAUSING, *FAILING])
def test_a_failed_probe_keeps_it_paused(kind: RefusalKind) -> None:
    """S09: a paused peer stays paused when its probe fails, however it fails, and is probed later."""
    breaker = after(OPEN, kind)
    assert (True, START, START + 3 * SECOND) == (breaker.is_open, breaker.since, breaker.probe_at)


@pytest.mark.parametrize("kind", PAUSING)
def test_a_probe_is_not_sent_before_the_peer_asked(kind: RefusalKind) -> None:
    """S12: a paused peer is not probed before the time it asked for."""
    assert START + 10 * MINUTE == after(Breaker(NAME), kind, 10 * MINUTE).probe_at


@pytest.mark.parametrize("kind", ABOUT_ONE_TASK)
def test_an_answer_about_one_task_is_a_sign_of_life(kind: RefusalKind) -> None:
    """S10: what a peer says about one task or run tells that the peer itself works."""
    assert Breaker(NAME, version="4") == after(OPEN, kind)


def test_success_closes() -> None:
    """S09: one call that goes through lets all others through."""
    assert Breaker(NAME, version="4") == decide.breaker_after(OPEN, None, START, 0.5)


def test_success_of_a_peer_that_works_is_no_news() -> None:
    """A peer that works costs no writing."""
    assert decide.breaker_after(Breaker(NAME), None, START, 0.5) is None


@pytest.mark.parametrize(("passed", "may"), [(timedelta(0), False), (MINUTE - SECOND, False), (MINUTE, True)])
def test_one_probe_when_its_time_has_come(passed: timedelta, may: bool) -> None:
    """S07: a paused peer is not called before the probe is due."""
    assert may == decide.may_call(OPEN, START + passed)


def test_a_probe_is_taken_by_one() -> None:
    """S07: whoever takes the probe takes it for a minute; the others go on holding back."""
    taken = decide.claim_probe(OPEN, START + MINUTE)
    assert taken is not None
    assert (START + 2 * MINUTE, False) == (taken.probe_at, decide.may_call(taken, START + 2 * MINUTE - SECOND))


def test_a_peer_that_works_needs_no_probe() -> None:
    """A closed breaker is passed without a trace."""
    assert (None, True) == (decide.claim_probe(Breaker(NAME), START), decide.may_call(Breaker(NAME), START))


def due(token: str, state: WaitState) -> Due:
    """Return a hint to a wait that is due."""
    return Due(token, START, state)


@pytest.mark.parametrize(
    ("breaker", "now", "attended"),
    [
        pytest.param(Breaker(NAME), START, "abcd", id="works"),
        pytest.param(OPEN, START, "ac", id="paused"),
        pytest.param(OPEN, START + MINUTE, "acb", id="to-be-probed"),
    ],
)
def test_what_the_timer_attends_to(breaker: Breaker, now: datetime, attended: str) -> None:
    """S09: while a target is paused one delivery probes it, and waits whose run ADF is asked about are not held up."""
    states = {"a": WaitState.OPEN, "b": WaitState.DUE, "c": WaitState.OPEN, "d": WaitState.DUE}
    found = decide.to_attend([due(token, state) for token, state in states.items()], breaker, now)
    assert attended == "".join(one.token for one in found)
