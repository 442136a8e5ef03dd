"""Stories of a bridge whose process may die anywhere in them, and how the world goes on after that.

Every use case of `bridge.service` has a story for each way to each of its effects; `tests.fakes.ways` knows which there
are, so a new effect demands a story. To add one, add it to `STORIES`; nothing else has to be told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Final
from unittest.mock import patch

from bridge import policy, service
from bridge.adapters.table_index import HINT_WRITTEN
from bridge.commands import Point
from bridge.decide import ENDED
from bridge.model import (
    Continuation,
    Match,
    NewTry,
    OnAbandon,
    PreviousTry,
    Recovery,
    Run,
    RunKey,
    RunStatus,
    StartRequest,
    StartState,
    TaskRef,
    WaitRequest,
    WaitState,
    match_key,
)
from bridge.ports import Refusal, RefusalKind, WaitFilter
from tests.fakes.adf import Lost
from tests.fakes.airflow import place_of
from tests.fakes.bench import OpenStore, Place
from tests.fakes.samples import (
    DEADLINE,
    FACTORY,
    KEY,
    MINUTE,
    SECOND,
    STRANGE_ARM_ID,
    TASK,
    a_request,
    a_task,
    a_trigger,
    a_wait,
    cloud_event,
)
from tests.fakes.stage import FACTORY_PAUSE, HOUR, TARGET_PAUSE, Stage

EARLIER_TRY: Final = a_task(try_number=0, task_instance_id="ti-0", nonce="nonce-0")
LATER_TRY: Final = a_task(try_number=2, task_instance_id="ti-9", nonce="nonce-9")
FIRST: Final = RunKey(FACTORY, "run-1")
WRAPPERS: Final = RunKey(FACTORY, "wrappers-run")
OTHER_TASK: Final = a_task(map_index=1, task_instance_id="ti-2")
UNAVAILABLE: Final = Refusal(RefusalKind.UNAVAILABLE, "answered 502")
THROTTLED: Final = Refusal(RefusalKind.THROTTLED, "answered 429", 30 * SECOND)
INVALID: Final = Refusal(RefusalKind.INVALID, "answered 400")


# --- what is told -----------------------------------------------------------------------------------------------------


Happening = Callable[[Stage], object]


class Again(Enum):
    """Who does a thing once more when no answer came."""

    TIMER = auto()  # the bridge itself
    EVENT_GRID = auto()
    CALLER = auto()


@dataclass(frozen=True)
class Ending:
    """How a story ends: what parked tasks were told, the wait, how many runs were started and cancelled.

    `heard` is the caller's last answer. Nothing may be left to do at the end.
    """

    told: tuple[str, ...] = ()
    wait: WaitState | None = None
    runs: int = 0
    cancelled: int = 0
    heard: str = ""


@dataclass(frozen=True)
class Story:
    """What was before, what happens, and how it ends, also when a process dies in it.

    `after` holds the endings that are others because the process died right after that effect; `or_else` is one that
    is as good, wherever it died.
    """

    name: str
    given: Happening
    happens: Happening
    ending: Ending
    again: Again = Again.TIMER
    later: Happening = Stage.all_ends
    after: Mapping[Point, Ending] = field(default_factory=dict)
    or_else: Ending | None = None
    leaks_nothing: bool = False  # a run for which nobody asks again is cancelled in the end

    @property
    def worlds(self) -> tuple[bool, ...]:
        """Whether somebody else tries again when the process has died: what there is to be tried."""
        return (False,) if self.again is Again.TIMER else (True, False)


@dataclass(frozen=True)
class Death:
    """The process dies at the nth place in what happens; then somebody else tries again, or nobody does."""

    nth: int
    tried_again: bool = False


def deaths(story: Story, places: int) -> list[Death]:
    """Return all the ways to die in a story."""
    return [Death(nth, tried_again) for nth in range(places) for tried_again in story.worlds]


def play(story: Story, stores: OpenStore | None = None, death: Death | None = None) -> Stage:
    """Play a story to its end."""
    stage = Stage(stores)
    story.given(stage)
    before = len(stage.places)
    if death is None:
        story.happens(stage)
        stage.passed = stage.places[before:]
    else:
        stage.crash_at(death.nth)
        lived = stage.surviving(lambda: story.happens(stage))
        assert not lived, f"there is no place {death.nth} in {story.name}"
        stage.passed = stage.places[before:]
        stage.clock.advance(10 * SECOND)
        if death.tried_again:
            story.happens(stage)
        elif story.again is Again.CALLER:
            stage.gives_up()
    story.later(stage)
    stage.rest()
    return stage


def misfits(story: Story, stage: Stage, death: Death | None = None) -> list[str]:
    """Return what is not as it should be at the end of a story."""
    found = [f"left over: {what}" for what in leftovers(stage)]
    stage.receives()
    resumed = [one.status.value for each in stage.airflow.told.values() for one in each]
    told = [*resumed, *stage.listened.values()]
    wait = stage.store.inner.find_wait(TASK.token)
    runs = sum(key.run_id.startswith("run-") for key in stage.adf.runs)
    cancelled = sum(run.status is RunStatus.CANCELLED for run in stage.adf.runs.values())
    ending = Ending(tuple(told), wait.state if wait is not None else None, runs, cancelled, stage.heard)
    if not _is_right(story, ending, stage.passed[-1], death):
        found.append(f"{ending}, and not {story.ending}")
    return found


def _is_right(story: Story, ending: Ending, last: Place, death: Death | None) -> bool:
    if death is None:
        return ending == story.ending
    if story.again is Again.CALLER and not death.tried_again:
        # Nobody knows what became of the request, and nobody waits. All that counts is that there is an end.
        is_stopped = not story.leaks_nothing or ending.cancelled == ending.runs
        return not ending.told and ending.runs <= max(1, story.ending.runs) and is_stopped
    if last.point is not None and last.point in story.after and last.within != HINT_WRITTEN:
        return ending == story.after[last.point]
    return ending in (story.ending, story.or_else)


def leftovers(stage: Stage) -> Iterator[str]:
    """Say what is still to be done, or was done badly, though all is over."""
    store = stage.store.inner
    far = stage.clock.now() + timedelta(days=400)
    for key in stage.adf.runs:
        store.find_runs(key.run_id)
    yield from (f"unfinished: {one}" for one in store.unfinished_requests(before=far, limit=9))
    yield from (f"due: {one}" for one in store.due(TASK.target, before=far, limit=9))
    yield from (f"open: {one}" for one in store.open_waits(FACTORY, limit=9))
    waits, _ = store.waits(WaitFilter(), limit=9, cursor=None)
    yield from (f"a wait: {one}" for one in waits if not one.state.is_final or one.due_at or one.cancels)
    yield from (f"resumed before it had parked: {one}" for one in stage.airflow.too_early)
    if repaired := stage.store.repaired + store.repair():
        yield f"{repaired} rows had to be repaired"


# --- the stories ------------------------------------------------------------------------------------------------------

DELIVERED: Final = WaitState.DELIVERED


def told(outcome: str, **more: Any) -> Ending:
    """The task is told once, and the wait is delivered."""
    return Ending((outcome,), DELIVERED, **more)


# --- an event arrives


def has_failed(stage: Stage) -> None:
    """A task has waited for long for a run that has just failed."""
    stage.has_waited()
    stage.run_fails()


def two_wait(stage: Stage) -> None:
    """Two tasks have waited for long for a run that has just failed."""
    has_failed(stage)
    stage.airflow.run(OTHER_TASK)
    stage.store.inner.put(None, [a_wait(OTHER_TASK, due_at=DEADLINE)])
    stage.airflow.park(OTHER_TASK)
    stage.clock.advance(MINUTE)
    stage.was_swept()


def has_failed_early(stage: Stage) -> None:
    """The run has failed before its task has parked."""
    stage.adf.begin(KEY)
    stage.airflow.run(TASK)
    stage.register()
    stage.was_swept()
    stage.run_fails()
    stage.clock.advance(2 * SECOND)
    stage.clock.after(2.5 * SECOND, lambda: stage.airflow.park(TASK))


def has_failed_unasked(stage: Stage) -> None:
    """ADF asks to wait before it says that the run has failed."""
    has_failed(stage)
    stage.adf.read_script.append(THROTTLED)


def has_failed_factory_paused(stage: Stage) -> None:
    """The factory is paused, and its probe has come."""
    has_failed(stage)
    stage.is_paused(FACTORY_PAUSE)


def has_failed_target_paused(stage: Stage) -> None:
    """The target is paused, and its probe has come."""
    has_failed(stage)
    stage.is_paused(TARGET_PAUSE)


def has_failed_in_trouble(stage: Stage) -> None:
    """Airflow is in trouble: it fails three times, and then loses its answer."""
    has_failed(stage)
    stage.airflow.read_script += [UNAVAILABLE] * 3
    stage.airflow.patch_script.append(Lost(UNAVAILABLE))


def an_event_arrives(stage: Stage) -> None:
    """Event Grid delivers the event."""
    stage.event("Failed")


def ended_unheard_of(stage: Stage) -> None:
    """A run has ended that nobody waits for yet."""
    stage.adf.begin(KEY)
    stage.run_fails()


def events_arrive(stage: Stage) -> None:
    """Event Grid delivers several at once: one that is none, one of a factory that is not allowed, and a good one."""
    strange = cloud_event(KEY, "Failed", source=STRANGE_ARM_ID)
    stage.app.receive(json.dumps([{"specversion": "1.0"}, strange, cloud_event(KEY, "Failed")]))


# --- runs that a wrapper runs, and runs that somebody else starts

CHILD: Final = RunKey(FACTORY, "child")
OTHERS: Final = RunKey(FACTORY, "others")


def waits_for_a_wrapper(stage: Stage) -> None:
    """A task has waited for long for a wrapper, whose child has just failed."""
    stage.adf.begin(KEY, pipeline=policy.wrapper_of("copy_orders"))
    stage.adf.begin_child(CHILD, KEY)
    stage.airflow.run(TASK)
    stage.register()
    stage.airflow.park(TASK)
    stage.clock.advance(HOUR)
    stage.was_swept()
    stage.adf.end(CHILD, RunStatus.FAILED)


def a_notice_arrives(stage: Stage) -> None:
    """Event Grid delivers what the wrapper says of its child."""
    data = {"runId": CHILD.run_id, "parentRunId": KEY.run_id, "pipelineName": "copy_orders", "status": "Failed"}
    stage.app.receive(json.dumps(cloud_event(CHILD, "Failed", data=data)))


def child_unswept(stage: Stage) -> None:
    """Nobody has told so, the wrapper goes on, and a sweep is due."""
    waits_for_a_wrapper(stage)
    stage.clock.advance(MINUTE)


def wrapper_unswept(stage: Stage) -> None:
    """No sweep has shown the child's end; the wrapper has ended as well, nobody has told so, and a sweep is due."""
    waits_for_a_wrapper(stage)
    stage.clock.advance(HOUR)
    stage.was_swept()
    stage.adf.end(KEY, RunStatus.FAILED)
    stage.clock.advance(MINUTE)


