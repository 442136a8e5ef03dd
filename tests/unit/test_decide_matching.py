"""Waits by match: whom a search serves, when an answer is news, what an event or a page is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bridge import decide, policy
from bridge.model import Match, Run, RunKey, RunReading, RunStatus, match_key
from bridge.ports import FoundRun, Refusal, RefusalKind
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, MINUTE, SECOND, TASK, a_reading, a_run, an_ended_run, an_event

ENDS = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
MATCH = Match("copy_orders", START, ENDS)
BEGAN = START + 5 * MINUTE


def a_found(began: datetime | None = BEGAN, run_id: str = "found", **changes: object) -> FoundRun:
    """Return a run of the pipeline."""
    reading = a_reading(RunStatus.IN_PROGRESS, pipeline="copy_orders", run_start=began)
    return FoundRun(run_id, replace(reading, **changes))  # type: ignore[arg-type]


def waits_by_match(**changes: object) -> Run:
    """Return the row of a wait by match."""
    run = Run(match_key(FACTORY, "copy_orders", TASK.token), match=MATCH)
    return replace(run, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("match", "found", "answers"),
    [
        pytest.param(MATCH, a_found(), True, id="the-same"),
        pytest.param(MATCH, Refusal(RefusalKind.INVALID, "too many"), True, id="the-same-refused"),
        pytest.param(replace(MATCH, since=BEGAN), a_found(), True, id="later-and-before-the-run"),
        pytest.param(replace(MATCH, since=BEGAN + SECOND), a_found(), False, id="after-the-run"),
        pytest.param(replace(MATCH, since=BEGAN + SECOND), None, True, id="later-and-there-is-none"),
        pytest.param(replace(MATCH, since=START - SECOND), a_found(), False, id="earlier"),
        pytest.param(replace(MATCH, since=START - SECOND), None, False, id="earlier-and-there-is-none"),
        pytest.param(replace(MATCH, since=BEGAN), Refusal(RefusalKind.INVALID, "too many"), False, id="later-refused"),
        pytest.param(replace(MATCH, pipeline="Copy_Orders"), a_found(), True, id="another-spelling"),
        pytest.param(replace(MATCH, pipeline="copy_returns"), a_found(), False, id="another-pipeline"),
        pytest.param(replace(MATCH, pipeline="copy_returns"), None, False, id="another-pipeline-and-there-is-none"),
        pytest.param(replace(MATCH, statuses=ENDS[::-1]), a_found(), True, id="the-same-ends"),
        pytest.param(replace(MATCH, statuses=ENDS[:1]), a_found(), False, id="other-ends"),
    ],
)
def test_whom_a_search_serves(match: Match, found: FoundRun | Refusal | None, answers: bool) -> None:
    """A search serves whoever would find the same, and nobody else."""
    assert answers == decide.Searched(MATCH, found, START).answers(match)


@pytest.mark.parametrize(
    ("changes", "age", "expected"),
    [
        ({}, 0 * SECOND, True),
        ({"read_at": START - SECOND}, 0 * SECOND, True),
        ({"read_at": START}, 0 * SECOND, False),
        ({"read_at": START + SECOND}, 2 * SECOND, False),
        ({"hint_at": START}, 0 * SECOND, True),
        ({"hint_at": START + SECOND}, 2 * SECOND, False),
        ({"read_at": START - SECOND}, policy.ANSWER_STANDS, True),
        ({"read_at": START - SECOND}, policy.ANSWER_STANDS + SECOND, False),
    ],
)
def test_what_is_news(changes: dict[str, datetime], age: timedelta, expected: bool) -> None:
    """What ADF said a moment ago is news for a row that was neither read nor hinted at since; not to one unknown."""
    assert expected == decide.is_news(START, a_run(**changes), START + age)
    assert not decide.is_news(START, None, START + age)


@pytest.mark.parametrize(
    ("known", "meant"),
    [
        (None, True),
        (a_run(watched_run_id="child"), True),
        (waits_by_match(), True),
        (waits_by_match(watched_run_id=KEY.run_id), True),
        (waits_by_match(watched_run_id="another"), False),
    ],
)
def test_what_an_event_is_about(known: Run | None, meant: bool) -> None:
    """Once a match has found a run, events of other runs are not about it."""
    assert meant == decide.is_meant(an_event(), known)


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        pytest.param(None, a_found(), False, id="no-row"),
        pytest.param(a_run(), a_found(), False, id="no-match"),
        pytest.param(waits_by_match(status=RunStatus.FAILED), a_found(), False, id="over"),
        pytest.param(waits_by_match(), a_found(), True, id="one-to-find"),
        pytest.param(waits_by_match(), a_found(None), False, id="one-that-has-not-begun"),
        pytest.param(waits_by_match(), a_found(START - SECOND), False, id="one-from-before"),
        pytest.param(waits_by_match(watched_run_id="found"), a_found(), False, id="the-one-found-goes-on"),
        pytest.param(
            waits_by_match(watched_run_id="found"), a_found(status=RunStatus.FAILED), True, id="the-one-found-has-ended"
        ),
        pytest.param(
            waits_by_match(watched_run_id="other"), a_found(status=RunStatus.FAILED), False, id="another-has-ended"
        ),
        pytest.param(waits_by_match(watched_run_id="found"), a_found(status=None), False, id="a-status-unknown-here"),
    ],
)
def test_what_a_page_brings(known: Run | None, found: FoundRun, expected: bool) -> None:
    """A page brings a wait forward that has found no run yet, or whose run has ended."""
    assert expected == decide.may_end({found.run_id: found.reading}, known)


def test_the_earlier_one() -> None:
    """Of two runs the one that began first counts, and one that has begun before one that has not."""
    first, second, queued = a_found(START, "first"), a_found(BEGAN, "second"), a_found(None, "queued")
    assert [first] * 4 == [
        decide.earlier(first, second),
        decide.earlier(second, first),
        decide.earlier(first, None),
        decide.earlier(None, first),
    ]
    assert (second, second) == (decide.earlier(queued, second), decide.earlier(second, queued))
    assert decide.earlier(None, None) is None


def test_the_order_of_searches() -> None:
    """The earliest match is searched for first, so that one search serves as many as it can."""
    later = waits_by_match(match=replace(MATCH, since=BEGAN))
    assert [waits_by_match(), later] == sorted([later, waits_by_match()], key=decide.since_of)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (RunReading(None, "", "copy_orders", parent_run_id="w", parent_pipeline="copy_orders__notified"), True),
        (RunReading(None, "", "Copy_Orders", parent_run_id="w", parent_pipeline="copy_orders__NOTIFIED"), True),
        (RunReading(None, "", "copy_orders", parent_run_id="w", parent_pipeline="nightly"), False),
        (RunReading(None, "", "copy_orders", parent_run_id="w"), False),
        (RunReading(None, "", parent_run_id="w", parent_pipeline="__notified"), False),
    ],
)
def test_a_wrappers_child(reading: RunReading, expected: bool) -> None:
    """A run whose pipeline's own wrapper started it is a wrapper's child, in whatever spelling."""
    assert expected == decide.is_child(reading)


def test_a_run_that_is_passed_over() -> None:
    """When the run that was found does not count and there is no other, the wait has found none any more."""
    found = waits_by_match(watched_run_id="found", status=RunStatus.IN_PROGRESS, run_start=BEGAN)
    after = decide.apply_reading(found, found.key, RunReading(None, "no run yet", "copy_orders"), START)
    assert (None, None, None) == (after.watched_run_id, after.status, after.run_start)


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        (RefusalKind.NOT_FOUND, 4),
        (RefusalKind.INVALID, 4),
        (RefusalKind.UNAVAILABLE, 3),
        (RefusalKind.UNREACHABLE, 3),
    ],
)
def test_reads_that_are_refused(kind: RefusalKind, reads: int) -> None:
    """S35: an answer about this one thing counts as a read; what an event named stays, unless that was denied."""
    row = decide.count_refusal(a_run(reads=3, claimed_run_id="child"), Refusal(kind, "no"), START)
    assert row is not None
    assert (reads, "child", START if reads > 3 else None) == (row.reads, row.claimed_run_id, row.hint_at)
    assert decide.count_refusal(None, Refusal(kind, "no"), START) is None


def test_a_known_end_is_news_for_all() -> None:
    """A run that has ended is not passed over, whatever is found later."""
    ended = an_ended_run(match=MATCH, watched_run_id="found")
    after = decide.apply_reading(ended, ended.key, RunReading(None, "no run yet"), START)
    assert ("found", RunStatus.SUCCEEDED) == (after.watched_run_id, after.status)
    assert RunKey(FACTORY, "found") == after.watched_key
