"""What the demo prints: steps of the start-up, the timeline, the closing table."""

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from local.demo.watch import Attempt, Moment, seconds

_COLOURS = {
    "requested": "36",
    "started": "36",
    "parked": "34",
    "ADF ended": "33",
    "event": "35",
    "delivered": "35",
    "done": "32",
}
_HEADINGS = ("task", "try", "run", "ended", "event", "answered", "task done", "ADF calls")
_ROW = "  {:<20} {:>3} {:>8} {:<10} {:>9} {:>9} {:>10} {:>9}"


class Screen:
    """Prints to a person; colours only on a terminal, and never with NO_COLOR (https://no-color.org)."""

    def __init__(self) -> None:
        """Look at the terminal."""
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._began = time.monotonic()

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(text, flush=True)

    def step(self, text: str) -> None:
        """Print a step of the start-up with the seconds so far."""
        self.say(f"  {time.monotonic() - self._began:6.1f} s  {text}")

    def moment(self, moment: Moment, since: datetime) -> None:
        """Print a line of the timeline."""
        at = (moment.at - since).total_seconds()
        what = self._coloured(f"{moment.what:<10}", _COLOURS[moment.what])
        if moment.what == "done" and moment.attempt.state != "success":
            what = self._coloured(f"{moment.what:<10}", "31")
        self.say(f"  {at:6.1f} s  {moment.attempt.task.label:<20} {what} {moment.detail}")

    def table(self, attempts: Sequence[Attempt]) -> None:
        """Print how long each hop took, counted from the end of the run in Data Factory."""
        self.say()
        self.say("  Seconds from the end of the run in Data Factory to …")
        self.say(_ROW.format(*_HEADINGS))
        for one in attempts:
            self.say(
                _ROW.format(
                    one.task.label,
                    one.try_number,
                    f"{one.run_seconds:.1f} s",
                    one.run_status,
                    _figure(seconds(one.run_ended, one.event)),
                    _figure(seconds(one.run_ended, one.delivered)),
                    _figure(one.latency),
                    one.adf_calls,
                )
            )
        self.say()

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text


def _figure(passed: float | None) -> str:
    return "–" if passed is None else f"{passed:.2f}"