def wrapper_unswept_and_paused(stage: Stage) -> None:
    """The factory is paused when the child is to be read, and its probe has come."""
    wrapper_unswept(stage)
    stage.is_paused_at(FACTORY_PAUSE, nth=2)


def waits_by_match(stage: Stage) -> None:
    """A task has waited for long for a run that somebody else starts."""
    match = Match("copy_orders", stage.clock.now(), (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED))
    stage.airflow.run(TASK)
    stage.register(TASK, match_key(FACTORY, "copy_orders", TASK.token), match=match)
    stage.airflow.park(TASK)
    stage.clock.advance(HOUR)
    stage.was_swept()


def others_failed(stage: Stage) -> None:
    """That run has begun and failed."""
    waits_by_match(stage)
    stage.adf.begin(OTHERS)
    stage.adf.end(OTHERS, RunStatus.FAILED)


def others_failed_factory_paused(stage: Stage) -> None:
    """The factory is paused, and its probe has come."""
    others_failed(stage)
    stage.is_paused(FACTORY_PAUSE)


def others_found(stage: Stage) -> None:
    """That run has begun, was found, and has failed since."""
    waits_by_match(stage)
    stage.adf.begin(OTHERS)
    stage.app.run(service.check_run(stage.wait().key, stage.app.rules))
    stage.clock.advance(MINUTE)
    stage.was_swept()
    stage.adf.end(OTHERS, RunStatus.FAILED)


