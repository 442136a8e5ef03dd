"""The listener, in virtual time: one session for all, registered once, told whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from datetime import timedelta
from typing import Any

import pytest
import virtual_time
from listening import QUEUE, Bridge, Broker, Scene, completion
from virtual_time import now, until

from airflow_adf_bridge import listener as module
from airflow_adf_bridge.errors import (
    AdfBridgeConfigurationError,
    AdfBridgeListenerError,
    AdfBridgeRefusedError,
    AdfBridgeUnreachableError,
)
from airflow_adf_bridge.listener import ATTACH_PATIENCE, LEASE, LINGER, MARGIN, listener_of

TRY_AGAIN = {"code": "try-again", "status": 503, "detail": "There was no time for it.", "retry_after": 7}
LOST = ConnectionError("the connection was lost")
HUNDREDS = [f"{number:04}" for number in range(1200)]


def test_all_that_wait_share_one_session_and_one_call() -> None:
    """Fifty tasks that begin to wait together take one session and one registration, after the session is attached."""

    async def story() -> None:
        scene = Scene()
        waiting = scene.wait(*HUNDREDS[:50])
        await asyncio.sleep(10)
        scene.broker.tell(*HUNDREDS[:50])
        assert [completion(token) for token in HUNDREDS[:50]] == [dict(one) for one in await asyncio.gather(*waiting)]
        assert ([HUNDREDS[:50]], 1) == (scene.bridge.registered, len(scene.broker.attempts))
        assert (scene.bridge.reply_tos, True) == ([scene.broker.sessions[0].name], scene.bridge.batches[0][0] >= 0.5)

    virtual_time.run(story())


def test_a_batch_holds_five_hundred_at_most() -> None:
    """1,200 waits are registered in three calls, each wait once."""

    async def story() -> list[int]:
        scene = Scene()
        scene.wait(*HUNDREDS)
        await asyncio.sleep(60)
        assert sorted(HUNDREDS) == sorted(itertools.chain(*scene.bridge.registered))
        return [len(batch) for batch in scene.bridge.registered]

    assert [500, 500, 200] == virtual_time.run(story())


def test_what_has_ended_before_the_trigger_began_is_told_by_the_registration() -> None:
    """S01: a completion that was decided before the trigger started comes with the answer to its registration."""

    async def story() -> Any:
        scene = Scene(Bridge(ended={"a": completion("a", "Failed")}))
        (waiting,) = scene.wait("a")
        return await waiting

    assert completion("a", "Failed") == virtual_time.run(story())


def test_a_message_that_overtakes_the_answer_is_taken() -> None:
    """S02: a completion that is sent while the registration is still being answered finds its trigger."""

    async def story() -> Any:
        scene = Scene()
        scene.bridge.refusals.append(AdfBridgeUnreachableError("The answer was lost."))
        (waiting,) = scene.wait("a")
        await until(lambda: bool(scene.bridge.batches))
        scene.broker.tell("a")
        result = await waiting
        await asyncio.sleep(100)
        return result, scene.bridge.registered

    assert (completion("a"), [["a"]]) == virtual_time.run(story())


def test_a_lost_answer_is_asked_for_again() -> None:
    """S48: a registration whose answer was lost is repeated, and answered with what was decided meanwhile."""

    async def story() -> Any:
        scene = Scene()
        scene.bridge.refusals.extend([AdfBridgeUnreachableError("Timeout")] * 3)
        (waiting,) = scene.wait("a")
        await until(lambda: len(scene.bridge.batches) == 3)
        scene.bridge.ended["a"] = completion("a")
        return await waiting, scene.bridge.registered, len(scene.broker.sessions)

    assert (completion("a"), [["a"]] * 4, 1) == virtual_time.run(story())


def test_attempts_grow_rarer_and_go_on() -> None:
    """S48: while the bridge is out of reach for an hour it is asked about once a minute, for all waits."""

    async def story() -> int:
        scene = Scene()
        scene.bridge.refusals.extend([AdfBridgeUnreachableError("Timeout")] * 40)
        scene.wait("a", "b")
        await asyncio.sleep(3600)
        assert [] == [batch for batch in scene.bridge.registered if sorted(batch) != ["a", "b"]]
        return len(scene.bridge.batches)

    assert 40 < virtual_time.run(story()) < 70


def test_what_the_bridge_asks_for_is_honoured() -> None:
    """S12: a wait that the bridge had no time for is registered again when it said, and the others are not."""

    async def story() -> None:
        scene = Scene(Bridge(problems={"a": TRY_AGAIN}))
        scene.wait("a", "b")
        await asyncio.sleep(60)
        (first, _), (second, _) = scene.bridge.batches
        assert [["a", "b"], ["a"]] == scene.bridge.registered
        assert 7 <= second - first <= 10

    virtual_time.run(story())


def test_a_refused_wait_fails_its_task_alone() -> None:
    """What the bridge refuses for good is an error of that trigger, in the bridge's words; the others go on."""

    async def story() -> None:
        problem = {"code": "wait-conflict", "status": 409, "detail": "It was withdrawn."}
        scene = Scene(Bridge(problems={"a": problem}))
        refused, kept = scene.wait("a", "b")
        with pytest.raises(AdfBridgeRefusedError, match=r"wait-conflict \(409\). It was withdrawn"):
            await refused
        scene.broker.tell("b")
        assert completion("b") == await kept

    virtual_time.run(story())


