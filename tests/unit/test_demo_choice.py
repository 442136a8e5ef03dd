"""What the demo may be shown with."""

import ast
from pathlib import Path

import pytest

from local.airflow import Airflow2
from local.demo.choice import Choice
from local.local_azure import AirflowTarget

READY = {"functions_url": "http://127.0.0.1:1", "function_key": "k", "service_bus": "Endpoint=sb://127.0.0.1:2;"}


def test_without_a_choice(tmp_path: Path) -> None:
    """The demo is Airflow 3.3 and its REST API, and nothing of Service Bus is started."""
    choice = Choice.of([])
    airflow = choice.airflow(tmp_path)
    azure = choice.azure(tmp_path, airflow)
    target = AirflowTarget(airflow.url, "bridge", airflow.passwords["bridge"])
    assert (".venv-airflow-3.3", {"demo": target}, None) == (
        airflow.venv.name,
        azure.airflow,
        azure._service_bus_options,
    )
    assert {"target": "demo", "factory": "demo"} == choice.connection(READY)["extra"]


def test_mode_queue(tmp_path: Path) -> None:
    """In mode queue the bridge knows no address of Airflow, and Airflow's connection has the queue."""
    choice = Choice.of(["--mode", "queue", "--airflow", "3.3.2"])
    azure = choice.azure(tmp_path, choice.airflow(tmp_path))
    assert ({"demo": AirflowTarget(queue="completions")}, ()) == (azure.airflow, azure._service_bus_options)
    assert {
        "target": "demo",
        "factory": "demo",
        "mode": "queue",
        "servicebus_connection_string": READY["service_bus"],
        "completions_queue": "completions",
    } == choice.connection(READY)["extra"]


def test_airflow_2(tmp_path: Path) -> None:
    """Airflow 2 has the same DAGs, and what has another name there has that name."""
    airflow = Choice.of(["--mode", "queue", "--airflow", "2.11"]).airflow(tmp_path)
    texts = {path.name: path.read_text(encoding="utf-8") for path in airflow.dags.glob("*.py")}
    assert isinstance(airflow, Airflow2)
    assert ".venv-airflow-2.11" == airflow.venv.name
    assert {"nightly_loads.py", "regions.py", "failing_load.py", "retried_load.py"} <= set(texts)
    for name, text in texts.items():
        ast.parse(text, name)
        assert "airflow.sdk import" not in text
        assert "run_after" not in text


def test_airflow_2_has_no_other_mode(capsys: pytest.CaptureFixture[str]) -> None:
    """Airflow 2 without mode queue is refused with what to write instead."""
    with pytest.raises(SystemExit):
        Choice.of(["--airflow", "2.11"])
    assert "make demo MODE=queue AIRFLOW=2.11" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["2.10", "3", "newest"])
def test_another_airflow(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that is not set up is refused with those that are."""
    with pytest.raises(SystemExit):
        Choice.of(["--mode", "queue", "--airflow", version])
    assert f"{version!r} is neither 3.3 nor 2.11" in capsys.readouterr().err
