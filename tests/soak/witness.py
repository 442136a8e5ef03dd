"""What happens at the fake Airflow's door: every answer that it took is noted, and a trap can be set there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from threading import Lock

from tests.fakes_http.airflow import FakeAirflow, Seen
from tests.fakes_http.airflow_task import PARKED
from tests.soak.plan import Moment
from tests.soak.tasks import SoakTask, Telling

Strike = Callable[[str], None]


class Witness:
    """Sees every request of the bridge before it takes effect, and again while its answer is withheld.

    `taken` and `refused` are, by token, the answers that Airflow took for a task and how many it refused.
    """

    def __init__(self, airflow: FakeAirflow, tasks: Iterable[SoakTask]) -> None:
        self.taken: dict[str, list[Telling]] = defaultdict(list)
        self.refused: Counter[str] = Counter()
        self._tasks = {task.instance.task_id: task for task in tasks}
        self._told_by_this_host: set[str] = set()
        self._trap: tuple[Moment, Strike] | None = None
        self._lock = Lock()
        airflow.on_arrival = self._see_arrival
        airflow.on_effect = self._see_effect

    def set_trap(self, moment: Moment, strike: Strike) -> None:
        """Have the next request that comes to this moment call `strike` with its task's token, once."""
        with self._lock:
            self._trap = (moment, strike)

    def take_trap_away(self) -> None:
        """Set no trap any more. One that is striking is waited for."""
        with self._lock:
            self._trap = None

    def forget_host(self) -> None:
        """Note that the host was killed: a read that comes now is no second look."""
        self._told_by_this_host.clear()

    def _see_arrival(self, seen: Seen) -> None:
        task = self._task_of(seen)
        if task is None:
            return
        if seen.method == "PATCH":
            self._come_to(Moment.PATCH_ARRIVED, task)
        elif task.token in self._told_by_this_host:
            self._told_by_this_host.discard(task.token)
            self._come_to(Moment.LOOK_AGAIN, task)
        elif task.instance.state == PARKED:
            self._come_to(Moment.FENCE, task)

    def _see_effect(self, seen: Seen, status: int) -> None:
        task = self._task_of(seen)
        if task is None or seen.method != "PATCH":
            return
        self._told_by_this_host.add(task.token)
        if status >= 300:
            self.refused[task.token] += 1
            return
        self.taken[task.token].append(Telling.read("resumed", seen.body["params_input"]))
        self._come_to(Moment.PATCH_TAKEN, task)
        task.answered.set()

    def _come_to(self, moment: Moment, task: SoakTask) -> None:
        with self._lock:
            if self._trap is None or self._trap[0] is not moment:
                return
            _, strike = self._trap
            self._trap = None
            strike(task.token)

    def _task_of(self, seen: Seen) -> SoakTask | None:
        """Return the task whose question is read or answered: …/taskInstances/TASK/INDEX/hitlDetails."""
        parts = seen.path.split("/")
        return self._tasks.get(parts[-3]) if len(parts) > 3 and parts[-1] == "hitlDetails" else None
