"""What waiting costs a triggerer: ``python -m benchmarks.listener [--tasks N] [--seconds N] [--rounds N]``.

Two processes of the same kind run side by side, in Airflow's own virtual environment: in one, as many triggers wait as
are asked for; the other has an event loop and nothing to do, but for the triggerer's own tick of a second. What counts
is the processor time of both over the same seconds, round by round, and how many connections the broker has counted.
The bridge is a stand-in that takes every registration. ``--folder`` keeps the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from local.process import LocalProcess

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".cache" / "listener"
PYTHON: Final = ROOT / ".venv-airflow-3.3" / "bin" / "python"
QUEUE: Final = "adf-bridge-completions"
_SETTLED_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Round:
    """Processor seconds of the two processes in the same time, and the wall-clock seconds that it took."""

    waiting: float
    idle: float
    seconds: float

    @property
    def percent(self) -> float:
        """What the waiting adds, in percent of one processor."""
        return 100 * (self.waiting - self.idle) / self.seconds


class Triggerer:
    """A process that stands for a triggerer; it says in one line of JSON when all its triggers wait."""

    def __init__(self, python: Path, tasks: int, environment: dict[str, str], log: Path) -> None:
        """Start it."""
        command = [str(python), "-m", "benchmarks.triggerer", str(tasks)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (a command of this file's own)
                command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=output, text=True
            )
        said = next((line for line in self._process.stdout or () if line.startswith("{")), None)
        if said is None:
            sys.exit(f"{' '.join(command)} ended early: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        self.said: dict[str, Any] = json.loads(said)

    def cpu(self) -> float:
        """Processor seconds since it began, of all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> int:
    """Measure and print; 0 when there was exactly one connection."""
    asked = _asked()
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    _tell(f"load average before: {os.getloadavg()[0]:.2f}, on {os.cpu_count()} processors")
    with ExitStack() as stack:
        broker = stack.enter_context(
            LocalProcess(
                "local.service_bus",
                ["--state", str(asked.folder), "--queue", f"{QUEUE},requires_session"],
                log=asked.folder / "service-bus.log",
            )
        )
        environment = {
            "AIRFLOW_HOME": str(asked.folder / "airflow-home"),
            "ADF_BRIDGE_SERVICE_BUS": str(broker.ready["connection_string"]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "airflow_provider" / "tests")]),
        }
        idle = Triggerer(asked.python, 0, environment, asked.folder / "idle.log")
        stack.callback(idle.stop)
        waiting = Triggerer(asked.python, asked.tasks, environment, asked.folder / "waiting.log")
        stack.callback(waiting.stop)
        _tell(f"{asked.tasks} tasks wait, registered in {waiting.said['calls']} call(s)")
        time.sleep(_SETTLED_SECONDS)
        rounds = [_round(waiting, idle, asked.seconds) for _ in range(asked.rounds)]
        counts = requests.get(f"{broker.url}/_local/counts", timeout=10).json()["connections"]
    _tell(f"load average after: {os.getloadavg()[0]:.2f}")
    _report(asked, rounds, counts)
    return 0 if counts["most_at_once"] == 1 else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listener", description="Measure a waiting triggerer.")
    parser.add_argument("--tasks", type=int, default=500, help="how many tasks wait")
    parser.add_argument("--seconds", type=float, default=60, help="how long each round takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", type=Path, default=PYTHON, help="the Python of an Airflow with the provider")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="emptied first")
    return parser.parse_args()


def _round(waiting: Triggerer, idle: Triggerer, seconds: float) -> Round:
    begin, before = time.monotonic(), (waiting.cpu(), idle.cpu())
    time.sleep(seconds)
    after, end = (waiting.cpu(), idle.cpu()), time.monotonic()
    measured = Round(after[0] - before[0], after[1] - before[1], end - begin)
    _tell(
        f"  {measured.seconds:5.1f} s: waiting {measured.waiting:.2f} s, idle {measured.idle:.2f} s of processor time, "
        f"{measured.percent:+.2f} %"
    )
    return measured


def _report(asked: argparse.Namespace, rounds: Sequence[Round], counts: dict[str, Any]) -> None:
    percent = statistics.median(one.percent for one in rounds)
    figures = {"tasks": asked.tasks, "percent_of_a_processor": percent, "connections": counts}
    figures["rounds"] = [vars(one) for one in rounds]
    (asked.folder / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    _tell(
        f"{asked.tasks} waiting tasks add {percent:.2f} % of a processor (median of {len(rounds)} × "
        f"{asked.seconds:g} s) and {counts['most_at_once']} connection"
    )


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