def others_found_factory_paused(stage: Stage) -> None:
    """The factory is paused, and its probe has come."""
    others_found(stage)
    stage.is_paused(FACTORY_PAUSE)


def others_unswept(stage: Stage) -> None:
    """That run has failed, nobody has told so, and a sweep is due."""
    others_failed(stage)
    stage.clock.advance(MINUTE)


def others_unswept_and_paused(stage: Stage) -> None:
    """The factory is paused when the run is to be searched for, and its probe has come."""
    others_unswept(stage)
    stage.is_paused_at(FACTORY_PAUSE, nth=2)


def others_found_and_unswept(stage: Stage) -> None:
    """That run has begun, was found, and has failed since; nobody has told so, and a sweep is due."""
    others_found(stage)
    stage.clock.advance(MINUTE)


def others_event_arrives(stage: Stage) -> None:
    """Event Grid delivers the event of that run."""
    stage.event("Failed", OTHERS)


# --- the timer fires


def at_its_deadline(stage: Stage) -> None:
    """A task waits for a run that never ends."""
    stage.has_waited(until=DEADLINE)


def long_after_its_deadline(stage: Stage) -> None:
    """What the task is to be told could not be delivered: Airflow was out of reach ever since."""
    has_failed(stage)
    stage.airflow.down[TASK.target] = UNAVAILABLE
    stage.event("Failed")
    stage.clock.sleep_until(DEADLINE + policy.DELIVERY_GRACE)


def due_with_the_target_paused(stage: Stage) -> None:
    """A completion is due, the target is paused, and its probe has come."""
    has_failed(stage)
    stage.is_paused(TARGET_PAUSE, pause=MINUTE)
    stage.event("Failed")
    stage.clock.advance(MINUTE)
    stage.was_swept()


def parked_though_it_was_answered(stage: Stage) -> None:
    """A run had ended when its wait was registered, and the answer was lost: the task has parked."""
    stage.adf.begin(KEY)
    stage.run_fails()
    stage.airflow.run(TASK)
    stage.register()
    stage.airflow.park(TASK)
    stage.clock.advance(policy.INLINE_PROOF)


def parked_though_it_was_answered_target_paused(stage: Stage) -> None:
    """The same, and the target is paused meanwhile; its probe has come."""
    parked_though_it_was_answered(stage)
    stage.is_paused(TARGET_PAUSE)


def unswept(stage: Stage) -> None:
    """The factory was swept when the task registered, and it is time to sweep it again."""
    stage.waits()
    stage.clock.advance(30 * SECOND)
    stage.was_swept(ago=MINUTE)
    stage.run_fails()


def unswept_and_throttled(stage: Stage) -> None:
    """ADF asks to wait when it is swept."""
    unswept(stage)
    stage.adf.query_script.append(THROTTLED)


def unswept_and_paused(stage: Stage) -> None:
    """It is time to sweep a factory that is paused, and its probe has come."""
    unswept(stage)
    stage.is_paused(FACTORY_PAUSE)


def never_swept_and_paused(stage: Stage) -> None:
    """A factory was not swept for hours, and is paused; its probe has come."""
    stage.waits()
    stage.clock.advance(3 * HOUR)
    stage.run_fails()
    stage.is_paused(FACTORY_PAUSE)


