"""`airflow standalone` as one thing that starts, tells when it is healthy, and stops without a trace."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests

from local.airflow.keeper import GRACE, PARENT_VARIABLE
from local.airflow.rest import AirflowApiError, AirflowRest

_REPOSITORY = Path(__file__).resolve().parent.parent.parent

ROLES: Mapping[str, str] = {"admin": "admin", "bridge": "user"}
"""Who may log in, and with which of SimpleAuthManager's roles. `user` is the weakest that may answer a parked task."""

_QUIET: Mapping[str, str] = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__PARALLELISM": "4",  # a worker that parks a task may keep its place for 5 s
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default may ask a name server
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    # Logs are read from the disk. These two servers listen wherever there is room, so that several Airflows may run.
    "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "0",
    "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "0",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "SCARF_ANALYTICS": "false",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
}
_PATIENCE_MODULE = "local_sqlite"
_PATIENCE = """\
import sys

CONNECT_ARGS = {"timeout": 1} if "api-server" in sys.argv else {}
"""
"""What the API server does otherwise than the rest: it gives a lock up after a second. It writes its
audit log inside its event loop, where the request that holds the lock may need that very loop in order to end: then
nothing goes on until the wait is over. The call that waited is answered 500, and whoever made it repeats it.
"""
_FOREIGN = ("AIRFLOW", "BRIDGE_", "AZURE_", "PYTHON", "VIRTUAL_ENV")


class AirflowNotReadyError(Exception):
    """Airflow ended, or was not healthy in time. The message holds the end of its log."""


def bridge_connection(url: str, function_key: str, target: str, **extra: str) -> dict[str, Any]:
    """Return an Airflow connection of type `adf_bridge`. `extra` is, say, factory or caller_secret."""
    parts = urlsplit(url)
    return {
        "conn_type": "adf_bridge",
        "host": parts.hostname,
        "schema": parts.scheme,
        "port": parts.port,
        "password": function_key,
        "extra": {"target": target, **extra},
    }


class Airflow(AirflowRest):
    """One Airflow in a folder of its own, and its REST API in the name of `admin`.

    `venv` holds Airflow and the provider; `home` becomes AIRFLOW_HOME; `dags` is its DAG folder. `connections` maps
    connection ids to Airflow's JSON form and may be set until `start`. `port` 0 takes a free one now, so that `url` is
    known before anything runs. Start it from a thread that lives as long as Airflow may: on Linux Airflow ends with it.
    """

    health_path = "/api/v2/monitor/health"
    healthy_parts: tuple[str, ...] = ("metadatabase", "scheduler", "dag_processor")

    def __init__(
        self,
        venv: Path,
        home: Path,
        dags: Path,
        *,
        port: int = 0,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it; nothing is started. `settings` is added to its environment, above everything else."""
        self.venv = venv.absolute()
        self.home = home.absolute()
        self.dags = dags.absolute()
        self.port = port or _free_port()
        self.connections: dict[str, Mapping[str, Any]] = dict(connections or {})
        self.settings = dict(settings or {})
        self.passwords = {name: secrets.token_urlsafe(18) for name in ROLES}
        self.log = self.home / "airflow.log"
        self.version = ""
        self._keeper: subprocess.Popen[bytes] | None = None
        super().__init__(f"http://127.0.0.1:{self.port}", "admin", self.passwords["admin"])

    def __enter__(self) -> Self:
        """Start, and wait until Airflow is healthy."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def as_user(self, name: str) -> AirflowRest:
        """Return the REST API in the name of another user of `ROLES`."""
        return AirflowRest(self.url, name, self.passwords[name])

    def start(
        self,
        on_progress: Callable[[str], None] = lambda _: None,
        timeout: timedelta = timedelta(minutes=5),
    ) -> None:
        """Start Airflow and wait until it is healthy; `on_progress` is told each step in words.

        Raises AirflowNotReadyError, with nothing left running.
        """
        self.launch()
        try:
            self.wait_healthy(on_progress, timeout)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start Airflow without waiting for it."""
        if self.alive:
            raise AirflowNotReadyError("Airflow is already running")
        executable = self.venv / "bin" / "airflow"
        if not executable.exists():
            raise AirflowNotReadyError(f"There is no Airflow in {self.venv}. `make airflow` builds it.")
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "config"  # Airflow finds modules there
        config.mkdir(exist_ok=True)
        (config / f"{_PATIENCE_MODULE}.py").write_text(_PATIENCE, encoding="utf-8")
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps(self.passwords), encoding="utf-8")
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "local.airflow.keeper", str(executable), "standalone"],
                cwd=_REPOSITORY,
                env={**self._environment(passwords), PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_healthy(
        self,
        on_progress: Callable[[str], None] = lambda _: None,
        timeout: timedelta = timedelta(minutes=5),
    ) -> None:
        """Wait until the database, the scheduler and the DAG processor are healthy. Raises AirflowNotReadyError."""
        deadline = time.monotonic() + timeout.total_seconds()
        step = ""
        while (now := self._step()) != "healthy":
            if now != step:
                on_progress(now)
                step = now
            if not self.alive:
                raise AirflowNotReadyError(f"Airflow ended. The end of its log ({self.log}):\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise AirflowNotReadyError(
                    f"Airflow is not healthy, but {now}. Its log ({self.log}):\n{self.log_tail()}"
                )
            time.sleep(0.25)
        self.version = self.api("GET", "/version")["version"]
        on_progress(f"Airflow {self.version} is healthy")

    def stop(self) -> None:
        """End Airflow and everything that it started. Does nothing if it does not run."""
        if self._keeper is None:
            return
        if self.alive:
            os.kill(self._keeper.pid, signal.SIGTERM)
        try:
            self._keeper.wait(GRACE.total_seconds() + 15)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self.close()

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log of all its parts."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _step(self) -> str:
        """Where the start is, in words; "healthy" at its end."""
        try:
            health = self._session.get(f"{self.url}{self.health_path}", timeout=5).json()
            waiting = [part for part in self.healthy_parts if not _is_healthy(health, part)]
        except (requests.RequestException, AirflowApiError):
            log = self.log_tail(500)
            return "starting its parts" if "Database ready" in log else "making its database"
        return f"waiting for its {waiting[0].replace('_', ' ')}" if waiting else "healthy"

    def _environment(self, passwords: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {
            **kept,
            **_QUIET,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "AIRFLOW_HOME": str(self.home),
            # On a busy machine its parts wait longer for one another's locks than the 5 s after which a scheduler dies.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": f"{_PATIENCE_MODULE}.CONNECT_ARGS",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in self.connections.items()},
            **self.settings,
        }


def _is_healthy(health: Mapping[str, Any], part: str) -> bool:
    return bool(health.get(part, {}).get("status") == "healthy")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
