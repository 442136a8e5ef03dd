"""One local service as a child process: started, watched, killed and started again on the same port.

A service is a module that serves on `--port`, prints one line `LISTENING {json}` when it is ready, and
leaves on SIGTERM.

Run as `python -m local.process MODULE ARGUMENT…`, this module runs another one, tied to its parent:
`LocalProcess` starts its children that way, so that none of them outlives a parent that was killed.
"""

import ctypes
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

LISTENING = "LISTENING "

_PARENT_VARIABLE = "ADF_BRIDGE_LOCAL_PARENT"
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_SECONDS = 0.5
_REPOSITORY = Path(__file__).resolve().parent.parent


class ProcessFailedError(Exception):
    """A local service ended, or was not ready in time. The message holds the tail of its log."""


class LocalProcess:
    """A local service in a process of its own.

    `module` is run with `args` and `--port`. The first start takes a free port, every later one the same
    port again, so that whoever knows the service's address still reaches it. Standard output and standard
    error go to `log`, which is appended to.

    Start it from a thread that lives as long as the service may: on Linux the child ends with the thread
    that started it.
    """

    def __init__(
        self,
        module: str,
        args: Sequence[str] = (),
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        """Describe the service. `env` is added to this process's environment. Nothing is started yet."""
        self.module = module
        self.args = tuple(args)
        self.log = log
        self.env = dict(env or {})
        self.port = port
        self.ready: dict[str, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._announced = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the service."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the service."""
        self.stop()

    @property
    def name(self) -> str:
        """Which service this is, in one word."""
        return self.module.rpartition(".")[2]

    @property
    def url(self) -> str:
        """Where the service listens, as it said itself."""
        return str(self.ready["url"])

    @property
    def pid(self) -> int | None:
        """The process id, or None before the first start."""
        return self._child.pid if self._child else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended (negative: by that signal), or None while it runs."""
        return self._child.poll() if self._child else None

    def start(self, timeout: timedelta = timedelta(seconds=30)) -> dict[str, Any]:
        """Start the service and return what its LISTENING line says.

        Raises ProcessFailedError, with nothing left running, when it ends or says nothing within `timeout`.
        """
        if self.alive:
            raise ProcessFailedError(f"{self.module} is already running")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.ready = {}
        self._announced = threading.Event()
        command = [sys.executable, "-m", "local.process", self.module, *self.args, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                cwd=_REPOSITORY,
                env={**os.environ, **self.env, _PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read_output, args=(self._child.stdout,), daemon=True)
        self._reader.start()
        ready_or_over = self._announced.wait(timeout.total_seconds())
        if "url" not in self.ready:
            raise ProcessFailedError(self._why_not_ready(gave_up_after=None if ready_or_over else timeout))
        self.port = urlsplit(self.url).port or self.port
        return self.ready

    def stop(self, grace: timedelta = timedelta(seconds=15)) -> int | None:
        """End the service in good order and return its exit code; after `grace` it is killed."""
        if self._child is None:
            return None
        self._signal(signal.SIGTERM)
        try:
            self._child.wait(grace.total_seconds())
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self._reap()

    def kill(self) -> None:
        """End the service at once (SIGKILL), as a crash would."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._reap()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _why_not_ready(self, gave_up_after: timedelta | None) -> str:
        """Make sure that nothing is left running, and say what went wrong."""
        if gave_up_after is None:
            reason = f"ended with exit code {self._reap()}"
        else:
            self.kill()
            reason = f"was not ready after {gave_up_after.total_seconds():g} s"
        return f"{self.module} {reason}. The end of its log ({self.log}):\n{self.log_tail()}"

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the service's whole process group, if there is anything left of it."""
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, number)

    def _reap(self) -> int | None:
        """Wait for the end, so that neither a zombie nor a half-written log stays behind."""
        code = self._child.wait() if self._child is not None else None
        if self._reader is not None:
            self._reader.join(timeout=5)
        return code

    def _read_output(self, output: IO[bytes]) -> None:
        """Copy standard output to the log; keep what the LISTENING line says."""
        with output, self.log.open("ab", buffering=0) as log:
            for line in output:
                log.write(line)
                text = line.decode("utf-8", "replace")
                if text.startswith(LISTENING) and not self.ready:
                    self.ready = json.loads(text.removeprefix(LISTENING))
                    self._announced.set()
        self._announced.set()


def announce(*, output: IO[str] | None = None, **facts: object) -> None:
    """Print the LISTENING line of a service that is ready, to standard output. `url` is where it listens."""
    print(LISTENING + json.dumps(facts), file=output, flush=True)


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that ends.

    On Linux the kernel sees to it, elsewhere a thread. See
    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    parent = int(os.environ.pop(_PARENT_VARIABLE))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(1)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    die_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
