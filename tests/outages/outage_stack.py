"""What the outages happen to: an Airflow with two triggerers, the bridge in its host, and Service Bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

from local.airflow import Airflow
from local.local_azure import COMPLETIONS_QUEUE
from local.process import LocalProcess
from tests.e2e.dag_run import DagRun
from tests.e2e.queue_mode import queue_stack
from tests.e2e.queue_mode.queue_stack import QueueStack
from tests.e2e.stack import ROOT
from tests.outages import triggerer
from tests.outages.crowd import Crowd
from tests.outages.triggerer import TriggeredAirflow, Triggerer

PATIENCE = timedelta(minutes=3)
Found = TypeVar("Found")


class OutageStack(QueueStack):
    """Everything, with crowds of so many tasks each. `triggerers` are those that live, the oldest first."""

    dag_ids: Sequence[str] = ("crowd",)

    def __init__(self, folder: Path, size: int) -> None:
        """Describe it; nothing is started."""
        self.size = size
        self.triggerers: list[Triggerer] = []
        self._triggerers_started = 1
        self._broker_args: tuple[str, ...] = ()
        super().__init__(folder, "3.3")

    def __enter__(self) -> Self:
        """Start everything, and know Airflow's own triggerer."""
        super().__enter__()
        try:
            self._broker_args = self.broker.args
            self.until(lambda: self.triggered.triggerers_alive() == 1, "the first triggerer")
            self.triggerers.append(self.triggered.first_triggerer())
        except BaseException:
            self._stop()
            raise
        return self

    def _airflow(self) -> Airflow:
        home, dags = self.folder / "airflow", Path(queue_stack.__file__).parent / "dags"
        return TriggeredAirflow(ROOT / ".venv-airflow-3.3", home, dags, settings=self._airflow_settings())

    def _airflow_settings(self) -> dict[str, str]:
        return {**super()._airflow_settings(), **triggerer.SETTINGS, "E2E_CROWD": str(self.size)}

    def _stop(self) -> None:
        for one in self.triggerers:
            one.kill()
        super()._stop()

    def until(self, probe: Callable[[], Found], what: str, *, every: timedelta = timedelta(seconds=0.5)) -> Found:
        """Ask until the answer is true, and return it. Raises TimeoutError."""
        return self.airflow.wait_for(probe, PATIENCE, every=every, what=what)

    # ---- triggerers

    @property
    def triggered(self) -> TriggeredAirflow:
        """Airflow, with its triggerers."""
        assert isinstance(self.airflow, TriggeredAirflow)
        return self.airflow

    def have_triggerers(self, count: int) -> None:
        """Start as many as are missing, and wait for them."""
        while len(self.triggerers) < count:
            self.start_triggerer()
        self.until(lambda: self.triggered.triggerers_alive() == count, f"{count} triggerers")

    def start_triggerer(self) -> Triggerer:
        """Start one more."""
        self._triggerers_started += 1
        started = self.triggered.start_triggerer(str(self._triggerers_started))
        self.triggerers.append(started)
        return started

    def kill_triggerer(self, victim: Triggerer) -> None:
        """End one at once."""
        self.triggerers.remove(victim)
        victim.kill()

    # ---- tasks that wait

    def crowds(self, count: int) -> list[Crowd]:
        """Have so many crowds wait, each task of them known to the bridge by a triggerer's listener."""
        crowds = [Crowd(DagRun(self, "crowd", self.airflow.trigger_dag("crowd")), self.size) for _ in range(count)]
        for crowd in crowds:
            self.until(lambda crowd=crowd: len(crowd.dag_run.tasks()) == self.size, "the tasks to be there")  # type: ignore[misc]
            self.until(crowd.dag_run.has_settled, "the tasks to wait")
            self.until(lambda crowd=crowd: len(self.listeners(crowd)) == self.size, "the tasks to be listened for")  # type: ignore[misc]
        return crowds

    def listeners(self, crowd: Crowd) -> dict[str, int]:
        """By token, the process that has said last that it listens."""
        heard = {}
        for wait in self.full(crowd.dag_run):
            said = [line["detail"] for line in wait["timeline"] if line["what"] == "listening"]
            if said:
                reply_to = said[-1].split()[0]  # host-process-chance
                heard[wait["token"]] = int(reply_to.rsplit("-", 2)[1])
        return heard

    def until_over(self, crowd: Crowd) -> Sequence[int]:
        """Wait for the tasks to end; return those, by map index, that have not when time is up."""
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while (left := crowd.left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return left

    # ---- Service Bus

    @property
    def broker(self) -> LocalProcess:
        """The local Service Bus."""
        assert self.azure.service_bus is not None
        return self.azure.service_bus

    def start_broker(self, *more: str) -> None:
        """Start it again, as it was at first but for further arguments."""
        self.broker.args = (*self._broker_args, *more)
        self.broker.start(PATIENCE)

    def sessions_held(self) -> Sequence[str]:
        """The sessions of the completions queue that somebody receives from."""
        [queue] = [one for one in self._service_bus("queues")["queues"] if one["name"] == COMPLETIONS_QUEUE]
        return list(queue["sessions_held"])
