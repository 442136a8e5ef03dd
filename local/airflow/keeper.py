"""Runs one command with everything that it starts, and leaves nothing of it behind.

    python -m local.airflow.keeper COMMAND ARGUMENT…

Airflow is a family of processes that have groups and sessions of their own. On Linux this process adopts every orphan
among its descendants, is told when the process that started it ends, and at its own end (SIGTERM, SIGINT, or the end of
the command) ends all of them: asked first, killed after `GRACE`. Elsewhere it ends the command's process group.

See https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType

GRACE = timedelta(seconds=10)
PARENT_VARIABLE = "ADF_BRIDGE_LOCAL_KEEPER_PARENT"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform.startswith("linux")


class _Told(Exception):  # noqa: N818 (no error: the way out of the wait)
    """A signal asks this process to end."""


def keep(command: list[str]) -> int:
    """Run the command until it ends or this process is told to; then clear up. Returns the command's exit code."""

    def told(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _Told

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    code = 0
    child: subprocess.Popen[bytes] | None = None
    try:
        _tie_to_parent()
        child = subprocess.Popen(command, start_new_session=True)
        code = child.wait()
    except _Told:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if child is not None:
            _end_all(child)
    return code


def _tie_to_parent() -> None:
    """Be told when the parent ends, and become the parent of orphaned descendants."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if not _LINUX:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if parent is not None and os.getppid() != int(parent):  # it ended before the kernel knew
        raise _Told


def _end_all(child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + GRACE.total_seconds()
    _signal_all(child, signal.SIGTERM)
    while _is_anything_left() and time.monotonic() < deadline:
        time.sleep(0.1)
    while _is_anything_left():
        _signal_all(child, signal.SIGKILL)
        time.sleep(0.05)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # where orphans are not adopted


def _signal_all(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    for pid in _descendants() if _LINUX else ():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _is_anything_left() -> bool:
    """Collect what has ended, and tell whether anything has not.

    Every orphan is adopted, so no children means no descendants. Looking through /proc would miss a process whose
    parent ends meanwhile.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants() -> list[int]:
    """The ids of the processes below this one, as far as they hold still while they are counted."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # pid (name, which may hold anything) state ppid …
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found: list[int] = []
    layer = {os.getpid()}
    while layer := {pid for pid, parent in parents.items() if parent in layer}:
        found.extend(layer)
    return found


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
