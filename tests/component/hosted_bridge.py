"""The bridge as it is deployed: in the Functions host, with a local Data Factory and fake Airflows."""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.model import TaskRef, WaitState
from local.process import LocalProcess
from tests.component.stand_ins import TOKEN, Control, eventually, write_pipeline
from tests.fakes_http.airflow import USER, FakeAirflow
from tests.fakes_http.airflow_task import AirflowTask

REPOSITORY = Path(__file__).resolve().parents[2]
FUNCTION_KEY, EVENT_GRID_KEY, MASTER_KEY = "canary-function-key", "canary-event-grid-key", "canary-master-key"
CALLER_HEADER = "x-adf-bridge-caller-secret"
PATIENCE = timedelta(seconds=20)
FINAL = tuple(state.value for state in WaitState if state.is_final)
_TICK_SECONDS = 0.25

_GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.DataFactory"
SALES, STOCK = f"{_GROUP}/factories/adf-sales", f"{_GROUP}/factories/adf-stock"
FACTORIES = {"sales": SALES, "stock": STOCK}

Json = dict[str, Any]


@dataclass
class Hosted:
    """A Functions host with the bridge in it. Every answer is kept, to be searched for secrets."""

    process: LocalProcess
    answers: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, method: str, path: str, *, key: str | None = FUNCTION_KEY, **options: Any) -> requests.Response:
        """Send a request to the bridge's API."""
        headers = {**({"x-functions-key": key} if key is not None else {}), **options.pop("headers", {})}
        answer = requests.request(method, f"{self.process.url}/api{path}", headers=headers, timeout=60, **options)
        self._keep(answer)
        return answer

    def deliver(self, *events: Any) -> requests.Response:
        """Deliver events as Event Grid does, and return when the webhook has answered."""
        answer = requests.post(
            f"{self.process.url}/runtime/webhooks/EventGrid",
            params={"functionName": "run_event", "code": EVENT_GRID_KEY},
            headers={"aeg-event-type": "Notification"},
            data=json.dumps(events[0] if len(events) == 1 else events),
            timeout=120,
        )
        self._keep(answer)
        return answer

    def tick(self) -> None:
        """Run the timer once, now, without waiting for what it does."""
        answer = requests.post(
            f"{self.process.url}/admin/functions/tick",
            headers={"x-functions-key": MASTER_KEY},
            json={},
            timeout=10,
        )
        assert 202 == answer.status_code

    def functions(self) -> dict[str, Json]:
        """Every indexed function's trigger, by the function's name."""
        shown = requests.get(
            f"{self.process.url}/admin/functions", headers={"x-functions-key": MASTER_KEY}, timeout=10
        ).json()
        return {function["name"]: function["config"]["bindings"][0] for function in shown}

    def health(self) -> Json:
        """What `GET /health` says."""
        return dict(self.call("GET", "/health").json())

    def wait(self, token: str) -> Json:
        """A wait with its story."""
        return dict(self.call("GET", f"/waits/{token}").json()["wait"])

    def story(self, token: str) -> list[str]:
        """The words of a wait's story."""
        return [line["what"] for line in self.wait(token)["timeline"]]

    def events(self, run_id: str) -> list[Json]:
        """What became of a run's events, the oldest first."""
        shown = self.call("GET", "/events", params={"run_id": run_id, "limit": 500}).json()["events"]
        return list(reversed(shown))

    def verdicts(self, run_id: str) -> list[str]:
        """The verdicts on a run's events, the oldest first."""
        return [event["verdict"] for event in self.events(run_id)]

    def until(self, token: str, *states: str) -> Json:
        """The wait, as soon as it is in one of these states; the timer is run every quarter of a second until then."""
        next_tick = 0.0

        def look() -> Json | None:
            nonlocal next_tick
            wait = self.wait(token)
            if wait["state"] in states:
                return wait
            if time.monotonic() >= next_tick:
                self.tick()
                next_tick = time.monotonic() + _TICK_SECONDS
            return None

        return eventually(look, within=PATIENCE)

    def _keep(self, answer: requests.Response) -> None:
        with self.lock:
            self.answers.append(f"{answer.headers} {answer.text}")


