"""How the provider looks to Airflow: its metadata, and DAGs that use it."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.serialization import serialized_objects
from conftest import TaskInstance

from airflow_adf_bridge.airflow_api import CAN_PARK, DUE
from airflow_adf_bridge.links import AdfBridgeRunLink
from airflow_adf_bridge.operators import AdfBridgeRunPipelineOperator
from airflow_adf_bridge.provider_info import get_provider_info
from airflow_adf_bridge.sensors import AdfBridgeRunSensor

try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models import DAG, DagBag

    BUNDLE: dict[str, Any] = {"include_examples": False}
else:
    BUNDLE = {"bundle_path": Path(__file__).parents[2] / "examples" / "dags", "bundle_name": "examples"}

DagSerialization = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)

EXAMPLES = Path(__file__).parents[2] / "examples" / "dags"
PARSED = [
    path
    for path in sorted(EXAMPLES.glob("*.py"))
    if CAN_PARK or "from airflow.sdk" not in path.read_text(encoding="utf-8")
]
"""The examples that are meant for this Airflow: before 3.3, those that wait in mode queue."""


LINK: Any = (
    [{"airflow_adf_bridge.links.AdfBridgeRunLink": {}}]
    if airflow.__version__.startswith("2.")
    else {"ADF pipeline run": "_link_AdfBridgeRunLink"}
)
"""How this Airflow stores the link."""


def serialized_tasks(dag: DAG) -> dict[str, dict[str, Any]]:
    """What Airflow stores of a DAG's tasks, by name."""
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    DagSerialization.from_dict(stored)
    return {task["__var"]["task_id"]: task["__var"] for task in stored["dag"]["tasks"]}


def test_the_provider_describes_itself_as_airflow_asks() -> None:
    """The provider's metadata obeys the schema that Airflow checks it against."""
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(get_provider_info(), schema)


def test_the_classes_in_the_metadata_exist() -> None:
    """Every class that the metadata names can be imported."""
    info = get_provider_info()
    names = [info["connection-types"][0]["hook-class-name"], *info["extra-links"]]
    found = [getattr(__import__(name.rpartition(".")[0], fromlist=["_"]), name.rpartition(".")[2]) for name in names]
    assert ["AdfBridgeHook", "AdfBridgeRunLink"] == [one.__name__ for one in found]


def test_a_task_survives_being_stored() -> None:
    """An operator in a DAG survives serialization, with its templates and its link."""
    with DAG("stored", schedule=None) as dag:
        AdfBridgeRunPipelineOperator(task_id="one", pipeline_name="p", parameters={"day": "{{ ds }}"})
    task = serialized_tasks(dag)["one"]
    assert ({"day": "{{ ds }}"}, LINK) == (
        task["parameters"],
        task["_operator_extra_links"],
    )


@pytest.mark.parametrize("since", [None, datetime(2026, 1, 1, tzinfo=timezone.utc)])
def test_a_sensor_survives_being_stored(since: datetime | None) -> None:
    """A sensor in a DAG survives serialization, with the time that it waits from and its link."""
    with DAG("stored", schedule=None) as dag:
        AdfBridgeRunSensor(task_id="one", pipeline_name="p", since=since, statuses=["Succeeded"])
    task = serialized_tasks(dag)["one"]
    assert (str(since or DUE), LINK) == (
        task["since"],
        task["_operator_extra_links"],
    )


def test_a_sensor_can_be_mapped_over_the_runs_of_another_task() -> None:
    """S17: a sensor takes run ids from other tasks, one or many, and depends on them."""
    with DAG("stored", schedule=None) as dag:
        start = AdfBridgeRunPipelineOperator.partial(task_id="start", wait_for_termination=False).expand(
            pipeline_name=["p", "q"]
        )
        single = AdfBridgeRunPipelineOperator(task_id="single", pipeline_name="p", wait_for_termination=False)
        AdfBridgeRunSensor.partial(task_id="many").expand(run_id=start.output.map(lambda run: run["run_id"]))
        AdfBridgeRunSensor(task_id="one", run_id=single.output["run_id"])
    tasks = serialized_tasks(dag)
    downstream = [tasks[name]["downstream_task_ids"] for name in ("start", "single")]
    assert (True, [["many"], ["one"]]) == (tasks["many"]["_is_mapped"], downstream)


def test_a_mapped_task_survives_being_stored() -> None:
    """S17: an operator can be mapped over its parameters."""
    with DAG("stored", schedule=None) as dag:
        AdfBridgeRunPipelineOperator.partial(task_id="many", pipeline_name="p").expand(parameters=[{"n": 1}, {"n": 2}])
    assert serialized_tasks(dag)["many"]["_is_mapped"]


@pytest.mark.parametrize("path", PARSED, ids=lambda path: path.stem)
def test_every_example_is_a_dag(path: Path) -> None:
    """Every example can be parsed and stored, and holds a task that waits."""
    waiting = {"AdfBridgeRunPipelineOperator", "AdfBridgeRunSensor"}
    bag = DagBag(dag_folder=path, **BUNDLE)
    types = {
        task.get("task_type", task.get("_task_type"))
        for dag in bag.dags.values()
        for task in serialized_tasks(dag).values()
    }
    assert ({}, True) == (bag.import_errors, bool(types & waiting))


def test_the_link_leads_to_the_run(ti: TaskInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link shows the run's page in the monitor, and nothing before there is a run."""
    values = iter([None, "https://adf.azure.com/r1"])
    monkeypatch.setattr("airflow_adf_bridge.links.XCom.get_value", lambda *, key, ti_key: next(values))
    link = AdfBridgeRunLink()
    assert ["", "https://adf.azure.com/r1"] == [link.get_link(None, ti_key=ti) for _ in range(2)]
