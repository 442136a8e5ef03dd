"""The numbers: how long, how often, how much. Pure functions that return values and never sleep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from bridge.model import FactoryId, Mode, Wait

# Airflow fails a try that is resumed before its worker has reported that it parked, and nothing in its API says when
# that was. Measured on 3.3.2: the report comes within 1.2 s, or 5.3 to 6.2 s after parking (a worker that misses the
# end of its process notices one `[workers] min_heartbeat_interval`, 5 s, later). The hold has to be longer than that.
DEFAULT_HOLD: Final = timedelta(seconds=8)
# A wait that was registered this long ago and is found parked at first sight has parked long since.
SETTLED_AFTER: Final = timedelta(seconds=15)

# A task that is not parked yet (it is between registering its wait and parking): asked again after these, then CAP.
NOT_PARKED_DELAYS: Final = tuple(timedelta(seconds=s) for s in (1, 2, 5, 10, 15, 30))
NOT_PARKED_CAP: Final = timedelta(seconds=60)

BACKOFF_FIRST: Final = timedelta(seconds=2)
BACKOFF_CAP: Final = timedelta(minutes=5)
PROBE_CAP: Final = timedelta(minutes=1)
RETRY_AFTER_CAP: Final = timedelta(minutes=15)

# A target has only so many places per process. An invocation that finds none asks again after this.
PLACE_PAUSE: Final = timedelta(milliseconds=500)

# How long an instance that took up a delivery has it for itself. Should its calls take longer than that, another one
# takes it up as well; Airflow then takes the first answer and refuses the second.
DELIVERY_LEASE: Final = timedelta(seconds=60)
# A completion that was given with an answer is proved this much later: the task that got it no longer waits.
INLINE_PROOF: Final = timedelta(seconds=60)
# A task that Airflow does not know is looked for this long before the wait is closed as gone.
MISSING_GRACE: Final = timedelta(minutes=10)
# After its deadline a completion is still offered for this long, then the wait closes as expired.
DELIVERY_GRACE: Final = timedelta(hours=1)

# A listener that serves a task registers its wait anew within 15 minutes (the provider's `LEASE`); this is that and
# some time for a bridge that was busy. One that has not done so no longer serves the task.
LISTENER_LEASE: Final = timedelta(minutes=20)
# Airflow may run a trigger on two triggerers for a moment, and a triggerer may be restarted a few times in a row.
LISTENERS: Final = 4

# Two reads of a task this far apart have to show that its try is over before its run is cancelled.
ABANDONED_AFTER: Final = timedelta(seconds=60)
# One look for abandoned tasks of a target: pages of its parked tasks, then tasks by themselves, the rest next time.
PARKED_PAGES: Final = 10  # of 100 tasks
LOOKS_AT_ONCE: Final = 50

# `bridge wrap` makes, for a pipeline, one of this name, which runs it and tells Event Grid how it ended.
WRAPPER_SUFFIX: Final = "__notified"
WRAPPER_LABEL: Final = "adf-bridge"  # among its annotations
# The parameter that a wrapper has beside those of its pipeline: by it a run can be found again.
CORRELATION: Final = "bridge_key"

# No run that somebody waits for goes unread for longer, whatever the sweeps show.
UNREAD_AT_MOST: Final = timedelta(hours=1)
# Events for one run cause at most one read of ADF in this time, which doubles with every read; the timer does the rest.
READ_SPACING: Final = timedelta(seconds=1)
READ_SPACING_CAP: Final = timedelta(seconds=60)

# What ADF said of a run serves all that wait for it, in an event, a sweep or a tick, for this long.
ANSWER_STANDS: Final = timedelta(seconds=15)
# Event Grid gives up after 30 s, and a call may take some. What an event leaves undone by then, timer and sweep do.
EVENT_BUDGET: Final = timedelta(seconds=10)

# ADF shows a change a little after it happened, and its clock is not ours: each sweep looks back this much further.
SWEEP_OVERLAP: Final = timedelta(minutes=2)
# The first sweep of a factory does not know yet how far its clock is off.
CLOCK_DOUBT: Final = timedelta(minutes=15)
# Reading a page is work for the processor: in between, events get it.
BETWEEN_PAGES: Final = timedelta(milliseconds=100)
SWEEP_PAGES: Final = 50  # ADF shows 100 runs on a page
# The host ends a function after 5 minutes (host.json), and all that its process does with it. After an outage there may
# be more to read. So a longer window is looked at in parts, the oldest first, each of which is covered once it is read;
# after the budget a sweep begins no other part and no single read, and after the limit no page.
SWEEP_PART: Final = timedelta(hours=1)
SWEEP_BUDGET: Final = timedelta(seconds=60)
SWEEP_LIMIT: Final = timedelta(minutes=2)
# A window longer than this may hold more pages than there are runs to read one by one.
SINGLE_READS_FROM: Final = timedelta(hours=1)
SINGLE_READS_PER_HOUR: Final = 10
OPEN_WAITS: Final = 10_000
MATCHES: Final = 100  # waits by match that one event can bring to their end; the sweep finds the others

# A createRun call is over after this, whatever became of it.
START_LEASE: Final = timedelta(seconds=60)
# A request that takes longer than this may have died with its process: ADF is asked for its run.
SEARCH_AFTER: Final = timedelta(seconds=10)
# ADF lists a run a little after it began. A run that is not listed this long after the lease was not found.
SEARCH_FOR: Final = timedelta(minutes=2)
# A run that nothing but its parameters tells from another's belongs to whoever started it, until it is this old: by
# then an answered createRun has been written down.
ADOPT_AFTER: Final = START_LEASE
# A run begins within its request's time, by clocks that agree this well once ADF's is known.
SEARCH_SLACK: Final = timedelta(seconds=60)
SEARCH_PAGES: Final = 20  # ADF shows 100 runs on a page
SEARCH_AGAIN: Final = timedelta(seconds=5)
CLAIMS_READ: Final = 20  # of runs that look alike
EARLIER_TRIES: Final = 5
# A caller that lives repeats its request twice a minute. So long after its createRun is over the bridge takes it for
# dead, and finishes what was begun.
FINISH_AFTER: Final = timedelta(seconds=60)
FINISH_AGAIN: Final = timedelta(seconds=60)
FINISH_AGAIN_CAP: Final = timedelta(minutes=15)
FINISH_FOR: Final = timedelta(days=7)
# Where Airflow cannot be asked, a try is held to be over as long as a later one has asked this short a time ago.
OVERTAKEN_FOR: Final = timedelta(minutes=10)
OVERTAKEN_AGAIN: Final = timedelta(seconds=30)

MESSAGE_CHARS: Final = 4_000
MAX_DEADLINE: Final = timedelta(days=45)  # ADF keeps a run's history for 45 days


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What the pure core must know of a target. `factories` are those that its callers may use: all, if it is empty.

    `modes` are the ways to its tasks: resume with a URL of Airflow, queue with a queue.
    """

    hold: timedelta = DEFAULT_HOLD
    observe: bool = False
    factories: frozenset[FactoryId] = frozenset()
    modes: frozenset[Mode] = frozenset({Mode.RESUME})

    def may_use(self, factory: FactoryId) -> bool:
        """Whether callers of this target may use a factory."""
        return not self.factories or factory in self.factories


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured part of the policy, the same for every use case."""

    factories: Mapping[str, FactoryId] = field(default_factory=dict)
    targets: Mapping[str, TargetRules] = field(default_factory=dict)
    sweep: timedelta = timedelta(seconds=60)
    inline: timedelta = timedelta(seconds=12)
    retention: timedelta = timedelta(days=30)
    correlation: str = CORRELATION

    def factory(self, text: str) -> FactoryId | None:
        """Return the allowed factory of an alias or an ARM id, or None."""
        by_alias = self.factories.get(text.lower())
        if by_alias is not None:
            return by_alias
        return next((known for known in self.factories.values() if known.key == text.rstrip("/").lower()), None)

    def alias(self, factory: FactoryId) -> str:
        """Return a factory's alias, or its name when it has none any more."""
        return next((alias for alias, known in self.factories.items() if known == factory), factory.name)


