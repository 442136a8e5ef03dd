"""How the app is indexed by Microsoft's worker: triggers, routes, methods, levels, and what importing it costs."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.component.hosted_bridge import REPOSITORY, Bridge

_HTTP = {
    "trigger_run": ("POST", "runs"),
    "get_run": ("GET", "runs/{run_id}"),
    "cancel_run": ("POST", "runs/{run_id}/cancel"),
    "register_wait": ("POST", "waits"),
    "register_waits": ("POST", "waits/batch"),
    "list_waits": ("GET", "waits"),
    "get_wait": ("GET", "waits/{token}"),
    "delete_wait": ("DELETE", "waits/{token}"),
    "list_events": ("GET", "events"),
    "health": ("GET", "health"),
}

_IMPORT = "import json, sys; import function_app; from bridge import wiring, config\n"
_BUILD = """
wiring.build(config.load({
    "BRIDGE_FACTORIES": "demo=/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/f",
    "BRIDGE_STORE": "sqlite:///unused.sqlite3", "BRIDGE_AIRFLOW__DEMO__URL": "https://airflow.example",
    "BRIDGE_AIRFLOW__DEMO__USERNAME": "u", "BRIDGE_AIRFLOW__DEMO__PASSWORD": "p",
    "BRIDGE_AIRFLOW__DEMO__QUEUE": "q", "BRIDGE_SERVICEBUS__fullyQualifiedNamespace": "bus.servicebus.windows.net"}))
"""
_SDKS = "import azure.identity, azure.mgmt.datafactory, azure.servicebus, azure.eventgrid, azure.data.tables\n"
_TELL = "print(json.dumps(sorted(sys.modules)))"


def test_every_function_is_indexed(bridge: Bridge) -> None:
    """The worker finds each function with its trigger, and nothing else."""
    expected = {"run_event": "eventGridTrigger", "tick": "timerTrigger", **dict.fromkeys(_HTTP, "httpTrigger")}
    assert expected == {name: trigger["type"] for name, trigger in bridge.functions().items()}


@pytest.mark.parametrize("name", _HTTP)
def test_http_functions(bridge: Bridge, name: str) -> None:
    """Each call of the API has its one method and route, and needs a function key."""
    trigger = bridge.functions()[name]
    method, route = _HTTP[name]
    assert ([method], route, "FUNCTION") == (trigger["methods"], trigger["route"], trigger["authLevel"])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD"])
def test_other_methods(bridge: Bridge, method: str) -> None:
    """A method that no function takes is 404, as Azure has it."""
    assert 404 == bridge.call(method, "/runs").status_code


def test_timer(bridge: Bridge) -> None:
    """The timer runs every fifteen seconds, and keeps no state of its own."""
    trigger = bridge.functions()["tick"]
    assert ("*/15 * * * * *", False) == (trigger["schedule"], trigger["useMonitor"])


def run_python(code: str, *options: str, folder: Path = REPOSITORY) -> list[str]:
    """Run code in a fresh interpreter and return the modules that it has loaded in the end."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == done.returncode, done.stderr
    modules: list[str] = json.loads(done.stdout)
    return modules


@pytest.mark.parametrize("code", [_IMPORT, _IMPORT + _BUILD], ids=["import", "first-use"])
def test_import_is_light(code: str) -> None:
    """Importing the app loads no SDK of Data Factory, Service Bus or identity; nor does putting it together."""
    heavy = ("azure.mgmt", "azure.servicebus", "azure.identity", "azure.eventgrid", "msal", "cryptography")
    assert [] == [name for name in run_python(code + _TELL) if name.startswith(heavy)]


def test_importing_reads_no_settings(tmp_path: Path) -> None:
    """S41: the app can be imported, and so is indexed, whatever its settings are."""
    done = subprocess.run(
        [sys.executable, "-c", "import function_app; print(len(function_app.app.get_functions()))"],
        cwd=REPOSITORY,
        env={"BRIDGE_STORE": "nonsense", "BRIDGE_NO_SUCH_SETTING": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert str(len(_HTTP) + 2) == done.stdout.strip()


def test_requirements_are_enough(tmp_path: Path) -> None:
    """`requirements.txt` alone, in the locked versions, lets the app be imported, put together, and reach its SDKs."""
    site = tmp_path / "site"
    for requirement in _requirements():
        found = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version), f"{requirement}: {found.version} is installed"
        _link(found, site)
    script = f"import sys; sys.path[:0] = [{str(site)!r}, {str(REPOSITORY)!r}]\n"
    modules = run_python(script + _IMPORT + _BUILD + _SDKS + _TELL, "-I", "-S", folder=tmp_path)
    assert {"azure.functions", "bridge.adapters.airflow_rest", "azure.mgmt.datafactory", "requests"} <= set(modules)


def _requirements() -> list[Requirement]:
    """The lines of requirements.txt that count for this Python."""
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    texts = [re.split(r"(?:^|\s)#", line)[0].strip() for line in lines]
    found = [Requirement(text) for text in texts if text]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def _link(distribution: metadata.Distribution, site: Path) -> None:
    """Put a distribution's files, and nothing else, into a folder."""
    for file in distribution.files or ():
        if file.parts[0] != ".." and file.suffix != ".pyc":
            link = site.joinpath(*file.parts)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(file.locate())).resolve())