def busy(stage: Stage) -> None:
    """More runs of the factory have changed than a sweep reads; when it has read the pages, the factory is paused."""
    stage.adf.page_size = 1
    stage.waits()
    stage.clock.advance(30 * SECOND)
    stage.was_swept(ago=MINUTE)
    for number in range(3):
        stage.adf.begin(RunKey(FACTORY, f"another-{number}"))
        stage.adf.end(RunKey(FACTORY, f"another-{number}"), RunStatus.SUCCEEDED)
    stage.run_fails()
    stage.is_paused_at(FACTORY_PAUSE, nth=3)


def sweeps_little(stage: Stage) -> None:
    """The timer fires; a sweep reads two pages at most."""
    with patch.object(policy, "SWEEP_PAGES", 2):
        stage.tick()


def nobody_waits(stage: Stage) -> None:
    """A factory was swept, and nobody waits for any of its runs now."""
    stage.was_swept(ago=MINUTE)


def abandoned(stage: Stage) -> None:
    """A task was cleared while its run goes on, which is to be cancelled then; it is time to sweep the factory."""
    stage.waits(OnAbandon.CANCEL)
    stage.clock.advance(30 * SECOND)
    stage.airflow.clear(TASK, new_id="ti-2")
    stage.was_swept(ago=MINUTE)


def abandoned_target_paused(stage: Stage) -> None:
    """The target is paused when its parked tasks are listed, and when the task is looked at; each time it is probed."""
    abandoned(stage)
    stage.is_paused(TARGET_PAUSE)
    stage.is_paused_at(TARGET_PAUSE, nth=3)


def seen_abandoned(stage: Stage) -> None:
    """A first look has shown that the task waits no more; it is time for the second."""
    abandoned(stage)
    stage.tick()
    stage.clock.advance(MINUTE)


def seen_abandoned_factory_paused(stage: Stage) -> None:
    """The second look comes with a sweep, and then the factory is paused; its probe has come."""
    seen_abandoned(stage)
    for nth in (4, 5):
        stage.is_paused_at(FACTORY_PAUSE, nth=nth)


def seen_abandoned_all_paused(stage: Stage) -> None:
    """The second look comes by itself. The target is paused, and then the factory; both are to be probed."""
    seen_abandoned(stage)
    stage.was_swept()
    stage.is_paused(TARGET_PAUSE)
    for nth in (4, 5):
        stage.is_paused_at(FACTORY_PAUSE, nth=nth)


def at_its_deadline_to_be_cancelled(stage: Stage) -> None:
    """A task waits for a run that never ends, and is to be cancelled then."""
    stage.has_waited(OnAbandon.CANCEL, until=DEADLINE)


def _died(stage: Stage, state: StartState, **changes: Any) -> None:
    """Have a task that has failed, and the record of its request, whose process died as well; it is to be finished."""
    stage.airflow.run(TASK)
    stage.airflow.finish(TASK, "failed")
    _a_record(stage, state, finish_at=stage.clock.now(), **changes)


def died_before_its_wait(stage: Stage) -> None:
    """A run was started and has failed; its wait was never written."""
    _died(stage, StartState.STARTED, run_id=KEY.run_id, wait=a_request())
    stage.adf.begin(KEY)
    stage.run_fails()


def died_before_its_record(stage: Stage) -> None:
    """A run was started that carries the key, and ADF lists it later; nobody waits for it."""
    stage.adf.begin(FIRST, parameters={policy.CORRELATION: TASK.token})
    stage.adf.listed_after = 2 * MINUTE
    _died(
        stage,
        StartState.SEARCHING,
        wait=a_request(on_abandon=OnAbandon.CANCEL),
        correlation=policy.CORRELATION,
        search_until=stage.clock.now() + HOUR,
    )


def died_without_a_key(stage: Stage) -> None:
    """Whether a run was started could be found out by its parameters alone."""
    _died(stage, StartState.STARTING, wait=a_request())


def over_long_ago(stage: Stage) -> None:
    """A wait was over long ago, and it is time to remove it."""
    has_failed(stage)
    stage.event("Failed")
    stage.clock.advance(stage.app.rules.retention + HOUR)


# --- the operator asks


def keyed(stage: Stage) -> None:
    """The pipeline takes the key."""
    stage.adf.declare("copy_orders", "day", policy.CORRELATION)


def keyed_and_loses_its_answer(stage: Stage) -> None:
    """The same; ADF starts the run and does not say so."""
    keyed(stage)
    adf_loses_its_answer(stage)


def starts_to_be_cancelled(stage: Stage) -> None:
    """The operator asks for a run that is to be cancelled when nobody waits for it; then it parks."""
    stage.starts(wait=a_request(on_abandon=OnAbandon.CANCEL))


def ends_if_awaited(stage: Stage) -> None:
    """The run ends if somebody waits for it, and goes on for ever if nobody does."""
    if stage.airflow.instances[place_of(TASK)].state not in ENDED:
        stage.all_ends()


def nothing(stage: Stage) -> None:
    """There is nothing."""


def adf_refuses(stage: Stage) -> None:
    """ADF refuses to start the run, for once."""
    stage.adf.create_script.append(INVALID)


def adf_loses_its_answer(stage: Stage) -> None:
    """ADF starts the run and does not say so."""
    stage.adf.create_script.append(Lost(UNAVAILABLE))


