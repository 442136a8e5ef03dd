"""What can happen in the bridge's world, as rules that Hypothesis puts into any order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.model import FactoryId, PreviousTry, RunStatus
from tests.simulate.airflow import IN_THE_END
from tests.simulate.asking import Asked
from tests.simulate.faults import FAULTS, POINTS
from tests.simulate.tasks import Task
from tests.simulate.true_run import KEYED, PIPELINE
from tests.simulate.world import RULES
from tests.stateful.scripted import ScriptedWorld

T = TypeVar("T")

# The same stories every time.
SETTINGS: Final = settings(
    max_examples=150,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

MOST_TASKS: Final = 6
MOST_RUNS: Final = 8
# What rules of their own do, and what follows from others.
_NOT_ARMED: Final = frozenset(
    {
        "S15: cleared between fence and PATCH",
        "adf lost many createRuns",
        "airflow 409",
        "airflow outage",
        "crash after an effect",
        "crash inside the store",
        "event dead-lettered",
        "event delayed, reordered",
        "event delivered again",
        "event doubled",
        "event dropped",
        "event forged",
        "index row of a request lost",
        "index row of a wait lost",
        "person: answered",
        "person: cleared",
        "person: deleted the DAG run and made it again",
        "person: marked",
        "person: removed the task",
        "retried",
        "store conflict",
        "withdrawn",
    }
)
ARMED: Final = tuple(fault for fault in FAULTS if fault not in _NOT_ARMED)
TARGETS: Final = tuple(sorted(RULES.targets))
FACTORIES: Final = tuple(RULES.factories[name] for name in sorted(RULES.factories))

any_one = st.integers(0, 7)


def pick(things: Sequence[T], number: int) -> T:
    """Return one of some things."""
    return things[number % len(things)]


class BridgeMachine(RuleBasedStateMachine):
    """Three instances of the bridge. The world itself raises Violation; in the end, nothing may be lost."""

    world: ScriptedWorld

    @initialize(seed=any_one)
    def begin(self, seed: int) -> None:
        """Have a world; the seed is for small delays only."""
        self.world = ScriptedWorld(seed)

    def _parked(self) -> Sequence[Task]:
        return [task for task in self.world.tasks if task.is_parked]

    # --- time ---

    @rule(seconds=st.sampled_from((0.2, 1.0, 5.0)))
    def a_moment_passes(self, seconds: float) -> None:
        """Let a little time pass."""
        self.world.timeline.advance(seconds)

    @rule(seconds=st.sampled_from((15.0, 70.0, 400.0)))
    def a_while_passes(self, seconds: float) -> None:
        """Let much time pass."""
        self.world.timeline.advance(seconds)

    # --- ADF and Event Grid ---

    @precondition(lambda self: len(self.world.factory.runs) < MOST_RUNS)
    @rule(factory=st.sampled_from(FACTORIES))
    def a_run_begins(self, factory: FactoryId) -> None:
        """Have a run that no task has started."""
        self.world.factory.begin(factory)

    @precondition(lambda self: self.world.factory.going_on())
    @rule(number=any_one, status=st.sampled_from((RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)))
    def a_run_ends(self, number: int, status: RunStatus) -> None:
        """Have a run end; its event is published."""
        run = pick(self.world.factory.going_on(), number)
        self.world.factory.end(run, status)
        self.world.post.publish(run.key, status)

    @precondition(lambda self: self.world.post.letters)
    @rule(number=any_one)
    def an_event_arrives(self, number: int) -> None:
        """Deliver an event: any, so that they are reordered and delayed."""
        letter = pick(self.world.post.letters, number)
        self.world.post.letters.remove(letter)
        self.world.post.deliver(letter)

    @precondition(lambda self: self.world.post.letters)
    @rule(number=any_one)
    def an_event_is_doubled(self, number: int) -> None:
        """Deliver an event and keep it: it comes once more."""
        self.world.post.deliver(pick(self.world.post.letters, number))

    @precondition(lambda self: self.world.post.letters)
    @rule(number=any_one)
    def an_event_is_dropped(self, number: int) -> None:
        """Lose an event."""
        self.world.post.letters.remove(pick(self.world.post.letters, number))

    @precondition(lambda self: self.world.factory.runs)
    @rule(number=any_one)
    def an_event_is_forged(self, number: int) -> None:
        """Deliver what nobody has published."""
        self.world.post.forge(pick(list(self.world.factory.runs), number))

    # --- tasks, and the people who meddle with them ---

    @precondition(lambda self: len(self.world.tasks) < MOST_TASKS)
    @rule(
        airflow=st.sampled_from(TARGETS),
        factory=st.sampled_from(FACTORIES),
        pipeline=st.sampled_from((PIPELINE, PIPELINE, KEYED)),
        on_retry=st.sampled_from(PreviousTry),
        on_clear=st.sampled_from(PreviousTry),
        number=any_one,
    )
    def a_task_starts(  # noqa: PLR0917 - what an author decides
        self,
        airflow: str,
        factory: FactoryId,
        pipeline: str,
        on_retry: PreviousTry,
        on_clear: PreviousTry,
        number: int,
    ) -> None:
        """Have a task start a run; several ask for the same."""
        asked = Asked(factory, pipeline, day=1 + number // 4, on_retry=on_retry, on_clear=on_clear)
        self.world.new_task(airflow, asked).execute()

    @precondition(lambda self: len(self.world.tasks) < MOST_TASKS)
    @rule(airflow=st.sampled_from(TARGETS), factory=st.sampled_from(FACTORIES))
    def a_task_waits(self, airflow: str, factory: FactoryId) -> None:
        """Have a task wait for a run that is there."""
        self.world.new_task(airflow, Asked(factory), existing=True).execute()

    @precondition(lambda self: self._parked())
    @rule(number=any_one, seconds=st.sampled_from((1.0, 30.0)))
    def a_dag_run_is_made_again(self, number: int, seconds: float) -> None:
        """Have a person delete a DAG run and make it again under the same names."""
        pick(self._parked(), number).remake(seconds)

    @precondition(lambda self: self._parked())
    @rule(number=any_one, seconds=st.sampled_from((0.0, 0.1, 3.0, 20.0)))
    def a_task_is_cleared(self, number: int, seconds: float) -> None:
        """Have a person clear a task that waits."""
        pick(self._parked(), number).clear(seconds)

    @precondition(lambda self: self._parked())
    @rule(number=any_one, state=st.sampled_from(IN_THE_END))
    def a_task_is_marked(self, number: int, state: str) -> None:
        """Have a person end a task that waits."""
        pick(self._parked(), number).mark(state)

    @precondition(lambda self: self._parked())
    @rule(number=any_one)
    def a_task_is_answered(self, number: int) -> None:
        """Have a person answer in Required Actions."""
        pick(self._parked(), number).answer()

    @precondition(lambda self: self._parked())
    @rule(number=any_one)
    def a_task_is_removed(self, number: int) -> None:
        """Have a task instance deleted."""
        pick(self._parked(), number).remove()

    @precondition(lambda self: self._parked())
    @rule(number=any_one)
    def a_wait_is_withdrawn(self, number: int) -> None:
        """Have a task killed, so that its operator withdraws the wait."""
        pick(self._parked(), number).withdraw()

    # --- trouble ---

    @rule(airflow=st.sampled_from(TARGETS), seconds=st.sampled_from((0.0, 30.0, 400.0)))
    def a_target_goes_down(self, airflow: str, seconds: float) -> None:
        """Have a target be down for a while; 0 brings it back."""
        self.world.airflow.go_down(airflow, seconds)

    @rule(fault=st.sampled_from(ARMED), times=st.sampled_from((1, 1, 3)))
    def trouble_is_ahead(self, fault: str, times: int) -> None:
        """Have a fault happen at the next occasions that it has: calls of the store, of ADF, of Airflow, and so on."""
        self.world.script.armed[fault] += times

    @rule(number=any_one)
    def an_index_row_is_lost(self, number: int) -> None:
        """Lose a way to a wait, or to a request."""
        self.world.table.lose_an_index_row(number)

    @rule(number=any_one, point=st.sampled_from(POINTS))
    def an_instance_is_doomed(self, number: int, point: str) -> None:
        """Have an instance die at its next effect at a point."""
        pick(self.world.actors, number).doom = point

    @rule(number=any_one)
    def an_instance_dies(self, number: int) -> None:
        """Have an instance die now."""
        pick(self.world.actors, number).die()

    @precondition(lambda self: not all(one.up for one in self.world.actors))
    @rule()
    def the_instances_come_back(self) -> None:
        """Start those that died."""
        for one in self.world.actors:
            one.come_back()

    # --- the promises ---

    @invariant()
    def nothing_is_made_up(self) -> None:
        """Whatever is delivered was told to its task."""
        self.world.check_told()

    def teardown(self) -> None:
        """Let it all end well: then nothing is lost."""
        if sys.exc_info()[1] is not None or not hasattr(self, "world"):
            return  # a promise is broken already
        self.the_instances_come_back()
        for run in self.world.factory.going_on():
            self.world.factory.end(run, RunStatus.SUCCEEDED)
        self.world.come_to_rest()
