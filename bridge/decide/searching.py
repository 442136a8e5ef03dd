"""Which run is the one that a lost createRun started, and what becomes of the request when none is found.

A run that carries the request's key is that run. Without a key it has to be the only one that nobody has claimed among
those that createRun started at that time with the same parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bridge import policy
from bridge.decide.breakers import ABOUT_ONE_THING
from bridge.model import JsonObject, RunReading, StartedHow, StartRequest, StartState
from bridge.policy import Rules
from bridge.ports import PipelineDeclaration, Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class Window:
    """The window of a search, by ADF's clock."""

    since: datetime
    until: datetime


def to_search(record: StartRequest, now: datetime) -> StartRequest | None:
    """Return the record of an unsettled request as one whose run is looked for; None while it is too early for that.

    While its createRun may be under way only a run that carries its key can be told from another's.
    """
    correlation = correlation_of(record)
    known = replace(record, correlation=correlation)
    if record.state is not StartState.STARTING:
        return known
    if now >= record.lease_until:
        # By this instance's clock, which may be ahead: what is under way gets the time that it takes.
        return searching(known, at_least_until=now + policy.START_LEASE)
    early = correlation is None or now < record.received_at + policy.SEARCH_AFTER
    return None if early else known


def searching(record: StartRequest, *, at_least_until: datetime | None = None) -> StartRequest:
    """Return the record of a request whose createRun was sent, and not answered for sure."""
    until = record.lease_until + policy.SEARCH_FOR
    if at_least_until is not None:
        until = max(until, at_least_until)
    return replace(record, state=StartState.SEARCHING, run_id=None, search_until=until)


def correlation_of(record: StartRequest) -> str | None:
    """Return the parameter that carries the key; rows of older versions do not name it.

    A run that runs an earlier one again carries the key of that one.
    """
    if record.correlation is not None or record.recovers is not None:
        return record.correlation
    return policy.CORRELATION if policy.is_wrapper(record.started_pipeline) else None


def search_window(record: StartRequest, now: datetime) -> Window:
    """Return the window in which the run has changed if it was started, however far ADF's clock is off."""
    return Window(record.received_at - policy.CLOCK_DOUBT, now + timedelta(days=1))


def alike(
    record: StartRequest,
    parameters: JsonObject,
    found: Mapping[str, RunReading],
    ahead: timedelta,
    pipeline: PipelineDeclaration | None,
) -> tuple[str, ...]:
    """Return the runs that may be the one that was started, the earliest first. ADF's clock is `ahead` of ours.

    What the `pipeline` declares, if that is known: the values of the parameters that it was not given, and which of
    those that it was given ADF has dropped.
    """
    if record.correlation is not None:
        # Who runs a run again has its key copied. The first one of its group is ours, even if it is listed later.
        keyed = [
            run_id
            for run_id, one in found.items()
            if _value(one, record.correlation) == record.idempotency_key and _in_group(record, run_id, one)
        ]
        return tuple(sorted(keyed, key=lambda run_id: _start(found[run_id], record))[:1])
    first = record.received_at + ahead - policy.SEARCH_SLACK
    last = record.lease_until + ahead + policy.SEARCH_SLACK
    return tuple(
        run_id
        for run_id, one in found.items()
        if one.by_hand
        and first <= _start(one, record) <= last
        and _in_group(record, run_id, one)
        and (record.recovers is not None or _asked_for(parameters, pipeline, one))
    )


def _in_group(record: StartRequest, run_id: str, run: RunReading) -> bool:
    """Whether a run is the first of its group, or, for a recovery, a later one of the group that is meant."""
    if record.recovers is None:
        return run.group in (None, run_id)
    return run.group == record.group and run_id not in (record.recovers, record.group)


def _start(run: RunReading, record: StartRequest) -> datetime:
    return run.run_start or record.received_at


def _value(run: RunReading, name: str) -> str | None:
    return next((value for key, value in run.parameters.items() if key.lower() == name.lower()), None)


def _asked_for(parameters: JsonObject, pipeline: PipelineDeclaration | None, run: RunReading) -> bool:
    """Whether a run has these parameters and no others, and no request's key; what was not given has its default.

    A run that runs an earlier one again has that one's, and its key.
    """
    if _value(run, policy.CORRELATION):
        return False
    shown = {name.lower(): value for name, value in run.parameters.items()}
    expected = {name.lower(): value for name, value in parameters.items()}
    passed_on = set(expected)
    if pipeline is not None:
        passed_on &= {name.lower() for name in pipeline.parameters}
        expected = {**{name.lower(): value for name, value in pipeline.defaults.items()}, **expected}
    return passed_on <= shown.keys() and all(
        name in expected and _same(expected[name], value) for name, value in shown.items()
    )


def _same(value: Any, shown: str | None) -> bool:  # noqa: ANN401 - anything that JSON can say
    """Whether ADF shows a value so: all as text, a secret as asterisks."""
    if shown is None:
        return False
    if shown and not shown.strip("*"):
        return True
    if isinstance(value, str):
        return value == shown
    if isinstance(value, bool) or value is None:
        return shown.lower() == json.dumps(value) or (value is None and not shown)
    try:
        return bool(json.loads(shown) == value)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to: the run to adopt, or the record as it is now."""

    adopt: str | None = None
    record: StartRequest | None = None


def on_search(
    record: StartRequest, unclaimed: tuple[str, ...], starts: Mapping[str, datetime | None], now: datetime, rules: Rules
) -> Found:
    """Decide by the runs that look alike and that nobody else has claimed. `starts` are by our clock.

    After the retention it is forgotten who had claimed which.
    """
    are_claims_known = now < record.received_at + rules.retention - policy.SEARCH_SLACK
    if len(unclaimed) == 1 and (record.correlation is not None or are_claims_known):
        (run_id,) = unclaimed
        # The run itself may be listed later than one of somebody else's that began before it.
        start = max(starts.get(run_id) or record.received_at, record.received_at)
        if record.correlation is not None or now >= start + policy.ADOPT_AFTER:
            return Found(adopt=run_id)
    if record.search_until is not None and now >= record.search_until:
        return Found(record=replace(record, state=StartState.UNKNOWN))
    return Found(record=record)


def on_refused_search(
    record: StartRequest, refusal: Refusal, now: datetime, *, patient: bool = False
) -> StartRequest | None:
    """Decide by a refusal to list runs: given up at the end of the search if that is ADF's last word, else None.

    A missing permission is its last word for a caller, who waits; who is `patient` takes it for one that will be given.
    """
    if record.state is StartState.UNKNOWN:
        return record
    last_words = ABOUT_ONE_THING if patient else {RefusalKind.FORBIDDEN, *ABOUT_ONE_THING}
    if refusal.kind not in last_words:
        return None
    over = record.search_until is not None and now >= record.search_until
    return replace(record, state=StartState.UNKNOWN) if over else None


def adopted(record: StartRequest, run_id: str) -> StartRequest:
    """Return the record of a request whose run was found."""
    why = "ADF did not say that it had started the run; the bridge found it"
    how = record.how if record.how is StartedHow.RECOVERED else StartedHow.ADOPTED
    return replace(record, state=StartState.STARTED, run_id=run_id, how=how, why=why, left=None)