def test_a_key_that_was_rotated_costs_no_task() -> None:
    """S41: while the bridge refuses the key, the connection is read anew and the waits are registered again."""

    async def story() -> None:
        scene = Scene()
        scene.bridge.refusals.extend([AdfBridgeRefusedError("to wait", 401, {})] * 2)
        scene.wait("a")
        await asyncio.sleep(20)
        assert ([["a"]] * 3, 2) == (scene.bridge.registered, scene.bridge.forgotten)

    virtual_time.run(story())


def test_a_batch_that_the_bridge_cannot_read_fails_its_tasks() -> None:
    """A bridge that refuses the request as a whole would refuse it for ever: these triggers end with its words."""

    async def story() -> None:
        scene = Scene()
        scene.bridge.refusals.append(AdfBridgeRefusedError("to wait", 422, {"code": "invalid-fields"}))
        (waiting,) = scene.wait("a")
        with pytest.raises(AdfBridgeRefusedError, match="invalid-fields"):
            await waiting

    virtual_time.run(story())


def test_a_completion_that_nobody_waits_for_is_dropped() -> None:
    """A message for a token that is not waited for here does nothing; the next one is taken."""

    async def story() -> Any:
        scene = Scene()
        (waiting,) = scene.wait("a")
        await asyncio.sleep(5)
        scene.broker.tell("of somebody else", "a")
        return await waiting

    assert completion("a") == virtual_time.run(story())


def test_a_lost_connection_registers_nothing_anew() -> None:
    """S25: after the connection or the lock is lost the same session is attached again, and nothing is registered."""

    async def story() -> None:
        scene = Scene()
        (waiting,) = scene.wait("a")
        for _ in range(3):
            await asyncio.sleep(10)
            scene.broker.held[-1].messages.put_nowait(LOST)
        await asyncio.sleep(10)
        scene.broker.tell("a")
        assert completion("a") == await waiting
        assert ([["a"]], 1, 4, 1) == (
            scene.bridge.registered,
            len({session.name for session in scene.broker.sessions}),
            len(scene.broker.sessions),
            len(scene.broker.held),
        )

    virtual_time.run(story())


def test_a_session_that_a_ghost_holds_is_left_to_it() -> None:
    """Where the broker still holds the session for a lost connection, another one is made and all is registered."""

    async def story() -> None:
        scene = Scene()
        (waiting,) = scene.wait("a")
        await asyncio.sleep(10)
        scene.broker.ghosts = 1
        scene.broker.held[-1].messages.put_nowait(LOST)
        await asyncio.sleep(10)
        scene.broker.tell("a")
        assert completion("a") == await waiting
        assert [["a"], ["a"]] == scene.bridge.registered
        assert [session.name for session in scene.broker.sessions] == scene.bridge.reply_tos
        assert 2 == len(set(scene.bridge.reply_tos))

    virtual_time.run(story())


def test_an_answer_for_a_session_that_was_left_is_not_enough() -> None:
    """A registration that was under way when the session was left is repeated for the new one."""

    async def story() -> None:
        scene = Scene(broker=Broker(ghosts=1))
        scene.broker.refusals.append(LOST)
        scene.wait("a")
        await asyncio.sleep(30)
        assert scene.bridge.reply_tos[-1] == scene.broker.sessions[-1].name

    virtual_time.run(story())


def test_everything_is_registered_anew_once_in_a_lease() -> None:
    """Every quarter of an hour at the latest all waits are registered anew, in one call."""

    async def story() -> list[float]:
        scene = Scene()
        scene.wait("a")
        await asyncio.sleep(100)
        scene.wait("b")
        await asyncio.sleep(2 * LEASE)
        assert [["a"], ["b"], ["a", "b"]] == scene.bridge.registered[:3]
        assert [["a", "b"]] * (len(scene.bridge.batches) - 2) == scene.bridge.registered[2:]
        return [moment for moment, _ in scene.bridge.batches[2:]]

    moments = virtual_time.run(story())
    assert [True] * 2 == [
        0.7 * LEASE <= moment - before <= LEASE + 1 for before, moment in itertools.pairwise([0, *moments[:2]])
    ]


