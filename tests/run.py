"""Runs the parts of the test suite and tells about each in one line: ``python -m tests.run [PART…]``.

A part passes when all of its tests passed and there was at least one: a skipped, deselected or expected
failure is a promise that nobody checked, and fails the part. The full output of a part lies in
``.cache/test/<part>.log`` and is printed when the part fails. A part can add lines of its own: it writes
them, each starting with ``<part>: ``, to the file that the environment variable ``ADF_BRIDGE_REPORT`` names.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "test"
PYTHON = ROOT / ".venv" / "bin" / "python"
AIRFLOW_PYTHON = ROOT / ".venv-airflow-3.3" / "bin" / "python"
AIRFLOW_2_PYTHON = ROOT / ".venv-airflow-2.11" / "bin" / "python"

_LEFT_OUT = re.compile(r"\b(\d+) (skipped|deselected|xfailed|xpassed)\b")
_CLOSING = re.compile(r"\b\d+ \w+.* in \d+\.\d+s")


@dataclass(frozen=True)
class Verdict:
    """What became of a part."""

    passed: int = 0
    failed: int = 0
    complaints: tuple[str, ...] = ()
    unit: str = "passed"

    @property
    def ok(self) -> bool:
        """True when something was tried and all of it passed."""
        return self.passed > 0 and self.failed == 0 and not self.complaints


@dataclass(frozen=True)
class Checks:
    """Tools that each have to exit with 0."""

    name: str
    commands: Mapping[str, Sequence[str]]
    deadline: timedelta = timedelta(minutes=5)

    def run(self, log: IO[str]) -> Verdict:
        """Run every tool, also after one has failed."""
        failed = tuple(
            f"{title} failed" for title, command in self.commands.items() if execute(command, log, self) != 0
        )
        return Verdict(len(self.commands) - len(failed), len(failed), failed, "checks passed")


@dataclass(frozen=True)
class Tests:
    """A folder of tests, run by pytest; by several processes, if its files need nothing of each other."""

    __test__ = False

    name: str
    folder: Path
    deadline: timedelta
    python: Path = PYTHON
    config: Path = ROOT / "pyproject.toml"
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1

    def run(self, log: IO[str]) -> Verdict:
        """Run the tests and judge what pytest says about them."""
        if not self.folder.is_dir():
            return Verdict(complaints=(f"there is no folder {self.folder}",))
        junit = REPORTS / f"{self.name}.xml"
        junit.unlink(missing_ok=True)
        command = [
            str(self.python), "-m", "pytest", str(self.folder), "-v", "--color=no",
            "-c", str(self.config), "--rootdir", str(self.config.parent),
            "-o", f"cache_dir={REPORTS / 'pytest' / self.name}", "--junitxml", str(junit),
        ]  # fmt: skip
        if self.processes > 1:
            command += ["-n", str(self.processes), "--dist", "loadfile"]
        code = execute(command, log, self, cwd=self.config.parent, environment=self.environment)
        counts = ET.parse(junit).getroot() if junit.is_file() else None  # noqa: S314 (pytest wrote it)
        return judge(code, counts, Path(log.name).read_text(encoding="utf-8", errors="replace"))


Part = Checks | Tests


def parts() -> tuple[Part, ...]:
    """All parts, in the order in which a mistake is found soonest."""
    return (
        Checks(
            "check",
            {
                "ruff check": [str(PYTHON), "-m", "ruff", "check", "--output-format=concise", "."],
                "ruff format": [str(PYTHON), "-m", "ruff", "format", "--check", "."],
                "mypy": [str(PYTHON), "-m", "mypy"],
                "mypy (provider)": [
                    str(PYTHON), "-m", "mypy", "--config-file=", "--strict", "--warn-unreachable",
                    "--cache-dir", ".mypy_cache/provider", "--python-executable", str(AIRFLOW_PYTHON),
                    "--package", "airflow_adf_bridge",
                ],
                "lint-imports": [str(PYTHON.parent / "lint-imports"), "--no-logo"],
                "documented settings and locked requirements": [
                    str(PYTHON), "-m", "pytest", "-q",
                    "tests/unit/test_settings_documented.py", "tests/unit/test_locked_requirements.py",
                ],
            },
        ),
        Tests("unit", ROOT / "tests/unit", timedelta(minutes=5), processes=2),
        Tests("stateful", ROOT / "tests/stateful", timedelta(minutes=10)),
        Tests("contract", ROOT / "tests/contract", timedelta(minutes=10)),
        Tests("component", ROOT / "tests/component", timedelta(minutes=15)),
        *(
            Tests(
                name,
                ROOT / "airflow_provider/tests",
                timedelta(minutes=10),
                python=python,
                config=ROOT / "airflow_provider/pyproject.toml",
                environment={"AIRFLOW_HOME": str(REPORTS / "airflow-home" / name)},
            )
            for name, python in (("provider", AIRFLOW_PYTHON), ("provider-2", AIRFLOW_2_PYTHON))
        ),
        Tests("e2e", ROOT / "tests/e2e", timedelta(minutes=25)),
    )  # fmt: skip


def judge(code: int, junit: ET.Element | None, output: str) -> Verdict:
    """Turn pytest's exit code, its JUnit report and its closing line into a verdict."""
    if junit is None:
        return Verdict(complaints=(f"pytest ended with {code} before it could report",))
    suites = list(junit.iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(count, 0)) for suite in suites) for count in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    closing = next((line for line in reversed(output.splitlines()) if _CLOSING.search(line)), "")
    complaints = [f"{count} {word}" for count, word in _LEFT_OUT.findall(closing)]
    if skipped and not complaints:
        complaints.append(f"{skipped} skipped")
    if not tests:
        complaints.append("no tests")
    elif not closing:
        complaints.append("pytest did not close its report")
    if code != 0 and not failed and tests:
        complaints.append(f"pytest ended with {code}")
    return Verdict(max(tests - failed - skipped, 0), failed, tuple(complaints))


