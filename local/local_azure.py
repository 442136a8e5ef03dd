"""Azure on a laptop, put together: the local Data Factory, Event Grid, Functions host and, where it is wanted, Service
Bus, wired up with keys made for this start.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import requests

from local.process import LocalProcess, ProcessFailedError

FACTORY_ALIAS = "demo"
FACTORY_ID = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    "/providers/Microsoft.DataFactory/factories/demo"
)

APP = Path(__file__).resolve().parent.parent
_TOPIC = "adf-bridge"
_SUBSCRIPTION = "run-event"
_EVENT_FUNCTION = "run_event"
_HUB = "adf-run-logs"
COMPLETIONS_QUEUE, REQUESTS_QUEUE, EVENTS_QUEUE = "completions", "requests", "events"
_QUEUES = (f"{COMPLETIONS_QUEUE},requires_session", REQUESTS_QUEUE, EVENTS_QUEUE)
_EVENT_GRID = "https://eventgrid.azure.net"  # what a pipeline's managed identity signs in to
_CALL_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class AirflowTarget:
    """An Airflow whose tasks the bridge may complete: by its REST API, by a queue of the local Service Bus, or by both.
    Without a user name, BRIDGE_AIRFLOW__… settings say how to log in.
    """

    url: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    queue: str | None = None


class LocalAzure:
    """The local services, each in a process of its own, that run the bridge as Azure would.

    `with LocalAzure(...) as azure:` starts them and stops them. `azure.ready` says where everything is. A
    crash is `azure.functions.kill()` and, later, `azure.functions.start()`: the port stays the same, so
    Event Grid finds it again.
    """

    def __init__(  # noqa: PLR0913 - each of them is somebody's choice
        self,
        *,
        pipelines: Path,
        state: Path,
        airflow: Mapping[str, AirflowTarget] | None = None,
        settings: Mapping[str, str] | None = None,
        app: Path = APP,
        diagnostics: bool = False,
        adf: Sequence[str] = (),
        event_grid: Sequence[str] = (),
        service_bus: Sequence[str] | None = None,
    ) -> None:
        """Describe it. `settings` are further app settings of the bridge, `adf`, `event_grid` and `service_bus` further
        arguments of these services. Nothing is started yet.

        With `service_bus`, be it empty, there is one: with a queue for completions, one for requests and one for
        events, which Event Grid then delivers to. With None, there is none.

        Run events come from the pipelines' wrappers, which `bridge wrap` puts into the factory; with `diagnostics`,
        from diagnostic records, by an event hub and the bridge's relay.
        """
        self.pipelines = pipelines.resolve()
        self.state = state.resolve()
        self.airflow = dict(airflow or {})
        self.settings = dict(settings or {})
        self.app = app.resolve()
        self.diagnostics = diagnostics
        self._adf_options = tuple(adf)
        self._event_grid_options = tuple(event_grid)
        self._service_bus_options = None if service_bus is None else tuple(service_bus)
        self.function_key, self.event_grid_key, self.master_key = (secrets.token_hex(24) for _ in range(3))
        self.topic_key, self.topic_token = secrets.token_hex(24), secrets.token_hex(24)
        self.adf_token = secrets.token_hex(24)
        self.ready: dict[str, Any] = {}
        self._processes: dict[str, LocalProcess] = {}

    def __enter__(self) -> Self:
        """Start everything."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    @property
    def adf(self) -> LocalProcess:
        """The local Data Factory."""
        return self._processes["adf"]

    @property
    def event_grid(self) -> LocalProcess:
        """The local Event Grid."""
        return self._processes["event_grid"]

    @property
    def functions(self) -> LocalProcess:
        """The Functions host with the bridge in it."""
        return self._processes["functions_host"]

    @property
    def service_bus(self) -> LocalProcess | None:
        """The local Service Bus, where there is one."""
        return self._processes.get("service_bus")

    @property
    def logs(self) -> dict[str, Path]:
        """Every service's log file."""
        return {name: process.log for name, process in self._processes.items()}

    def start(self) -> dict[str, Any]:
        """Start the services and wait until they answer. Returns `ready`.

        Raises ProcessFailedError, with nothing left running, when that fails.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            self._start_services()
            self.subscribe()
            if self.diagnostics:
                self.write_diagnostics()
            else:
                self.deploy_wrappers()
            self.ready = self._describe()
        except BaseException:
            self.stop()
            raise
        return self.ready

    def stop(self) -> None:
        """Stop the services, the callers before the called. Calling it again does nothing."""
        for process in reversed(self._processes.values()):
            process.stop()

    def dead(self) -> LocalProcess | None:
        """A service that has ended by itself, if there is one."""
        return next((process for process in self._processes.values() if not process.alive), None)

    def _start_services(self) -> None:
        if self._service_bus_options is not None:
            queues = (part for queue in _QUEUES for part in ("--queue", queue))
            self._start("service_bus", "--state", str(self.state / "service_bus"), *queues, *self._service_bus_options)
        self._start(
            "event_grid",
            *("--state", str(self.state / "event_grid"), "--topic", _TOPIC, "--topic-key", self.topic_key),
            *("--topic-token", self.topic_token),
            *self._event_grid_options,
        )
        self._start(
            "adf",
            *("--pipelines", str(self.pipelines), "--token", self.adf_token, "--factory", FACTORY_ID),
            *("--identity-token", f"{_EVENT_GRID}={self.topic_token}"),
            *self._adf_options,
        )
        self._start(
            "functions_host",
            *("--app", str(self.app), "--state", str(self.state / "functions"), "--function-key", self.function_key),
            *("--event-grid-key", self.event_grid_key, "--master-key", self.master_key),
            env=self._app_settings(),
        )

    def _start(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        process = LocalProcess(f"local.{name}", args, env=env, log=self.state / "logs" / f"{name}.log")
        self._processes[name] = process
        process.start()

    @property
    def _topic_endpoint(self) -> str:
        return str(self.event_grid.ready["topics"][_TOPIC]["endpoint"])

    @property
    def _store(self) -> str:
        return f"sqlite:///{self.state / 'bridge.sqlite3'}"

    def _app_settings(self) -> dict[str, str]:
        """The settings that point the bridge at the local services, over those of this process's
        environment.
        """
        settings = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "PYTHON_THREADPOOL_THREAD_COUNT": "32",
            "BRIDGE_FACTORIES": f"{FACTORY_ALIAS}={FACTORY_ID}",
            "BRIDGE_STORE": self._store,
            "BRIDGE_ADF_ENDPOINT": self.adf.url,
            "BRIDGE_ADF_TOKEN": self.adf_token,
        }
        if self.diagnostics:
            settings |= {
                "BRIDGE_DIAGNOSTICS_HUB": _HUB,
                "BRIDGE_DIAGNOSTICS__fullyQualifiedNamespace": "local.servicebus.windows.net",
                "BRIDGE_TOPIC_ENDPOINT": self._topic_endpoint,
                "BRIDGE_TOPIC_KEY": self.topic_key,
            }
        if self.service_bus is not None:
            settings |= {
                "BRIDGE_SERVICEBUS": self.service_bus.ready["connection_string"],
                "BRIDGE_REQUESTS_QUEUE": REQUESTS_QUEUE,
                "BRIDGE_EVENTS_QUEUE": EVENTS_QUEUE,
            }
        for name, target in self.airflow.items():
            prefix = f"BRIDGE_AIRFLOW__{name.upper()}__"
            if target.url is not None:
                settings[f"{prefix}URL"] = target.url
            if target.queue is not None:
                settings[f"{prefix}QUEUE"] = target.queue
            if target.username is not None:
                settings |= {f"{prefix}AUTH": "password", f"{prefix}USERNAME": target.username}
                settings[f"{prefix}PASSWORD"] = target.password or ""
        return settings | self.settings

    def subscribe(self, *, name: str = _SUBSCRIPTION, only: Sequence[str] = ()) -> None:
        """Let Event Grid deliver to the bridge, by the queue of events where there is one. `start` has done it; a
        restarted Event Grid needs it again. A second subscription, of another name, delivers events of the types in
        `only` twice.

        Event Grid does its handshake with the bridge first, so this also proves that the way is open; a queue it does
        not ask.
        """
        query = urlencode({"functionName": _EVENT_FUNCTION, "code": self.event_grid_key})
        kind, address = "AzureFunction", f"{self.functions.url}/runtime/webhooks/EventGrid?{query}"
        if self.service_bus is not None:
            kind, address = "ServiceBusQueue", f"{self.service_bus.ready['endpoint']}/{EVENTS_QUEUE}"
        subscription = {
            "name": name,
            "topic": _TOPIC,
            "endpoint_type": kind,
            "endpoint_url": address,
            "event_delivery_schema": "CloudEventSchemaV1_0",
            "included_event_types": [*only],
        }
        _call("POST", f"{self.event_grid.url}/_local/subscriptions", json=subscription)

    def deploy_wrappers(self) -> None:
        """Have `bridge wrap` put a wrapper of every pipeline into the factory, as on Azure.

        Raises ProcessFailedError with what it said when it does not succeed.
        """
        command = [
            *(sys.executable, "-m", "bridge", "wrap", str(self.pipelines)),
            *("--topic", self._topic_endpoint, "--factory", FACTORY_ID, "--deploy"),
        ]
        environment = {**os.environ, "BRIDGE_ADF_ENDPOINT": self.adf.url, "BRIDGE_ADF_TOKEN": self.adf_token}
        done = subprocess.run(command, cwd=APP, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProcessFailedError(f"bridge wrap failed: {done.stdout}{done.stderr}")

    def write_diagnostics(self) -> None:
        """Let Data Factory write diagnostic records to the event hub. A restarted Data Factory needs it again."""
        query = urlencode({"code": self.master_key})
        hub = f"{self.functions.url}/_local/event_hubs/{_HUB}/messages?{query}"
        _call("POST", f"{self.adf.url}/_local/diagnostics", json={"endpoint": hub})

    def _describe(self) -> dict[str, Any]:
        """Ask the host for a sign of life, and say where everything is."""
        _call("GET", f"{self.functions.url}/admin/host/status", headers={"x-functions-key": self.master_key})
        queues = {} if self.service_bus is None else {"service_bus": self.service_bus.ready["connection_string"]}
        return queues | {
            "functions_url": self.functions.url,
            "function_key": self.function_key,
            "event_grid_key": self.event_grid_key,
            "topic_endpoint": self._topic_endpoint,
            "topic_key": self.topic_key,
            "adf_url": self.adf.url,
            "adf_token": self.adf_token,
            "factory": {"alias": FACTORY_ALIAS, "id": FACTORY_ID},
            "pipelines": sorted(self.adf.ready["pipelines"]),
            "store": self._store,
            "state_dir": str(self.state),
        }


def _call(method: str, url: str, **options: Any) -> requests.Response:  # noqa: ANN401 - passed on as it is
    """Call a local service. Raises ProcessFailedError when it refuses or does not answer."""
    try:
        response = requests.request(method, url, timeout=_CALL_TIMEOUT_SECONDS, **options)
    except requests.RequestException as error:
        raise ProcessFailedError(f"{method} {url.partition('?')[0]} failed: {error}") from error
    if not response.ok:
        raise ProcessFailedError(f"{method} {url.partition('?')[0]} answered {response.status_code}: {response.text}")
    return response
