"""The process that `benchmarks.listener` measures, in an Airflow's virtual environment: triggers of the provider wait.

It says ``{"calls": …}`` when the bridge knows of all of them, and then goes on until it is killed. With none it is the
idle one: the same imports, the same event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge_stand_in import BridgeStandIn, token_of  # type: ignore[import-not-found]

# The provider's own stand-in for the bridge, and the provider: both are only there in an Airflow's environment.
from airflow_adf_bridge.triggers import AdfBridgeTrigger  # type: ignore[import-not-found]

CONNECTION = "adf_bridge_default"


def main() -> None:
    """Wait until killed."""
    bridge = BridgeStandIn()
    bridge.start()
    os.environ["AIRFLOW_CONN_ADF_BRIDGE_DEFAULT"] = json.dumps(
        {
            "conn_type": "adf_bridge",
            "host": f"http://127.0.0.1:{bridge.port}",
            "extra": {"target": "demo", "servicebus_connection_string": os.environ["ADF_BRIDGE_SERVICE_BUS"]},
        }
    )
    asyncio.run(_wait(bridge, int(sys.argv[1])))


async def _wait(bridge: Any, tasks: int) -> None:  # noqa: ANN401 (see the imports)
    running = [asyncio.ensure_future(_run(_trigger(bridge, number))) for number in range(tasks)]
    while len(bridge.waits) < tasks:  # noqa: ASYNC110 (it is answered in another thread)
        await asyncio.sleep(0.1)
    sys.stdout.write(json.dumps({"calls": len(bridge.batches)}) + "\n")
    sys.stdout.flush()
    while True:  # the triggerer's own loop looks for new triggers every second
        await asyncio.sleep(1)
        for one in running:
            if one.done():
                one.result()


async def _run(trigger: Any) -> None:  # noqa: ANN401
    async for event in trigger.run():
        raise AssertionError(event)


def _trigger(bridge: Any, number: int) -> Any:  # noqa: ANN401
    bridge.begin(f"run-{number}", "load", "2026-01-01T00:00:00+00:00")
    task = {
        "dag_id": "d",
        "run_id": "r",
        "task_id": "t",
        "map_index": number,
        "try_number": 1,
        "task_instance_id": None,
        "nonce": "n",
    }
    deadline = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    wait = {"target": "demo", "mode": "queue", "task": task, "deadline": deadline, "run_id": f"run-{number}"}
    return AdfBridgeTrigger(CONNECTION, token_of(wait), wait)


if __name__ == "__main__":
    main()