def execute(
    command: Sequence[str],
    log: IO[str],
    part: Part,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run one command of a part, its output into the log, and end it at the part's deadline.

    Returns:
        The exit code; 124 for a command that ran into the deadline, 127 for one that does not exist.
    """
    settings = {"ADF_BRIDGE_REPORT": str(report_of(part.name))} | dict(environment or {})
    log.write(f"$ {shlex.join(command)}\n")
    log.flush()
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment() | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{error} (make setup builds what is missing)\n")
        return 127
    try:
        return process.wait(part.deadline.total_seconds())
    except subprocess.TimeoutExpired:
        log.write(f"\nended after {part.deadline.total_seconds():.0f} s, the deadline of {part.name}\n")
        return 124
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs: first as Ctrl-C does, so that it can stop what it started."""
    for sign, patience in ((signal.SIGINT, 30), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def clean_environment() -> dict[str, str]:
    """The environment without what would point tests at a person's own Airflow, Azure or pytest options."""
    foreign = (
        "ADF_BRIDGE_",
        "AIRFLOW",
        "AZURE_",
        "BRIDGE_",
        "FUNCTIONS_",
        "PYTEST_",
        "PYTHON",
        "VIRTUAL_ENV",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "110"}


def report_of(name: str) -> Path:
    """Where a part writes the lines that are printed under its own."""
    return REPORTS / f"{name}.report"


def tell(part: Part) -> Verdict:
    """Run one part and print its line: its name at the start, the rest at its end."""
    print(f"{part.name:<10} ", end="", flush=True)
    report = report_of(part.name)
    report.unlink(missing_ok=True)
    path = REPORTS / f"{part.name}.log"
    start = time.monotonic()
    with path.open("w", encoding="utf-8") as log:
        verdict = part.run(log)
    counts = f"{verdict.passed} {verdict.unit}" + (f", {verdict.failed} failed" if verdict.failed else "")
    counts += "".join(f" ({complaint})" for complaint in verdict.complaints)
    print(f"{counts:<22} {time.monotonic() - start:7.1f} s{'' if verdict.ok else '   FAILED'}", flush=True)
    if report.is_file():
        for line in report.read_text(encoding="utf-8").splitlines():
            print(f"{'':<10} {line}")
    if not verdict.ok:
        print(path.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return verdict


def main(names: Sequence[str]) -> int:
    """Run the named parts, or all; 0 when every one passed."""
    known = parts()
    unknown = set(names) - {part.name for part in known}
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))} (there are: {', '.join(p.name for p in known)})")
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in known if not names or part.name in names]
    verdicts = {part.name: tell(part) for part in chosen}
    bad = [name for name, verdict in verdicts.items() if not verdict.ok]
    if bad:
        print(f"FAILED: {', '.join(bad)}")
    tested = [verdicts[part.name] for part in chosen if isinstance(part, Tests)]
    if tested:
        # A part that fails without a failing test (it ran none, it left some out) counts as one failure.
        failed = sum(max(verdict.failed, 0 if verdict.ok else 1) for verdict in tested)
        print(f"{sum(verdict.passed for verdict in tested)} passed, {failed} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nstopped")
