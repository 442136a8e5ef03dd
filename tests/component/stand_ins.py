"""The local Data Factory and Event Grid as processes, and the vendor's own clients for them."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import requests
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.datafactory import DataFactoryManagementClient
from azure.mgmt.datafactory.models import PipelineRun

from local.process import LocalProcess

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = "rg-demo"
FACTORY = "adf-demo"
FACTORY_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.DataFactory/factories/{FACTORY}"
TOKEN = "local-adf-token"
TOPIC_KEY = "bG9jYWwtdG9waWMta2V5"

TERMINAL = frozenset({"Succeeded", "Failed", "Cancelled"})

Found = TypeVar("Found")


def eventually(probe: Callable[[], Found | None], *, within: timedelta = timedelta(seconds=20)) -> Found:
    """Ask until the answer is true, and return it. Fails with the last answer when that takes too long."""
    deadline = time.monotonic() + within.total_seconds()
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {within}"
        time.sleep(0.02)


class _NoCredential(TokenCredential):
    """Is never asked: the policy below sends the token."""

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        """Fail, should it be asked after all."""
        raise NotImplementedError


class BearerHeader(SansIOHTTPPolicy[Any, Any]):
    """Sends a token over plain http, which the SDK's own policy refuses to do."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Set the header."""
        request.http_request.headers["Authorization"] = f"Bearer {self._token}"


@dataclass(frozen=True)
class Control:
    """The control calls of a stand-in."""

    url: str

    def get(self, path: str) -> Any:
        """What a control call shows."""
        return self._call("GET", path)

    def post(self, path: str, body: object) -> Any:
        """Change something."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """Take something back."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = requests.request(method, f"{self.url}/_local/{path}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None


@dataclass(frozen=True)
class Adf:
    """The local Data Factory, and Microsoft's client for it."""

    process: LocalProcess
    client: DataFactoryManagementClient
    control: Control
    pipelines: Path

    def create_run(self, pipeline: str, parameters: Mapping[str, object] | None = None, **options: Any) -> str:
        """Start a run as the bridge does: keywords only, nothing retried."""
        answer = self.client.pipelines.create_run(
            GROUP, FACTORY, pipeline, parameters=cast("dict[str, Any]", parameters or {}), retry_total=0, **options
        )
        return str(answer.run_id)

    def get(self, run_id: str) -> PipelineRun:
        """The run."""
        return self.client.pipeline_runs.get(GROUP, FACTORY, run_id)

    def wait_for(self, run_id: str, *statuses: str) -> PipelineRun:
        """The run, once it has one of these statuses (any terminal one by default)."""
        wanted = frozenset(statuses) or TERMINAL
        return eventually(lambda: run if (run := self.get(run_id)).status in wanted else None)

    def activity_runs(self, run_id: str) -> list[Any]:
        """The activity runs of a run."""
        found = self.client.activity_runs.query_by_pipeline_run(GROUP, FACTORY, run_id, cast("Any", window()))
        return list(found.value)


def window() -> dict[str, Any]:
    """A query's window that holds everything, and is always the same, as the pages of one query need it."""
    return {"lastUpdatedAfter": "2020-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}


def adf_client(url: str, *, token: str = TOKEN, subscription: str = SUBSCRIPTION) -> DataFactoryManagementClient:
    """Microsoft's client, pointed at a stand-in."""
    return DataFactoryManagementClient(
        _NoCredential(), subscription, base_url=url, authentication_policy=BearerHeader(token)
    )


@contextmanager
def running_adf(folder: Path, pipelines: Mapping[str, object], *args: str) -> Iterator[Adf]:
    """A Data Factory with these pipelines: the activities of each, or its properties."""
    directory = folder / "pipelines"
    directory.mkdir()
    for name, properties in pipelines.items():
        write_pipeline(directory, name, properties)
    options = ("--pipelines", str(directory), "--token", TOKEN, "--factory", FACTORY_ID, *args)
    with (
        LocalProcess("local.adf", options, log=folder / "adf.log") as process,
        adf_client(process.url) as client,
    ):
        yield Adf(process, client, Control(process.url), directory)


@contextmanager
def running_event_grid(folder: Path, *args: str) -> Iterator[LocalProcess]:
    """An Event Grid with the topic `runs`, which takes CloudEvents."""
    options = ("--state", str(folder / "state"), "--topic", "runs", "--topic-key", TOPIC_KEY, *args)
    with LocalProcess("local.event_grid", options, log=folder / "event_grid.log") as process:
        yield process


def write_pipeline(directory: Path, name: str, properties: object) -> None:
    """Write a pipeline's file: its activities, or its properties."""
    shown = properties if isinstance(properties, dict) else {"activities": properties}
    (directory / f"{name}.json").write_text(json.dumps({"name": name, "properties": shown}), encoding="utf-8")


def activity(name: str, kind: str = "Copy", after: Mapping[str, str] | None = None, **local: object) -> dict[str, Any]:
    """An activity with dependencies (activity → condition) and user properties."""
    return {
        "name": name,
        "type": kind,
        "dependsOn": [
            {"activity": other, "dependencyConditions": [condition]} for other, condition in (after or {}).items()
        ],
        "userProperties": [{"name": key, "value": value} for key, value in {"localSeconds": 0, **local}.items()],
    }
