"""Killing the host with SIGKILL, at any moment or at a chosen one, and starting it again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

from bridge.model import FactoryId, Run, RunKey, StartRequest, StartState, Wait, WaitState
from local.local_azure import FACTORY_ID
from tests.soak.plan import Moment, Plan
from tests.soak.scene import Scene
from tests.soak.witness import Witness

_LOOK_SECONDS = 0.02
_ANSWER_WITHHELD_SECONDS = 1.5
_CALLS = {Moment.CREATE_RUN: "createRun", Moment.EVENT_NOTED: "getRun"}


@dataclass(frozen=True)
class Kill:
    """A host that was killed: when, at which moment, what the store held then, and whether anything survived it.

    A kill counts for a chosen moment only if the store bears it out when the host is dead.
    """

    at: datetime
    moment: Moment
    found: str
    survived: bool
    down_seconds: float


class Killer:
    """Kills and starts the host. Use it in one thread: the host ends with the thread that started it."""

    def __init__(self, plan: Plan, scene: Scene, witness: Witness) -> None:
        self._scene = scene
        self._witness = witness
        self.crashes: list[int] = []
        """Exit codes of hosts that ended by themselves (negative: by that signal)."""
        self._pauses = plan.pauses()
        self._never = Event()
        self._killed = Event()

    def look_after_host(self) -> None:
        """Start a host again that ended without having been killed."""
        host = self._scene.azure.functions
        if not host.alive and not self._killed.is_set():
            self.crashes.append(host.exit_code or 0)
            host.start()

    def perform(self, moment: Moment, is_over: Callable[[], bool]) -> Kill | None:
        """Kill the host at a moment and start it again; None when that moment did not come before all was over."""
        if moment.is_precise:
            struck = self._kill_at_airflow(moment, is_over)
        elif moment is not Moment.ANY:
            struck = self._kill_at_adf(_CALLS[moment], is_over)
        else:
            struck = ""
            self._pass(next(self._pauses).total_seconds())
            self._kill()
        return None if struck is None else self._start_again(moment, struck)

    def _kill_at_airflow(self, moment: Moment, is_over: Callable[[], bool]) -> str | None:
        """Kill when a delivery comes to this moment; return whose it was. Airflow's answer is withheld till then."""
        struck: list[str] = []

        def strike(token: str) -> None:
            self._kill()
            struck.append(token)

        self._witness.set_trap(moment, strike)
        while not struck and not is_over():
            self._pass(_LOOK_SECONDS)
        self._witness.take_trap_away()
        return struck[0] if struck else None

    def _kill_at_adf(self, call: str, is_over: Callable[[], bool]) -> str | None:
        """Kill while the host waits for Data Factory's answer, which is withheld; return which run it is about."""
        adf = self._scene.adf
        adf.delete("calls")
        adf.post("faults", {"op": call, "effect": "after", "delay_s": _ANSWER_WITHHELD_SECONDS})
        while (due := adf.get("faults")["faults"]) and not is_over():
            self._pass(_LOOK_SECONDS)
        adf.delete("faults")
        if due:
            return None
        self._kill()
        return next(str(one["run_id"]) for one in adf.get("calls")["log"] if one["op"] == call and not one["status"])

    def _kill(self) -> None:
        self._killed.set()
        self._scene.azure.functions.kill()

    def _start_again(self, moment: Moment, struck: str) -> Kill:
        at, killed = datetime.now(UTC), time.monotonic()
        survived = self._has_survivors()
        borne_out, found = self._look(moment, struck, at)
        self._witness.forget_host()
        self._pass(next(self._pauses).total_seconds())
        self._scene.azure.functions.start()
        self._killed.clear()
        return Kill(at, moment if borne_out else Moment.ANY, found, survived, time.monotonic() - killed)

    def _look(self, moment: Moment, struck: str, at: datetime) -> tuple[bool, str]:
        """Say whether the store bears the moment out, and what it holds."""
        if moment is Moment.ANY:
            return True, ""
        if moment is Moment.CREATE_RUN:
            tokens = {run["runId"]: run["parameters"]["token"] for run in self._scene.adf.get("runs")["runs"]}
            request = self._scene.store.request(tokens.get(struck, ""))
            return _is_being_started(request), f"the request is {request.state if request else 'unknown'}"
        if moment is Moment.EVENT_NOTED:
            started = self._scene.wrapped().get(struck, struck)
            noted, _ = self._scene.store.run(RunKey(FactoryId.parse(FACTORY_ID), started))
            said = f"an event says {noted.hint}, Data Factory said {noted.status}" if noted else "the run is unknown"
            return _is_only_noted(noted), said
        wait = self._scene.store.find_wait(struck)
        return _is_taken_up(wait, at), f"{struck[:8]} is {_shown(wait)}"

    def _has_survivors(self) -> bool:
        """Whether a process of the host's group is left, or anything listens at its port."""
        host = self._scene.azure.functions
        assert host.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(host.pid, 0)
            return True
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", host.port)) == 0

    def _pass(self, seconds: float) -> None:
        self._never.wait(seconds)


def _is_taken_up(wait: Wait | None, at: datetime) -> bool:
    """Whether a delivery was under way: claimed, which moves its due time into the future, and not settled."""
    return (
        wait is not None
        and wait.state is WaitState.DUE
        and wait.attempts > 0
        and wait.due_at is not None
        and wait.due_at > at
    )


def _is_being_started(request: StartRequest | None) -> bool:
    """Whether a run was asked for, and nothing is written yet of what came of it."""
    return request is not None and request.state is StartState.STARTING


def _is_only_noted(run: Run | None) -> bool:
    """Whether an event is written down, and what it claims is not proved yet."""
    return run is not None and run.hint is not None and run.hint.is_terminal and not run.has_ended


def _shown(wait: Wait | None) -> str:
    if wait is None:
        return "unknown"
    due = f", taken up until {wait.due_at:%H:%M:%S}" if wait.due_at is not None else ""
    return f"{wait.state}, attempt {wait.attempts}{due}"
