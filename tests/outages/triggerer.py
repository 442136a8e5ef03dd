"""An Airflow with several triggerers, each of which can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from local.airflow import Airflow
from local.airflow.keeper import PARENT_VARIABLE
from tests.e2e.stack import ROOT

HEALTH_CHECK_SECONDS = 15
"""Without a sign of life for so long a triggerer counts as dead, and others take its tasks (Airflow: 30)."""

SETTINGS = {
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(HEALTH_CHECK_SECONDS),
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


class Triggerer:
    """A triggerer: the process `root` and all below it."""

    def __init__(self, name: str, root: int, log: Path) -> None:
        """Take one that was started."""
        self.name = name
        self.log = log
        self._root = root

    @property
    def pids(self) -> set[int]:
        """Its processes. The one that runs triggers is not the one that was started."""
        return below(self._root)

    def kill(self) -> None:
        """End all of it at once, as a machine's end would."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class TriggeredAirflow(Airflow):
    """`airflow standalone`, whose own triggerer is the first, and any number of triggerers beside it."""

    environment: dict[str, str]

    def _environment(self, passwords: Path) -> dict[str, str]:
        self.environment = super()._environment(passwords)
        return self.environment

    def first_triggerer(self) -> Triggerer:
        """The triggerer that `airflow standalone` has started; it does not start another when that one dies."""
        assert self._keeper is not None
        found = [pid for pid in below(self._keeper.pid) if command(pid)[-1:] == ("triggerer",)]
        return Triggerer("1", max(found, key=lambda pid: len(below(pid))), self.log)  # the others are its children

    def start_triggerer(self, name: str) -> Triggerer:
        """Start another one; it ends with this process at the latest."""
        log = self.home / f"triggerer-{name}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "local.airflow.keeper", self._executable, "triggerer"],
                cwd=ROOT,
                env={**self.environment, PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Triggerer(name, child.pid, log)

    def triggerers_alive(self) -> int:
        """How many of them have told Airflow lately that they live."""
        jobs = self.api("GET", "/jobs", params={"job_type": "TriggererJob", "is_alive": True})
        return int(jobs["total_entries"])

    @property
    def _executable(self) -> str:
        return str(self.venv / "bin" / "airflow")


def below(root: int) -> set[int]:
    """A process and all its descendants that live."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # pid (name, which may hold anything) state ppid …
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found: set[int] = set()
    layer = {root} & parents.keys()
    while layer:
        found |= layer
        layer = {pid for pid, parent in parents.items() if parent in layer} - found
    return found


def command(pid: int) -> tuple[str, ...]:
    """The command line of a process, nothing if it is gone."""
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0"))
    except OSError:
        return ()
