"""Azure on a laptop as a whole: the services find each other, survive a crash, and leave together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from local import up
from local.local_azure import COMPLETIONS_QUEUE, EVENTS_QUEUE, REQUESTS_QUEUE, AirflowTarget, LocalAzure
from local.process import ProcessFailedError
from tests.component.hosted_app import APPS, HostedApp
from tests.component.stand_ins import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
NEVER = "0 0 0 1 1 *"
NOBODY = "127.0.0.1:9"
PIPELINE = {
    "name": "short",
    "properties": {
        "activities": [{"name": "Pause", "type": "Wait", "typeProperties": {"waitTimeInSeconds": 1}}],
    },
}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one pipeline."""
    folder = tmp_path_factory.mktemp("pipelines")
    (folder / "short.json").write_text(json.dumps(PIPELINE), encoding="utf-8")
    return folder


@pytest.fixture
def azure(pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """The services, with the test app in the place of the bridge."""
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        monkeypatch.delenv(name)
    with LocalAzure(
        pipelines=pipelines,
        state=tmp_path / "state",
        airflow={"team_a": AirflowTarget("http://127.0.0.1:9", "ann", "a:b")},
        settings={"TICK": NEVER, "BRIDGE_INLINE_SECONDS": "3"},
        app=APPS / "host",
    ) as started:
        yield started


def start_run(azure: LocalAzure) -> None:
    """Start the pipeline, by its wrapper, as any client of Data Factory does."""
    ready = azure.ready
    url = f"{ready['adf_url']}{ready['factory']['id']}/pipelines/short__notified/createRun?api-version=2018-06-01"
    headers = {"Authorization": f"Bearer {ready['adf_token']}"}
    requests.post(url, headers=headers, json={}, timeout=10).raise_for_status()


def listens(url: str) -> bool:
    """Whether anything answers at a URL's port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port)) == 0


def test_run_event_reaches_the_app(azure: LocalAzure) -> None:
    """A wrapper's notice travels from Data Factory over Event Grid to the function, also after a crash of the host."""
    start_run(azure)
    HostedApp(azure.functions).wait_for({"run_event": "AdfBridge.PipelineRun.Succeeded"})
    azure.functions.kill()
    assert azure.functions is azure.dead()
    azure.functions.start()
    assert azure.dead() is None
    start_run(azure)
    HostedApp(azure.functions).wait_for({"run_event": "AdfBridge.PipelineRun.Succeeded"})


def test_app_settings(azure: LocalAzure) -> None:
    """The app is pointed at the local services and at each Airflow, and at nothing else."""
    ready = azure.ready
    settings = HostedApp(azure.functions).call("GET", "/api/settings", params={"code": ready["function_key"]})
    expected = {
        "BRIDGE_FACTORIES": f"{ready['factory']['alias']}={ready['factory']['id']}",
        "BRIDGE_STORE": ready["store"],
        "BRIDGE_ADF_ENDPOINT": ready["adf_url"],
        "BRIDGE_ADF_TOKEN": ready["adf_token"],
        "BRIDGE_AIRFLOW__TEAM_A__URL": "http://127.0.0.1:9",
        "BRIDGE_AIRFLOW__TEAM_A__AUTH": "password",
        "BRIDGE_AIRFLOW__TEAM_A__USERNAME": "ann",
        "BRIDGE_AIRFLOW__TEAM_A__PASSWORD": "a:b",
        "BRIDGE_INLINE_SECONDS": "3",
    }
    assert expected == settings.json()


def test_dead_service_is_reported(azure: LocalAzure, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that ends by itself is named, with the end of its log."""
    azure.adf.kill()
    assert 1 == up.watch(azure)
    told = capsys.readouterr().err
    assert "local.adf has ended (exit code -9)" in told
    assert "LISTENING" in told


def test_failed_start_leaves_nothing_behind(pipelines: Path, tmp_path: Path) -> None:
    """S41: when one service cannot start, the others are stopped, and the reason is told."""
    azure = LocalAzure(pipelines=pipelines, state=tmp_path, app=APPS / "broken")
    with pytest.raises(ProcessFailedError, match=r"local\.functions_host ended with exit code 1"):
        azure.start()
    assert [False, False, False] == [azure.adf.alive, azure.event_grid.alive, azure.functions.alive]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_line(pipelines: Path, tmp_path: Path, number: signal.Signals) -> None:
    """`local up` prints one READY line with everything a client needs, and takes all services with it."""
    command = [sys.executable, "-m", "local", "up", "--app", str(APPS / "host"), "--pipelines", str(pipelines)]
    command += ["--state", str(tmp_path), "--airflow", "demo=http://127.0.0.1:9", "--airflow-auth", "demo=u:p"]
    environment = {**os.environ, "TICK": NEVER}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = json.loads(line.removeprefix("READY "))
        process.send_signal(number)
        assert "" == process.stdout.read()
        assert 0 == process.wait(timeout=20)
    assert {
        *("functions_url", "function_key", "event_grid_key", "topic_endpoint", "topic_key", "adf_url"),
        *("adf_token", "factory", "pipelines", "store", "state_dir"),
    } == set(ready)
    assert (["short"], str(tmp_path)) == (ready["pipelines"], ready["state_dir"])
    assert not any(map(listens, (ready["functions_url"], ready["topic_endpoint"], ready["adf_url"])))


def test_with_a_service_bus(pipelines: Path, tmp_path: Path) -> None:
    """With a Service Bus, run events come by its queue, and none is lost while app and broker are away."""
    with LocalAzure(
        pipelines=pipelines,
        state=tmp_path,
        airflow={"team_a": AirflowTarget(queue=COMPLETIONS_QUEUE)},
        settings={"QUEUE": EVENTS_QUEUE, "Named__fullyQualifiedNamespace": NOBODY, "SEEN": str(tmp_path / "seen")},
        app=APPS / "service_bus",
        event_grid=("--clock-factor", "0.01"),
        service_bus=(),
    ) as azure:
        assert azure.service_bus is not None
        azure.functions.kill()
        azure.service_bus.kill()
        start_run(azure)
        azure.service_bus.start()
        azure.functions.start()
        app = HostedApp(azure.functions)
        done = eventually(lambda: [one["done"] for one in app.seen() if "done" in one], within=timedelta(seconds=15))
        settings = azure._app_settings()
        azure.functions.kill()  # the SDK takes a second to close
    assert "AdfBridge.PipelineRun.Succeeded" == json.loads(done[0])["type"]
    expected = {
        "BRIDGE_SERVICEBUS": azure.ready["service_bus"],
        "BRIDGE_REQUESTS_QUEUE": REQUESTS_QUEUE,
        "BRIDGE_EVENTS_QUEUE": EVENTS_QUEUE,
        "BRIDGE_AIRFLOW__TEAM_A__QUEUE": COMPLETIONS_QUEUE,
    }
    assert expected == {name: settings.get(name) for name in expected}
    assert "BRIDGE_AIRFLOW__TEAM_A__URL" not in settings


@pytest.mark.parametrize(
    ("arguments", "targets", "service_bus"),
    [
        pytest.param([], {}, None, id="nothing"),
        pytest.param(["--service-bus"], {}, (), id="a Service Bus"),
        pytest.param(["--airflow-queue", "a=q"], {"a": AirflowTarget(queue="q")}, (), id="a queue"),
        pytest.param(
            ["--airflow", "a=http://x", "--airflow-auth", "a=u:p", "--airflow-queue", "a=q"],
            {"a": AirflowTarget("http://x", "u", "p", "q")},
            (),
            id="both",
        ),
    ],
)
def test_queues_of_the_command_line(
    arguments: list[str], targets: dict[str, AirflowTarget], service_bus: tuple[str, ...] | None
) -> None:
    """A target that has a queue has a Service Bus; without either there is none, and nothing takes longer."""
    azure = up.describe(arguments)
    assert (targets, service_bus) == (azure.airflow, azure._service_bus_options)
