"""Azure Table Storage on a laptop: Azurite, Microsoft's own emulator, in memory and on loopback.

``python -m local.azurite --port 0`` prints one line ``LISTENING {"url": …}`` when it is ready and leaves on SIGTERM.
What it held is gone with it. Azurite is a Node program that `make setup` installs. https://github.com/Azure/Azurite
"""

import argparse
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from local.process import announce

ACCOUNT = "devstoreaccount1"
AZURITE = Path(__file__).resolve().parent.parent / "node_modules/azurite/dist/src/table/main.js"

_HOST = "127.0.0.1"
_READY_WITHIN_SECONDS = 30
_LOOK_EVERY_SECONDS = 0.05
_ATTEMPTS = 5
_PR_SET_PDEATHSIG = 1
_IDLE_CONNECTION_SECONDS = "120"


def command(node: str, port: int) -> list[str]:
    """Return what starts Azurite's table service: no file, no telemetry, any version of the protocol."""
    return [
        node, str(AZURITE), "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent",
        "--tableHost", _HOST, "--tablePort", str(port), "--tableKeepAliveTimeout", _IDLE_CONNECTION_SECONDS,
    ]  # fmt: skip


def start(port: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start Azurite and return it, with its port, when it accepts connections; raise SystemExit when it does not."""
    node = shutil.which("node")
    if node is None or not AZURITE.is_file():
        sys.exit("Azurite is not installed: `make setup` does it (it needs Node 20 or newer and npm)")
    for _ in range(_ATTEMPTS):
        taken = port or _free_port()
        process = subprocess.Popen(
            command(node, taken),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=_die_with_parent if sys.platform.startswith("linux") else None,  # noqa: PLW1509 - one thread
        )
        if _accepts(process, taken):
            return process, taken
        process.kill()  # somebody else took the port meanwhile
        process.wait()
    sys.exit("Azurite did not start; what it said stands above")


def main() -> int:
    """Run Azurite until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    process, port = start(parser.parse_args().port)

    def end(_: int, __: FrameType | None) -> None:
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    announce(url=f"http://{_HOST}:{port}/{ACCOUNT}")
    code = process.wait()
    return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT) else 1


def _accepts(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up_at = time.monotonic() + _READY_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_EVERY_SECONDS)
        else:
            return process.poll() is None
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