@dataclass
class Bridge(Hosted):
    """The bridge with what it works with. `airflows` are the targets, by name."""

    airflows: Mapping[str, FakeAirflow] = field(default_factory=dict)
    adf: Control = field(default_factory=lambda: Control(""))
    folder: Path = Path()
    event_grid: LocalProcess | None = None
    _free: list[str] = field(default_factory=list)

    def fresh_airflow(self) -> FakeAirflow:
        """A target that no other test has upset."""
        return self.airflows[self._free.pop(0)]

    def give_back(self, airflow: FakeAirflow) -> None:
        """Let other tests use a target, if nothing was made of it that could disturb them."""
        due = self.call("GET", f"/waits?target={airflow.name}&state=due").json()["waits"]
        if airflow.untroubled and not due:
            airflow.forget()
            self._free.append(airflow.name)

    @property
    def logs(self) -> list[Path]:
        """The logs of everything."""
        return sorted(self.folder.glob("*.log"))

    def calls(self, run_id: str) -> Json:
        """How often ADF was asked about a run, by operation, with the `total`."""
        return dict(self.adf.get("calls")["by_run"].get(run_id, {"total": 0}))

    def count(self, operation: str) -> int:
        """How often ADF was asked for something."""
        return int(self.adf.get("calls")["by_operation"].get(operation, 0))

    def end_run(self, run_id: str, status: str = "Succeeded", **why: str) -> None:
        """End a run that is held."""
        self.adf.post(f"runs/{run_id}/finish", {"status": status, **why})

    def complete(self, token: str, run_id: str, status: str = "Succeeded", **why: str) -> Json:
        """End a run, deliver its event, and return the wait when it is over."""
        self.end_run(run_id, status, **why)
        assert 202 == self.deliver(run_event(run_id, status)).status_code
        return self.until(token, *FINAL)

    def start(
        self, wait: Json | None = None, *, key: str | None = None, headers: Mapping[str, str] | None = None, **body: Any
    ) -> requests.Response:
        """`POST /runs` for the pipeline `held`, with a wait if there is one."""
        document = {"factory": "sales", "pipeline": "held", **({"wait": wait} if wait else {}), **body}
        used = key or (token_of(wait) if wait else str(uuid.uuid4()))
        return self.call("POST", "/runs", json=document, headers={"Idempotency-Key": used, **(headers or {})})

    def started(self, wait: Json | None = None, **options: Any) -> str:
        """The id of a run that was started by `POST /runs`."""
        answer = self.start(wait, **options)
        assert 202 == answer.status_code, answer.text
        return str(answer.json()["run"]["run_id"])

    def parked(self, airflow: FakeAirflow, **options: Any) -> tuple[AirflowTask, str, str]:
        """A task that is parked and waits for a held run: the task, the token, the run's id."""
        names = {name: options.pop(name) for name in ("dag_id", "run_id", "task_id", "map_index") if name in options}
        task = airflow.task(**names)
        wait = wait_of(airflow, task)
        run_id = self.started(wait, **options)
        task.park()
        return task, token_of(wait), run_id


def wait_of(airflow: FakeAirflow, task: AirflowTask, **changes: Any) -> Json:
    """What the operator sends about a task's present try."""
    return {
        "target": airflow.name,
        "mode": "resume",
        "task": {
            "dag_id": task.dag_id,
            "run_id": task.run_id,
            "task_id": task.task_id,
            "map_index": task.map_index,
            "try_number": task.try_number,
            "task_instance_id": task.id,
            "nonce": uuid.uuid4().hex,
        },
        "deadline": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        **changes,
    }


