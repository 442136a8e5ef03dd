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
from itertools import groupby
from pathlib import Path

from tests.outages.crowd import PARTS, Crowd
from tests.outages.outage_stack import OutageStack
from tests.outages.report import table
from tests.outages.rows import ROWS, TASKS, Happened, Row
from tests.outages.verdict import Result, is_well

_FOLDERS = Path(__file__).resolve().parents[2] / ".cache" / "outages"


def main() -> int:
    """Have the outages, and print the table; 1 unless all was as promised. The logs are kept then."""
    rows, size, keep = _asked()
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        del os.environ[name]
    _FOLDERS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=_FOLDERS))
    well = False
    try:
        well = is_well(_perform(folder, rows, size))
    finally:
        if well and not keep:
            shutil.rmtree(folder)
        else:
            _tell(f"what was logged is in {folder}")
    return 0 if well else 1


def _asked() -> tuple[Sequence[Row], int, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.outages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=TASKS, help="how many tasks each row has")
    parser.add_argument("--keep", action="store_true", help="keep the logs, whatever comes of it")
    parser.add_argument("--rows", default="", metavar="WORD", help="only the rows with this in their names")
    asked = parser.parse_args()
    rows = [row for row in ROWS if asked.rows.lower() in row.name.lower()]
    if not rows:
        parser.error(f"no row has {asked.rows!r} in its name: {'; '.join(row.name for row in ROWS)}")
    if asked.tasks < PARTS:
        parser.error(f"a row needs {PARTS} tasks at least: their runs end a third at a time")
    return rows, asked.tasks, asked.keep


def _perform(folder: Path, rows: Sequence[Row], size: int) -> list[Result]:
    begin = time.monotonic()
    with OutageStack(folder, size) as stack:
        _tell(f"Airflow {stack.airflow.version}, the bridge and all that they work with: up in {_since(begin)}")
        crowds = _waiting(stack, rows)
        _tell(f"{size * len(rows)} tasks wait, {_since(begin)} after the start; triggerers: {len(stack.triggerers)}")
        outages = [_have(stack, row, crowds[row.name]) for row in rows]
        # Looked at after the last outage: whatever resumes a task a second time had its time.
        results = [
            Result(row.name, crowds[row.name].seen(late), happened.seen, happened.trouble)
            for row, (happened, late) in zip(rows, outages, strict=True)
        ]
        _tell(table(results))
        stack.check_every_create_run()
    _tell(f"{sum(len(result.tasks) for result in results)} tasks; all in all {_since(begin)}")
    return results


def _waiting(stack: OutageStack, rows: Sequence[Row]) -> dict[str, Crowd]:
    """Have a crowd wait for each row, by the row's name; those that need fewer triggerers first."""
    crowds: dict[str, Crowd] = {}
    for count, group in groupby(sorted(rows, key=_triggerers), key=_triggerers):
        names = [row.name for row in group]
        stack.have_triggerers(count)
        crowds |= zip(names, stack.crowds(len(names)), strict=True)
    return crowds


def _triggerers(row: Row) -> int:
    return row.triggerers


def _have(stack: OutageStack, row: Row, crowd: Crowd) -> tuple[Happened, Sequence[int]]:
    """Have one outage; return what happened, and the tasks that did not end in time."""
    begin = time.monotonic()
    try:
        happened = row.outage(stack, crowd)
    except TimeoutError as error:
        happened = Happened("", str(error))
        crowd.end_rest()
    late = stack.until_over(crowd)
    _tell(f"{row.name}: {f'{len(late)} tasks HAVE NOT ENDED' if late else 'over'} after {_since(begin)}")
    for index in late:
        _tell(crowd.story(index))
    return happened, late


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.0f} s"


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
