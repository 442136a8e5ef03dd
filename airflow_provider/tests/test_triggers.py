"""The trigger: when it fires, with what, and what becomes of the run when a person ends its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import virtual_time
from bridge_stand_in import BridgeStandIn
from listening import Bridge, Scene, body, completion
from virtual_time import now

from airflow_adf_bridge import triggers
from airflow_adf_bridge.errors import AdfBridgeConfigurationError
from airflow_adf_bridge.hooks import AdfBridgeHook
from airflow_adf_bridge.triggers import HOLD, AdfBridgeTrigger


async def fired(trigger: AdfBridgeTrigger) -> list[Any]:
    """What a trigger fires until it ends."""
    async with aclosing(trigger.run()) as events:
        return [event.payload async for event in events]


@pytest.fixture
def scene_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bridge], Scene]:
    """Let triggers find the listener of a scene."""

    def make(bridge: Bridge) -> Scene:
        scene = Scene(bridge)
        monkeypatch.setattr(triggers, "listener_of", lambda conn_id: scene.listener)
        return scene

    return make


def test_an_early_completion_is_held_for_a_while(scene_for: Callable[[Bridge], Scene]) -> None:
    """S15: a task whose run ended before its trigger began is resumed when its executor must know of its deferral."""

    async def story() -> Any:
        scene_for(Bridge(ended={"a": completion("a")}))
        return await fired(AdfBridgeTrigger("c", "a", body("a"))), now()

    assert ([completion("a")], HOLD) == virtual_time.run(story())


def test_a_later_completion_is_not_held(scene_for: Callable[[Bridge], Scene]) -> None:
    """S15: a task that has waited for longer than that is resumed at once."""

    async def story() -> Any:
        scene = scene_for(Bridge())
        firing = asyncio.ensure_future(fired(AdfBridgeTrigger("c", "a", body("a"))))
        await asyncio.sleep(60)
        scene.broker.tell("a")
        return await firing, now()

    assert ([completion("a")], 60) == virtual_time.run(story())


def test_an_error_is_an_event(scene_for: Callable[[Bridge], Scene]) -> None:
    """What keeps a trigger from waiting resumes its task with the reason: it fails in its own words, and is retried."""

    async def story() -> Any:
        scene_for(Bridge(settings=AdfBridgeConfigurationError("No queue.")))
        return await fired(AdfBridgeTrigger("c", "a", body("a")))

    assert [{"error": "No queue.", "error_type": "AdfBridgeConfigurationError"}] == virtual_time.run(story())


def test_a_trigger_that_is_cancelled_fires_nothing(scene_for: Callable[[Bridge], Scene]) -> None:
    """S30: a triggerer that is restarted ends its triggers; the run goes on, and nothing is told."""

    async def story() -> Any:
        scene = scene_for(Bridge())
        firing = asyncio.ensure_future(fired(AdfBridgeTrigger("c", "a", body("a"), cancel=True)))
        await asyncio.sleep(10)
        firing.cancel()
        await asyncio.sleep(10)
        return firing.cancelled(), scene.bridge.registered, scene.bridge.shown

    assert (True, [["a"]], []) == virtual_time.run(story())


# ---- on_kill, over HTTP


WAIT = {"run_id": "run-1", "deadline": (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()}


@pytest.mark.parametrize(("cancel", "cancelled"), [(True, ["run-1"]), (False, [])])
def test_a_person_s_clear_or_mark_cancels_the_run_if_that_is_the_policy(
    bridge: BridgeStandIn, connect: Callable[..., AdfBridgeHook], *, cancel: bool, cancelled: list[str]
) -> None:
    """S30: on_kill asks the bridge to cancel the run with its wait's token, so that others who wait for it keep it."""
    connect()
    asyncio.run(AdfBridgeTrigger("adf_bridge_default", "t", WAIT, cancel=cancel).on_kill())
    assert (cancelled, [{"recursive": True, "token": "t"}] * len(cancelled)) == (
        bridge.cancelled,
        [call.body for call in bridge.calls],
    )


def test_a_cancel_that_fails_is_logged(bridge: BridgeStandIn, connect: Callable[..., AdfBridgeHook]) -> None:
    """S30: when the bridge refuses the cancel, on_kill raises nothing."""
    connect()
    bridge.refuse(404, {"code": "not-found", "detail": "No such run."})
    asyncio.run(AdfBridgeTrigger("adf_bridge_default", "t", WAIT, cancel=True).on_kill())
    assert ([], 1) == (bridge.cancelled, len(bridge.calls))
