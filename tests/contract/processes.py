"""Other processes that a test tells what to do, line by line."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.model import StartRequest, StartState
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, MINUTE, SECOND, TASK

ROOT: Final = Path(__file__).resolve().parents[2]
A_PLACE: Final = TASK.place


# Opens a store, in which it then saves a record at each line, for a key that nobody has yet, of the same task.
_KEY_RACER: Final = """
import sys
from datetime import timedelta
from pathlib import Path
from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict
from tests.contract.processes import a_try
store = OPENED
store.check()
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    try:
        store.save_request(a_try(number))
    except StoreConflict:
        print("lost", flush=True)
    else:
        print("won", flush=True)
"""


def key_racer(opened: str) -> str:
    """Return the program of a process that races for the keys of one task's tries, in a store opened like that."""
    return _KEY_RACER.replace("OPENED", opened)


class Process:
    """Another process that is told what to do, line by line."""

    def __init__(self, program: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Read a line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> int:
        """Let it end; return its exit code."""
        if self._process.returncode is None:
            self._process.communicate(timeout=30)
        return self._process.returncode


def a_try(number: int) -> StartRequest:
    """Return the record of a try of one task."""
    at = START + number * SECOND
    key = f"try-{number}"
    return StartRequest(
        key, "hash", StartState.STARTING, FACTORY, "p", at, at + MINUTE, place=A_PLACE, try_number=number
    )


def race(racers: Sequence[Process], rounds: int) -> Counter[tuple[str, ...]]:
    """Have processes do the same at the same moment, again and again; return how often what became of it."""
    assert ["ready"] * len(racers) == [racer.hear() for racer in racers]
    outcomes: Counter[tuple[str, ...]] = Counter()
    for _ in range(rounds):
        for racer in racers:
            racer.tell()
        outcomes[tuple(sorted(racer.hear() for racer in racers))] += 1
    assert [0] * len(racers) == [racer.end() for racer in racers]
    return outcomes
