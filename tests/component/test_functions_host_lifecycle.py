"""Starting, stopping, killing and restarting the local Functions host, and apps that cannot be loaded."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from local.process import LocalProcess, ProcessFailedError
from tests.component.hosted_app import APPS, DEADLINE, HostedApp, describe_host, hosted_app

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("broken", "the following parameters are declared in Python but not in the function definition"),
        ("unknown_setting", "there is no app setting NO_SUCH_SETTING"),
        ("missing", "host.json does not exist"),
    ],
)
def test_app_that_cannot_be_loaded(tmp_path: Path, app: str, reason: str) -> None:
    """S41: an app that cannot be indexed ends the host with exit code 1 and the worker's own reason."""
    process = describe_host(tmp_path / "host.log", app=app)
    with pytest.raises(ProcessFailedError, match=reason):
        process.start()
    assert 1 == process.exit_code


def test_stop_lets_running_invocations_finish(tmp_path: Path) -> None:
    """A host that is told to stop answers what it has begun, takes nothing new, and exits 0."""
    with hosted_app(tmp_path) as host:
        answers: list[int] = []
        caller = threading.Thread(target=lambda: answers.append(host.call("GET", "/api/slow?seconds=0.5").status_code))
        caller.start()
        deadline = time.monotonic() + DEADLINE.total_seconds()
        while not any(line["message"] == "slow begins" for line in host.log_lines()):
            assert time.monotonic() < deadline
        assert 0 == host.process.stop()
        caller.join()
        assert [200] == answers


def test_kill_and_restart(tmp_path: Path) -> None:
    """S24: a killed host starts again on the same port."""
    with describe_host(tmp_path / "host.log") as process:
        before = process.url
        process.kill()
        assert -signal.SIGKILL == process.exit_code
        process.start()
        assert before == process.url
        assert 200 == HostedApp(process).call("GET", "/api/open").status_code


def test_thread_count_is_honoured(tmp_path: Path) -> None:
    """PYTHON_THREADPOOL_THREAD_COUNT limits how many synchronous functions run at once."""
    process = describe_host(tmp_path / "host.log")
    process.env["PYTHON_THREADPOOL_THREAD_COUNT"] = "2"
    with process:
        response = HostedApp(process).deliver([{}, {}, {}], query={"functionName": "meet"})
        assert 500 == response.status_code


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves no service behind."""
    script = (
        "import sys, time; from pathlib import Path; from tests.component.hosted_app import describe_host\n"
        f"process = describe_host(Path({str(tmp_path / 'host.log')!r})); process.start()\n"
        "print(process.port, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + DEADLINE.total_seconds()
    while listens(port):
        assert time.monotonic() < deadline


def test_service_that_never_listens(tmp_path: Path) -> None:
    """A service that is not ready in time is killed, and its log is told."""
    process = LocalProcess("local.functions_host", ("--app", str(APPS / "host")), log=tmp_path / "host.log")
    with pytest.raises(ProcessFailedError, match="arguments are required: --function-key"):
        process.start()
    assert not process.alive


def listens(port: int) -> bool:
    """Whether anything listens on a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