def backoff(failures: int, jitter: float) -> timedelta:
    """Return how long to wait after so many failures in a row: doubling from 2 s, capped at 5 min.

    `jitter` in [0, 1) spreads the answer over the upper half, so that waits do not come back in step.
    """
    doublings = min(max(failures - 1, 0), 16)
    full = min(BACKOFF_FIRST * (1 << doublings), BACKOFF_CAP)
    return full / 2 + full / 2 * jitter


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Read a Retry-After header, seconds or a date (RFC 9110 §10.2.3), clamped to 0 … 15 min; None if unreadable."""
    if header is None or not header.strip():
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), RETRY_AFTER_CAP)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(when - now, timedelta(0)), RETRY_AFTER_CAP)


def later(now: datetime, *, failures: int, asked: timedelta | None, jitter: float) -> datetime:
    """Return when to try again: never before the peer asked us to, and never in step with the others."""
    wait = backoff(failures, jitter)
    return now + (max(asked, wait) if asked is not None else wait)


def probe(now: datetime, *, failures: int, asked: timedelta | None, jitter: float) -> datetime:
    """Return when to probe a paused peer: a minute apart at most, so that what waits for it drains soon after."""
    pause = min(backoff(failures, jitter), PROBE_CAP)
    return now + (max(asked, pause) if asked is not None else pause)


def not_parked_again(now: datetime, looks: int) -> datetime:
    """Return when to look again at a task that has not parked yet, after `looks` earlier looks."""
    return now + (NOT_PARKED_DELAYS[looks] if looks < len(NOT_PARKED_DELAYS) else NOT_PARKED_CAP)


def deliver_from(wait: Wait, seen_waiting_at: datetime, hold: timedelta) -> datetime:
    """Return the earliest time at which a task that was first seen parked at `seen_waiting_at` may be resumed.

    A task parks right after its wait was registered, so one that registered `SETTLED_AFTER` ago has settled, unless it
    was seen running since: then it may have parked just before it was seen.
    """
    held = seen_waiting_at + hold
    if wait.seen_running_at is not None:
        return held
    return min(held, max(seen_waiting_at, wait.registered_at + SETTLED_AFTER))


def finish_again(received_at: datetime, now: datetime) -> datetime:
    """Return when a request that could not be finished yet is looked at again: ever less often as it gets older."""
    return now + min(max(FINISH_AGAIN, (now - received_at) / 4), FINISH_AGAIN_CAP)


def place_again(now: datetime, until: datetime) -> datetime | None:
    """Return when an invocation asks again for a place with its target, or None when it leaves that to the timer."""
    again = now + PLACE_PAUSE
    return again if again <= until else None


def wrapper_of(pipeline: str) -> str:
    """Return the name of a pipeline's wrapper."""
    return pipeline + WRAPPER_SUFFIX