def loses_its_answer_and_is_paused(stage: Stage) -> None:
    """ADF starts the run and does not say so; the factory is paused, and its probe has come."""
    adf_loses_its_answer(stage)
    stage.is_paused(FACTORY_PAUSE)


def loses_its_answer_and_lists_nothing(stage: Stage) -> None:
    """ADF starts the run and does not say so, and refuses to say which runs there are."""
    adf_loses_its_answer(stage)
    stage.adf.search_script.extend([INVALID] * 99)


def started_for_somebody(stage: Stage) -> None:
    """The run that will be started is another request's by then: it was slow, and the other one looked for its own."""
    stage.store.inner.put(Run(FIRST, started_by="another"), ())


def earlier_try_waits(stage: Stage) -> None:
    """The task's earlier try has started a run, which goes on."""
    stage.airflow.run(EARLIER_TRY)
    stage.start(EARLIER_TRY)
    stage.clock.advance(HOUR)
    stage.airflow.run(TASK)


def earlier_try_to_be_cancelled(stage: Stage) -> None:
    """The same, and the run is to be cancelled when nobody waits for it; the next try may take it over."""
    stage.airflow.run(EARLIER_TRY)
    stage.start(EARLIER_TRY, wait=_kept(EARLIER_TRY))
    stage.clock.advance(MINUTE)
    stage.airflow.run(TASK)


def _kept(task: TaskRef) -> WaitRequest:
    return a_request(task, on_abandon=OnAbandon.CANCEL, keep_for_next_try=True)


def reattaches_to_be_cancelled(stage: Stage) -> None:
    """The operator of a later try asks for the run of the one before."""
    previous = Continuation(PreviousTry.REATTACH, NewTry.RETRY)
    stage.starts(wait=_kept(TASK), previous=previous)


def earlier_try_misled(stage: Stage) -> None:
    """An event has named a child of the earlier try's run that ADF does not know; the factory is paused in between."""
    earlier_try_waits(stage)
    run, _ = stage.store.inner.run(FIRST)
    assert run is not None
    stage.store.inner.put(replace(run, claimed_run_id="forged"), ())
    stage.is_paused_at(FACTORY_PAUSE, nth=2)


def _earlier_try_has(stage: Stage, started_by: str | None) -> None:
    earlier_try_waits(stage)
    run, _ = stage.store.inner.run(FIRST)
    assert run is not None
    stage.store.inner.put(replace(run, started_by=started_by), ())


def earlier_try_died(stage: Stage) -> None:
    """The process of the earlier try's request died when it had started the run, before it was said whose that is."""
    _earlier_try_has(stage, None)


def earlier_try_robbed(stage: Stage) -> None:
    """The same, and another request, whose answer was lost, has adopted the run since."""
    _earlier_try_has(stage, "another")


def earlier_try_is_being_cancelled(stage: Stage) -> None:
    """Another instance sets out to cancel the earlier try's run while the next try is about to wait for it."""
    earlier_try_waits(stage)

    def sets_out() -> None:
        run, _ = stage.store.inner.run(FIRST)
        assert run is not None
        stage.store.inner.put(replace(run, cancelled_at=stage.clock.now()), ())

    stage.store.before("put", sets_out, nth=2)


def earlier_try_failed(stage: Stage) -> None:
    """The run of the task's earlier try has failed."""
    earlier_try_waits(stage)
    stage.adf.end(FIRST, RunStatus.FAILED)


def earlier_try_failed_for_good(stage: Stage) -> None:
    """The run of the task's earlier try has failed, and ADF does not run it again."""
    earlier_try_failed(stage)
    stage.adf.create_script.append(INVALID)


def a_search_is_quicker(stage: Stage) -> None:
    """While createRun is under way, another instance takes somebody's equal run for the one that it started."""
    stage.adf.begin(KEY)

    def found() -> None:
        record = stage.store.inner.request(TASK.token)
        assert record is not None
        stage.store.inner.save_request(replace(record, state=StartState.STARTED, run_id=KEY.run_id))

    stage.store.before("save_request", found, nth=2)


def later_try_asked(stage: Stage) -> None:
    """A later try of the task has a run, but that was in a DAG run which was deleted; the target is paused since."""
    stage.airflow.run(LATER_TRY)
    stage.start(LATER_TRY)
    stage.adf.end(FIRST, RunStatus.SUCCEEDED)
    stage.clock.advance(HOUR)
    stage.airflow.run(TASK)
    stage.is_paused(TARGET_PAUSE)


def later_try_is_at_work(stage: Stage) -> None:
    """A later try of the task has a run, which goes on."""
    stage.airflow.run(LATER_TRY)
    stage.start(LATER_TRY)
    stage.is_paused(TARGET_PAUSE)


def reattaches(stage: Stage) -> None:
    """The operator of a later try asks for the run of the one before."""
    stage.retries(PreviousTry.REATTACH)


def recovers(stage: Stage) -> None:
    """The operator of a later try asks for the failed run to be run again."""
    stage.retries(PreviousTry.RECOVER)


def wrapped_run_failed(stage: Stage) -> None:
    """A wrapper's run has failed, as the run that it wraps; the factory is paused, and its probe has come."""
    stage.adf.wrap("copy_orders", "day")
    stage.adf.begin(WRAPPERS, pipeline="copy_orders__notified")
    stage.adf.begin_child(KEY, WRAPPERS)
    for key in (KEY, WRAPPERS):
        stage.adf.end(key, RunStatus.FAILED)
    stage.is_paused(FACTORY_PAUSE)


