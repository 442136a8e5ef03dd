"""A task of the soak: it does what the operator does, and notes what it was told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event
from typing import Any, Literal

from bridge.model import TaskRef
from local.local_azure import FACTORY_ALIAS
from tests.fakes_http.airflow import FakeAirflow
from tests.fakes_http.airflow_task import AirflowTask
from tests.soak.caller import Caller, GivenUpError, RefusedError
from tests.soak.plan import Pipeline, PlannedRun
from tests.soak.scene import Scene

_DEADLINE = timedelta(hours=2)


@dataclass(frozen=True)
class Telling:
    """What a task was told about its run, and how: in the answer to its request, or by being resumed."""

    how: Literal["answered", "resumed"]
    token: str
    status: str
    run_id: str

    @classmethod
    def read(cls, how: Literal["answered", "resumed"], completion: Mapping[str, Any]) -> Telling:
        """Read a `completion/v1`."""
        return cls(how, *(str(completion.get(name)) for name in ("token", "status", "run_id")))


@dataclass
class SoakTask:
    """One task instance with one try. What happens to it is noted here, by itself and by the fake Airflow."""

    planned: PlannedRun
    airflow: FakeAirflow
    stop: Event
    instance: AirflowTask = field(init=False)
    reference: dict[str, Any] = field(init=False)
    """How the operator names this try."""
    token: str = field(init=False)
    """The name of its wait, and the key of its request."""
    tellings: list[Telling] = field(default_factory=list)
    refusal: str | None = None
    attempts: int = 0
    answered: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        instance = self.airflow.task(dag_id="soak", run_id="run", task_id=f"task-{self.planned.number:05}")
        self.instance = instance
        self.reference = {
            "dag_id": instance.dag_id,
            "run_id": instance.run_id,
            "task_id": instance.task_id,
            "map_index": instance.map_index,
            "try_number": instance.try_number,
            "task_instance_id": instance.id,
            "nonce": uuid.uuid4().hex,
        }
        self.token = TaskRef(target=self.airflow.name, **self.reference).token

    def run(self, scene: Scene) -> None:
        """Live from the start to the end, or to the end of the soak."""
        chance = Random(self.planned.number)  # noqa: S311 - jitter
        url = f"http://127.0.0.1:{scene.azure.functions.port}/api"
        caller = Caller(url, scene.azure.function_key, self.stop, chance)
        try:
            self._live(caller, scene)
        except RefusedError as refused:
            self.refusal = refused.code
            self._end("failed")
        except GivenUpError:
            pass
        finally:
            self.attempts = caller.attempts
            caller.close()

    def _live(self, caller: Caller, scene: Scene) -> None:
        answer = caller.start_run(self._request(), key=self.token)
        if completed := answer["completed"]:
            self._take(Telling.read("answered", completed))
            return
        self.stop.wait(self.planned.parks_after.total_seconds())
        self._park()
        if self.planned.pipeline is Pipeline.HELD:
            self.stop.wait(self.planned.lasts.total_seconds())
            scene.adf.post(f"runs/{scene.own_run(answer['run']['run_id'])}/finish", {"status": "Cancelled"})
        while self._resumed():
            told = Telling.read("resumed", self._answer())
            if told.token == self.token:
                self._take(told)
                return
            self.tellings.append(told)  # somebody else's: the verdict will say so; the operator asks, and parks again
            if completed := caller.get_wait(self.token)["completed"]:
                self._take(Telling.read("answered", completed))
                return
            self._park()

    def _request(self) -> dict[str, Any]:
        return {
            "factory": FACTORY_ALIAS,
            "pipeline": self.planned.pipeline,
            "parameters": {"token": self.token, "seconds": self.planned.lasts.total_seconds()},
            "wait": {
                "target": self.airflow.name,
                "mode": "resume",
                "task": self.reference,
                "deadline": (datetime.now(UTC) + _DEADLINE).isoformat(),
                "on_abandon": "leave",
            },
        }

    def _park(self) -> None:
        with self.airflow.lock:
            self.answered.clear()
            self.instance.park()

    def _resumed(self) -> bool:
        """Wait for an answer; False when the soak ended before."""
        while not self.stop.is_set():
            if self.answered.wait(timeout=1):
                return True
        return False

    def _answer(self) -> Mapping[str, Any]:
        with self.airflow.lock:
            assert self.instance.question is not None
            return dict(self.instance.question.params_input)

    def _take(self, told: Telling) -> None:
        self.tellings.append(told)
        self._end("success" if told.status == "Succeeded" else "failed")

    def _end(self, state: str) -> None:
        with self.airflow.lock:
            self.instance.end(state)