def test_registrations_do_not_wait_for_a_queue_that_is_out_of_reach() -> None:
    """While the queue is out of reach the waits are registered all the same: what has ended is told."""

    async def story() -> float:
        scene = Scene(Bridge(ended={"a": completion("a")}))
        scene.broker.refusals.extend([LOST] * 100)
        (waiting,) = scene.wait("a")
        await waiting
        return now()

    assert ATTACH_PATIENCE <= virtual_time.run(story()) <= ATTACH_PATIENCE + 2


def test_a_listener_without_tasks_closes_after_a_while() -> None:
    """A minute after the last task has gone the session is given back; one that comes earlier keeps it."""

    async def story() -> None:
        scene = Scene()
        for token in ("a", "b"):
            (waiting,) = scene.wait(token)
            await asyncio.sleep(5)
            scene.broker.tell(token)
            await waiting
            await asyncio.sleep(LINGER - 10)
        assert (1, False) == (len(scene.broker.held), scene.listener.closed)
        await asyncio.sleep(11)
        assert ([], True, True) == (scene.broker.held, scene.listener.closed, scene.bridge.closed)

    virtual_time.run(story())


def test_the_while_begins_when_the_last_one_leaves() -> None:
    """However many tasks have left at one time before, the minute counts from when the last one left."""

    async def story() -> None:
        scene = Scene()
        waiting = scene.wait("a", "b", "c")
        await asyncio.sleep(5)
        scene.broker.tell("a", "b", "c")
        await asyncio.gather(*waiting)
        await asyncio.sleep(LINGER / 2)
        (late,) = scene.wait("d")
        await asyncio.sleep(5)
        scene.broker.tell("d")
        await late
        await asyncio.sleep(LINGER - 5)
        assert not scene.listener.closed

    virtual_time.run(story())


def test_an_attempt_to_attach_that_hangs_is_given_up() -> None:
    """A queue that neither answers nor refuses is tried again."""

    async def story() -> Any:
        hanging = 1

        class Hanging(Broker):
            async def attach(self, queue: Any, session_id: str) -> Any:
                nonlocal hanging
                if hanging:
                    hanging = 0
                    await asyncio.sleep(10_000)
                return await super().attach(queue, session_id)

        scene = Scene(broker=Hanging())
        (waiting,) = scene.wait("a")
        await asyncio.sleep(120)
        scene.broker.tell("a")
        return await waiting

    assert completion("a") == virtual_time.run(story())


def test_a_trigger_that_is_cancelled_just_leaves() -> None:
    """S30: a trigger that is cancelled, as at every restart of a triggerer, is forgotten; nothing is asked or ended."""

    async def story() -> None:
        scene = Scene()
        gone, kept = scene.wait("a", "b")
        await asyncio.sleep(5)
        gone.cancel()
        await asyncio.sleep(LEASE)
        assert (["b"], []) == (scene.bridge.registered[-1], scene.bridge.shown)
        scene.broker.tell("a", "b")
        assert completion("b") == await kept

    virtual_time.run(story())


def test_a_trigger_that_runs_on_two_triggerers_for_a_moment_is_told_on_the_one_that_keeps_it() -> None:
    """S14: the bridge tells all listeners that have registered; the one that lost the trigger drops it, and goes on."""

    async def story() -> list[Any]:
        bridge = Bridge()
        keeper, loser = Scene(bridge), Scene(bridge)
        (kept,) = keeper.wait("a")
        await asyncio.sleep(1)
        lost, other = loser.wait("a", "b")
        await asyncio.sleep(1)
        assert [["a"], ["a", "b"]] == bridge.registered
        assert [keeper.listener.reply_to, loser.listener.reply_to] == bridge.reply_tos
        lost.cancel()  # Airflow: this trigger is the other triggerer's
        loser.broker.tell("a")
        keeper.broker.tell("a")
        loser.broker.tell("b")
        return await asyncio.gather(kept, other)

    assert [completion("a"), completion("b")] == virtual_time.run(story())


def test_two_triggers_of_one_token_are_both_told() -> None:
    """A trigger that runs twice for a moment, as Airflow allows, is told twice, and one may leave."""

    async def story() -> list[Any]:
        scene = Scene()
        first, second, third = scene.wait("a", "a", "a")
        await asyncio.sleep(5)
        first.cancel()
        await asyncio.sleep(5)
        scene.broker.tell("a")
        return await asyncio.gather(second, third)

    assert [completion("a")] * 2 == virtual_time.run(story())