def recovers_a_wrapped_run(stage: Stage) -> None:
    """Somebody asks for a wrapped run to be run again."""
    stage.starts(recover_from=Recovery(WRAPPERS.run_id), parameters={})


def _a_record(stage: Stage, state: StartState, **changes: Any) -> None:
    """Have the record of a request whose process died."""
    request, now = a_trigger(), stage.clock.now()
    record = StartRequest(
        request.idempotency_key, request.body_hash, state, FACTORY, request.pipeline, now, now, **changes
    )
    stage.store.inner.save_request(record)
    stage.clock.advance(MINUTE)


def reserved_by_one_that_died(stage: Stage) -> None:
    """A process died before it wrote down whether it had started a run."""
    _a_record(stage, StartState.STARTING)


def started_by_one_that_died(stage: Stage) -> None:
    """A run was started, its process died, and the run has failed; the factory is paused, and its probe has come."""
    _a_record(stage, StartState.STARTED, run_id=KEY.run_id)
    stage.adf.begin(KEY)
    stage.run_fails()
    stage.is_paused(FACTORY_PAUSE)


def goes_on(stage: Stage) -> None:
    """A run goes on that the bridge does not know."""
    stage.adf.begin(KEY)


def _is_misnamed(stage: Stage) -> None:
    stage.adf.begin(KEY)
    stage.store.inner.put(Run(KEY, hint=RunStatus.FAILED, claimed_run_id="forged"), ())


def goes_on_misnamed(stage: Stage) -> None:
    """A run goes on, and an event has named a child of it that ADF does not know; the factory is paused in between."""
    _is_misnamed(stage)
    stage.is_paused_at(FACTORY_PAUSE, nth=2)


def started_by_one_that_died_misnamed(stage: Stage) -> None:
    """The same of a run that a process started which died."""
    _a_record(stage, StartState.STARTED, run_id=KEY.run_id)
    goes_on_misnamed(stage)


def has_ended_factory_paused(stage: Stage) -> None:
    """A run has failed that the bridge does not know; the factory is paused, and its probe has come."""
    ended_unheard_of(stage)
    stage.is_paused(FACTORY_PAUSE)


def has_ended_by_an_event(stage: Stage) -> None:
    """An event has come for a run that nobody waits for; the factory is paused, and its probe has come."""
    ended_unheard_of(stage)
    stage.event("Failed")
    stage.is_paused(FACTORY_PAUSE)


def has_failed_all_paused(stage: Stage) -> None:
    """A run has failed, unnoticed. The factory is paused when it is to be cancelled, and when it is read then."""
    has_failed_factory_paused(stage)
    for nth in (2, 3):
        stage.is_paused_at(FACTORY_PAUSE, nth=nth)


def deferred_and_failed(stage: Stage) -> None:
    """A task was deferred, its listener waits, and its run has just failed."""
    stage.is_listened_to()
    stage.clock.advance(MINUTE)
    stage.was_swept()
    stage.run_fails()


def deferred_and_sent_without_an_answer(stage: Stage) -> None:
    """The same, and the queue takes the message, but its answer is lost."""
    deferred_and_failed(stage)
    stage.completions.script.append(Lost(UNAVAILABLE))


def due_to_a_listener(stage: Stage) -> None:
    """A completion is due to a listener, the queue was out of reach, and the target's probe has come."""
    deferred_and_failed(stage)
    stage.is_paused(TARGET_PAUSE, pause=MINUTE)
    stage.event("Failed")
    stage.clock.advance(MINUTE)
    stage.was_swept()


def due_to_nobody(stage: Stage) -> None:
    """A task was deferred, and its run has failed before its listener has registered."""
    stage.is_deferred()
    stage.run_fails()
    stage.event("Failed")


def sent_to_the_dead(stage: Stage) -> None:
    """What a task is to be told was sent to the listener of a triggerer that has died."""
    stage.is_listened_to("dead")
    stage.clock.advance(MINUTE)
    stage.run_fails()
    stage.event("Failed")


def withdraws(stage: Stage) -> None:
    """The operator is told to stop, and withdraws its wait."""
    stage.app.run(service.withdraw(TASK.token))
    stage.gives_up()


FAILED: Final = told("Failed")
INLINE: Final = Ending(wait=WaitState.INLINE, heard="Failed")
# The operator was told to wait instead, and was told the outcome later.
TOLD_LATER: Final = told("Failed", heard="waits")
ABANDONED: Final = Ending(wait=WaitState.STALE, cancelled=1)
UNKNOWN: Final = Ending(heard="unknown-outcome")
STARTED: Final = told("Succeeded", runs=1, heard="waits")
UNKNOWN_RUN: Final = Ending(runs=1, heard="unknown-outcome")
RECOVERED: Final = told("Succeeded", runs=2, heard="waits")
OF_ITS_OWN: Final = told("Succeeded", runs=2, heard="waits")
NOT_RECOVERED: Final = {Point.KEY_RESERVED: UNKNOWN_RUN}
NOTHING_FOUND: Final = {Point.KEY_RESERVED: UNKNOWN}

