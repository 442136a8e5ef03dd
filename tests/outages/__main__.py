"""Outages while sixty tasks wait in mode queue: ``python -m tests.outages [--tasks N] [--rows WORD]``.

With a real Airflow 3.3, the Function app in the local Functions host, and the local Data Factory, Event Grid and
Service Bus. All tasks begin to wait first. Then comes one outage after the other, each with the ends of the runs of its
own tasks, while those of the rows to come wait on through it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.outages.outage_stack import OutageStack
from tests.outages.rows import ROWS, Happened, Row
from tests.outages.verdict import Result

_FOLDERS = Path(__file__).resolve().parents[2] / ".cache" / "outages"
_WIDTHS = (44, 7, 11, 6, 19, 7, 7)


def main() -> int:
    """Have the outages, and print the table; 1 when a task was lost, or resumed more than once. Logs are kept then."""
    asked = _asked()
    rows = [row for row in ROWS if asked.rows in row.name]
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        del os.environ[name]
    _FOLDERS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=_FOLDERS))
    well = False
    try:
        results = _perform(folder, rows, asked.tasks)
        well = not any(result.wrong for result in results)
    finally:
        if well and not asked.keep:
            shutil.rmtree(folder)
        else:
            _tell(f"what was logged is in {folder}")
    return 0 if well else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.outages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=12, help="how many tasks each row has")
    parser.add_argument("--keep", action="store_true", help="keep the logs, whatever comes of it")
    parser.add_argument("--rows", default="", metavar="WORD", help="only the rows with this in their names")
    return parser.parse_args()


def _perform(folder: Path, rows: Sequence[Row], size: int) -> list[Result]:
    begin = time.monotonic()
    with OutageStack(folder, size) as stack:
        stack.have_two_triggerers()
        _tell(f"Airflow {stack.airflow.version} with two triggerers, and all else: up in {_since(begin)}")
        crowds = stack.crowds(len(rows))
        _tell(f"{size * len(rows)} tasks wait, {_since(begin)} after the start")
        happened: list[tuple[Happened, Sequence[int]]] = []
        for row, crowd in zip(rows, crowds, strict=True):
            since = time.monotonic()
            try:
                outage = row.outage(stack, crowd)
            except TimeoutError as error:
                outage = Happened("", str(error))
                crowd.end_rest()
            late = stack.until_over(crowd)
            happened.append((outage, late))
            _tell(f"{row.name}: {f'{len(late)} tasks HAVE NOT ENDED' if late else 'over'} after {_since(since)}")
            for index in late:
                _tell(crowd.story(index))
        # Looked at after the last outage: whatever resumes a task a second time had its time.
        results = [
            Result(row.name, crowd.seen(late), outage.seen, outage.trouble)
            for row, crowd, (outage, late) in zip(rows, crowds, happened, strict=True)
        ]
        stack.check_every_create_run()
        for crowd in crowds:
            crowd.dag_run.check_one_run_per_try()
    _tell(_table(results))
    _tell(f"{sum(len(result.tasks) for result in results)} tasks, one run each; all in all {_since(begin)}")
    return results


def _table(results: Sequence[Result]) -> str:
    lines = ["", _line("", "tasks", "completed", "lost", "resumed in a try", "p50 s", "max s") + "meanwhile"]
    for one in results:
        p50, most = (f"{value:.1f}" for value in one.seconds) if one.seconds else ("–", "–")
        counts = (str(len(one.tasks)), str(one.completed), str(one.lost))
        lines.append(_line(one.name, *counts, one.resumed, p50, most) + one.meanwhile)
        lines.extend(f"    WRONG {wrong}" for wrong in one.wrong)
    return "\n".join([*(line.rstrip() for line in lines), ""])


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.0f} s"


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
