"""The trigger of a task that waits in mode queue: it leaves all work to the process's listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_adf_bridge.airflow_api import BaseTrigger, TriggerEvent
from airflow_adf_bridge.bridge_calls import BridgeCalls
from airflow_adf_bridge.errors import AdfBridgeError
from airflow_adf_bridge.listener import listener_of

HOLD = 8.0
"""Seconds after its start before which a trigger fires nothing: Airflow fails a try that is resumed before its executor
has reported that the worker has left it, which comes up to 6.2 s after that. The bridge holds back as long in mode
resume."""
KILL_PATIENCE = timedelta(seconds=15)
"""How long a cancel is repeated. Airflow gives on_kill 30 s."""


class AdfBridgeTrigger(BaseTrigger):
    """Fires once, with the completion/v1 that the bridge tells of a wait, or with `error`.

    :param adf_bridge_conn_id: the connection to the bridge; what is secret stays in it
    :param token: the wait's token
    :param wait: the wait as `POST /waits` takes it, without a `reply_to`
    :param cancel: whether the run is cancelled when a person clears or marks the task while it waits (Airflow 3.3)
    """

    def __init__(self, adf_bridge_conn_id: str, token: str, wait: Mapping[str, Any], *, cancel: bool = False) -> None:
        """Keep what is needed to register the wait, in whatever process this trigger will run."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.adf_bridge_conn_id = adf_bridge_conn_id
        self.token = token
        self.wait = dict(wait)
        self.cancel = cancel

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            "airflow_adf_bridge.triggers.AdfBridgeTrigger",
            {
                "adf_bridge_conn_id": self.adf_bridge_conn_id,
                "token": self.token,
                "wait": self.wait,
                "cancel": self.cancel,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the run. However this is ended, nothing becomes of the run."""
        clock = asyncio.get_running_loop().time
        start = clock()
        deadline = datetime.fromisoformat(self.wait["deadline"])
        event: Mapping[str, Any]
        try:
            event = await listener_of(self.adf_bridge_conn_id).completion(self.token, self.wait, deadline)
        except AdfBridgeError as error:
            event = {"error": str(error), "error_type": type(error).__name__}
        await asyncio.sleep(max(start + HOLD - clock(), 0.0))
        yield TriggerEvent(dict(event))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the run, unless others wait for it; Airflow calls this when a person clears or marks the task.

        It is not called when the triggerer is restarted.
        """
        run_id = self.wait.get("run_id")
        if not self.cancel or not run_id:
            return
        calls = BridgeCalls(self.adf_bridge_conn_id)
        try:
            said = await calls.cancel(run_id, self.token, KILL_PATIENCE)
        except AdfBridgeError as error:
            self.log.warning("The task is over, and its run %s could not be cancelled: %s", run_id, error)
        else:
            self.log.info("The task is over. Cancelling its run %s: %s.", run_id, said)
        finally:
            calls.close()