TIMER_STORIES: Final = (
    Story("the deadline", at_its_deadline, Stage.tick, told("Expired"), later=nothing),
    Story(
        "the deadline, to be cancelled",
        at_its_deadline_to_be_cancelled,
        Stage.tick,
        told("Expired", cancelled=1),
        later=nothing,
    ),
    Story("never delivered", long_after_its_deadline, Stage.tick, Ending(wait=WaitState.EXPIRED)),
    Story("a look after an hour", has_failed_factory_paused, Stage.tick, FAILED),
    Story("a delivery, the target paused", due_with_the_target_paused, Stage.tick, FAILED),
    Story("the proof of an answer", parked_though_it_was_answered, Stage.tick, FAILED),
    Story("the proof of an answer, the target paused", parked_though_it_was_answered_target_paused, Stage.tick, FAILED),
    Story("a sweep", unswept, Stage.tick, FAILED),
    Story("a sweep, ADF throttles", unswept_and_throttled, Stage.tick, FAILED),
    Story("a sweep, the factory paused", unswept_and_paused, Stage.tick, FAILED),
    Story("a sweep run by run, the factory paused", never_swept_and_paused, Stage.tick, FAILED),
    Story("a sweep of a busy factory", busy, sweeps_little, FAILED),
    Story("a sweep, what a wrapper wraps has ended", child_unswept, Stage.tick, FAILED),
    Story("a sweep, a wrapper has ended", wrapper_unswept, Stage.tick, FAILED),
    Story("a sweep, a wrapper has ended, the factory paused", wrapper_unswept_and_paused, Stage.tick, FAILED),
    Story("a sweep, somebody's run has ended", others_unswept, Stage.tick, FAILED),
    Story("a sweep, somebody's run has ended, paused", others_unswept_and_paused, Stage.tick, FAILED),
    Story("a sweep, a run that was found has ended", others_found_and_unswept, Stage.tick, FAILED),
    Story("a sweep for nobody", nobody_waits, Stage.tick, Ending()),
    Story("a look for the abandoned", abandoned, Stage.tick, ABANDONED, later=nothing),
    Story("a look for the abandoned, the target paused", abandoned_target_paused, Stage.tick, ABANDONED, later=nothing),
    Story("a second look, the factory paused", seen_abandoned_factory_paused, Stage.tick, ABANDONED, later=nothing),
    Story("an appointed look, all paused", seen_abandoned_all_paused, Stage.tick, ABANDONED, later=nothing),
    Story("a start to be finished", died_before_its_wait, Stage.tick, Ending(wait=WaitState.INLINE)),
    Story(
        "a start to be found, and finished",
        died_before_its_record,
        Stage.tick,
        Ending(wait=WaitState.OVERRIDDEN, runs=1, cancelled=1),
        later=nothing,
    ),
    Story("a start that cannot be finished", died_without_a_key, Stage.tick, Ending()),
    Story("a delivery by queue, the target paused", due_to_a_listener, Stage.tick, FAILED),
    Story("the end of retention", over_long_ago, Stage.tick, Ending(("Failed",))),
)


def by_event_grid(
    name: str,
    given: Happening,
    happens: Happening = an_event_arrives,
    ending: Ending = FAILED,
    later: Happening = Stage.all_ends,
) -> Story:
    """Return a story that an event begins, which Event Grid may deliver again."""
    return Story(name, given, happens, ending, Again.EVENT_GRID, later)


EVENT_STORIES: Final = (
    by_event_grid("an event", has_failed),
    by_event_grid("an event for two tasks", two_wait, ending=Ending(("Failed", "Failed"), DELIVERED)),
    by_event_grid("an event before the task parks", has_failed_early),
    by_event_grid("an event, ADF throttles", has_failed_unasked),
    by_event_grid("an event, the factory paused", has_failed_factory_paused),
    by_event_grid("an event, the target paused", has_failed_target_paused),
    by_event_grid("an event, Airflow in trouble", has_failed_in_trouble),
    by_event_grid("an event before the wait", ended_unheard_of, ending=INLINE, later=Stage.registers),
    by_event_grid("a wrapper's notice", waits_for_a_wrapper, a_notice_arrives),
    by_event_grid("an event of somebody's run", others_failed, others_event_arrives),
    by_event_grid("an event of somebody's run, paused", others_failed_factory_paused, others_event_arrives),
    by_event_grid("an event of a run that was found", others_found, others_event_arrives),
    by_event_grid("an event of a run that was found, paused", others_found_factory_paused, others_event_arrives),
    by_event_grid("an event, by queue", deferred_and_failed),
    by_event_grid("an event, by queue, without an answer", deferred_and_sent_without_an_answer),
    by_event_grid("bad events and a good one", has_failed, events_arrive),
)


def by_caller(
    name: str,
    given: Happening,
    happens: Happening,
    ending: Ending,
    *,
    after: Mapping[Point, Ending] | None = None,
    or_else: Ending | None = None,
) -> Story:
    """Return a story that a call begins, which is repeated until it is answered, or given up."""
    return Story(name, given, happens, ending, Again.CALLER, after=after or {}, or_else=or_else)


def stopping(name: str, given: Happening, happens: Happening, after: Mapping[Point, Ending]) -> Story:
    """Return a story of a start that leaks no run: if nobody asks again it is cancelled."""
    return Story(name, given, happens, STARTED, Again.CALLER, ends_if_awaited, after=after, leaks_nothing=True)


