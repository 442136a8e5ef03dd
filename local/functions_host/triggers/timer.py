"""Timer triggers: each function on its own schedule, never twice at the same time.

Rules as in https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from local.functions_host.bindings import BindingError, Function
from local.functions_host.invocations import Invocations
from local.functions_host.messages import TypedData
from local.functions_host.ncrontab import Schedule, ScheduleError, parse_schedule
from local.functions_host.worker import InvocationFailedError, InvocationInput

TYPE = "timerTrigger"

_MONITORED_FROM = timedelta(minutes=1)  # the real host keeps no status of timers that run more often
_log = logging.getLogger("host.timers")


class Clock(Protocol):
    """What the time is, and how to wait for another one."""

    def now(self) -> datetime:
        """The time, in UTC."""

    async def sleep_until(self, moment: datetime) -> None:
        """Return at this time, never before."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    async def sleep_until(self, moment: datetime) -> None:
        """Return at this time. A sleep that ended a moment early would fire a timer twice."""
        while (left := (moment - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(left)


@dataclass(frozen=True)
class TimerStatus:
    """When a timer ran last (None: never) and is due next."""

    last: datetime | None
    next: datetime


class TimerStatusFiles:
    """The status of monitored timers, one file each: a restarted host knows by it what it missed."""

    def __init__(self, folder: Path | None) -> None:
        """Keep the files in `folder`; with None nothing is kept, and no run is ever past due."""
        self._folder = folder

    def read(self, name: str) -> TimerStatus | None:
        """The status as last written, or None."""
        if self._folder is None:
            return None
        try:
            content = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        last = datetime.fromisoformat(content["Last"]) if content["Last"] else None
        return TimerStatus(last=last, next=datetime.fromisoformat(content["Next"]))

    def write(self, name: str, status: TimerStatus) -> None:
        """Keep a status; a crash leaves the old one or the new one."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{name}.draft"
        draft.write_text(json.dumps(_in_words(status)), encoding="utf-8")
        draft.replace(self._folder / f"{name}.json")


@dataclass(frozen=True)
class _Timer:
    """A function and its schedule."""

    function: Function
    schedule: Schedule
    run_on_startup: bool
    monitored: bool


class TimerTriggers:
    """Runs every timer of the app when it is due."""

    def __init__(
        self,
        functions: Sequence[Function],
        invocations: Invocations,
        status: TimerStatusFiles,
        clock: Clock,
    ) -> None:
        """Read the schedules. Raises BindingError for one that cannot be read."""
        self._invocations = invocations
        self._status = status
        self._clock = clock
        self._timers = [_timer(function, clock.now()) for function in functions if function.trigger_type == TYPE]
        self._waiting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the clocks."""
        self._waiting = {asyncio.create_task(self._run(timer)) for timer in self._timers}

    async def stop(self, grace: timedelta) -> None:
        """Stop the clocks. A run that is under way goes on, at most for `grace`."""
        for task in self._waiting:
            task.cancel()
        await self._invocations.finish(grace)
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _run(self, timer: _Timer) -> None:
        """Wait, run, and only then look for the next time: a timer never overlaps itself, and skips what it
        missed.
        """
        status = self._status.read(timer.function.name) if timer.monitored else None
        past_due = status is not None and status.next <= self._clock.now()
        last = status.last if status else None
        if past_due or timer.run_on_startup:
            last = await self._fire(timer, last, past_due=past_due)
        while (due := timer.schedule.next_after(self._clock.now())) is not None:
            if timer.monitored:
                self._status.write(timer.function.name, TimerStatus(last, due))
            await self._clock.sleep_until(due)
            last = await self._fire(timer, last, past_due=False)
        _log.warning("The timer %s is never due again", timer.function.name)

    async def _fire(self, timer: _Timer, last: datetime | None, *, past_due: bool) -> datetime:
        """Run the function once and return when. It is shielded: stopping the clock does not stop the run."""
        at = self._clock.now()
        following = timer.schedule.next_after(at)
        status = TimerStatus(last, following) if timer.monitored and following else None
        await asyncio.shield(asyncio.create_task(self._invoke(timer.function, timer_input(status, past_due=past_due))))
        return at

    async def _invoke(self, function: Function, given: InvocationInput) -> None:
        with contextlib.suppress(InvocationFailedError):  # it is in the log; without a retry policy no retry
            await self._invocations.invoke(function, given, reason="Timer")


def timer_input(status: TimerStatus | None, *, past_due: bool) -> InvocationInput:
    """What a timer hands to its function. Timers that run more often than once a minute have no status."""
    content = {
        "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": _in_words(status) if status else None,
        "IsPastDue": past_due,
    }
    return InvocationInput(data=TypedData(json=json.dumps(content)), metadata={})


def _timer(function: Function, now: datetime) -> _Timer:
    text = str(function.trigger.get("schedule", ""))
    try:
        schedule = parse_schedule(text)
    except ScheduleError as error:
        raise BindingError(f"the timer {function.name} cannot be scheduled: {error}") from None
    first = schedule.next_after(now)
    second = schedule.next_after(first) if first else None
    often = first is not None and second is not None and second - first < _MONITORED_FROM
    return _Timer(
        function=function,
        schedule=schedule,
        run_on_startup=bool(function.trigger.get("runOnStartup")),
        monitored=not often and function.trigger.get("useMonitor") is not False,
    )


def _in_words(status: TimerStatus) -> dict[str, str | None]:
    """A status in the real host's words."""
    last = status.last.isoformat() if status.last else None
    return {"Last": last, "Next": status.next.isoformat(), "LastUpdated": last}
