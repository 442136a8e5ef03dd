"""Every way in which a run can end, and who tells the task that waits for it, on the local Azure.

The intervals are those of a deployed bridge (sweep 60 s, timer 15 s) and of a wrapper (a notice is tried four times,
30 s apart), which takes about four minutes; ``--hurry`` shortens them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.sources.rows import Seen
from tests.sources.scenario import DEPLOYED, HURRIED, Pace, perform, running_play

_WIDTHS = (39, 10, 12, 12, 11, 11)
_MESSAGE = 72


def main() -> int:
    """Play all rows, and print the table; 1 when a row is not as it has to be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hurry", action="store_true", help="sweep every 10 s, run the timer all the time, retry soon")
    pace = HURRIED if parser.parse_args().hurry else DEPLOYED
    with tempfile.TemporaryDirectory() as folder, running_play(Path(folder), pace) as play:
        seen = perform(play)
    sys.stdout.write(_table(seen, pace))
    return 1 if any(one.wrong for one in seen) else 0


def _table(seen: list[Seen], pace: Pace) -> str:
    every = f"sweep every {pace.sweep.total_seconds():.0f} s, timer every {pace.timer.total_seconds():.0f} s"
    retries = f"notices tried 4 times, {30 * pace.retry_factor:g} s apart"
    lines = [f"{every}; {retries}; runs and activities begin {pace.queued.total_seconds():g} s late", ""]
    lines.append(_line("", "task told", "s after end", "source", "wrapper", "child") + "message")
    for one in seen:
        after = f"{one.after.total_seconds():9.2f}" if one.after is not None else f"{'–':>9}"
        cells = (one.row.name, one.told or "nothing", after, one.source or "–", one.wrapper or "–", one.child or "–")
        lines.append(_line(*cells) + _short(one.message))
        lines.extend(f"    WRONG {wrong}" for wrong in one.wrong)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _short(message: str | None) -> str:
    if message is None or len(message) <= _MESSAGE:
        return message or "–"
    return message[: _MESSAGE - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
