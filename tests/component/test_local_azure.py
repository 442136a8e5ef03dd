"""Azure on a laptop as a whole: the services find each other, survive a crash, and leave together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from local import up
from local.local_azure import AirflowTarget, LocalAzure
from local.process import ProcessFailedError
from tests.component.hosted_app import APPS, HostedApp

REPOSITORY = Path(__file__).resolve().parents[2]
NEVER = "0 0 0 1 1 *"
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