@pytest.mark.parametrize("late", [timedelta(minutes=1), timedelta(days=-1)])
def test_the_bridge_has_the_last_word_after_the_deadline(late: timedelta) -> None:
    """S29: some minutes after the deadline the bridge is asked once, and what it says then counts."""

    async def story() -> Any:
        scene = Scene()
        (waiting,) = scene.wait("a", deadline=late)
        scene.bridge.problems["a"] = TRY_AGAIN
        scene.broker.refusals.extend([LOST] * 100)
        await asyncio.sleep(0)
        scene.bridge.ended["a"] = completion("a", "Expired")
        scene.bridge.batches.clear()
        return await waiting

    assert completion("a", "Expired") == virtual_time.run(story())


def test_a_triggerer_that_comes_back_late_while_the_bridge_is_away() -> None:
    """S25, S29: a task whose trigger begins long after its deadline is told, if not at the first attempt."""

    async def story() -> Any:
        scene = Scene()
        scene.bridge.refusals.extend([AdfBridgeUnreachableError("The bridge is down.")] * 3)
        (waiting,) = scene.wait("a", deadline=timedelta(days=-1))
        scene.bridge.ended["a"] = completion("a")
        return await waiting

    assert completion("a") == virtual_time.run(story())


@pytest.mark.parametrize(
    ("refusals", "why"),
    [([], "says that it still waits"), ([AdfBridgeUnreachableError("The bridge is down.")], "The bridge is down")],
)
def test_a_task_that_nothing_was_heard_of_fails(refusals: list[Exception], why: str) -> None:
    """S29: a task whose end nobody told, not even the bridge when asked, fails and says why."""

    async def story() -> None:
        scene = Scene()
        (waiting,) = scene.wait("a", deadline=timedelta(minutes=1))
        await asyncio.sleep(120)
        scene.bridge.refusals.extend(refusals)
        with pytest.raises(AdfBridgeListenerError, match=f"by its deadline .*{why}"):
            await waiting
        assert (["a"], True) == (scene.bridge.shown, MARGIN + 55 <= now() <= MARGIN + 65)

    virtual_time.run(story())


def test_a_connection_that_names_no_queue_fails_the_tasks_and_is_read_again() -> None:
    """S41: a wrong setting is every waiting task's error; a listener that was closed is not used again."""

    async def story() -> None:
        wrong = AdfBridgeConfigurationError("Mode queue needs servicebus_namespace.")
        scene = Scene(Bridge(settings=wrong))
        with pytest.raises(AdfBridgeConfigurationError, match="servicebus_namespace"):
            await scene.wait("a")[0]
        assert scene.listener.closed

    virtual_time.run(story())


def test_a_queue_that_refuses_is_tried_again_with_the_connection_read_anew() -> None:
    """S41: whatever azure-servicebus raises, the queue is tried again, ever less often, until it works."""

    async def story() -> None:
        scene = Scene()
        scene.broker.refusals.extend([LOST] * 8)
        (waiting,) = scene.wait("a")
        await asyncio.sleep(600)
        scene.broker.tell("a")
        await waiting
        pauses = [later - before for before, later in itertools.pairwise(scene.broker.attempts)]
        assert (8, True, True) == (scene.bridge.forgotten, pauses[:7] == sorted(pauses[:7]), max(pauses) <= 77)

    virtual_time.run(story())


def test_a_listener_s_log_is_no_task_s() -> None:
    """What the listener does, it does outside the context of the trigger that came first: Airflow sorts logs by it."""
    whose = contextvars.ContextVar("whose", default="nobody's")

    async def story() -> str:
        whose.set("the first trigger's")
        seen: list[str] = []

        class Curious(Bridge):
            async def queue(self) -> Any:
                seen.append(whose.get())
                return QUEUE

        scene = Scene(Curious())
        scene.wait("a")
        await asyncio.sleep(1)
        return seen[0]

    assert "nobody's" == virtual_time.run(story())


def test_one_listener_for_each_connection_and_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggers of one event loop share a listener for each connection; one that has closed is replaced."""
    monkeypatch.setattr(module, "BridgeCalls", lambda conn_id: Bridge(settings=QUEUE))

    async def story() -> list[bool]:
        one, same, other = listener_of("a"), listener_of("a"), listener_of("b")
        one.close()
        return [one is same, one is other, one is listener_of("a")]

    expected = [True, False, False]
    assert [expected, expected] == [virtual_time.run(story()) for _ in range(2)]