def is_wrapper(pipeline: str | None) -> bool:
    """Whether a pipeline is a wrapper, by its name."""
    return pipeline is not None and pipeline.lower().endswith(WRAPPER_SUFFIX)


def unwrapped(pipeline: str | None) -> str | None:
    """Return the name of the pipeline that a wrapper wraps; any other name as it is."""
    return pipeline[: -len(WRAPPER_SUFFIX)] if pipeline is not None and is_wrapper(pipeline) else pipeline


def check_again(reads: int, *, said_to_have_ended: bool) -> timedelta:
    """Return how long an open run is left to the sweep before it is read by itself again.

    An event that says that it has ended, and ADF that it has not, are likely a moment apart: then it is read again
    soon, a few times.
    """
    soon = read_spacing(reads)
    return soon if said_to_have_ended and soon < READ_SPACING_CAP else UNREAD_AT_MOST


def read_spacing(reads: int) -> timedelta:
    """Return how long an event for a run is not asked about after the run was read: longer the more often it was read.

    So a burst of events, forged or repeated, costs few reads, and one that comes after a while costs one, at once.
    """
    return min(READ_SPACING * (1 << min(max(reads - 1, 0), 6)), READ_SPACING_CAP)


def cut(text: str | None, limit: int = MESSAGE_CHARS) -> str | None:
    """Cut a text at a code point so that it has at most `limit` characters, and say that it was cut."""
    if text is None or len(text) <= limit:
        return text
    tail = " … (cut; the monitor link shows all of it)"
    return text[: limit - len(tail)] + tail