CALLER_STORIES: Final = (
    by_caller("a start", nothing, Stage.starts, STARTED, after=NOTHING_FOUND),
    by_caller(
        "a start without a wait", nothing, Stage.starts_only, Ending(runs=1, heard="started"), after=NOTHING_FOUND
    ),
    by_caller(
        "a start that ADF refuses",
        adf_refuses,
        Stage.starts,
        Ending(heard="adf-refused"),
        after={Point.KEY_RESERVED: UNKNOWN, Point.RUN_CREATED: UNKNOWN, Point.START_REFUSED: STARTED},
    ),
    stopping("a start to be cancelled", keyed, starts_to_be_cancelled, NOTHING_FOUND),
    stopping(
        "a start to be cancelled without an answer", keyed_and_loses_its_answer, starts_to_be_cancelled, NOTHING_FOUND
    ),
    stopping("a retry to be cancelled", earlier_try_to_be_cancelled, reattaches_to_be_cancelled, {}),
    by_caller("a start without an answer", adf_loses_its_answer, Stage.starts, STARTED, after=NOTHING_FOUND),
    by_caller(
        "a start without an answer, the factory paused",
        loses_its_answer_and_is_paused,
        Stage.starts,
        STARTED,
        after=NOTHING_FOUND,
    ),
    by_caller(
        "a start without an answer, ADF lists nothing",
        loses_its_answer_and_lists_nothing,
        Stage.starts,
        UNKNOWN_RUN,
        after=NOTHING_FOUND,
    ),
    by_caller("a start of somebody's run", started_for_somebody, Stage.starts, UNKNOWN_RUN, after=NOTHING_FOUND),
    by_caller("a retry", earlier_try_waits, reattaches, STARTED),
    by_caller(
        "a retry, the run is being cancelled",
        earlier_try_is_being_cancelled,
        reattaches,
        OF_ITS_OWN,
        or_else=UNKNOWN_RUN,
    ),
    by_caller("a retry after a forged notice", earlier_try_misled, reattaches, STARTED),
    by_caller("a retry after one that died", earlier_try_died, reattaches, STARTED),
    by_caller("a retry after one whose run was taken", earlier_try_robbed, reattaches, OF_ITS_OWN, after=NOT_RECOVERED),
    by_caller("a retry from the failure", earlier_try_failed, recovers, RECOVERED, after=NOT_RECOVERED),
    by_caller(
        "a retry from the failure, refused", earlier_try_failed_for_good, recovers, RECOVERED, or_else=UNKNOWN_RUN
    ),
    by_caller(
        "a start, a search is quicker",
        a_search_is_quicker,
        Stage.starts,
        STARTED,
        after={Point.KEY_RESERVED: told("Succeeded", heard="waits")},
    ),
    by_caller(
        "a start of a DAG run made anew",
        later_try_asked,
        Stage.starts,
        OF_ITS_OWN,
        after=dict.fromkeys((Point.KEY_RESERVED, Point.BREAKER_SAVED, Point.TASK_READ), UNKNOWN_RUN),
    ),
    by_caller(
        "a start of a try that is over",
        later_try_is_at_work,
        Stage.starts,
        Ending(runs=1, heard="try-over"),
        after=dict.fromkeys((Point.KEY_RESERVED, Point.BREAKER_SAVED, Point.TASK_READ), UNKNOWN_RUN),
    ),
    by_caller("a recovery", wrapped_run_failed, recovers_a_wrapped_run, STARTED, after=NOTHING_FOUND),
    by_caller("a start of one that died before", reserved_by_one_that_died, Stage.starts, UNKNOWN),
    by_caller("a start of one that died after", started_by_one_that_died, Stage.starts, INLINE, or_else=TOLD_LATER),
    by_caller("a wait", goes_on, Stage.registers, told("Succeeded", heard="waits")),
    by_caller("a wait after a forged notice", goes_on_misnamed, Stage.registers, told("Succeeded", heard="waits")),
    by_caller(
        "a start of one that died, after a forged notice",
        started_by_one_that_died_misnamed,
        Stage.starts,
        told("Succeeded", heard="waits"),
    ),
    by_caller("a wait, the factory paused", has_ended_factory_paused, Stage.registers, INLINE, or_else=TOLD_LATER),
    by_caller("a wait after an event", has_ended_by_an_event, Stage.registers, INLINE, or_else=TOLD_LATER),
    by_caller(
        "a cancel",
        Stage.has_waited,
        Stage.cancels,
        told("Cancelled", cancelled=1, heard="accepted"),
        or_else=told("Cancelled", cancelled=1, heard="not-running"),
    ),
    by_caller(
        "a cancel of a wrapper's run",
        waits_for_a_wrapper,
        Stage.cancels,
        told("Failed", cancelled=1, heard="accepted"),
        or_else=told("Failed", cancelled=1, heard="not-running"),
    ),
    by_caller(
        "a cancel of a run that has failed", has_failed_all_paused, Stage.cancels, told("Failed", heard="not-running")
    ),
    by_caller("a listener, late", due_to_nobody, Stage.listens, told("Failed", heard="Failed")),
    by_caller("a listener, after one that died", sent_to_the_dead, Stage.listens, told("Failed", heard="Failed")),
    by_caller("a withdrawal", Stage.waits, withdraws, Ending(wait=WaitState.WITHDRAWN)),
)

STORIES: Final = (*EVENT_STORIES, *TIMER_STORIES, *CALLER_STORIES)