def token_of(wait: Json) -> str:
    """The token of a wait."""
    return TaskRef(target=wait["target"].lower(), **wait["task"]).token


def run_event(run_id: str, status: str = "Succeeded", *, factory: str = SALES, **changes: Any) -> Json:
    """The CloudEvent about a run's status."""
    return {
        "specversion": "1.0",
        "type": f"AdfBridge.PipelineRun.{status}",
        "id": f"{run_id}/{status}",
        "source": factory,
        "subject": f"pipelines/held/runs/{run_id}",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"runId": run_id, "pipelineName": "held", "status": status},
        **changes,
    }


def grid_event(run_id: str, status: str = "Succeeded", *, factory: str = SALES) -> Json:
    """The same in the Event Grid schema."""
    return {
        "id": f"{run_id}/{status}",
        "topic": f"{_GROUP.rpartition('/')[0]}/Microsoft.EventGrid/topics/runs",
        "subject": f"pipelines/held/runs/{run_id}",
        "eventType": f"AdfBridge.PipelineRun.{status}",
        "eventTime": datetime.now(UTC).isoformat(),
        "dataVersion": "1.0",
        "metadataVersion": "1",
        "data": {"runId": run_id, "pipelineName": "held", "status": status, "factory": factory},
    }


def settings_of(airflow: FakeAirflow, **more: str) -> dict[str, str]:
    """The settings of a target; tasks are not held, unless the settings say so."""
    own = {"URL": airflow.url, "USERNAME": USER, "PASSWORD": airflow.password, "HOLD_SECONDS": "0", **more}
    return {f"BRIDGE_AIRFLOW__{airflow.name.upper()}__{name}": value for name, value in own.items()}


@contextmanager
def hosted_bridge(folder: Path, settings: Mapping[str, str], *, log: str = "functions_host.log") -> Iterator[Hosted]:
    """A Functions host with the bridge, whose settings are these and no others.

    Its timer runs when a test says so: the tests count calls.
    """
    keys = ("--function-key", FUNCTION_KEY, "--event-grid-key", EVENT_GRID_KEY, "--master-key", MASTER_KEY)
    args = ("--app", str(REPOSITORY), "--no-schedules", *keys)
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
            environment.delenv(name)
        process = LocalProcess("local.functions_host", args, log=folder / log, env=dict(settings))
        process.start()
    try:
        yield Hosted(process)
    finally:
        process.stop()


def pipelines(folder: Path) -> Path:
    """The pipelines of both factories, which run until they are told to end. Nothing tells Event Grid of them.

    `keyed` takes the key of the request that starts it.
    """
    folder.mkdir()
    held = [{"name": "Load", "type": "Copy", "userProperties": [{"name": "localSeconds", "value": "held"}]}]
    parameters = {"secret": {"type": "string", "defaultValue": ""}}
    write_pipeline(folder, "held", {"activities": held, "parameters": parameters})
    write_pipeline(folder, "keyed", {"activities": held, "parameters": {"bridge_key": {"type": "string"}}})
    return folder


def adf_arguments(directory: Path) -> tuple[str, ...]:
    """The command line of a Data Factory with both factories."""
    factories = [argument for arm_id in FACTORIES.values() for argument in ("--factory", arm_id)]
    return ("--pipelines", str(pipelines(directory)), "--token", TOKEN, *factories)


def adf_settings(url: str, folder: Path) -> dict[str, str]:
    """The settings that point the bridge at both factories and at a store in a folder."""
    return {
        "BRIDGE_FACTORIES": ";".join(f"{alias}={arm_id}" for alias, arm_id in FACTORIES.items()),
        "BRIDGE_STORE": f"sqlite:///{folder / 'bridge.sqlite3'}",
        "BRIDGE_ADF_ENDPOINT": url,
        "BRIDGE_ADF_TOKEN": TOKEN,
        "BRIDGE_SWEEP_SECONDS": "3600",  # the tests count calls: no sweep comes in between
    }
